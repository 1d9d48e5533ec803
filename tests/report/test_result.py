"""The record of an audit: its exit status, its findings by name, and the environment it was made in."""

import importlib.metadata
import json

import pytest
import torch
from pydantic import ValidationError

import promptreach
from helpers.sample_report import sample_result
from promptreach.report.result import SCHEMA_VERSION, Recommendation, Report, environment
from promptreach.report.verdict import EXIT_STATUS, TuningVerdict


@pytest.mark.parametrize("verdict", TuningVerdict)
def test_the_exit_status_is_that_of_the_verdict(verdict: TuningVerdict) -> None:
    result = sample_result(num_layers=1, num_heads=1).model_copy(update={"verdict": verdict})
    assert result.exit_status == EXIT_STATUS[verdict]


def test_a_finding_is_found_by_its_check() -> None:
    result = sample_result(num_layers=1, num_heads=1)
    assert [result.finding(finding.check) for finding in result.findings] == result.findings
    assert result.finding("no such check") is None


def test_a_record_of_another_version_or_with_a_field_too_many_is_refused() -> None:
    record = json.loads(sample_result(num_layers=1, num_heads=1).model_dump_json())
    assert Report.model_validate(record).schema_version == SCHEMA_VERSION
    for wrong in ({"schema_version": SCHEMA_VERSION + 1}, {"colour": "red"}):
        with pytest.raises(ValidationError):
            Report.model_validate(record | wrong)


def test_only_methods_that_exist_can_be_recommended() -> None:
    assert Recommendation(method="prefix", text="Use a prefix.").tokens is None
    with pytest.raises(ValidationError):
        Recommendation(method="magic", text="Use magic.")  # type: ignore[arg-type]


def test_the_environment_names_versions_and_threads_in_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == importlib.metadata.version("torch")
    assert found["promptreach"] == promptreach.__version__
    assert found["threads"] == torch.get_num_threads()

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert environment()["torch"] == "not installed as a package"
