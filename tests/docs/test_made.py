"""The generated parts of the pages are what the project says now."""

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from helpers.models import tiny_model
from helpers.sample_report import sample_result
from promptreach.certificate import Evidence
from promptreach.claims import CLAIMS, ClaimResult, ClaimVerdict
from promptreach.commands.limits import limits_of_model
from promptreach.diagnosis.measures.floors import loss_floor
from promptreach.diagnosis.rules.rules import RULES
from promptreach.report.certificates import finished
from promptreach.report.findings import Curve, Finding, Series
from promptreach.report.html import write_report
from promptreach.theorems import THEOREMS
from promptreach.tuning import TuningVerdict

PROJECT = Path(__file__).parent.parent.parent
DOCS = PROJECT / "docs"
ROOMS = ("audit", "tuning", "limits", "compiler", "inference", "hf", "claims")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("made", DOCS / "made.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _load()
MADE = [
    page for page in [PROJECT / "README.md", *sorted(DOCS.rglob("*.md"))] if "<!-- made:" in page.read_text("utf-8")
]


def full_result(key: str, full: bool = True) -> ClaimResult:
    """A record as a run at full sizes writes it."""
    claim = next(claim for claim in CLAIMS if claim.key == key)
    return ClaimResult(
        key=key,
        title=claim.title,
        source=claim.source,
        statement=claim.statement,
        verdict=ClaimVerdict.CAVEAT,
        because="Seen in a test.",
        evidence=Evidence.MEASURED,
        hypotheses=[],
        numbers={},
        figure=Curve(title="A point", x_label="x", y_label="y", series=[Series(name="one", x=[1.0], y=[2.0])]),
        full=full,
        seed=0,
        seconds=1.0,
        environment={},
    )


@pytest.mark.parametrize("page", MADE, ids=lambda page: str(page.relative_to(PROJECT)))
def test_a_page_says_what_the_project_says_now(page: Path) -> None:
    text = page.read_text("utf-8")
    assert made.filled(text) == text, "python docs/made.py writes it anew"


def test_pictures_are_drawn_from_the_committed_numbers() -> None:
    stale = [path.name for path, picture in made.pictures().items() if path.read_text("utf-8") != picture]
    assert stale == [], "python docs/made.py draws them anew"


def test_a_stale_part_would_be_found() -> None:
    stale = "before\n<!-- made: theorem max-norm -->\nold\n<!-- end -->\nafter\n"
    fresh = made.filled(stale)
    assert THEOREMS["max-norm"].statement in fresh
    assert "old" not in fresh
    assert fresh.startswith("before\n")
    assert fresh.endswith("<!-- end -->\nafter\n")
    assert made.filled(fresh) == fresh


def test_a_statement_is_not_taken_for_html() -> None:
    assert "<M, N" in THEOREMS["one-query-dual-bound"].statement
    for part in (made.theorem("one-query-dual-bound"), made.theorems("")):
        assert "&lt;M, N" in part
        assert not re.search(r"<(?!/?code>|wbr>)[A-Za-z/!?]", part)


def test_a_claim_without_a_committed_result_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    table = made.claims("")
    assert table.count(made.NOT_RUN) == 2 * len(CLAIMS)
    assert not any(verdict.value in table for verdict in ClaimVerdict)


def test_committed_results_are_what_the_table_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    for claim in CLAIMS:
        (tmp_path / f"{claim.key}.json").write_text(full_result(claim.key).model_dump_json(), encoding="utf-8")
    made.gather_claims(tmp_path)
    assert made.claim_results() == {claim.key: full_result(claim.key) for claim in CLAIMS}
    table = made.claims("")
    assert made.NOT_RUN not in table
    assert table.count(ClaimVerdict.CAVEAT.value) == 2 * len(CLAIMS)
    assert "Seen in a test." in table


def test_results_at_quick_sizes_are_marked_and_give_way_to_full_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(made, "RESULTS", tmp_path)

    def gathered(full: bool) -> bool:
        (tmp_path / "B2.json").write_text(full_result("B2", full=full).model_dump_json(), encoding="utf-8")
        made.gather_claims(tmp_path)
        return made.claim_results()["B2"].full

    assert not gathered(full=False)
    assert made.claims("").count(made.QUICK) == 2
    assert gathered(full=True)
    assert gathered(full=False)  # stays
    assert made.QUICK not in made.claims("")


def test_the_table_of_the_readme_says_what_a_report_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    model = tiny_model("llama")
    steep = limits_of_model(model, 8, 0).model_copy(update={"check": "limits"})  # as an audit calls it
    counts = [[2, 1]]
    floor = loss_floor(counts, [(1,)] * 3)
    data = finished(Finding(check="data", title="The data", evidence=Evidence.PROVED, summary="", certificates=[floor]))
    shown = Finding(check="training", title="t", evidence=Evidence.MEASURED, sample="9 rows", summary="")
    left_out = shown.model_copy(update={"status": "skipped", "title": "Left out"})
    result = sample_result().model_copy(
        update={
            "findings": [data, steep, shown, left_out],
            "model": {"name": "a/folder/of/mine", "family": "llama", "layers": 2, "parameters": 1234},
        }
    )
    made.gather_report(write_report(result, tmp_path / "report").with_name("report.json"))
    assert "folder" not in (tmp_path / "report_findings.json").read_text("utf-8")
    rows = [line for line in made.report("").splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(name, evidence) for name, evidence, _, _ in cells] == [
        (made.NUMBERS["recheck_loss_floor"], "PROVED"),
        (made.NUMBERS["attention-lipschitz"], "PROVED"),
        (made.NUMBERS["feed-forward-lipschitz"], "PROVED"),
        (made.NUMBERS["limits LOWER"], "MEASURED"),
        (made.NUMBERS["limits UPPER"], "MEASURED"),
        (made.NUMBERS["training"], "MEASURED"),
    ]
    knowns = [known for _, _, known, _ in cells]
    assert (knowns[0], knowns[-1]) == ("a count", "9 rows")
    assert ["[attention-lipschitz]" in knowns[1], "[feed-forward-lipschitz]" in knowns[2]] == [True, True]
    # Of two layers: the bounds of an attention branch and of the whole layer, and those of a feed-forward branch.
    agains = [again for _, _, _, again in cells]
    assert [again[-3:] for again in agains[:3]] == ["(1)", "(4)", "(2)"]
    assert all(again.startswith("re-checked by ") for again in agains[:3])
    assert agains[3:] == ["", "", ""]
    assert "with 2 layers and 1,234 parameters on 2,300 rows" in made.report("")


def test_every_theorem_of_the_two_papers_has_a_page() -> None:
    papers = {key for key, row in THEOREMS.items() if row.paper.startswith(("Wang et al. 2023", "Hu et al. 2025"))}
    pages = "\n".join(page.read_text("utf-8") for page in (DOCS / "theory").glob("*.md"))
    assert papers
    assert {key for key in papers if f"<!-- made: theorem {key} -->" not in pages} == set()


def test_every_verdict_has_a_guide_that_the_first_page_links() -> None:
    first = (DOCS / "index.md").read_text("utf-8")
    for verdict in TuningVerdict:
        guide = f"verdicts/{verdict.value.lower()}.md"
        assert f"[`{verdict.value}`]({guide})" in first
        assert (DOCS / guide).is_file()


def test_the_picture_of_the_order_knows_every_rule() -> None:
    assert [rule.__name__ for rule in RULES if rule.__name__ not in made.verdict_pictures.QUESTIONS] == []
    verdicts = {word for _, verdict in made.verdict_pictures.QUESTIONS.values() for word in verdict.split(", ")}
    assert verdicts == {verdict.value for verdict in TuningVerdict}


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_names_all_that_is_public(room: str) -> None:
    module = importlib.import_module(f"promptreach.{room}")
    paths = made.public_names(room)
    for name, path in paths.items():
        place, _, own = path.rpartition(".")
        assert getattr(importlib.import_module(place), own) is getattr(module, name)
    assert set(paths) == set(getattr(module, "__all__", paths))
    assert paths


@pytest.mark.parametrize("room", ["attention", "norms", "reference", "doctor"])
def test_the_reference_names_what_a_module_makes(room: str) -> None:
    module = importlib.import_module(f"promptreach.{room}")
    made_there = {
        name
        for name, thing in vars(module).items()
        if getattr(thing, "__module__", "") == module.__name__ and callable(thing) and not name.startswith("_")
    }
    checkers = {name for name in made_there if hasattr(getattr(module, name), "_rechecks_certificates")}
    assert set(made.public_names(room)) == made_there - checkers


def test_the_reference_names_every_record_at_the_top() -> None:
    top = importlib.import_module("promptreach")
    assert set(made.public_names("records")) | set(top._ROOMS) | {"__version__"} == set(top.__all__)
