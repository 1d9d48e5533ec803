"""What a quantised config asks of a machine is named before anything is read."""

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from promptreach import quantisation
from promptreach.errors import MissingExtraError
from promptreach.quantisation import SCHEMES, quantisation_faults, scheme_name


def config(**settings: Any) -> dict[str, Any]:
    return {"model_type": "llama", "quantization_config": settings}


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantisation, "_installed", lambda package: False)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.usefixtures("nothing_installed")
def test_missing_kernels_are_named(name: str) -> None:
    packages = SCHEMES[name].packages
    if not packages:
        assert quantisation_faults(config(quant_method=name)) == []
        return
    with pytest.raises(MissingExtraError, match="pip install") as refused:
        quantisation_faults(config(quant_method=name))
    for word in (name, *packages):
        assert word in str(refused.value)
    assert "the model that it was made from" in str(refused.value)


def test_kernels_that_know_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantisation, "_installed", lambda package: True)
    for name, scheme in SCHEMES.items():
        assert bool(quantisation_faults(config(quant_method=name), "cpu")) == scheme.accelerator
        assert quantisation_faults(config(quant_method=name), "cuda:1") == []
        assert quantisation_faults(config(quant_method=name)) == []


def test_plain_and_unknown() -> None:
    assert quantisation_faults({"model_type": "llama"}) == []
    assert quantisation_faults({"model_type": "llama", "quantization_config": None}) == []
    assert "a list" in str(quantisation_faults({"quantization_config": [4]})[0])
    assert "quantised by squeeze" in str(quantisation_faults(config(quant_method="squeeze"))[0])
    assert "a method without a name" in str(quantisation_faults(config())[0])


def test_names() -> None:
    class Kind(Enum):
        GPTQ = "gptq"

    assert scheme_name(SimpleNamespace(quant_method=Kind.GPTQ)) == "gptq"
    assert scheme_name({"load_in_4bit": True}) == "bitsandbytes"
    assert scheme_name({}) == ""
