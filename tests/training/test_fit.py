"""The front door: data and model in, a scored run out, and every wrong argument refused before work starts."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from helpers.models import tiny_module, tiny_tokenizer
from helpers.tasks import SOFT, TRAINED, completer, completions, labelled, model_of
from promptreach.backbone import Prepended, TokenBatch
from promptreach.errors import DataError, InputError, OutputError
from promptreach.hf import OpenModel, open_model
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt
from promptreach.training.methods.methods import UNIPELT_SIZES
from promptreach.training.runs import applied
from promptreach.training.search.halving import Rank, by_loss
from promptreach.training.task.readout import pool
from promptreach.training.task.task import prepare
from promptreach.tuning import Limits, fit

DATA = labelled()
ROWS = [{"text": text, "label": label} for text, label in zip(DATA.inputs, DATA.answers, strict=True)]
PAIRS = completions()
FAST: dict[str, Any] = {"learning_rate": 0.05, "steps": 4, "tokens": 3, "rank": 2, "pooling": "mean", "quiet": True}
RECORDS = {"prompt": SoftPrompt, "prefix": Prefix, "lora": LowRankUpdate}


@pytest.mark.parametrize("method", SOFT)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_classification_from_rows(family: str, method: str) -> None:
    run = fit(model_of(family), ROWS, method, **FAST)
    assert (run.status, run.config.method, run.config.learning_rate) == ("finished", method, 0.05)
    assert run.config.tokens == (0 if method == "lora" else 3)
    assert run.config.rank == (2 if method == "lora" else 0)
    assert isinstance(run.adapter, RECORDS[method])
    assert run.held_out is not None
    assert len(run.held_out.loss) == 16  # two thirds of the 24 of 60 texts that are not trained on
    assert set(run.held_out.right.tolist()) <= {0.0, 1.0}
    assert run.head["weight"].shape == (2, 32)


@pytest.mark.parametrize("method", [*TRAINED, "head"])
def test_completions_from_rows(method: str) -> None:
    rows = [{"prompt": a, "completion": b} for a, b in zip(PAIRS.prompts, PAIRS.completions, strict=True)]
    run = fit(completer(), rows, method, **FAST)
    assert run.held_out is not None
    assert (run.held_out.answers == 2).all()
    assert run.head == {}
    assert (run.adapter is None) == (method not in SOFT)


def test_a_model_that_is_not_opened_yet_is_opened(tmp_path: Path) -> None:
    tiny_module("bert").save_pretrained(tmp_path)
    tiny_tokenizer("bert").save_pretrained(tmp_path)
    by_name = fit(str(tmp_path), DATA, "prompt", **FAST)
    opened = fit(open_model(tiny_module("bert"), tokenizer=tiny_tokenizer()), DATA, "prompt", **FAST)
    assert torch.equal(by_name.state["embeddings"], opened.state["embeddings"])


def test_the_head_scores_as_the_linear_probe() -> None:
    run = fit(model_of("bert"), DATA, "head", seed=5, quiet=True)
    task = prepare(model_of("bert"), DATA, seed=5, longest_prompt=0)
    assert task.pooling is not None
    probe = task.probes[task.pooling]
    right = []
    for ids, label in zip(task.encoded["held_out"].sequences, task.held_out.labels, strict=True):  # type: ignore[union-attr]
        batch = model_of("bert").batch([ids])
        pooled = pool(model_of("bert").hidden(batch), batch.mask, task.pooling)[0]
        logits = probe.weight @ ((pooled - probe.centre) / probe.spread) + probe.bias
        right.append(float(logits.argmax() == label))
    assert run.held_out is not None
    assert run.held_out.right.tolist() == right
    assert (run.steps, run.parameters, run.adapter, run.config.steps) == (0, 0, None, 0)


def test_a_chosen_pooling_is_taken() -> None:
    runs = {place: fit(model_of("gpt2"), DATA, "head", pooling=place, quiet=True) for place in ("mean", "last")}
    assert not torch.equal(runs["mean"].head["centre"], runs["last"].head["centre"])


def test_without_a_rate_several_are_tried(tmp_path: Path) -> None:
    settings = FAST | {"learning_rate": None, "folder": tmp_path}
    run = fit(model_of("gpt2"), DATA, "prompt", **settings)
    assert len(list(tmp_path.glob("*/run.json"))) >= 4  # three trials, more at the edge of the grid, and the full run
    assert run.config.learning_rate > 0
    assert (run.config.steps, run.held_out is None) == (4, False)


def watch_training(patch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the rows of every forward pass that is taken for its gradients."""
    rows: list[int] = []
    hidden = OpenModel.hidden

    def watched(self: OpenModel, batch: TokenBatch, joined: Prepended | None = None) -> torch.Tensor:
        if torch.is_grad_enabled():
            rows.append(len(batch.input_ids))
        return hidden(self, batch, joined)

    patch.setattr(OpenModel, "hidden", watched)
    return rows


