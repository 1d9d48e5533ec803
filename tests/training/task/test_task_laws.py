"""A task made ready: three parts that never mix, a probe that sees one of them, and scores in the user's order."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import promptreach.training.task.task
from helpers.models import tiny_model, tiny_module, tiny_tokenizer
from helpers.tasks import completer, completions, labelled, model_of, task_of
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.data import Completions, LabelledTexts, TaskData, train_test_split
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.training.task.limits import Limits
from promptreach.training.task.objective import gather
from promptreach.training.task.readout import POOLINGS, pool
from promptreach.training.task.task import Task, features, prepare
from promptreach.tuning import diagnose, fit, predict

PARTS = ("train", "validation", "held_out")


def parts_of(task: Task) -> list[TaskData]:
    return [task.train, task.validation, task.held_out]


@settings(max_examples=12, phases=[Phase.generate])  # shrinking a failure would train for minutes
@given(
    rows=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 2)), min_size=30, max_size=60),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["classification", "completions"]),
)
def test_three_parts_share_no_input_and_lose_no_row(rows: list[tuple[int, int]], seed: int, kind: str) -> None:
    texts = labelled(20).texts
    # Every text at least once, and some of them several times, perhaps with other labels.
    inputs = (*texts, *(texts[i] for i, _ in rows))
    labels = (*(i % 3 for i in range(20)), *(label for _, label in rows))
    data: TaskData = LabelledTexts(inputs, labels, ("a", "b", "c"))
    if kind == "completions":
        data = Completions(inputs, tuple(texts[label] for label in labels))
    task = prepare(completer(), data, seed=seed, longest_prompt=4, pooling=None if kind == "completions" else "last")
    sets = [set(part.inputs) for part in parts_of(task)]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets)) == 20
    together = Counter(pair for part in parts_of(task) for pair in zip(part.inputs, part.answers, strict=True))
    assert together == Counter(zip(data.inputs, data.answers, strict=True))
    assert {name: len(task.encoded[name]) for name in PARTS} == dict(zip(PARTS, map(len, parts_of(task)), strict=True))


def test_one_seed_one_task() -> None:
    def made(seed: int) -> Task:
        return prepare(model_of("gpt2"), labelled(), seed=seed)

    assert parts_of(made(1)) == parts_of(made(1))
    assert made(1).digest == made(1).digest
    assert parts_of(made(1)) != parts_of(made(2))
    assert made(1).digest != made(2).digest


def split_by_place(data: TaskData, held_out: float, seed: int) -> tuple[TaskData, TaskData]:
    """A split that does not look at the labels."""
    kept = round(len(data) * (1 - held_out))
    return data.take(range(kept)), data.take(range(kept, len(data)))


def test_the_probe_sees_training_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promptreach.training.task.parts, "train_test_split", split_by_place)
    data = labelled(50)
    train = 30

    def probes(other: LabelledTexts) -> dict[str, tuple[Any, ...]]:
        task = prepare(model_of("bert"), other)
        assert task.train.inputs == other.inputs[:train]
        return {place: (probe.weight.tolist(), probe.loss, task.pooling) for place, probe in task.probes.items()}

    flipped = tuple(1 - label for label in data.labels)
    retold = data.texts[train:][::-1]
    expected = probes(data)
    assert set(expected) == {"mean", "first"}
    assert probes(replace(data, labels=data.labels[:train] + flipped[train:])) == expected
    assert probes(replace(data, texts=data.texts[:train] + retold)) == expected
    one = (*flipped[:1], *data.labels[1:])
    assert probes(replace(data, labels=one)) != expected


@pytest.mark.parametrize("kind", ["classification", "completions"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_outcomes_stand_in_the_order_of_the_examples(kind: str, batch_size: int) -> None:
    task = replace(task_of("gpt2", kind), batch_size=batch_size)
    objective = task.objective()
    data = task.encoded["held_out"]
    alone = []
    with torch.no_grad():
        for row, ids in enumerate(data.sequences):
            batch = task.backbone.batch([ids])
            alone.append(objective.outcomes(task.backbone, task.backbone.hidden(batch), batch, data, [row]))
    expected = gather(alone, [[row] for row in range(len(data))])
    found = task.evaluate("held_out", objective)
    assert_close(found.loss, expected.loss, "loss of a row")
    assert torch.equal(found.right, expected.right)
    assert torch.equal(found.answers, expected.answers)
    assert len(set(expected.loss.tolist())) > len(data) / 2  # rows are told apart
    assert not found.loss.requires_grad


def test_features_stand_in_the_order_of_the_examples() -> None:
    task = replace(task_of("bert"), batch_size=4)
    joined = Prepended(prompt=task.backbone.vocabulary[4:6])
    found = features(task, "validation", ("mean", "first"), joined)
    for place, rows in found.items():
        for ids, row in zip(task.encoded["validation"].sequences, rows, strict=True):
            batch = task.backbone.batch([ids])
            assert_close(row, pool(task.backbone.hidden(batch, joined), batch.mask, place)[0], "reordered states")


def test_the_place_with_the_best_cross_validated_loss_is_chosen() -> None:
    for family in ("bert", "gpt2"):
        task = task_of(family)
        assert tuple(task.probes) == POOLINGS[task.backbone.task]
        assert task.pooling == min(task.probes, key=lambda place: task.probes[place].loss)
    assert prepare(model_of("bert"), labelled(), pooling="last").pooling == "last"
    assert task_of("gpt2", "completions").pooling is None


def test_the_digest_knows_where_training_starts() -> None:
    task = task_of("bert")
    assert task.pooling is not None
    probe = task.probes[task.pooling]

    def digest(**changes: Any) -> str:
        return replace(task, probes={task.pooling: replace(probe, **changes)}).digest

    assert digest() == task.digest
    other = next(place for place in task.probes if place != task.pooling)
    wider = (*labelled().label_names, "never seen")
    more_classes = prepare(model_of("bert"), replace(labelled(), label_names=wider), longest_prompt=8)
    assert more_classes.encoded["train"].digest == task.encoded["train"].digest
    digests = {task.digest, digest(penalty=7.0), replace(task, pooling=other).digest, more_classes.digest}
    assert len(digests) == 4


def test_a_label_that_training_never_sees_is_scored_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promptreach.training.task.parts, "train_test_split", split_by_place)
    data = labelled(40)
    rare = replace(data, labels=(*data.labels[:-1], 2), label_names=("a", "b", "rare"))
    task = prepare(model_of("gpt2"), rare)
    outcomes = task.evaluate("held_out" if 2 in task.held_out.labels else "validation", task.objective())  # type: ignore[union-attr]
    assert outcomes.right[-1] == 0
    assert outcomes.loss.isfinite().all()
    only = replace(data, labels=(0,) * 39 + (1,))
    assert prepare(model_of("gpt2"), only).evaluate("train", task.objective()).loss.isfinite().all()


def test_limits_cut_at_random_and_keep_the_order() -> None:
    data = replace(labelled(), rows=tuple(range(1, 61)))
    limits = Limits(train=10, validation=4, held_out=6)
    whole, cut = prepare(model_of("gpt2"), data), prepare(model_of("gpt2"), data, limits=limits)
    assert [len(part) for part in parts_of(cut)] == [10, 4, 6]
    for part, source in zip(parts_of(cut), parts_of(whole), strict=True):
        assert set(part.rows) < set(source.rows)
        assert list(part.rows) == sorted(part.rows)
    assert cut.train.rows != whole.train.rows[:10]


def test_the_prompt_keeps_its_room_in_the_context() -> None:
    long = labelled()
    long = replace(long, texts=tuple(" ".join([text] * 20) for text in long.texts))
    for longest_prompt, limit in ((0, 64), (50, 14), (0, 10)):
        task = prepare(model_of("gpt2"), long, longest_prompt=longest_prompt, limits=Limits(max_length=max(limit, 8)))
        assert max(map(len, task.encoded["train"].sequences)) == limit


def test_limits_that_make_no_sense_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Limits(train=0, validation=1, held_out=-1, max_length=3)
    assert [fault.where for fault in caught.value.faults] == [
        "limits.train",
        "limits.validation",
        "limits.held_out",
        "limits.max_length",
    ]
    assert Limits(2, 2, 2, 8) == Limits(2, 2, 2, 8)


def test_model_and_prompt_faults_are_named_together() -> None:
    with pytest.raises(InputError) as caught:
        prepare(model_of("bert"), completions(), longest_prompt=60)
    assert [fault.where for fault in caught.value.faults] == ["data", "tokens"]


def test_a_frozen_model_gets_no_gradient() -> None:
    model = OpenModel(tiny_module("gpt2"), tiny_tokenizer("gpt2"))
    task = prepare(model, labelled())
    task.evaluate("train", task.objective())
    assert all(parameter.grad is None for parameter in model.release().parameters())


@pytest.mark.parametrize("half", [False, True])
def test_hidden_states_that_are_not_finite_are_refused(half: bool) -> None:
    """All of them, or those of the texts that hold one broken token."""
    model, data = tiny_model("bert"), labelled()
    broken = model.tokenize(["cat"], special_tokens=False)[0] if half else slice(None)
    with torch.no_grad():
        model.release().get_input_embeddings().weight[broken] = torch.nan
    train = train_test_split(data, 0.4, 0)[0]
    count = sum("cat" in text.split() for text in train.inputs) if half else len(train)
    for work in (prepare, fit, lambda *asked: predict(*asked, ("prompt", "head"), (2,)), diagnose):
        with pytest.raises(
            InputError, match=rf"model: {count} of {len(train)} examples whose hidden states are not finite"
        ):
            work(model, data)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_bare_model_is_run_once_for_all_that_reads_it(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its features give a head is what the head reads off the states, at every place."""
    task = replace(task_of(family))
    plain = {place: replace(task, pooling=place) for place in POOLINGS[task.backbone.task]}
    expected = {place: one.evaluate("validation", one.objective()) for place, one in plain.items()}
    assert len(expected) == 2
    passes = []
    hidden = OpenModel.hidden
    monkeypatch.setattr(OpenModel, "hidden", lambda *given: passes.append(1) or hidden(*given))
    found = {place: task.evaluate_bare("validation", one.objective()) for place, one in plain.items()}
    once = len(passes)
    assert task.evaluate_bare("validation", task.objective()).mean_loss == found[task.pooling].mean_loss
    assert len(passes) == once > 0
    for place, outcomes in expected.items():
        assert_close(found[place].loss, outcomes.loss, "loss of a row")
        assert torch.equal(found[place].right, outcomes.right)


def test_completions_have_no_features_to_keep() -> None:
    task = task_of("gpt2", "completions")
    assert torch.equal(
        task.evaluate_bare("validation", task.objective()).loss, task.evaluate("validation", task.objective()).loss
    )


def test_what_is_looked_at_once_is_kept_for_this_object_alone() -> None:
    task = replace(task_of("gpt2"))
    asked: list[str] = []
    assert [task.looked_once("start", lambda: asked.append("a") or len(asked)) for _ in range(3)] == [1, 1, 1]
    assert task.looked_once("other", lambda: 7) == 7
    assert replace(task).looked_once("start", lambda: 9) == 9
