"""The measurers one by one: what is planted exists, what collapsed is seen, what changes nothing does not drift."""

import math
from dataclasses import replace

import pytest
import torch

from helpers.diagnosis_cases import SMALL, planted_rows, random_texts, study_of
from helpers.models import tiny_model
from helpers.tasks import model_of
from helpers.tolerances import assert_close
from promptreach.backbone import Joined
from promptreach.diagnosis.experiment import Goal, Study
from promptreach.diagnosis.measures import baselines as ladder
from promptreach.diagnosis.measures import collapse, planted
from promptreach.diagnosis.measures import forgetting as drift
from promptreach.diagnosis.measures import pooling as reading
from promptreach.diagnosis.measures.memorise import prepare_same_rows
from promptreach.diagnosis.measures.start import geometry_of
from promptreach.diagnosis.rules.blame import PLACES
from promptreach.hf.adapters.folders import as_adapter, attach
from promptreach.prompt import LowRankUpdate, SoftPrompt
from promptreach.training.methods.initial import initial_prompt
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import RunConfig
from promptreach.training.task.objective import Completion, Outcomes
from promptreach.training.task.readout import PENALTIES, POOLINGS
from promptreach.training.task.task import Limits, features, prepare


def plant(study: Study, tokens: int = 2) -> planted.Planted:
    found = planted.plant(study, study.config("prompt", tokens=tokens))
    assert isinstance(found, planted.Planted)
    return found