@pytest.mark.parametrize("at_once", [1, 2])
def test_rates_tried_at_once_share_a_pass(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        rows = watch_training(patch)
        fit(model_of("gpt2"), DATA, "prompt", **FAST | {"learning_rate": None}, batch_size=8, at_once=at_once)
    assert max(rows) in (7 * at_once, 8 * at_once)  # 36 rows: the batches of an epoch are of 7 and of 8


@pytest.mark.parametrize(
    ("metric", "decides"), [(None, "accuracy"), ("mcc", "mcc"), ("f1", "f1"), ("loss", "'loss' on 2 labels")]
)
def test_the_metric_orders_the_rates_or_is_refused(
    metric: str | None, decides: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def by_metric(name: str, positive: int) -> Rank:
        asked.append((name, positive))
        return by_loss

    monkeypatch.setattr("promptreach.training.fit.by_metric", by_metric)
    if decides.startswith("'"):
        with pytest.raises(InputError, match=decides):
            fit(model_of("gpt2"), DATA, metric=metric, **FAST)
        return
    fit(model_of("gpt2"), DATA, metric=metric, **FAST)
    assert asked == [(decides, 1)]


def test_a_second_call_finds_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FAST | {"learning_rate": None, "folder": str(tmp_path / "runs")}
    first = fit(model_of("gpt2"), DATA, "prefix", **settings)
    with monkeypatch.context() as patch:
        rows = watch_training(patch)
        second = fit(model_of("gpt2"), DATA, "prefix", **settings)
        assert second.seconds == first.seconds
        assert torch.equal(second.state["keys"], first.state["keys"])
        assert not rows
        fit(model_of("gpt2"), DATA, "prefix", seed=1, **settings)
        assert rows


def test_all_arguments_that_make_no_sense_are_named_at_once() -> None:
    """Before the model or the data is even looked at."""
    wrong: dict[str, Any] = {
        **{"tokens": 0, "rank": -1, "bottleneck": 0, "steps": 0, "batch_size": 0},
        **{
            "at_once": 0,
            "learning_rate": math.nan,
            "dropout": 1.0,
            "reparameterise": True,
            "start": SoftPrompt(torch.ones(1, 1)),
        },
    }
    with pytest.raises(InputError) as caught:
        fit(object(), object(), "promt", **wrong)
    assert {fault.where for fault in caught.value.faults} == {"method", *wrong}
    assert "method: 'promt'; expected one of prompt, prefix, lora, unipelt, head, full" in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("tokens", 0),
        ("rank", 0),
        ("steps", -3),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -0.1),
        ("learning_rate", math.inf),
        ("init", "zeros"),
        ("bottleneck", 0),
        ("method", "adapter"),
    ],
)
def test_each_argument_that_makes_no_sense_is_named(argument: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        fit(object(), object(), **{argument: value})  # type: ignore[arg-type]
    assert [(fault.where, fault.seen) for fault in caught.value.faults] == [
        (argument, repr(value) if isinstance(value, str) else str(value))
    ]


def test_a_pooling_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # the library's own message is under test
    with pytest.raises(InputError, match="pooling: 'max'; expected one of mean, first, last"):
        fit(object(), object(), pooling="max")  # type: ignore[arg-type]


def test_a_start_of_another_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match="start: a str; expected a SoftPrompt, a Prefix, or a run that trained one"):
        fit(object(), object(), start="here")  # type: ignore[arg-type]


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_is_a_probability_below_one(dropout: float) -> None:
    with pytest.raises(InputError, match=f"dropout: {dropout}; expected at least 0 and below 1"):
        fit(object(), object(), "prefix", dropout=dropout)


@pytest.mark.parametrize("method", ["prompt", "lora", "unipelt", "head", "full"])
def test_options_of_a_prefix_belong_to_a_prefix(method: str) -> None:
    with pytest.raises(InputError) as caught:
        fit(object(), object(), method, reparameterise=True, dropout=0.1)
    assert [(fault.where, fault.seen) for fault in caught.value.faults] == [
        ("reparameterise", f"True for {method!r}"),
        ("dropout", f"0.1 for {method!r}"),
    ]


