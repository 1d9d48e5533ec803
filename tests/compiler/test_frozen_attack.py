"""What certificates and plans refuse in every construction: changed weights, constants and sizes that are none."""

import math

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from promptreach.compiler import PlanTooLargeError, build_backbone, gallery_function, plan_backbone
from promptreach.compiler.build import CONSTRUCTIONS
from promptreach.compiler.papers.context_map import context_map
from promptreach.compiler.papers.single_layer import SingleLayer
from promptreach.errors import InputError


@pytest.fixture
def shapes_unchecked(monkeypatch):
    """Users run without the shape checks of the test run, which would speak first."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


def built(construction: str):
    options = {"curvature": 1.0} if construction == "multilinear" else {}
    return build_backbone(1, 1, 1.0, 0.25, construction, **options), gallery_function("average", 1, 1, 1.0)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_changed_weights_get_no_certificate(construction):
    backbone, target = built(construction)
    prompt = backbone.prompt_for(target)
    for weight in (backbone.readout, backbone.position, next(backbone.passes[-1].parameters())):
        kept = weight.clone()
        with torch.no_grad():
            weight.view(-1)[0] += 1
        for certify in (
            lambda: backbone.prompt_for(target),
            lambda: backbone.certify(prompt.embeddings, 1.0),
            lambda: backbone.sup_certificate(prompt),
        ):
            with pytest.raises(InputError, match="weights that its plan does not lead to"):
                certify()
        with torch.no_grad():
            weight.copy_(kept)
    assert backbone.certify(prompt.embeddings, 1.0).recheck()


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
@pytest.mark.parametrize("lipschitz", [-1.0, math.nan, math.inf])
def test_no_function_has_such_a_constant(construction, lipschitz):
    backbone, target = built(construction)
    prompt = backbone.prompt_for(target)
    with pytest.raises(InputError, match="lipschitz"):
        backbone.sup_certificate(prompt, lipschitz)
    with pytest.raises(InputError, match="lipschitz"):
        backbone.certify(prompt.embeddings, lipschitz)
    assert backbone.sup_certificate(prompt, 0.0).value >= 0


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


@pytest.mark.parametrize(("dim", "tokens", "tol"), [(1, 1, 0.1), (1, 1, 0.2), (1, 2, 0.6), (2, 1, 0.5)])
@pytest.mark.parametrize("rank", [1, 3])
def test_the_vocabulary_s_sizes_are_those_of_its_rows(dim, tokens, tol, rank):
    backbone = build_backbone(dim, tokens, 1.0, tol, "single_layer", rank=rank)
    assert isinstance(backbone, SingleLayer)
    found = context_map(backbone.codebook, "float64", rank)
    rows = []
    for position, count in enumerate(found.counts):
        flags = [float(position - backbone.codebook.prompt_length == token) for token in range(tokens)]
        rows += [[*flags, *found.score[position].tolist(), float(code)] for code in range(count)]
    listed = torch.tensor(rows, dtype=torch.float64)
    norms = listed.norm(dim=1)
    sizes = [float(norms.min()), float(norms.max()), float(torch.pdist(listed).min())]
    assert [found.smallest, found.largest, found.apart] == pytest.approx(sizes)


def test_a_large_vocabulary_is_planned_in_little_memory():
    seen = []
    allocate = torch.pdist

    def counted(rows):
        seen.append(len(rows))
        return allocate(rows[:64])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "pdist", counted)
        with pytest.raises(PlanTooLargeError):
            plan_backbone(1, 1, 0.001, 0.0003, "single_layer", memory=2**20)
    assert max(seen) <= 64
