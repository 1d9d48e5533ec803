"""The sequence of measurements: what each leaves behind, and where it ends early."""

from helpers.diagnosis_cases import experiment_of, here
from helpers.models import tiny_model
from promptreach.certificate import Evidence
from promptreach.data import LabelledTexts
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.rules.rules import judge
from promptreach.diagnosis.steps import AFTER_DATA, DATA, FORGETTING, DiagnosisStep, measure_and_judge
from promptreach.training.task.task import prepare


def test_a_step_keeps_what_it_found_under_its_name() -> None:
    experiment = experiment_of()
    found = Measured({"answer": 42}, "nothing")
    assert DiagnosisStep("question", lambda _: found).take(experiment) is found
    assert DiagnosisStep("other", lambda _: Skipped("no reason")).take(experiment).reason == "no reason"
    assert list(experiment.found) == ["question", "other"]
    assert experiment.numbers == [{"answer": 42}]


def test_every_step_is_taken_in_order_and_the_verdict_rests_on_all() -> None:
    experiment = experiment_of()
    told: list[tuple[str, int, int]] = []
    judgement = measure_and_judge(experiment, lambda *step: told.append(step))
    steps = (DATA, *AFTER_DATA)
    assert told == [(step.name, number, len(steps)) for number, step in enumerate(steps, start=1)]
    assert list(experiment.found) == [step.name for step in (DATA, *AFTER_DATA)]
    assert judgement == judge(experiment.numbers)
    assert experiment.found[FORGETTING.name].reason == "An encoder models no text of its own."


def test_where_contradictions_decide_nothing_is_trained() -> None:
    texts = tuple(f"{word} cat sat" for word in ("the", "a", "this", "it", "good", "bad", "not") for _ in range(2)) * 2
    data = LabelledTexts(texts, tuple(index % 2 for index in range(len(texts))), ("left", "right"))
    model = tiny_model("bert")
    # Only the rows judged by the data count here; the task itself is never trained on.
    task = prepare(model, LabelledTexts(tuple(f"{text} {i}" for i, text in enumerate(texts)), data.labels, ("l", "r")))
    experiment = Experiment(data, task, here, tokens=(2, 3), steps=4, batch_size=16)
    judgement = measure_and_judge(experiment)
    assert judgement.evidence is Evidence.PROVED
    assert list(experiment.found) == [DATA.name]
    assert experiment.sweeps == {}