@pytest.mark.parametrize("kind", ["classification", "completion"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_planted_prompt_writes_the_planted_continuations(family: str, kind: str) -> None:
    """For a causal model, whether the user's own inputs are to be continued or classified."""
    found = plant(study_of(family, kind))
    for part in ("train", "validation", "held_out"):
        outcomes = found.task.evaluate(part, Completion(), Joined(prompt=found.prompt))
        assert outcomes.accuracy == 1.0
        assert found.task.evaluate(part, Completion()).mean_loss > outcomes.mean_loss


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_planted_classes_are_linear_behind_the_planted_prompt_and_not_without(family: str) -> None:
    """Every training row: the direction that labelled them separates them."""
    found = plant(study_of(family))
    place, labels = found.task.pooling, found.task.encoded["train"].labels
    assert place is not None
    assert labels is not None
    moved = features(found.task, "train", [place], Joined(prompt=found.prompt))[place].double()
    inputs = torch.cat([moved, torch.ones(len(moved), 1, dtype=torch.float64)], dim=1)
    fitted = torch.linalg.lstsq(inputs, labels.double()[:, None] * 2 - 1, driver="gelsd").solution
    assert ((inputs @ fitted > 0)[:, 0].long() == labels).double().mean() > 0.9
    assert found.task.probes[place].accuracy <= planted.MOST_FOR_THE_HEAD
    assert 0.4 <= labels.double().mean() <= 0.6


def test_planted_rows_are_vocabulary_rows_that_the_student_does_not_start_from() -> None:
    study = study_of()
    config = study.config("prompt", tokens=3)
    rows = planted._prompt(study, config)
    sequences = study.task.encoded["train"].sequences
    start = initial_prompt(study.task.backbone, 3, config.init, sequences, config.seed).embeddings
    known = {tuple(row) for row in study.task.backbone.vocabulary.tolist()}
    planted_ones, taken = ({tuple(row) for row in some.tolist()} for some in (rows, start))
    assert planted_ones <= known
    assert not planted_ones & taken


def test_what_is_foreseen_by_the_bare_model_is_not_planted() -> None:
    """Of two directions, one a copy of the bare features and one new, the new one is chosen."""
    generator = torch.Generator().manual_seed(0)
    bare = torch.randn(400, 7, generator=generator, dtype=torch.float64)
    new = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    direction = planted._least_foreseen(bare, torch.cat([3 * bare[:, :6], new], dim=1))
    assert abs(direction[-1]) > 3 * direction[:-1].abs().max()


def test_a_prompt_that_changes_nothing_gives_way_to_another_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of("gpt2", "completion")
    config = study.config("prompt", tokens=2)
    tried: list[torch.Tensor] = []
    plant_one = planted._continuations

    def third_time(study: Study, config: RunConfig, prompt: torch.Tensor) -> planted.Planted | None:
        tried.append(prompt)
        return plant_one(study, config, prompt) if len(tried) == 3 else None

    with monkeypatch.context() as patch:
        patch.setattr(planted, "_continuations", third_time)
        assert torch.equal(plant(study).prompt, tried[2])
    assert len({tuple(row) for prompt in tried for row in prompt.tolist()}) == 6
    with monkeypatch.context() as patch:
        patch.setattr(planted, "_continuations", lambda *_: None)
        assert "None of 4 planted prompts" in str(planted.plant(study, config))


def test_planted_answers_that_need_no_prompt_measure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few rows the head may be right on all that are judged, although it erred in its folds."""
    study = study_of()
    ladder.train_ladder(study)
    whole = plant(study)
    head = study.executor_of(whole.task).run([study.config("head")])[0]
    assert head.held_out is not None
    rows = whole.task.encoded["held_out"]
    assert rows.labels is not None
    right = head.held_out.right.nonzero().flatten()
    easy = replace(rows.take(right.tolist()), labels=rows.labels[right])
    task = replace(whole.task, encoded={**whole.task.encoded, "held_out": easy})
    with monkeypatch.context() as patch:
        patch.setattr(planted, "plant", lambda *_: planted.Planted(task, whole.prompt))
        assert "Without a prompt" in planted.measure(study).reason
        patch.setattr(planted, "plant", lambda *_: whole)
        assert not planted.measure(study).reason


def test_without_a_trained_prompt_nothing_is_planted() -> None:
    assert "No prompt finished" in planted.measure(study_of()).reason


@pytest.mark.parametrize("favourite", [0, 1])
def test_one_class_for_every_row_is_a_collapse(favourite: int) -> None:
    study = study_of()
    found = collapse.measure(study, torch.full((len(study.task.held_out),), favourite))
    assert found["collapsed"]
    assert (found["class"], found["share"]) == (f"class {favourite}", 1.0)
    assert found["classes_never_given"] == 1


def test_a_probe_that_looks_is_no_collapse() -> None:
    study = study_of()
    assert not collapse.measure(study, reading.read(study, None, "mean").answers)["collapsed"]


def language_loss(study: Study, prompt: SoftPrompt | None) -> float:
    """Nats per token of the held-out inputs as plain text, one text after another."""
    backbone, losses = study.task.backbone, []
    for ids in backbone.tokenize(study.task.held_out.inputs):
        joined = Joined(prompt=None if prompt is None else prompt.embeddings)
        with torch.no_grad():
            logits = backbone.vocabulary_logits(backbone.hidden(backbone.batch([ids]), joined))[0]
        losses += torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").tolist()
    return sum(losses) / len(losses)


def test_an_update_of_zero_does_not_drift_and_a_prompt_does() -> None:
    study = study_of("llama")
    config = study.config("lora", rank=1)
    with METHODS["lora"].attach(study.task.backbone, config.shape, [[0]]) as nothing:
        update = METHODS["lora"].adapter(nothing.state(), config.shape)
    assert isinstance(update, LowRankUpdate)
    prompt = SoftPrompt(10 * torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))
    found = drift.measure(study, {"nothing": update, "loud": prompt})
    assert found["rise"]["nothing"]["gain"] == pytest.approx(0.0, abs=1e-6)
    rise = language_loss(study, prompt) - language_loss(study, None)
    assert_close(torch.tensor(found["rise"]["loud"]["gain"]), torch.tensor(rise), "language loss")
    given = drift.measure(replace(study, plain_text=("the cat sat", "a dog ran on")), {"loud": prompt})
    assert given.sample == "2 given texts as plain text"


def test_drift_needs_a_language_model() -> None:
    assert "encoder" in drift.measure(study_of("bert"), {"any": SoftPrompt(torch.ones(1, 32))}).reason


def test_equal_rank_comes_closest_in_parameters() -> None:
    study = study_of(tokens=(2, 8))
    rank = ladder.equal_rank(study)
    assert rank >= 1
    with METHODS["lora"].attach(study.task.backbone, study.config("lora", rank=1).shape, [[0]]) as one:
        wanted = 8 * study.task.backbone.hidden_size
        assert all(abs(rank * one.size - wanted) <= abs(other * one.size - wanted) for other in range(1, 20))


def with_scores(study: Study, wrong: int, saved: float) -> Study:
    """The ladder's outcomes on 400 rows replaced: the middle prompt errs on so many more than LoRA, and its loss lies
    so far below the shorter one's."""
    for name, entry in list(study.sweeps.items()):
        right = torch.ones(400)
        right[: wrong if name == "prompt 3 tokens" else 0] = 0.0
        loss = torch.full((400,), 1.0 - (saved if name == "prompt 3 tokens" else 0.0))
        outcomes = Outcomes(loss, torch.ones(400), right)
        best = replace(entry.best, held_out=outcomes, validation=outcomes, status="finished")
        study.sweeps[name] = replace(entry, best=best)
    return study


@pytest.mark.parametrize(
    ("wrong", "saved", "cannot"), [(0, 0.0, True), (0, 0.03, False), (60, 0.0, False), (0, -0.5, True)]
)
def test_longer_prompts_are_left_out_only_where_tokens_do_not_bind(wrong: int, saved: float, cannot: bool) -> None:
    study = study_of(tokens=(2, 3, 4))
    ladder.train_ladder(study)
    assert ladder.longer_cannot_help(with_scores(study, wrong, saved)) is cannot


def test_a_diverged_middle_length_leaves_nothing_out() -> None:
    study = study_of(tokens=(2, 3, 4))
    ladder.train_ladder(study)
    entry = with_scores(study, 0, 0.0).sweeps["prompt 3 tokens"]
    study.sweeps["prompt 3 tokens"] = replace(entry, best=replace(entry.best, status="diverged"))
    assert not ladder.longer_cannot_help(study)


@pytest.mark.parametrize("every_length", [True, False])
def test_what_is_left_out_is_said(every_length: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "longer_cannot_help", lambda study: True)
    study = study_of(tokens=(2, 3, 4), every_length=every_length)
    measured = ladder.measure(study, None)
    assert measured["lengths_left_out"] == ([] if every_length else [4])
    assert ("prompt 4 tokens" in measured["methods"]) is every_length


def test_the_read_out_of_an_adapter_is_judged_through_a_head_fitted_to_it() -> None:
    """Behind a prompt that decides the classes, the mean tells them and the bare model does not."""
    model = model_of("bert")
    data = planted_rows(model, random_texts(600))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(model.vocabulary), generator=generator)[:4]
    task = prepare(model, data, limits=Limits(300, 60, 90, 32), longest_prompt=8, pooling="mean")
    study = replace(study_of(), data=data, task=task, adapter=SoftPrompt(model.vocabulary[rows]), reading="first")
    found = reading.measure(study, reading.read(study, study.adapter, "first").outcomes)
    assert found["adapter"]["mean"] > found["bare"]["mean"] + 0.2
    assert found["worth"]["gain"] == pytest.approx(found["adapter"]["mean"] - found["adapter"]["first"])


@pytest.mark.parametrize("goal", ["generalise", "memorise"])
def test_the_bare_model_is_read_through_the_probe_that_training_starts_from(goal: Goal) -> None:
    """And through one of the same kind at every other place."""
    study = study_of(goal=goal)
    if goal == "memorise":
        study.task = prepare_same_rows(study.task.backbone, study.data, limits=SMALL, seed=0, longest_prompt=8)
    task = study.task
    assert task.pooling is not None
    control = task.evaluate("held_out", task.objective())
    assert torch.equal(reading.read(study, None, task.pooling).outcomes.loss, control.loss)
    assert reading.measure(study, None)["bare"][task.pooling] == control.accuracy
    allowed = (1e-4,) if goal == "memorise" else PENALTIES
    prompt = Joined(prompt=task.backbone.vocabulary[:2])
    for place in POOLINGS["encoder"]:
        for joined in (None, Joined(), prompt):
            assert reading.probe_at(task, place, study.seed, joined).penalty in allowed


def test_every_place_has_words() -> None:
    assert {place for places in POOLINGS.values() for place in places} <= set(PLACES)


def test_geometry_of_vocabulary_rows_is_that_of_the_vocabulary() -> None:
    vocabulary = tiny_model("bert").vocabulary
    found = geometry_of(vocabulary, vocabulary)
    assert found["norm_ratio"] == pytest.approx(1.0)
    assert found["nearest_cosine"] == pytest.approx(1.0, abs=1e-5)
    assert geometry_of(4 * vocabulary, vocabulary)["norm_ratio"] == pytest.approx(4.0)
    assert math.isclose(found["longer_than"], 0.5, abs_tol=0.05)


def test_a_record_is_an_adapter_and_is_attached_as_it_is() -> None:
    model = model_of("bert")
    prompt = SoftPrompt(torch.ones(2, model.hidden_size))
    assert as_adapter(prompt, model) is prompt
    with attach(model, prompt) as joined:
        assert joined.prompt is prompt.embeddings
