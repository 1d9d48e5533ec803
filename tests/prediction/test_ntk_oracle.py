"""Per-example gradients against plain autograd, one example at a time, and what blocking and sketching may change."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.models import tiny_model
from helpers.tasks import FAMILIES, SOFT, completer, completions, config_of, labelled, model_of, task_of
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.errors import InputError
from promptreach.prediction.log_odds import Part
from promptreach.prediction.ntk import PER_EXAMPLE, Gradients, PerExample, gradients_at_start
from promptreach.prediction.predict import LEFT_OUT, parts_of
from promptreach.training.methods.methods import METHODS
from promptreach.training.task.readout import Reader
from promptreach.training.task.task import Task, prepare

SIZES = (1, 3, 4)


def left_out(task: Task) -> Part:
    """All training rows, classified texts by classifiers that have not seen their labels."""
    assert len(task.train) <= LEFT_OUT
    return parts_of(task, 0)[1]


def measured(task: Task, method: str, groups: int = 2, seed: int = 0, **options: int) -> Gradients:
    """The training rows of `task`, with `SIZES` of the method."""
    sequences = task.encoded["train"].sequences
    with PER_EXAMPLE[method](task.backbone, SIZES, METHODS[method].inits[0], sequences, 0) as own:
        return gradients_at_start(task.backbone, left_out(task), own, groups, seed, **options)


def gram(blocks: tuple[Tensor, ...]) -> Tensor:
    return sum((block.double() @ block.double().T for block in blocks), torch.zeros(()))


def jacobian(task: Task, reader: Reader | None, method: str, example: int, groups: int) -> list[Tensor]:
    """The gradients of one example's log odds by the trained tensors, by the definition of the loss alone."""
    data = task.encoded["train"]
    shape = config_of(method, tokens=SIZES[-1], rank=SIZES[-1], seed=0)
    with METHODS[method].attach(task.backbone, shape, data.sequences) as trainable:
        batch = task.backbone.batch([data.sequences[example]])
        hidden = task.backbone.hidden(batch, trainable.joined)
        own = list(trainable.parameters.values())
        if reader is not None:
            assert data.labels is not None
            fold = reader.fold[example]
            features = reader.head.standardised(hidden, batch.mask)[0]
            losses = -(reader.weight[fold] @ features + reader.bias[fold]).log_softmax(0)[data.labels[example]][None]
        else:
            assert data.answer_lengths is not None
            length, ids = data.answer_lengths[example], data.sequences[example]
            logits = task.backbone.vocabulary_logits(hidden[0, -length - 1 : -1]).log_softmax(1)
            losses = -logits[range(length), ids[-length:]]
        runs = losses.tensor_split(min(groups, len(losses)))
        log_odds = [-torch.log(torch.expm1(run.double().mean())) for run in runs]
        return [torch.cat([g.flatten(-1) for g in _by_size(method, own, score)], 1) for score in log_odds]


def _by_size(method: str, own: list[Tensor], score: Tensor) -> list[Tensor]:
    """Gradients as (size, numbers) each: virtual tokens, slots or rows of the factors first."""
    gradients = torch.autograd.grad(score, own, retain_graph=True)
    if method == "prompt":
        return list(gradients)
    if method == "prefix":
        return [g.permute(2, 0, 1, 3).flatten(1) for g in gradients]
    return [g if len(g) == SIZES[-1] else g.T for g in gradients]


def by_hand(task: Task, method: str, groups: int) -> dict[int, Tensor]:
    """For every size the Gram matrix of the gradients by the first so many tokens, slots or ranks."""
    reader = left_out(task).reader
    rows = [one for i in range(len(task.train)) for one in jacobian(task, reader, method, i, groups)]
    stacked = torch.stack(rows).double()
    return {size: torch.einsum("ikp,jkp->ij", stacked[:, :size], stacked[:, :size]) for size in SIZES}


@pytest.mark.parametrize("method", SOFT)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_is_autograds_jacobian_times_itself(family: str, method: str) -> None:
    task = task_of(family)
    found, expected = measured(task, method), by_hand(task, method, 1)
    for count, size in enumerate(SIZES, start=1):
        assert_close(gram(found.blocks[:count]), expected[size], "tangent kernel", torch.float32)


@pytest.mark.parametrize("method", SOFT)
def test_the_kernel_of_a_completion_has_a_row_for_each_run_of_tokens(method: str) -> None:
    task = prepare(completer(), replace(completions(30), completions=("a the cat", "dog") * 15), longest_prompt=8)
    found = measured(task, method)
    assert set(found.log_odds.answers.tolist()) == {1.0, 2.0}  # 4 tokens with the end token in two runs, or 2 in two
    assert_close(gram(found.blocks), by_hand(task, method, 2)[SIZES[-1]], "tangent kernel", torch.float32)


@pytest.mark.parametrize("kind", ["classification", "completion"])
@pytest.mark.parametrize("method", SOFT)
def test_small_batches_give_the_same_numbers(kind: str, method: str) -> None:
    task = task_of("gpt2", kind)
    one, other = measured(task, method), measured(task, method, batch_size=5)
    assert_close(gram(one.blocks), gram(other.blocks), "tangent kernel", torch.float32)
    assert_close(one.log_odds.log_odds, other.log_odds.log_odds, "log odds", torch.float32)
    assert one.log_odds.example.tolist() == other.log_odds.example.tolist()


