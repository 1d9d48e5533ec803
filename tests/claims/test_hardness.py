"""B4: without structure the planner falls back, with clusters it does not, at entries of one size."""

from pathlib import Path

import torch

from helpers.claims import ran, rows_of
from promptreach.claims import ClaimVerdict
from promptreach.claims.hardness import HEAD_DIM, TOL, clusters, matching


def test_hard_instances_fall_back_and_easy_ones_do_not(tmp_path: Path) -> None:
    result = ran("B4", tmp_path)
    assert result.verdict is ClaimVerdict.CAVEAT
    assert result.numbers["methods"]["matching"][-1] == "exact"
    assert "exact" not in result.numbers["methods"]["clustered"][:1]
    assert all(error <= TOL for _, _, _, error, _, _ in rows_of(result))


def test_every_query_of_a_matching_is_one_key_and_finds_no_other() -> None:
    query, key, _ = matching(64, 2.0, torch.Generator().manual_seed(0))
    scores = query @ key.T
    assert set(query.abs().unique().tolist()) == {2.0}
    assert scores.max(dim=1).values.tolist() == [4 * HEAD_DIM] * 64
    assert sorted(scores.argmax(dim=1).tolist()) == list(range(64))


def test_clusters_lie_near_few_centres_of_the_same_size() -> None:
    query, key, _ = clusters(256, 2.0, torch.Generator().manual_seed(0))
    for tokens in (query, key):
        assert len({tuple(row) for row in tokens.sign().tolist()}) <= 64
        assert abs(float(tokens.abs().mean()) - 2.0) < 0.05
