"""Laws of the ways to train a prefix or prompt: through a network, with dropout, from a shorter one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from helpers.models import tiny_model, tiny_module
from helpers.single_run import train
from helpers.tasks import FAMILIES, TRAINED, config_of, model_of, no_step, prefix_like, task_of
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.errors import InputError
from promptreach.hf import OpenModel, save_adapter
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.training.methods.initial import WarmStart, lengthened
from promptreach.training.methods.methods import Trainable
from promptreach.training.methods.reparameterised import OFFSET
from promptreach.training.runs import Run, applied
from promptreach.training.task.task import Task
from promptreach.tuning import METHODS, RunConfig, RunStore

TEXT = [[4, 5, 6, 7], [8, 9, 10]]
FREE: dict[str, dict[str, Any]] = {
    "unipelt": {"learning_rate": 0.05},
    "full": {"learning_rate": 0.003},
    "reparameterised": {"method": "prefix", "reparameterise": True, "learning_rate": 0.01},
    "dropout": {"method": "prefix", "dropout": 0.1, "learning_rate": 0.3},
    "both": {"method": "prefix", "reparameterise": True, "dropout": 0.1, "learning_rate": 0.01},
}


def free_config(name: str, **changes: Any) -> RunConfig:
    options = {"method": name, **FREE[name], **changes}
    return config_of(options.pop("method"), **options)


def states(model: OpenModel, joined: Prepended, rows: list[list[int]] = TEXT) -> Tensor:
    batch = model.batch(rows)
    with torch.no_grad():
        return model.hidden(batch, joined)[batch.mask]


def judged_on_training(task: Task) -> Task:
    return replace(task, encoded={**task.encoded, "validation": task.encoded["train"]})


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("family", FAMILIES)
def test_training_learns(family: str, name: str) -> None:
    # The head stands still: what is gained is the method's own. Looks at the training rows are without dropout.
    config = free_config(name, head_learning_rate=0.0, steps=64, patience=9)
    run = train(judged_on_training(task_of(family)), config, RunStore(None), no_step)
    assert run.status == "finished"
    assert run.curve[-1].validation_loss < 0.93 * run.curve[0].validation_loss


@pytest.mark.parametrize("name", FREE)
def test_a_pause_changes_no_bit(name: str, tmp_path: Path) -> None:
    config = free_config(name, steps=8, patience=9)
    expected = train(task_of("gpt2"), config, RunStore(None), no_step)
    for pause in (3, 5):
        train(task_of("gpt2"), replace(config, pause=pause, score_held_out=False), RunStore(tmp_path), no_step)
    found = train(task_of("gpt2"), config, RunStore(tmp_path), no_step)
    assert found.state.keys() == expected.state.keys()
    assert all(torch.equal(found.state[key], expected.state[key]) for key in expected.state)
    assert torch.equal(found.held_out.loss, expected.held_out.loss)


@pytest.mark.parametrize("name", FREE)
def test_one_seed_one_run_and_it_is_kept_whole(name: str, tmp_path: Path) -> None:
    config = free_config(name)
    run = train(task_of("llama"), config, RunStore(tmp_path), no_step)
    with torch.random.fork_rng():
        torch.manual_seed(99)  # nothing is drawn from the global generator
        again = train(task_of("llama"), config, RunStore(None), no_step)
    kept = RunStore(tmp_path).get(RunStore(None).name(task_of("llama").digest, config))
    assert kept is not None
    for other in (again, kept):
        assert other.state.keys() == run.state.keys()
        assert all(torch.equal(other.state[key], run.state[key]) for key in run.state)
    changed = train(task_of("llama"), replace(config, seed=1), RunStore(None), no_step)
    assert not all(torch.equal(changed.state[key], run.state[key]) for key in run.state if key in changed.state)


@pytest.mark.parametrize("method", [*TRAINED, "head"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_put_back_scores_as_it_did(family: str, method: str) -> None:
    task = task_of(family)
    bare = states(model_of(family), Prepended())
    run = train(task, config_of(method, learning_rate=0.01), RunStore(None), no_step)
    objective = task.objective()
    objective.load_head(run.head)
    with applied(task.backbone, run) as joined:
        assert torch.equal(task.evaluate("held_out", objective, joined).loss, run.held_out.loss)
    assert torch.equal(states(model_of(family), Prepended()), bare)


# Reparameterisation


@pytest.mark.filterwarnings("ignore")  # PEFT's remarks on models without a hub id
@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_prefix_is_the_trained_function(family: str, tmp_path: Path) -> None:
    """PEFT is the oracle, on what was trained through the network with dropout."""
    task, model = task_of(family), model_of(family)
    run = train(
        judged_on_training(task), free_config("both", head_learning_rate=0.0, steps=12), RunStore(None), no_step
    )
    assert isinstance(run.adapter, Prefix)
    assert set(run.state) == {OFFSET, "table", "inner", "inner_bias", "outer", "outer_bias"}
    assert run.state["outer"].any()  # it did not return to its start
    with applied(model, run) as joined:
        expected = states(model, joined)
    loaded = peft.PeftModel.from_pretrained(tiny_module(family), str(save_adapter(tmp_path, model, run.adapter))).eval()
    batch = model.batch(TEXT)
    with torch.no_grad():
        output = loaded(input_ids=batch.input_ids, attention_mask=batch.mask.long(), output_hidden_states=True)
    assert_close(output.hidden_states[-1][batch.mask], expected, "joined states")


# Dropout


def trainable_with(dropout: float, seed: int = 0) -> Trainable:
    model = model_of("llama")
    shape = config_of("prefix", tokens=8, dropout=dropout, seed=seed)
    with METHODS["prefix"].attach(model, shape, TEXT) as trainable:
        return trainable


def test_dropout_is_drawn_for_each_layer_and_example() -> None:
    trainable = trainable_with(0.25)
    plain, noisy = trainable.joined, trainable.joined_for(300, 0)
    for part, dropped in ((plain.prefix_keys, noisy.prefix_keys), (plain.prefix_values, noisy.prefix_values)):
        assert dropped.shape == (part.shape[0], 300, *part.shape[1:])
        kept = dropped != 0
        torch.testing.assert_close(dropped[kept], (part[:, None] / 0.75).expand_as(dropped)[kept])
        assert kept.float().mean() == pytest.approx(0.75, abs=0.01)
        assert kept.float().mean((0, 2, 3, 4)).std() > 0.01  # no two examples alike
        assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(noisy.prefix_keys != 0, noisy.prefix_values != 0)


def test_dropout_depends_on_seed_and_step_and_is_off_in_evaluation() -> None:
    trainable = trainable_with(0.5)
    first = trainable.joined_for(3, 7).prefix_keys
    assert torch.equal(trainable.joined_for(3, 7).prefix_keys, first)
    assert not torch.equal(trainable.joined_for(3, 8).prefix_keys, first)
    assert not torch.equal(trainable_with(0.5, seed=1).joined_for(3, 7).prefix_keys != 0, first != 0)
    assert trainable.joined.prefix_keys.ndim == 4
    assert trainable.joined.prefix_keys.all()
    without = trainable_with(0.0)
    assert torch.equal(without.joined_for(3, 7).prefix_keys, without.joined.prefix_keys)


# Warm starts


def tensors_of(joined: Prepended) -> list[Tensor]:
    parts = (joined.prompt, joined.prefix_keys, joined.prefix_values)
    return [part.detach() for part in parts if part is not None]


@pytest.mark.parametrize("method", ["prompt", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_warm_start_keeps_every_row_and_draws_the_rest_as_usual(family: str, method: str) -> None:
    model = model_of(family)
    short = train(task_of(family), config_of(method, tokens=3, learning_rate=0.1), RunStore(None), no_step).adapter
    assert isinstance(short, SoftPrompt | Prefix)
    config = config_of(method, tokens=5)
    with METHODS[method].attach(model, config, TEXT) as trainable:
        usual = tensors_of(trainable.joined)
    with METHODS[method].attach(model, replace(config, start=WarmStart(short)), TEXT) as trainable:
        warm = tensors_of(trainable.joined)
    own = [short.embeddings] if isinstance(short, SoftPrompt) else [short.keys, short.values]
    for given_rows, cold, found in zip(own, usual, warm, strict=True):
        assert torch.equal(found[..., :3, :], given_rows)
        assert torch.equal(found[..., 3:, :], cold[..., 3:, :])


@pytest.mark.parametrize("method", ["prompt", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_warm_start_preserves(family: str, method: str) -> None:
    """At its own length the whole function; longer, in a causal model, what its own rows leave in every layer."""
    model, task = model_of(family), task_of(family)
    short = train(task, config_of(method, tokens=3, learning_rate=0.1), RunStore(None), no_step)
    start = WarmStart(short.adapter)  # type: ignore[arg-type]
    with applied(model, short) as joined:
        expected = states(model, joined)
    for tokens, same in ((3, True), (4, False)):
        with METHODS[method].attach(model, config_of(method, tokens=tokens, start=start), TEXT) as trainable:
            assert torch.equal(states(model, trainable.joined), expected) == same
            longer = trainable.joined.prompt
    if method == "prompt" and not model.row.encoder:
        assert longer is not None
        kept, own = (
            model.model.base_model(inputs_embeds=rows.detach()[None]).last_hidden_state[:, :3]
            for rows in (longer, start.adapter.embeddings)  # type: ignore[union-attr]
        )
        assert_close(kept, own, "reordered states")


def test_a_reparameterised_prefix_starts_warm_too() -> None:
    model = model_of("bert")
    start = prefix_like(model, 4)
    config = config_of("prefix", reparameterise=True, start=WarmStart(start))
    with METHODS["prefix"].attach(model, config, TEXT) as trainable:
        assert torch.equal(trainable.joined.prefix_keys, start.keys)


def test_lengthening_takes_the_finer_type() -> None:
    usual, start = torch.zeros(3, 2, dtype=torch.bfloat16), torch.full((1, 2), 1 + 2**-20)
    assert torch.equal(lengthened(usual, start), torch.tensor([[1 + 2**-20] * 2, [0.0] * 2, [0.0] * 2]))


def test_a_start_is_its_numbers() -> None:
    one, other = SoftPrompt(torch.ones(2, 3)), SoftPrompt(torch.ones(2, 3))
    assert WarmStart(one) == WarmStart(other)
    assert hash(WarmStart(one)) == hash(WarmStart(other))
    changed = torch.ones(2, 3)
    changed[1, 2] += 1e-6
    for different in (SoftPrompt(changed), SoftPrompt(torch.ones(3, 2)), SoftPrompt(torch.ones(2, 3).double())):
        assert WarmStart(different) != WarmStart(one)
    assert WarmStart(one) != one
    keys = torch.ones(1, 1, 2, 3)
    assert WarmStart(Prefix(keys, 2 * keys)) != WarmStart(Prefix(2 * keys, keys))


def warm_run(tmp_path: Path) -> tuple[Run, Path]:
    start = WarmStart(SoftPrompt(torch.ones(2, 32)))
    config = config_of("prompt", start=start)
    run = train(task_of("gpt2"), config, RunStore(tmp_path), no_step)
    return run, tmp_path / RunStore(None).name(task_of("gpt2").digest, config)


def test_a_warm_run_is_named_by_its_start_and_kept_with_it(tmp_path: Path) -> None:
    run, folder = warm_run(tmp_path)
    kept = RunStore(tmp_path).get(folder.name)
    assert kept is not None
    assert kept.config == run.config
    assert torch.equal(kept.config.start.adapter.embeddings, torch.ones(2, 32))  # it could be trained again
    store = RunStore(None)
    names = {store.name("task", replace(run.config, start=start)) for start in (None, run.config.start)}
    names.add(store.name("task", replace(run.config, start=WarmStart(SoftPrompt(torch.zeros(2, 32))))))
    assert len(names) == 3


def test_a_run_whose_start_is_another_is_not_found(tmp_path: Path) -> None:
    run, folder = warm_run(tmp_path)
    other = replace(run, config=replace(run.config, start=WarmStart(SoftPrompt(torch.zeros(2, 32)))))
    RunStore(tmp_path).put("other", other)
    (folder / "run.safetensors").write_bytes((tmp_path / "other" / "run.safetensors").read_bytes())
    assert RunStore(tmp_path).get(folder.name) is None
    assert RunStore(tmp_path).get("other") is not None


@pytest.mark.parametrize(
    ("method", "start", "fault"),
    [
        ("prompt", SoftPrompt(torch.ones(5, 32)), "5 virtual tokens; expected at most the 4 to be trained"),
        ("prompt", SoftPrompt(torch.ones(2, 31)), r"sizes \(31,\); expected \(32,\), those of tiny-llama"),
        ("prompt", prefix_like(tiny_model("llama"), 2), "a prefix for method 'prompt'"),
        ("prefix", SoftPrompt(torch.ones(2, 32)), "a prompt for method 'prefix'"),
        ("prefix", prefix_like(tiny_model("bert"), 2), r"sizes \(2, 4, 8, 8\); expected \(2, 2, 8, 8\)"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(method: str, start: SoftPrompt | Prefix, fault: str) -> None:
    shape = config_of(method, start=WarmStart(start))
    with (
        pytest.raises(InputError, match=f"start: {fault}"),
        METHODS[method].attach(model_of("llama"), shape, TEXT),
    ):
        pass
