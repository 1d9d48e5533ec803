"""The six verdicts: each has words, a tone that is never alone, and an exit status."""

import pytest

from promptreach.report.verdict import EXIT_STATUS, VERDICT_WORDS, TuningVerdict

TONES = {"good", "caution", "bad", "unsure"}
WRONG_CALL = 2


@pytest.mark.parametrize("verdict", TuningVerdict)
def test_every_verdict_has_its_words_and_its_exit_status(verdict: TuningVerdict) -> None:
    words = VERDICT_WORDS[verdict]
    assert words.name
    assert words.tone in TONES
    assert words.terminal
    assert EXIT_STATUS[verdict] in {0, 1, 3}
    assert EXIT_STATUS[verdict] != WRONG_CALL


def test_names_differ_and_a_script_tells_fitting_from_not_and_from_undecided() -> None:
    assert len({words.name for words in VERDICT_WORDS.values()}) == len(TuningVerdict)
    assert [verdict for verdict in TuningVerdict if EXIT_STATUS[verdict] == 0] == [TuningVerdict.FITS]
    assert [verdict for verdict in TuningVerdict if EXIT_STATUS[verdict] == 3] == [TuningVerdict.UNDECIDED]
