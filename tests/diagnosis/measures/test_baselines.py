"""The baselines: sizes that match, and lengths that are left out only where tokens do not bind."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from helpers.diagnosis_cases import SMALL, experiment_of
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures import baselines
from promptreach.diagnosis.numbers import TrainingNumbers
from promptreach.diagnosis.verdict import Attempt
from promptreach.report.verdict import TuningVerdict
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import Run, RunConfig
from promptreach.training.task.objective import Outcomes


def test_equal_rank_comes_closest_in_parameters() -> None:
    experiment = experiment_of(tokens=(2, 8))
    rank = baselines.equal_rank(experiment)
    assert rank >= 1
    with METHODS["lora"].attach(experiment.task.backbone, experiment.config("lora", rank=1), [[0]]) as one:
        wanted = 8 * experiment.task.backbone.hidden_size
        assert all(abs(rank * one.size - wanted) <= abs(other * one.size - wanted) for other in range(1, 20))


@pytest.fixture(scope="module")
def trained() -> Experiment:
    """The baselines of three lengths, trained once."""
    experiment = experiment_of(tokens=(2, 3, 4))
    baselines.train_baselines(experiment)
    return experiment


def with_scores(experiment: Experiment, wrong: int, saved: float) -> Experiment:
    """The outcomes on 400 rows replaced: the middle prompt errs on so many more than LoRA, and its loss lies
    so far below the shorter one's."""
    experiment = replace(experiment, sweeps=dict(experiment.sweeps))
    for name, entry in list(experiment.sweeps.items()):
        right = torch.ones(400)
        right[: wrong if name == "prompt 3 tokens" else 0] = 0.0
        loss = torch.full((400,), 1.0 - (saved if name == "prompt 3 tokens" else 0.0))
        outcomes = Outcomes(loss, torch.ones(400), right)
        best = replace(entry.best, held_out=outcomes, validation=outcomes, status="finished")
        experiment.sweeps[name] = replace(entry, best=best)
    return experiment


@pytest.mark.parametrize(
    ("wrong", "saved", "cannot"), [(0, 0.0, True), (0, 0.03, False), (60, 0.0, False), (0, -0.5, True)]
)
def test_longer_prompts_are_left_out_only_where_tokens_do_not_bind(
    trained: Experiment, wrong: int, saved: float, cannot: bool
) -> None:
    assert baselines.longer_cannot_help(with_scores(trained, wrong, saved)) is cannot


def test_a_diverged_middle_length_leaves_nothing_out(trained: Experiment) -> None:
    experiment = with_scores(trained, 0, 0.0)
    entry = experiment.sweeps["prompt 3 tokens"]
    experiment.sweeps["prompt 3 tokens"] = replace(entry, best=replace(entry.best, status="diverged"))
    assert not baselines.longer_cannot_help(experiment)


