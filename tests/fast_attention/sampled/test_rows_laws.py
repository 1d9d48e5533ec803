"""Rows drawn from one head: which come first, and which are exact."""

from helpers.attention_problems import sampled_head, smooth_head


def test_outlier_rows_come_first() -> None:
    query, key, value = smooth_head(500, 400)
    query[123] = 10 * query[123] + 5
    sampled = sampled_head(query, key, value)
    assert int(sampled.outlier_rows()[0]) == 123
    assert sorted(sampled.outlier_rows().tolist()) == list(range(500))
