"""The metrics of written answers against numbers of their reference implementations, which stand here as numbers.

They were made with rouge-score 0.1.2 (rougeL, no stemmer), sacrebleu 2.6.0 (chrF2) and the definition of SQuAD 2.0's
evaluation.
"""

import pytest
import torch

from promptreach.training.task.metric_names import TEXT_METRICS
from promptreach.training.task.text_metrics import combined, statistics

# given, wanted, token F1, ROUGE-L, chrF of the row alone
TABLE = (
    (
        "It's mat. An (yes) on ok? end the-cat ok?  tail",
        " a end $3.50 ok? the-cat end  tail",
        0.5333333333333333,
        0.380952380952381,
        0.3673497665638368,
    ),
    (
        "an the-cat THE x (yes) émigré the-cat Ünïcode  tail",
        "an the-cat THE x (yes) émigré the-cat Ünïcode  tail",
        1.0,
        1.0,
        1.0,
    ),
    (
        "mat. dog, dog, émigré no!\t",
        "end émigré émigré 1,200 émigré\t",
        0.20000000000000004,
        0.1818181818181818,
        0.19064899556378506,
    ),
    ('ok? émigré "quoted"  tail', 'ok? émigré "quoted"  tail', 1.0, 1.0, 1.0),
    ("ÉMIGRÉ", "émigré", 1.0, 1.0, 0.0),
    ("THE 12 on ok? $3.50 ok? well-known THE sat", "THE 12 on ok? $3.50 ok? well-known THE sat", 1.0, 1.0, 1.0),
    (" émigré no! émigré ok? 东京 cat Ünïcode\t", " émigré no! émigré ok? 东京 cat Ünïcode\t", 1.0, 1.0, 1.0),
    (" a THE\t", " a THE\t", 1.0, 1.0, 1.0),
    ("mat.", " (yes) the ok? x cat on (yes)  tail", 0.0, 0.0, 0.03530023781212842),
    (" x", "sat émigré the cat Ünïcode  tail", 0.0, 0.0, 0.0),
    (
        " MAT. AN WELL-KNOWN $3.50 ÜNÏCODE X  TAIL",
        " mat. an well-known $3.50 Ünïcode x  tail",
        1.0,
        1.0,
        0.12206438390740393,
    ),
    ("AN", "An", 1.0, 1.0, 0.25),
    ("end x (yes)", "end x (yes)", 1.0, 1.0, 1.0),
    ("  tail more", "  tail", 0.6666666666666666, 0.6666666666666666, 0.7422630560928433),
    (" the-cat $3.50 x 12\n", "well-known no! x An end An\n", 0.25, 0.15384615384615383, 0.025252525252525252),
    (" A THE 12 $3.50", " a the 12 $3.50", 1.0, 1.0, 0.508970658970659),
    (
        " x cat ok? x ok? 东京 no! the-cat It's\n",
        ' sat x x an a THE émigré "quoted"',
        0.2857142857142857,
        0.33333333333333326,
        0.072447408829906,
    ),
    ("CAT OK? 12 AN", "cat ok? 12 an", 1.0, 1.0, 0.10787037037037034),
    ("   tail", "   tail", 1.0, 1.0, 1.0),
    ("AN MAT. 12", "An mat. 12", 1.0, 1.0, 0.15873015873015872),
    ("", "", 1.0, 0, 0.0),
    ("a", "", 1.0, 0, 0.0),
    ("", "b", 0.0, 0, 0.0),
    ("the", "a", 1.0, 0.0, 0.0),
    ("x", "x", 1.0, 1.0, 1.0),
)
CORPUS_CHRF = 0.49603957075274896
"""Of all rows of the table together."""
GIVEN, WANTED = [row[0] for row in TABLE], [row[1] for row in TABLE]


@pytest.mark.parametrize(("metric", "column"), [("token_f1", 2), ("rouge_l", 3), ("chrf", 4)])
def test_every_row_scores_as_the_reference_implementation_says(metric: str, column: int) -> None:
    found = combined(metric, statistics(metric, GIVEN, WANTED), torch.eye(len(TABLE), dtype=torch.float64))  # type: ignore[arg-type]
    wanted = torch.tensor([row[column] for row in TABLE], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0.0, atol=1e-12)


def test_chrf_of_all_rows_adds_their_counts_up_as_sacrebleu_does() -> None:
    weights = torch.ones(1, len(TABLE), dtype=torch.float64)
    assert combined("chrf", statistics("chrf", GIVEN, WANTED), weights).item() == pytest.approx(CORPUS_CHRF, abs=1e-12)


def test_exact_match_knows_nothing_but_white_space_at_the_ends() -> None:
    given = ["a b", " a b\n", "a  b", "A b", ""]
    assert statistics("exact_match", given, ["a b"] * 4 + [""])[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("metric", TEXT_METRICS)
def test_a_weight_of_two_is_the_row_twice(metric: str) -> None:
    given, wanted = ["the cat sat", "a dog", "no"], ["the cat ran", "a dog", "yes"]
    weights = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    once = combined(metric, statistics(metric, given, wanted), weights)  # type: ignore[arg-type]
    twice_given, twice_wanted = [given[0], given[0], given[1]], [wanted[0], wanted[0], wanted[1]]
    numbers = statistics(metric, twice_given, twice_wanted)  # type: ignore[arg-type]
    torch.testing.assert_close(once, combined(metric, numbers, torch.ones(1, 3, dtype=torch.float64)))  # type: ignore[arg-type]