@pytest.mark.parametrize("every_run", [True, False])
def test_what_is_left_out_is_said(every_run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "longer_cannot_help", lambda experiment: True)
    monkeypatch.setattr(baselines, "BORNE_OUT", (TuningVerdict.UNDECIDED,))  # nothing was measured before training
    measured = baselines.measure(experiment_of(tokens=(2, 3, 4), every_run=every_run))
    assert measured["lengths_left_out"] == ([] if every_run else [4])
    assert ("prompt 4 tokens" in measured["methods"]) is every_run
    assert list(measured["not_needed"]) == ([] if every_run else ["prompt 4 tokens"])


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A race that is over once LoRA and the prompt of middle length are trained."""
    monkeypatch.setattr(baselines, "settling", lambda found, numbers: "prompt 3 tokens")


@pytest.mark.usefixtures("settled")
def test_what_cannot_change_the_verdict_is_not_trained_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "BORNE_OUT", (TuningVerdict.UNDECIDED,))
    experiment = experiment_of(tokens=(2, 3, 4), every_run=False)
    measured = baselines.measure(experiment)
    assert experiment.runs.keys() == {"head", "prompt 3 tokens", "lora rank 1"}
    assert measured["not_needed"].keys() == {"prompt 2 tokens", "prefix 3 tokens", "prompt 4 tokens"}
    assert set(measured["not_needed"].values()) == {"prompt 3 tokens is as good as LoRA on the validation rows"}


def test_more_validation_rows_settle_what_those_of_every_look_leave_open(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def once_wider(found: object, numbers: TrainingNumbers) -> str:
        lora = experiment.runs["lora rank 1"]
        rows.append(len(lora.validation.right))
        return "prompt 3 tokens" if len(rows) == 2 else ""

    monkeypatch.setattr(baselines, "settling", once_wider)
    monkeypatch.setattr(baselines, "within_reach", lambda numbers: True)
    experiment = experiment_of(tokens=(2, 3), every_run=False, parts=replace(SMALL, validation=5))
    assert experiment.task.more_validation is not None
    baselines.train_baselines(experiment)
    assert experiment.runs.keys() == {"head", "prompt 3 tokens", "lora rank 1"}
    assert len(rows) == 2


@pytest.mark.usefixtures("settled")
def test_what_the_rows_judged_do_not_bear_out_is_trained_after_all() -> None:
    experiment = experiment_of(tokens=(2, 3), every_run=False)  # nothing was measured before: UNDECIDED
    measured = baselines.measure(experiment)
    assert {"prompt 2 tokens", "prefix 3 tokens"} <= experiment.runs.keys()
    assert measured["not_needed"] == {}


@pytest.mark.usefixtures("settled")
def test_your_own_size_is_trained_before_the_race_is_over() -> None:
    experiment = experiment_of(tokens=(2, 3), every_run=False, attempt=Attempt("prompt", tokens=2))
    baselines.train_baselines(experiment)
    assert experiment.runs.keys() == {"head", "prompt 3 tokens", "prompt 2 tokens", "lora rank 1"}


def test_the_first_rungs_of_all_searches_are_asked_for_at_once() -> None:
    experiment = experiment_of(tokens=(2, 3))
    inner, asked = experiment.executor_of(experiment.task), []

    class Watched:
        task = experiment.task

        def run(self, configs: Sequence[RunConfig]) -> list[Run]:
            asked.append([config.label for config in configs])
            return inner.run(configs)

    experiment.executor_of = lambda task: Watched()
    baselines.train_baselines(experiment)
    labels = ["prompt 3 tokens", "prompt 2 tokens", "prefix 3 tokens", "lora rank 1"]
    assert asked[0] == ["head"]
    assert sorted(asked[1]) == sorted(labels * 3)


def test_every_length_has_a_search_of_its_own(trained: Experiment) -> None:
    soft = [entry for name, entry in trained.sweeps.items() if name.startswith(("prompt", "prefix"))]
    assert len(soft) == 4
    assert all(len(entry.trials) >= 3 for entry in soft)


@pytest.mark.parametrize(("harmed", "tried"), [(False, ("vocabulary",)), (True, ("vocabulary", "text", "random"))])
def test_other_starts_are_tried_where_one_did_harm(
    harmed: bool, tried: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "has_left", lambda now, start: harmed)
    experiment = experiment_of(tokens=(2, 3))
    baselines._train(experiment, [experiment.config("prompt", tokens=2), experiment.config("lora", rank=1)])
    assert experiment.starts["prompt 2 tokens"] == tried
    assert experiment.starts["lora rank 1"] == ("zero",)
    assert experiment.runs["prompt 2 tokens"].config.init in tried


@pytest.mark.parametrize("decides", [True, False])
def test_one_longer_prompt_is_trained_where_lengths_decide(decides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "depends_on", lambda name, found: decides and name == "lengths")
    measured = baselines.measure(experiment_of(tokens=(2, 3)))
    assert ("prompt 12 tokens" in measured["methods"]) is decides
    assert measured["longer_possible"] == ([] if decides else ["prompt", "prefix"])
    assert measured["beyond"] == (["prompt 12 tokens", "prefix 12 tokens"] if decides else [])
    assert measured["against_shorter"]["prompt 3 tokens"].keys() == {"prompt 2 tokens"}
    assert measured["most_tokens"] > 12
    assert all(run["best_step"] in range(run["schedule"] + 1) for run in measured["methods"].values())


@pytest.mark.parametrize(("longer", "steps"), [(0, 4), (1, 8), (9, 16)])
def test_all_are_trained_longer_while_the_verdict_hangs_on_that_at_most_four_times_over(
    longer: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([True] * longer)
    monkeypatch.setattr(baselines, "depends_on", lambda name, found: name == "steps" and next(asked, False))
    experiment = experiment_of(tokens=(2, 3))
    measured = baselines.measure(experiment)
    assert experiment.steps == steps
    assert (measured["steps_asked"], measured["more_steps_possible"]) == (4, steps < 16)
    tuned = {name: run for name, run in experiment.runs.items() if name != "head"}
    assert all(run.config.steps in (4, 8, 16) for run in tuned.values())


def test_a_run_that_does_worse_over_more_steps_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = experiment_of(tokens=(2,))
    baselines.train_baselines(experiment)
    before = dict(experiment.runs)
    monkeypatch.setattr(Experiment, "preference", lambda self, run: run.config.steps)
    baselines._train_longer(experiment)
    assert experiment.runs == before
    monkeypatch.setattr(Experiment, "preference", lambda self, run: -run.config.steps)
    baselines._train_longer(experiment)
    assert {run.config.steps for name, run in experiment.runs.items() if name != "head"} == {16}
    assert experiment.runs["head"] is before["head"]
    assert all(experiment.runs[name].config.learning_rate == run.config.learning_rate for name, run in before.items())


def test_the_prefixes_of_your_form_are_trained_at_every_length() -> None:
    experiment = experiment_of(tokens=(2, 3), attempt=Attempt("prefix", tokens=3))
    baselines.train_baselines(experiment)
    assert {"prefix 2 tokens", "prefix 3 tokens"} <= experiment.runs.keys()
