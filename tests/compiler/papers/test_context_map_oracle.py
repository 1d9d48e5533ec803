"""The vocabulary of the contextual map: its sizes are those of its listed rows, in little memory."""

import pytest
import torch

from promptreach.compiler import PlanTooLargeError, build_backbone, plan_backbone
from promptreach.compiler.papers.context_map import context_map
from promptreach.compiler.papers.single_layer import SingleLayer


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
    assert list(found.vocabulary) == pytest.approx(sizes)


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
