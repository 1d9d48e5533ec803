"""The multilinear variant: passes against plain loops, certificates against measurement, attack and tampering."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from helpers.compiler_attack import attack
from helpers.compiler_cases import SIZES, random_inputs, reference_layers, small
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler import TargetFunction, build_backbone, load_backbone, plan_backbone
from promptreach.compiler.gallery import gallery_function
from promptreach.compiler.programmable.error_budget import logit_error
from promptreach.compiler.verify import measure
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt


def smooth(dim, tokens, tol=0.05):
    target = gallery_function("smooth", dim, tokens, 1.0, 5)
    return small(dim, tokens, tol, "multilinear", curvature=target.curvature), target


def by_hand(table, nodes, point):
    """Multilinear interpolation of table[node] at the point, corner by corner."""
    cells = nodes - 1
    corner = [min(int(x * cells), cells - 1) for x in point]
    total = 0.0
    for sides in itertools.product((0, 1), repeat=len(point)):
        weight = 1.0
        for x, cell, side in zip(point, corner, sides, strict=True):
            share = x * cells - cell
            weight *= share if side else 1 - share
        place = 0
        for cell, side in zip(corner, sides, strict=True):
            place = place * nodes + cell + side
        total = total + weight * table[place]
    return total


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_it_interpolates_any_table_as_by_hand(dim, tokens):
    backbone, _ = smooth(dim, tokens)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(backbone.points().shape, generator=generator, dtype=torch.float64)
    prompt = SoftPrompt(backbone.rows(values))
    x = random_inputs(dim, tokens, 20)
    # The table is as rough as can be: a weight that is off by e moves the output by e on each axis.
    off = float(dim * tokens * logit_slack(backbone))
    for point, output in zip(x, backbone(x, prompt), strict=True):
        expected = by_hand(values.flatten(1), backbone.plan.cells + 1, point.flatten().tolist())
        assert float((output.flatten() - expected).abs().max()) <= 2 * off


def logit_slack(backbone):
    tilt = backbone.passes[[item.name for item in backbone.passes].index("tilt")]
    count = backbone.plan.derived["knots"]
    knots = [-float(bias) for bias in tilt.up_bias[:count]]
    changes = tilt.down[0, :count].tolist()
    heights = [sum(c * max(place - knot, 0) for c, knot in zip(changes, knots, strict=True)) for place in knots]
    return logit_error(knots, heights, backbone.plan.derived["reach"])


@pytest.mark.parametrize(("dim", "tokens"), [(1, 1), (1, 2), (2, 1)])
def test_it_is_the_reference_transformer(dim, tokens):
    backbone, target = smooth(dim, tokens, 0.2)
    prompt = backbone.prompt_for(target)
    x, layers = random_inputs(dim, tokens, 2), reference_layers(backbone)
    for item, output in zip(x, backbone(x, prompt), strict=True):
        states = reference.transformer(layers, backbone.embed(item[None])[0], prompt)
        assert_close(output, states @ backbone.readout.T, "interpolated output")


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_measured_is_below_certified_is_below_tol(dim, tokens):
    tol = 0.05
    backbone, _ = smooth(dim, tokens, tol)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == backbone.plan.parameters
    assert backbone.stream.size == backbone.plan.hidden_size
    assert len(backbone.points()) == backbone.plan.slots == backbone.plan.evaluations
    for seed in range(3):
        target = gallery_function("smooth", dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        sup = backbone.sup_certificate(prompt)
        assert measure(backbone, prompt, target, 1000, seed).error.value <= prompt.certificate.value
        assert prompt.certificate.value <= backbone.plan.bound <= tol
        found, _ = attack(backbone, prompt, target, starts=30, rounds=15, seed=seed)
        assert found <= sup.value


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_certificates_are_proved_survive_a_file_and_are_confirmed(dim, tokens):
    backbone, target = smooth(dim, tokens)
    prompt = backbone.prompt_for(target)
    for certificate in (prompt.certificate, backbone.sup_certificate(prompt)):
        assert (certificate.side, certificate.evidence) == (Side.UPPER, Evidence.PROVED)
        assert "second derivative" in certificate.claim
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=0.999 * certificate.value).recheck()


def test_it_needs_at_most_a_quarter_of_the_table():
    for dim, tokens in SIZES:
        target = gallery_function("smooth", dim, tokens, 1.0)
        fine = plan_backbone(dim, tokens, 1.0, 0.01, memory=2**60)
        multilinear = plan_backbone(dim, tokens, 1.0, 0.01, "multilinear", curvature=target.curvature)
        assert multilinear.table_entries <= 0.25 * fine.table_entries


def test_what_was_declared_of_second_derivatives_is_tried():
    backbone = small(1, 1, 0.01, "multilinear", curvature=1.0)
    with pytest.raises(InputError, match=r"second difference .* at most the declared curvature 1"):
        backbone.prompt_for(lambda x: 0.5 + 0.4 * np.sin(2.4 * x))
    with pytest.raises(InputError, match="declared curvature 3"):
        backbone.prompt_for(TargetFunction(lambda x: x, 1, 1, 1.0, curvature=3.0))
    backbone.prompt_for(lambda x: x)


@pytest.mark.parametrize("curvature", [-1.0, math.inf, math.nan])
def test_a_curvature_out_of_range_is_refused(curvature):
    with pytest.raises(InputError, match="curvature"):
        build_backbone(1, 1, 1.0, 0.1, "multilinear", curvature=curvature)


def test_it_needs_a_curvature_and_float64():
    with pytest.raises(InputError, match="curvature"):
        build_backbone(1, 1, 1.0, 0.1, "multilinear")
    with pytest.raises(InputError, match="Use float64"):
        build_backbone(1, 2, 1.0, 0.03, "multilinear", curvature=4.0, dtype=torch.float32)


def test_a_saved_backbone_is_the_same_backbone(tmp_path):
    backbone, _ = smooth(1, 2)
    backbone.save(tmp_path / "backbone.safetensors")
    assert load_backbone(tmp_path / "backbone.safetensors").plan == backbone.plan