@pytest.mark.parametrize(("method", "joined"), [("prompt", SIZES[-1]), ("prefix", SIZES[-1]), ("lora", 0)])
def test_a_batch_shrinks_with_the_activations_of_the_model(
    method: str, joined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, sizes = task_of("gpt2"), []
    original = type(task.backbone).hidden

    def watched(self, batch, joined=None):  # type: ignore[no-untyped-def]
        sizes.append(len(batch.input_ids))
        return original(self, batch, joined)

    monkeypatch.setattr(type(task.backbone), "hidden", watched)
    longest = max(map(len, task.encoded["train"].sequences)) + joined
    monkeypatch.setattr("promptreach.prediction.ntk.ACTIVATION_BYTES", 7 * 100 * 2 * 32 * longest)
    measured(task, method)
    assert max(sizes[-3:]) == 7


def test_a_sketch_errs_as_little_as_it_says() -> None:
    task = task_of("gpt2")
    exact, width = measured(task, "prefix"), 64
    wide = exact.blocks[1]
    assert wide.shape[1] > width
    errors = []
    for seed in range(20):
        found = measured(task, "prefix", seed=seed, width=width)
        assert found.blocks[1].shape == (len(wide), width)
        errors.append(gram(found.blocks[1:2]) - gram((wide,)))
    squares = gram((wide,)).diagonal()
    allowed = 2 * squares[:, None] * squares / width
    ratio = torch.stack(errors).square().mean(0) / allowed
    # A mean over 20 sketches and all pairs: the bound on the variance holds with room for its scatter.
    assert float(ratio.mean()) < 1.0
    assert float(ratio.mean()) > 0.05  # it was sketched
    bias = torch.stack(errors).mean(0) / allowed.sqrt()
    assert float(bias.square().mean().sqrt()) < 3 / math.sqrt(20)


@pytest.mark.parametrize("method", SOFT)
def test_the_model_is_left_as_it_was(method: str) -> None:
    model = tiny_model("gpt2")
    task = prepare(model, labelled(), longest_prompt=8)
    before, names = model.fingerprint, [name for name, _ in model.release().named_modules()]
    measured(task, method)
    assert [name for name, _ in model.release().named_modules()] == names
    assert not any(module._forward_hooks for module in model.release().modules())
    assert type(model)(model.release(), model.tokenizer).fingerprint == before


def test_shorter_starts_are_the_beginnings_of_longer_ones() -> None:
    task = task_of("llama")
    sequences = task.encoded["train"].sequences
    for method in ("prompt", "prefix"):
        with PER_EXAMPLE[method](task.backbone, SIZES, METHODS[method].inits[0], sequences, 5) as own:
            starts = _starts(own)
        for size, start in zip(SIZES, starts, strict=True):
            config = config_of(method, tokens=size, seed=5)
            with METHODS[method].attach(task.backbone, config, sequences) as trainable:
                for name in ("prompt", "prefix_keys", "prefix_values"):
                    mine, its = getattr(start, name), getattr(trainable.joined, name)
                    assert (mine is None) == (its is None)
                    if mine is not None:
                        assert_close(mine, its.detach(), "reordered states")
            assert start.length == size


def _starts(own: PerExample) -> list[Prepended]:
    assert own.start is not None
    return [own.start(size) for size in SIZES]


def test_parameters_are_counted_as_training_counts_them() -> None:
    task = task_of("llama")
    sequences = task.encoded["train"].sequences
    for method in SOFT:
        with PER_EXAMPLE[method](task.backbone, SIZES, METHODS[method].inits[0], sequences, 0) as own:
            counted = own.parameters
        for size, count in zip(SIZES, counted, strict=True):
            config = config_of(method, tokens=size, rank=size)
            with METHODS[method].attach(task.backbone, config, sequences) as trainable:
                assert trainable.size == count


@pytest.mark.parametrize("family", FAMILIES)
def test_an_example_with_its_own_prompt_reads_that_one(family: str) -> None:
    model = model_of(family)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(2, 3, model.hidden_size, generator=generator)
    prefixes = torch.randn(2, model.num_layers, 2, model.num_kv_heads, 3, model.head_dim, generator=generator)
    sequences = [[4, 5, 6, 7], [8, 9]]
    whole = model.batch(sequences)
    by_prompt = model.hidden(whole, Prepended(prompt=prompts))
    by_prefix = model.hidden(whole, Prepended(prefix_keys=prefixes[0], prefix_values=prefixes[1]))
    for i, ids in enumerate(sequences):
        alone = model.batch([ids])
        prefix = Prepended(prefix_keys=prefixes[0][:, i], prefix_values=prefixes[1][:, i])
        assert_close(by_prompt[i, : len(ids)], model.hidden(alone, Prepended(prompt=prompts[i]))[0], "reordered states")
        assert_close(by_prefix[i, : len(ids)], model.hidden(alone, prefix)[0], "reordered states")
    for wrong in (Prepended(prompt=prompts[:1]), Prepended(prompt=prompts[0, 0]), Prepended(prompt=prompts[None])):
        with pytest.raises(InputError, match="prompt: shape"):
            model.hidden(whole, wrong)
    wide = prefixes[0][:, [0, 1, 1]]
    with pytest.raises(InputError, match="prefix: shape"):
        model.hidden(whole, Prepended(prefix_keys=wide, prefix_values=wide))
