"""The norm report: its sizes against their definitions, and what it says of easy, hard and prompted heads."""

import json

import torch

from helpers.tolerances import assert_close
from promptreach.fast_attention.norm_report import norm_report
from promptreach.inference import attend


def states(seed: int = 0):
    """Two sequences, four query heads on two key heads, a prompt of four tokens; head 1 is hard, head 2 off centre."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 4, 200, 6, generator=generator) / 4
    key = torch.randn(2, 2, 200, 6, generator=generator) / 4
    query[:, 1] *= 40
    query[:, 2] += 3
    key[:, 1] += 2
    key[:, :, :4] *= 3
    mask = torch.ones(2, 200, dtype=torch.bool)
    mask[1, 150:] = False
    return query, key, mask


def test_sizes_are_what_they_say():
    query, key, mask = states()
    report = norm_report(query, key, 4, mask)
    for head in range(4):
        rows = [(query[row, head][mask[row]].double(), key[row, head // 2][mask[row]].double()) for row in range(2)]
        typical = max(float((q @ k.mT).square().mean().sqrt()) for q, k in rows) / 6**0.5
        centred = max(float(((q - q.mean(0)) @ (k - k.mean(0)).mT).square().mean().sqrt()) for q, k in rows) / 6**0.5
        found = report.joined.typical_score[head], report.joined.centred_typical_score[head]
        assert_close(torch.stack(found), torch.tensor([typical, centred], dtype=torch.float64), "attention statistic")
        assert float(report.joined.query_norm[head]) == max(float(q.norm(dim=1).max()) for q, _ in rows)
    assert torch.equal(report.joined.key_norm[0], report.joined.key_norm[1])


def test_the_degree_is_enough_and_one_less_is_not():
    query, key, _ = states()
    report = norm_report(query[:1, :1], key[:1, :1], tol=1e-3)
    degree = report.joined.degree[0]
    value = (torch.arange(200) % 2)[:, None].double()
    _, used = attend(query[0, 0].double(), key[0, 0].double(), value, 1e-3, "polynomial")
    assert used.error.value <= 1e-3
    tighter = norm_report(query[:1, :1], key[:1, :1], tol=1e-6).joined
    assert tighter.degree[0] > degree
    assert tighter.rank[0] > report.joined.rank[0]
    assert tighter.work[0] > report.joined.work[0]


def test_words_follow_numbers():
    query, key, mask = states()
    report = norm_report(query, key, 4, mask)
    general, easy, hard, centred, _ = report.meaning
    assert "only worst cases are hard" in general
    assert "degree" in easy
    assert "no polynomial" in hard
    assert report.joined.degree[1] is None
    assert float(report.criterion.joined.score_max[2]) > 5 * float(report.criterion.joined.centred_score_max[2])
    assert "changes no output" in centred
    assert all("prompt raises" in report.meaning[1 + head] for head in (0, 1))


def test_a_long_easy_head_is_called_cheap():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(3000, 3, generator=generator) / 10 for _ in range(2))
    report = norm_report(query, key)
    assert report.joined.work[0] < 0.2
    assert "cheap" in report.meaning[1]


def test_the_report_is_plain_data():
    query, key, mask = states()
    record = json.loads(json.dumps(norm_report(query, key, 4, mask).to_dict()))
    assert record["prompt_length"] == 4
    assert len(record["joined"]["rank"]) == len(record["largest_score"]) == 4
    assert len(record["meaning"]) == 5
