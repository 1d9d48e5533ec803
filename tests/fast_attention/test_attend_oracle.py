"""`attend` against attention's definition in float64: every shape, mask and grouping, exact and polynomial."""

import pytest
import torch

from helpers.attention_problems import assert_certified, dense
from helpers.tolerances import assert_close
from promptreach.attention import split
from promptreach.certificate import Evidence
from promptreach.fast_attention.problem import AttentionProblem
from promptreach.inference import attend

SHAPES = {
    # name: query, key and value shapes
    "one head": ((23, 4), (31, 4), (31, 3)),
    "heads": ((2, 31, 3), (2, 31, 3), (2, 31, 5)),
    "grouped": ((2, 6, 23, 4), (2, 2, 31, 4), (2, 2, 31, 4)),
    "one key head for all": ((3, 4, 9, 2), (3, 1, 20, 2), (3, 1, 20, 2)),
    "broadcast batch": ((2, 2, 11, 3), (1, 2, 17, 3), (1, 2, 17, 3)),
    "one query": ((2, 1, 4), (2, 40, 4), (2, 40, 2)),
    "one key": ((2, 1, 4), (2, 1, 4), (2, 1, 2)),
}
CASES = [(shape, causal, masked) for shape in SHAPES for causal in (False, True) for masked in (False, True)]


def problem(name: str, causal: bool, masked: bool, dtype=torch.float32, seed: int = 0) -> AttentionProblem:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (0.7 * torch.randn(*shape, generator=generator).to(dtype) for shape in SHAPES[name])
    mask = None
    if masked:
        # Padding on the left and holes; the last key stays.
        n = key.shape[-2]
        mask = torch.rand(*query.shape[:-3], n, generator=generator) < 0.8
        mask[..., : n // 4] = False
        mask[..., -1] = True
    return AttentionProblem(query, key, value, causal, mask)


def asked(given: AttentionProblem, method: str, **options):
    inputs = (given.query, given.key, given.value)
    return attend(*inputs, method=method, causal=given.causal, mask=given.mask, scale=given.scale, **options)


@pytest.mark.parametrize(("name", "causal", "masked"), CASES)
def test_exact_is_the_definition(name, causal, masked):
    for dtype in (torch.float32, torch.float64):
        given = problem(name, causal, masked, dtype)
        output, report = asked(given, "exact")
        assert (output.dtype, output.shape) == (dtype, (*given.query.shape[:-1], given.value.shape[-1]))
        assert_close(output, dense(given), "attention output")
        assert report.error.evidence is Evidence.MEASURED
        assert report.error.value <= 1e-5


@pytest.mark.parametrize(("name", "causal", "masked"), CASES)
def test_polynomial_keeps_to_its_certificate(name, causal, masked):
    given = problem(name, causal, masked)
    output, report = asked(given, "polynomial", tol=1e-3)
    assert (output.dtype, output.shape) == (torch.float32, (*given.query.shape[:-1], given.value.shape[-1]))
    assert report.error.value <= 1e-3
    assert_certified(given, output, report.error.value)
    assert_close(output, dense(given), "polynomial output at 1e-3")


def test_padded_causal_queries_give_zero():
    given = problem("heads", True, True)
    for method in ("exact", "polynomial"):
        output, _ = asked(given, method)
        first = int(given.mask.int().argmax())
        assert first > 0
        assert not output[:, :first].any()
        assert output[:, first:].any(dim=-1).all()


def test_causal_chunks_meet_without_a_seam(monkeypatch):
    """Many small chunks, so that states carry most of the work, with grouped heads and holes in the mask."""
    monkeypatch.setattr("promptreach.fast_attention.polynomial._causal.CHUNK", 16)
    generator = torch.Generator().manual_seed(5)
    query, key, value = (0.6 * torch.randn(2, heads, 100, 3, generator=generator) for heads in (4, 2, 2))
    mask = torch.rand(2, 100, generator=generator) < 0.9
    for rows in (100, 37):
        given = AttentionProblem(query[:, :, -rows:], key, value, True, mask)
        output, report = asked(given, "polynomial", tol=1e-3)
        assert_certified(given, output, report.error.value)


def test_a_small_workspace_changes_nothing_but_rounding():
    given = problem("grouped", True, True)
    for method in ("exact", "polynomial"):
        small, _ = asked(given, method, workspace=2**20)
        large, _ = asked(given, method)
        assert_close(small, large, "attention output")


def test_prompt_and_content_are_one_set_of_keys():
    generator = torch.Generator().manual_seed(2)
    query, key, value = (0.5 * torch.randn(2, 30, 4, generator=generator) for _ in range(3))
    prompt_key, prompt_value = (0.5 * torch.randn(2, 6, 4, generator=generator) for _ in range(2))
    joined = (torch.cat([prompt_key, key], dim=1), torch.cat([prompt_value, value], dim=1))
    for causal in (False, True):
        mask = torch.ones(30, 30).tril().bool() if causal else None
        wanted = split(query, key, value, prompt_key, prompt_value, mask=mask).output
        exact, _ = attend(query, *joined, method="exact", causal=causal)
        assert_close(exact, wanted, "attention output")
        fast, _ = attend(query, *joined, tol=1e-3, method="polynomial", causal=causal)
        assert_close(fast, wanted, "polynomial output at 1e-3")


def test_the_same_call_gives_the_same_bits():
    given = problem("grouped", True, True)
    for method in ("exact", "polynomial"):
        first, second = (asked(given, method) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert first[1].error.value == second[1].error.value


def test_half_precision_is_answered_exactly_in_its_own_dtype():
    given = problem("heads", False, False)
    halves = [item.to(torch.bfloat16) for item in (given.query, given.key, given.value)]
    output, report = attend(*halves, method="exact")
    assert output.dtype == torch.bfloat16
    assert_close(
        output.float(), dense(AttentionProblem(*halves)).float(), "attention output in bfloat16", torch.bfloat16
    )
    # The error that is reported is that of what is returned.
    assert 1e-4 < report.error.value < 0.02


def test_mixed_dtypes_are_computed_in_the_widest_and_returned_as_values_are():
    given = problem("heads", False, False)
    output, report = attend(given.query.double(), given.key, given.value, 1e-6, "polynomial")
    assert output.dtype == torch.float32
    assert_certified(AttentionProblem(given.query.double(), given.key, given.value), output, report.error.value)


def test_a_tolerance_below_float32_rounding_is_met_in_float64():
    generator = torch.Generator().manual_seed(4)
    query, key, value = (0.3 * torch.randn(200, 4, generator=generator) for _ in range(3))
    output, report = attend(query, key, value.double(), 1e-9, "polynomial")
    assert report.error.value <= 1e-9
    assert_certified(AttentionProblem(query, key, value.double()), output, report.error.value)


def test_the_easy_problem_is_called_easy():
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(500, 4, generator=generator) for _ in range(3))
    output, report = attend(0.01 * query, 0.01 * key, value, 1e-2, "polynomial")
    assert "degree 0" in report.reasons[-1]
    assert_close(output, value.mean(dim=0).expand_as(output), "attention output")
