"""The share of targets that drawn prompts reach: coverage of both statements, floors beside them, and tampering."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from helpers.oracle_problems import normal, random_sequences, random_weights
from helpers.tampering import damaged, said_otherwise
from promptreach.capacity.reach import reached_share, summary
from promptreach.certificate import Certificate, Evidence, Side, Verdict
from promptreach.errors import InputError
from promptreach.limits import memorisable
from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import SoftPrompt


def uniform(generator):
    return torch.rand(1, generator=generator, dtype=torch.float64)


def reach_of(targets, **options):
    return reached_share(lambda prompt: prompt, uniform, targets, **options)


def test_bounds_are_those_of_clopper_and_pearson():
    targets = torch.tensor([[0.1], [0.5], [0.9], [2.0], [3.0]], dtype=torch.float64)
    found = reach_of(targets, within=0.05, prompts=400, confidence=0.95)
    assert found.share.value == pytest.approx(binomtest(3, 5).proportion_ci(0.9, method="exact").low, abs=1e-8)
    assert found.more.value == pytest.approx(binomtest(0, 200).proportion_ci(0.9, method="exact").high, abs=1e-8)
    assert (found.share.side, found.more.side) == (Side.LOWER, Side.UPPER)
    assert {found.share.evidence, found.more.evidence} == {Evidence.MEASURED}
    assert found.share.confidence == 0.95
    assert found.share.rechecked
    assert found.more.rechecked
    assert [bool(item) for item in found.least <= 0.05] == [True, True, True, False, False]
    assert "at least" in summary(found)


def test_both_statements_hold_as_often_as_they_say():
    """Targets uniform on [0, 2], prompts on [0, 1]: what 20 prompts reach is known for each draw."""
    share_held = more_held = 0
    runs, within, prompts = 200, 0.02, 20
    for seed in range(runs):
        drawn = []

        def run(prompt, drawn=drawn):
            drawn.append(float(prompt))
            return prompt

        generator = torch.Generator().manual_seed(10_000 + seed)
        targets = 2 * torch.rand(30, 1, generator=generator, dtype=torch.float64)
        found = reached_share(run, uniform, targets, within, prompts, confidence=0.8, seed=seed)
        points = np.linspace(0, 2, 20_001)
        reached = (np.abs(points[:, None] - np.array(drawn)) <= within).any(1).mean()
        share_held += reached >= found.share.value
        known = np.array([min(abs(float(t) - p) for p in drawn[: prompts // 2]) > within for t in targets])
        unreached = targets[known, 0].numpy()
        new = (
            (np.abs(np.linspace(0, 1, 20_001)[:, None] - unreached) <= within).any(1).mean() if len(unreached) else 0.0
        )
        more_held += new <= found.more.value
    # Three standard errors of a share of 0.8 over 200 runs.
    least = 0.8 - 3 * math.sqrt(0.8 * 0.2 / runs)
    assert share_held / runs >= least
    assert more_held / runs >= least


def test_what_a_floor_proves_out_of_reach_is_never_reached():
    weights = random_weights(5, 4, 1)
    sequences, draw = random_sequences(5, 2, 1), normal(3)
    bare = last_outputs(weights, sequences)
    targets = torch.stack([bare + 0.3 * draw(2, 4) for _ in range(12)])
    targets[0] = last_outputs(weights, sequences, None, SoftPrompt(draw(1, 5)))

    def run(prompt):
        return last_outputs(weights, sequences, None, prompt)

    within = 0.15
    found = reached_share(
        run, lambda g: SoftPrompt(torch.randn(1, 5, generator=g, dtype=torch.float64)), targets, within, prompts=60
    )
    certified = [memorisable(weights, sequences, target) for target in targets]
    assert certified[0].verdict is not Verdict.IMPOSSIBLE
    floors = torch.tensor([item.floor.value for item in certified])
    assert bool((found.least >= floors).all())
    out_of_reach = float((floors > within).double().mean())
    assert found.share.value <= 1 - out_of_reach
    assert out_of_reach > 0


def test_a_certificate_of_reach_that_was_changed_is_refused():
    targets = torch.tensor([[0.2], [0.7], [5.0]], dtype=torch.float64)
    found = reach_of(targets, within=0.1, prompts=50)
    for certificate, step in ((found.share, 1e-6), (found.more, -1e-6)):
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        changed = dict(said_otherwise(certificate))
        assert [what for what, other in changed.items() if other.recheck()] == []
        assert [what for what, other in damaged(certificate) if other.recheck()] == []
        for value in (certificate.value + step, 1.5, -0.5):
            assert not dataclasses.replace(certificate, value=value).recheck()


def test_nothing_and_everything_reached_are_no_special_cases():
    none = reach_of(torch.full((4, 1), 9.0, dtype=torch.float64), within=0.1, prompts=20)
    assert none.share.value == 0
    assert none.share.rechecked
    every = reach_of(torch.full((4, 1), 0.5, dtype=torch.float64), within=1.0, prompts=20)
    assert every.share.value == pytest.approx(0.05 ** (1 / 4), abs=1e-6)
    assert every.more.value < 1


def test_bad_arguments_are_refused_together():
    with pytest.raises(InputError) as raised:
        reach_of(torch.zeros(3), within=-1.0, prompts=1, confidence=1.0)
    assert [fault.where for fault in raised.value.faults] == ["targets", "within", "prompts", "confidence"]
    with pytest.raises(InputError, match="an output of shape"):
        reached_share(lambda _: torch.zeros(3), uniform, torch.zeros(2, 4), 0.1)
