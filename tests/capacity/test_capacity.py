"""The front door: rows, means, lines, bounds, what is refused, and what is not measured twice."""

import dataclasses
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

import promptreach as pr
from helpers.models import VOCABULARY, WORDS, tiny_model
from helpers.tasks import model_of
from promptreach.capacity import measure
from promptreach.capacity.memorise import MemoryJob
from promptreach.certificate import Evidence, Side
from promptreach.errors import InputError, OutputError
from promptreach.tuning import Capacity, MemorySettings

TEXT = " ".join(WORDS * 4)


def asked(family: str = "llama", **changes: Any) -> Capacity:
    steps = changes.pop("steps", 12)
    given: dict[str, Any] = {"text": TEXT, "tokens": (1, 2), "sequences": 2, "longest": 16, "quiet": True}
    settings = {"settings": MemorySettings(steps=steps)}
    return pr.tuning.capacity(model_of(family), **(given | settings | changes))


@pytest.fixture(scope="module")
def found() -> Capacity:
    return asked(methods=("prompt", "prefix", "one_pass"), steps=40)


def test_every_form_number_and_kind_has_a_level_with_a_row_for_each_text(found: Capacity) -> None:
    assert [(level.method, level.tokens, level.kind) for level in found.levels] == [
        (method, tokens, kind)
        for method in ("prompt", "prefix", "one_pass")
        for tokens in (1, 2)
        for kind in ("natural", "random")
    ]
    for level in found.levels:
        assert [(row.method, row.tokens, row.kind, row.sequence) for row in level.rows] == [
            (level.method, level.tokens, level.kind, index) for index in range(2)
        ]
    assert (found.vocabulary, found.precision, found.opening) == (VOCABULARY, 32, 0)
    assert (found.evidence, found.side) == (Evidence.MEASURED, Side.LOWER)


def test_the_numbers_of_a_row_are_consistent(found: Capacity) -> None:
    for row in found.rows:
        assert row.bits_after >= 0
        assert 0 < row.bits_removed == row.bits_before - row.bits_after
        assert 0 <= row.right <= row.length <= 16
        assert row.recalled == row.recalled_free <= 16
        assert (row.bits_stored is None) == (row.kind == "natural")
        assert row.steps <= 120
    assert any(row.recalled > 2 for row in found.rows)


def test_more_virtual_tokens_hold_more(found: Capacity) -> None:
    for method, kind in found.curves:
        one, two = found.curve(method, kind)
        assert two.bits.mean > one.bits.mean


def test_bounds_count_what_the_form_trains(found: Capacity) -> None:
    entries = {"prompt": 32, "prefix": 2 * 2 * 2 * 8, "one_pass": 32}
    for level in found.levels:
        assert level.bound.bits.value == 32 * level.tokens * entries[level.method]
        assert level.share == level.bits.mean / level.bound.bits.value < 1


def test_measured_claims_are_lower_and_counted_ones_upper(found: Capacity) -> None:
    for level in found.levels:
        bits, recalled, *bounds = level.certificates(found.settings)
        assert {(part.side, part.evidence) for part in (bits, recalled)} == {(Side.LOWER, Evidence.MEASURED)}
        assert {(part.side, part.evidence) for part in bounds} == {(Side.UPPER, Evidence.PROVED)}
        assert all(part.recheck() for part in bounds)
        assert bits.value == level.bits.mean
        assert recalled.value == statistics.fmean(row.recalled_free for row in level.rows)


def test_the_record_is_plain_and_complete(found: Capacity) -> None:
    record = json.loads(json.dumps(found.to_dict()))
    assert len(record["rows"]) == 24
    assert len(record["levels"]) == 12
    assert [(line["method"], line["kind"]) for line in record["lines"]] == found.curves
    assert record["lines"][0]["bits"]["slope"]["mean"] > 0


def test_the_same_call_gives_the_same_rows_and_another_seed_others() -> None:
    first, again, other = (asked(settings=MemorySettings(steps=8, seed=seed), tokens=(2,)) for seed in (0, 0, 1))
    assert first.rows == again.rows
    assert first.rows != other.rows


def test_a_fixed_length_is_one_run_over_exactly_that_length() -> None:
    result = asked(settings=MemorySettings(steps=10, length=7), tokens=(1,))
    assert {(row.length, row.steps) for row in result.rows} == {(7, 10)}


def test_random_text_alone_needs_no_natural_one() -> None:
    result = asked(text=None, kinds=("random",), vocabulary=4, tokens=(1,), steps=3)
    assert {row.kind for row in result.rows} == {"random"}
    assert result.vocabulary == 4
    assert all(row.bits_source == 2 * row.length for row in result.rows)


