"""Building and loading: what is asked for is checked all at once, and a file gives the same backbone."""

import math

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from helpers.compiler_cases import random_inputs, small
from promptreach.compiler import build_backbone, gallery_function, load_backbone, plan_backbone
from promptreach.compiler.build import CONSTRUCTIONS
from promptreach.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_saved_backbone_is_the_same_backbone(tmp_path, dtype):
    backbone = small(1, 2, dtype=dtype)
    backbone.save(tmp_path / "backbone.safetensors")
    again = load_backbone(tmp_path / "backbone.safetensors")
    assert again.plan == backbone.plan
    prompt = backbone.prompt_for(gallery_function("ridge", 1, 2, 1.0))
    x = random_inputs(1, 2, 20)
    assert torch.equal(backbone(x, prompt), again(x, prompt))


def test_a_file_that_is_no_backbone_is_refused(tmp_path):
    import safetensors.torch

    path = tmp_path / "backbone.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"a file that CompiledBackbone\.save wrote"):
        load_backbone(path)
    with pytest.raises(InputError, match=r"a file that CompiledBackbone\.save wrote"):
        load_backbone(tmp_path / "absent.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, {"promptreach": '{"dtype": "float64", "options": {}}'})
    with pytest.raises(InputError, match=r"a file that CompiledBackbone\.save wrote"):
        load_backbone(path)
    backbone = small(1, 1)
    backbone.save(path)
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors["position"] = tensors["position"] + 1
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(InputError, match="weights that the plan does not lead to"):
        load_backbone(path)


def test_every_argument_out_of_range_is_named_at_once():
    with pytest.raises(InputError) as error:
        build_backbone(0, -1, math.nan, 0.0, "nothing", dtype=torch.bfloat16, memory=0)
    names = [fault.where for fault in error.value.faults]
    assert names == ["dim", "tokens", "lipschitz", "tol", "construction", "dtype", "memory"]
    for tol in (-0.1, math.inf, math.nan):
        with pytest.raises(InputError, match="tol"):
            build_backbone(1, 1, 1.0, tol)


def test_an_option_that_the_construction_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(InputError, match=r"option.*'rung'.*options of single_layer: rank, form"):
        plan_backbone(1, 1, 1.0, 0.3, "single_layer", rung=2)
    with pytest.raises(InputError, match=r"options of programmable: none"):
        build_backbone(1, 1, 1.0, 0.3, rank=2)


@pytest.fixture
def shapes_unchecked(monkeypatch):
    """Users run without the shape checks of the test run, which would speak first."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_sizes_that_are_none_are_named_all_at_once(construction, shapes_unchecked):
    options = {"curvature": 1.0} if construction == "multilinear" else {}
    for dim, tokens, lipschitz, tol in (
        (2.5, math.nan, "1", None),
        (True, "1", math.inf, 1e-320),
        (0, -1, -1.0, 1e300),
    ):
        with pytest.raises(InputError) as caught:
            plan_backbone(dim, tokens, lipschitz, tol, construction, memory="all", **options)
        assert [fault.where for fault in caught.value.faults] == ["dim", "tokens", "lipschitz", "tol", "memory"]


@pytest.mark.parametrize("curvature", ["abc", True, -1.0, 1e200])
def test_a_curvature_that_is_none_is_refused(curvature, shapes_unchecked):
    with pytest.raises(InputError, match="curvature"):
        plan_backbone(1, 1, 1.0, 0.1, "multilinear", curvature=curvature)