def test_a_start_is_checked_before_work_and_against_the_model() -> None:
    run = fit(model_of("gpt2"), DATA, "prompt", **FAST)
    again = fit(model_of("gpt2"), DATA, "prompt", start=run, **FAST | {"tokens": 5})
    assert torch.equal(again.config.start.adapter.embeddings, run.adapter.embeddings)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="start: 3 virtual tokens; expected at most the 2 to be trained"):
        fit(object(), object(), "prompt", start=run, tokens=2)
    with pytest.raises(InputError, match="start: a prompt for method 'lora'"):
        fit(object(), object(), "lora", start=run)
    other = fit(model_of("gpt2"), DATA, "lora", **FAST)
    with pytest.raises(InputError, match="start: a run of 'lora'; expected a SoftPrompt, a Prefix"):
        fit(object(), object(), "prompt", start=other)
    with pytest.raises(InputError, match=r"start: sizes \(31,\); expected \(32,\)"):
        fit(model_of("gpt2"), DATA, "prompt", start=SoftPrompt(torch.ones(2, 31)), **FAST)


def test_prefix_options_reach_the_run() -> None:
    run = fit(model_of("gpt2"), DATA, "prefix", reparameterise=True, dropout=0.1, **FAST)
    assert (run.config.reparameterise, run.config.dropout) == (True, 0.1)
    assert isinstance(run.adapter, Prefix)
    assert run.parameters > run.adapter.keys.numel() + run.adapter.values.numel()


@pytest.mark.parametrize("name", UNIPELT_SIZES)
def test_unipelts_named_sizes_are_arguments(name: str) -> None:
    run = fit(model_of("gpt2"), DATA, "unipelt", **FAST | dict(UNIPELT_SIZES[name]))
    config = run.config
    assert {"tokens": config.tokens, "rank": config.rank, "bottleneck": config.bottleneck} == UNIPELT_SIZES[name]
    with applied(model_of("gpt2"), run) as joined:
        assert joined.length == 0


def test_an_init_belongs_to_its_method() -> None:
    with pytest.raises(InputError, match="init: 'vocabulary'; expected one of text, random for prefix"):
        fit(object(), object(), "prefix", init="vocabulary")


def test_completions_are_refused_on_an_encoder() -> None:
    with pytest.raises(InputError, match=r"labelled texts for an encoder\. Use a causal model"):
        fit(model_of("bert"), PAIRS, **FAST)


@pytest.mark.parametrize(("method", "tokens"), [("prompt", 57), ("prefix", 1000)])
def test_tokens_that_leave_no_room_are_refused(method: str, tokens: int) -> None:
    settings = FAST | {"tokens": tokens}
    with pytest.raises(InputError, match=f"{tokens} virtual tokens in a context of 64; expected at most 56"):
        fit(model_of("gpt2"), DATA, method, **settings)


def test_tokens_that_leave_just_enough_room_are_not() -> None:
    assert fit(model_of("gpt2"), DATA, "prefix", **FAST | {"tokens": 56}).adapter is not None
    assert fit(model_of("gpt2"), DATA, "lora", **FAST | {"tokens": 1000}).adapter is not None  # LoRA has none


def test_eleven_inputs_are_too_few_and_twelve_are_not() -> None:
    twice = [*range(11), *range(11)]  # counted as different inputs
    with pytest.raises(DataError, match="memory: 11 different inputs; expected at least 12"):
        fit(model_of("gpt2"), DATA.take(twice), **FAST)
    run = fit(model_of("gpt2"), DATA.take(range(12)), **FAST)
    assert run.status == "finished"


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        fit(object(), object(), folder=tmp_path / "file")


def test_limits_hold() -> None:
    limits = Limits(train=20, validation=5, held_out=7, max_length=8)
    run = fit(model_of("gpt2"), DATA, "head", limits=limits, quiet=True)
    assert run.held_out is not None
    assert (len(run.validation.loss), len(run.held_out.loss)) == (5, 7)


def test_a_model_without_a_tokenizer_says_so() -> None:
    with pytest.raises(InputError, match="Pass tokenizer= to open_model"):
        fit(OpenModel(tiny_module("gpt2")), DATA, **FAST)


def test_nothing_is_shown_when_standard_error_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    fit(model_of("gpt2"), DATA, "prompt", **FAST | {"quiet": False})
    assert capfd.readouterr() == ("", "")
