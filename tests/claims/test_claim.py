"""What an experiment is handed, and what follows of what it saw."""

from dataclasses import replace

from promptreach.certificate import Evidence
from promptreach.claims import ClaimVerdict
from promptreach.claims.claim import Hypothesis, Outcome, Setting
from promptreach.report.findings import Curve

FIGURE = Curve(title="Nothing", x_label="x", y_label="y", series=[])


def outcome(**conditions: bool) -> Outcome:
    found = (ClaimVerdict.HOLDS, "So it is.", Evidence.PROVED, (), {}, FIGURE)
    named = {name.replace("_", " "): seen for name, seen in conditions.items()}
    return Outcome(*found, conditions=named, seen="It rained.")


def test_where_every_condition_holds_the_verdict_stands_with_its_reason() -> None:
    judged = outcome(the_sky_is_up=True).judged()
    assert (judged.verdict, judged.because, judged.evidence) == (
        ClaimVerdict.HOLDS,
        "It rained. So it is.",
        Evidence.PROVED,
    )


def test_a_condition_that_does_not_hold_makes_the_claim_fail_and_is_named() -> None:
    judged = outcome(the_sky_is_up=True, pigs_fly=False, fish_walk=False).judged()
    assert judged.verdict is ClaimVerdict.FAILS
    assert judged.because == "It rained. Not seen here: pigs fly; fish walk."
    assert judged.evidence is Evidence.MEASURED


def test_what_other_sizes_may_show_was_not_reproduced() -> None:
    judged = replace(outcome(pigs_fly=False), missed=ClaimVerdict.NOT_REPRODUCED).judged()
    assert judged.verdict is ClaimVerdict.NOT_REPRODUCED
    assert judged.because == "It rained. Not seen here: pigs fly."


def test_a_setting_picks_its_size_and_follows_items_whole_and_in_order() -> None:
    assert [Setting(full=full).pick(1, 2) for full in (False, True)] == [1, 2]
    assert list(Setting().followed("abc", "letters")) == ["a", "b", "c"]


def test_a_hypothesis_says_whether_it_was_looked_at() -> None:
    assert Hypothesis.checked("so").status == "CHECKED"
    assert Hypothesis.declared("so", "nobody can").status == "DECLARED"
