"""The front door: known answers on tiny models, bad input, and the same answer from what an earlier call kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.diagnosis_cases import planted_rows, random_texts
from helpers.models import tiny_model
from helpers.tasks import completer, completions, labelled, sentences
from promptreach.certificate import Evidence
from promptreach.data import LabelledTexts
from promptreach.diagnosis.diagnose import argument_faults
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.diagnosis.steps import AFTER_DATA, DATA
from promptreach.errors import AdapterError, DataError, InputError
from promptreach.hf import attach, save_adapter
from promptreach.hf.adapters.folders import as_adapter
from promptreach.prompt import SoftPrompt
from promptreach.tuning import Attempt, Diagnosis, Limits, TuningVerdict, diagnose, fit

QUICK: dict[str, Any] = {
    "longest_training": 1,
    "tokens": (2, 3),
    "rank": 1,
    "steps": 4,
    "batch_size": 16,
    "limits": Limits(48, 16, 24, 32),
    "quiet": True,
}
PEFT_DEFAULT = {"learning_rate": 1e-3, "init": "random"}
FINDINGS = {step.name for step in (DATA, *AFTER_DATA)}


def check_whole(found: Diagnosis) -> None:
    """What every diagnosis holds, whatever its verdict."""
    assert set(found.findings) == FINDINGS
    for finding in found.findings.values():
        assert (finding.evidence is Evidence.UNKNOWN) == bool(finding.reason)
        assert bool(finding.values) != bool(finding.reason)
    for reason in found.reasons:
        assert reason.check in FINDINGS
        assert found.findings[reason.check].values or reason.evidence is Evidence.UNKNOWN
    assert found.headline
    assert found.advice
    assert (found.verdict is TuningVerdict.UNDECIDED) == (found.evidence is Evidence.UNKNOWN)


def doubled(count: int) -> LabelledTexts:
    """Every text twice, once with each label."""
    texts = labelled(count).texts
    return LabelledTexts(texts + texts, (0,) * count + (1,) * count, ("no", "yes"))


def test_pefts_defaults_on_what_a_prompt_can_do_are_the_optimiser_and_the_fix_is_verified() -> None:
    model = tiny_model("bert")
    attempt = Attempt("prompt", tokens=4, steps=120, **PEFT_DEFAULT)
    options: dict[str, Any] = {**QUICK, "tokens": (4,), "steps": 120, "limits": Limits(600, 100, 400, 32)}
    found = diagnose(model, planted_rows(model, random_texts(1600)), attempt=attempt, pooling="mean", **options)
    check_whole(found)
    assert found.verdict is TuningVerdict.OPTIMISER
    assert found.recommended is not None
    assert found.recommended.init == "vocabulary"
    assert found.recommended.learning_rate is not None
    path = found.findings["attempt"]["path"]
    fitting = found.findings["training"]["methods"]["prompt 4 tokens"]
    assert path[-1]["score"] >= fitting["accuracy"] - MARGIN["accuracy"] / 2
    assert {step["setting"] for step in path} <= {"init", "learning_rate"}
    assert found.reasons[0].check == "attempt"


def test_the_worths_along_the_path_add_up_to_the_whole() -> None:
    attempt = Attempt("prompt", tokens=2, steps=2, pooling="first", **PEFT_DEFAULT)
    found = diagnose(tiny_model("bert"), labelled(100), attempt=attempt, **QUICK)
    values = found.findings["attempt"].values
    assert values["path"]
    assert sum(step["worth"]["gain"] for step in values["path"]) == pytest.approx(values["whole"]["gain"])


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_contradictions_are_proved_before_anything_is_trained(family: str) -> None:
    found = diagnose(tiny_model(family), doubled(60), **QUICK)
    assert (found.verdict, found.evidence) == (TuningVerdict.DATA, Evidence.PROVED)
    assert set(found.findings) == {"data"}
    assert all(certificate.recheck() for certificate in found.findings["data"].certificates)
    assert found.recommended is None


@pytest.mark.parametrize("goal", ["generalise", "memorise"])
@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
def test_completions_are_diagnosed_whole(method: str, goal: str) -> None:
    attempt = Attempt(method, tokens=2, rank=1, learning_rate=1e-3, steps=4)
    check_whole(diagnose(completer("gpt2"), completions(60), attempt=attempt, goal=goal, **QUICK))


def test_rows_that_nobody_memorised_are_trained_longer_before_that_is_said() -> None:
    found = diagnose(completer("gpt2"), completions(60), goal="memorise", **{**QUICK, "longest_training": 4})
    check_whole(found)
    training = found.findings["training"]
    assert training["steps_asked"] == 4
    assert training["methods"]["lora rank 1"]["schedule"] > 4
    assert any("steps asked for" in reason.text for reason in found.reasons)


def test_without_an_attempt_nothing_is_said_of_one() -> None:
    found = diagnose(tiny_model("bert"), labelled(100), **QUICK)
    check_whole(found)
    assert "Neither" in found.findings["attempt"].reason
    assert all(reason.check not in ("attempt", "collapse") for reason in found.reasons)


def test_rows_to_be_memorised_are_all_judged() -> None:
    found = diagnose(tiny_model("bert"), labelled(20), goal="memorise", **QUICK)
    check_whole(found)
    assert found.findings["training"]["rows_judged"] == "all 20 training rows"
    assert found.findings["training"]["against_head"]["lora rank 1"]["error"] == 0.0


def test_two_rows_can_be_memorised() -> None:
    check_whole(diagnose(completer("gpt2"), completions(2), goal="memorise", **QUICK))


def test_the_same_seed_gives_the_same_diagnosis_and_finished_runs_are_not_repeated(tmp_path: Path) -> None:
    def once(folder: Path | None) -> dict[str, Any]:
        attempt = Attempt("prompt", tokens=2, steps=3, **PEFT_DEFAULT)
        found = diagnose(tiny_model("bert"), labelled(100), attempt=attempt, folder=folder, **QUICK)
        return {name: dict(finding.values) for name, finding in found.findings.items()}

    first, again, elsewhere = once(tmp_path), once(tmp_path), once(None)
    assert again == first  # with its times: every run was found
    assert elsewhere["attempt"]["path"] == first["attempt"]["path"]
    assert elsewhere["training"]["against_lora"] == first["training"]["against_lora"]


# The user's adapter ---------------------------------------------------------------------------------------------------


def test_the_folder_of_a_peft_classifier_tells_where_its_head_reads(tmp_path: Path) -> None:
    model = tiny_model("bert")
    prompt = SoftPrompt(torch.randn(3, model.hidden_size, generator=torch.Generator().manual_seed(0)))
    folder = save_adapter(tmp_path / "mine", model, prompt)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "task_type": "SEQ_CLS"}))
    found = diagnose(model, labelled(100), adapter=folder, pooling="mean", **QUICK)
    check_whole(found)
    assert found.findings["reading"]["yours"] == "first"
    assert set(found.findings["reading"]["adapter"]) == {"mean", "first"}
    assert [step["setting"] for step in found.findings["attempt"]["path"]] == ["pooling"]


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
def test_a_record_is_scored_as_it_is(kind: str) -> None:
    model = tiny_model("llama")
    mine = fit(model, labelled(100), kind, tokens=2, rank=1, steps=2, learning_rate=0.01, quiet=True).adapter
    found = diagnose(model, labelled(100), adapter=mine, **QUICK)
    check_whole(found)
    assert found.findings["training"]["yours"]["kind"] == "adapter"
    assert "yours" in found.findings["drift"]["rise"]


def test_a_record_is_an_adapter_and_is_attached_as_it_is() -> None:
    model = tiny_model("bert")
    prompt = SoftPrompt(torch.ones(2, model.hidden_size))
    assert as_adapter(prompt, model) is prompt
    with attach(model, prompt) as joined:
        assert joined.prompt is prompt.embeddings


# Bad input ------------------------------------------------------------------------------------------------------------


def test_three_rows_are_refused() -> None:
    with pytest.raises(DataError, match="3 different inputs"):
        diagnose(tiny_model("bert"), labelled(60).take([0, 1, 2]), **QUICK)


def test_two_hundred_classes_of_two_rows_are_undecided() -> None:
    texts = sentences(400, words=8)
    labels = tuple(index % 200 for index in range(400))
    data = LabelledTexts(tuple(texts), labels, tuple(f"class {index:03}" for index in range(200)))
    limits = Limits(300, 60, 100, 32)
    found = diagnose(tiny_model("bert"), data, **{**QUICK, "limits": limits})
    check_whole(found)
    assert found.verdict is TuningVerdict.UNDECIDED
    assert "4,000 training rows" in found.advice


@pytest.mark.parametrize("attempt", [None, Attempt("prompt", tokens=60), Attempt("prefix", tokens=60)])
def test_no_room_for_the_prompt_is_refused(attempt: Attempt | None) -> None:
    tokens = (60, 64) if attempt is None else (2,)
    unit = "slots" if attempt is not None and attempt.method == "prefix" else "virtual tokens"
    with pytest.raises(InputError, match=f"60 {unit} in a context of 64"):
        diagnose(tiny_model("bert"), labelled(60), attempt=attempt, **{**QUICK, "tokens": tokens})


def test_lengths_without_room_are_left_out() -> None:
    found = diagnose(tiny_model("bert"), labelled(100), **{**QUICK, "tokens": (2, 3, 60)})
    assert "prompt 60 tokens" not in found.findings["training"]["methods"]


def test_an_adapter_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    model = tiny_model("bert")
    with pytest.raises(InputError, match="adapter: dict"):
        as_adapter({}, model)
    folder = save_adapter(tmp_path / "odd", model, SoftPrompt(torch.ones(2, model.hidden_size)))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "ADALORA"}))
    with pytest.raises(AdapterError, match="ADALORA"):
        diagnose(model, labelled(60), adapter=folder, **QUICK)


def test_an_adapter_of_another_model_is_refused() -> None:
    with pytest.raises(AdapterError, match="virtual tokens of size 5"):
        diagnose(tiny_model("bert"), labelled(60), adapter=SoftPrompt(torch.ones(2, 5)), **QUICK)


def test_a_loss_that_is_not_a_number_is_a_finding() -> None:
    """Steps so large that the prompt overflows: the attempt has diverged, and that is the answer."""
    attempt = Attempt("prompt", tokens=2, learning_rate=1e30, init="vocabulary", steps=40)
    found = diagnose(completer("gpt2"), completions(100), attempt=attempt, **{**QUICK, "steps": 40})
    check_whole(found)
    assert found.findings["attempt"]["diverged_at"] is not None
    assert found.findings["training"]["yours"]["status"] == "diverged"
    assert any("stopped being a number" in reason.text for reason in found.reasons)


def test_all_wrong_arguments_are_told_at_once() -> None:
    attempt = Attempt("prompt", tokens=0, learning_rate=-1.0, init="zero", steps=0)
    with pytest.raises(InputError) as caught:
        diagnose(
            tiny_model("bert"),
            labelled(60),
            attempt=attempt,
            tokens=(0,),
            steps=0,
            batch_size=0,
            rank=0,
            seeds=0,
            longest_training=0,
        )
    told = {fault.where for fault in caught.value.faults}
    attempts = {f"attempt.{name}" for name in ("tokens", "learning_rate", "init", "steps")}
    assert told == {"tokens", "steps", "batch_size", "rank", "seeds", "longest_training"} | attempts
    faults = argument_faults(None, None, "fit", (4,), None, 1, 1, "top")
    assert [fault.where for fault in faults] == ["goal", "pooling"]
    with pytest.raises(InputError, match=r"attempt\.method"):
        diagnose(tiny_model("bert"), labelled(60), attempt=Attempt("full"), **QUICK)
    adapter = SoftPrompt(torch.ones(2, 32))
    with pytest.raises(InputError, match="one of the two"):
        diagnose(tiny_model("bert"), labelled(60), attempt=Attempt("prompt", 2), adapter=adapter, **QUICK)