def test_an_encoder_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"an encoder; expected a causal language model.*loss of the next token"):
        asked("bert")


def test_every_wrong_argument_is_named_at_once() -> None:
    settings = MemorySettings(steps=0, learning_rate=float("nan"), growth=1.0, length=1)
    with pytest.raises(InputError) as caught:
        asked(methods=("lora",), tokens=(0, -1), kinds=("french",), sequences=0, longest=1, settings=settings)
    assert [fault.where for fault in caught.value.faults] == [
        *("methods", "kinds", "tokens", "tokens", "sequences", "longest", "steps", "length", "learning_rate", "growth")
    ]
    settings = MemorySettings(beta1=2.0, beta2=-0.1, weight_decay=-1.0, growth=math.inf)
    with pytest.raises(InputError) as caught:
        asked(settings=settings)
    assert [fault.where for fault in caught.value.faults] == ["beta1", "beta2", "weight_decay", "growth"]
    settings = MemorySettings(beta1=1.0, beta2=math.nan, weight_decay=math.inf, growth=math.nan)
    with pytest.raises(InputError) as caught:
        asked(settings=settings)
    assert [fault.where for fault in caught.value.faults] == ["beta1", "beta2", "weight_decay", "growth"]
    with pytest.raises(InputError) as caught:
        asked(methods=(), tokens=(), kinds=())
    assert [fault.where for fault in caught.value.faults] == ["methods", "kinds", "tokens"]
    with pytest.raises(InputError) as caught:
        asked(tokens=(63,), vocabulary=41)
    assert [fault.where for fault in caught.value.faults] == ["tokens", "vocabulary"]
    with pytest.raises(InputError, match="for each of 2 sequences"):
        asked(text="the cat")


def test_a_model_whose_loss_is_no_number_is_refused() -> None:
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.release().base_model.ln_f.bias[0] = float("nan")
    with pytest.raises(InputError, match="losses of tiny-gpt2 that are NaN"):
        pr.tuning.capacity(model, text=TEXT, tokens=(1,), quiet=True)


def test_half_precision_halves_the_bound() -> None:
    model = tiny_model("llama")
    model.release().to(torch.bfloat16)
    settings = MemorySettings(steps=20)
    found = pr.tuning.capacity(
        model, text=TEXT, methods=("prompt", "prefix"), tokens=(2,), longest=12, settings=settings, quiet=True
    )
    assert found.precision == 16
    assert [level.bound.bits.value for level in found.levels] == [2 * 32 * 16] * 2 + [2 * 64 * 16] * 2
    assert all(row.bits_removed > 0 for row in found.rows)


def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of virtual tokens trained from here on, one entry a run."""
    seen: list[int] = []
    original = measure.memorise

    def counted(backbone: Any, job: MemoryJob, *rest: Any) -> Any:
        seen.append(job.tokens)
        return original(backbone, job, *rest)

    monkeypatch.setattr(measure, "memorise", counted)
    return seen


def test_finished_points_are_found_and_new_ones_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked(folder=tmp_path)
    seen = trained(monkeypatch)
    assert asked(folder=tmp_path).rows == first.rows
    assert seen == []
    more = asked(folder=tmp_path, tokens=(1, 2, 3))
    assert seen == [3, 3]
    assert more.rows[: len(first.rows)] == first.rows


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 13},
        {"text": "film " + TEXT},
        {"longest": 15},
        {"sequences": 3},
        {"vocabulary": 39},
        {"methods": ("prefix",)},
        {"settings": MemorySettings(steps=12, learning_rate=0.02)},
        {"family": "gpt2"},
    ],
)
def test_whatever_changes_the_outcome_is_measured_anew(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(folder=tmp_path, tokens=(1,))
    seen = trained(monkeypatch)
    asked(folder=tmp_path, tokens=(1,), **change)
    assert seen == [1, 1]


@pytest.mark.parametrize("damage", ["", "[{", "[{}]", "7", '[{"method": "prompt"}]'])
def test_a_damaged_record_is_no_record(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked(folder=tmp_path, tokens=(1,))
    (file,) = tmp_path.glob("*.json")
    file.write_text(damage, encoding="utf-8")
    seen = trained(monkeypatch)
    assert asked(folder=tmp_path, tokens=(1,)).rows == first.rows
    assert seen == [1, 1]
    assert json.loads(file.read_text(encoding="utf-8"))["texts"] == [dataclasses.asdict(row) for row in first.rows]


def test_a_folder_that_cannot_be_written_is_refused_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    seen = trained(monkeypatch)
    with pytest.raises(OutputError):
        asked(folder=tmp_path / "file")
    assert seen == []
