"""The parts of these pages that are made from the project itself, so that they cannot drift away from it.

A page marks such a part with `<!-- made: NAME ARGUMENT -->` and `<!-- end -->`; what stands between the two is written
here, and a test holds every page and picture to what would be written now.

python docs/made.py                     write every part and every picture anew
python docs/made.py --claims FOLDER     before that, gather what `promptreach claims run .. --out FOLDER` wrote
python docs/made.py --report FILE       before that, gather what the README tells of the report.json of an audit
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import families_table
import heads_pictures
import rivals_table
import rows_table
import servers_table
import verdict_pictures

from promptreach.claims import CLAIMS, Claim, ClaimResult
from promptreach.claims.run import as_picture, read_claim
from promptreach.report.formatting import format_seconds
from promptreach.report.json import read_report
from promptreach.report.wording import recheck_words
from promptreach.theorems import THEOREMS, as_markdown

DOCS = Path(__file__).parent
PROJECT = DOCS.parent
PACKAGE = PROJECT / "src" / "promptreach"
RESULTS = PROJECT / "benchmarks" / "results"
PICTURES = DOCS / "pictures"

NOT_RUN = "not run yet"
"""What stands where a committed result is missing; never a guess."""
QUICK = " (quick sizes)"
"""Stands behind a verdict that was not reached at full sizes."""

NUMBERS = {
    "recheck_loss_floor": "least loss of any method, given equal inputs with different answers",
    "recheck_best_accuracy": "most rows that any method gets right, given equal inputs with different answers",
    "one-query-dual-bound": "error of every prefix at a head of the first layer, against what LoRA does (encoders)",
    "token-floor": "error that no prefix of m slots goes below at a head of the first layer, m by m",
    "attention-lipschitz": "Lipschitz constant of an attention branch, and of a layer, on a stated ball",
    "feed-forward-lipschitz": "Lipschitz constant of a feed-forward branch, on a stated ball",
    "limits LOWER": "steepest direction found in a branch of a layer",
    "limits UPPER": "slope of a branch of a layer at the states of one row",
    "prediction EXACT": "loss, accuracy and reach of a method before it is trained",
    "training": "held-out scores and paired differences between methods, 90 % intervals over held-out rows",
    "attention_share": "attention share of the prompt, per layer and head, exact for each query",
    "weight_change": "rank of the change of weights that does what a prompt does at a layer, and what LoRA leaves",
    "inference_cost": "time and memory of what can be deployed; norms against sqrt(log n), which describe and no more",
}
"""What stands in a report: the certificates by theorem, by checker, or by finding and side; findings without any."""

FRONTS = ("inference", "tuning")
"""Modules that only name what other rooms make."""

_MARK = re.compile(r"(<!-- made: ([a-z]+) ?([\w./-]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with every marked part as it should be now."""
    return _MARK.sub(lambda mark: f"{mark[1]}\n{PARTS[mark[2]](mark[3])}\n{mark[4]}", page)


def theorem(key: str) -> str:
    """What the registry knows of one theorem."""
    row = THEOREMS[key]
    facts = {
        "source": ", ".join(part for part in (row.paper, row.number) if part),
        "as it is used here": row.statement,
        "takes for granted": "; ".join(row.hypotheses),
        "function": f"`promptreach.{row.function.replace(':', '.')}`",
        "attacked by": f"`{row.test}`",
        "as an experiment": f"[{row.claim}](../claims.md#{row.claim.lower()})" if row.claim else "",
        "how the statement is known": row.confidence,
    }
    rows = [f"| {name} | {_cell(fact)} |" for name, fact in facts.items() if fact]
    return "\n".join([f"| `{key}` | |", "|---|---|", *rows]) + "\n"


def theorems(_: str) -> str:
    """The whole registry; its seven columns need names that break at their joints."""
    return re.sub(r"`([^`]+)`", _breakable, _untagged(as_markdown()))


def claims(_: str) -> str:
    """The table of the claims, and a section for each."""
    results = claim_results()
    lines = ["| | claim | source | here |", "|---|---|---|---|"]
    for claim in CLAIMS:
        result = results.get(claim.key)
        said = _said(result) if result else NOT_RUN
        lines.append(f"| [{claim.key}](#{claim.key.lower()}) | {claim.title} | {claim.source} | {said} |")
    return "\n".join(lines) + "\n\n" + "\n".join(_claim(claim, results.get(claim.key)) for claim in CLAIMS)


def report(_: str) -> str:
    """The table of what one committed report proved and measured, each certificate with its second path."""
    found = json.loads((RESULTS / "report_findings.json").read_text(encoding="utf-8"))
    lines = ["| number | evidence | how it is known | re-check |", "|---|---|---|---|"]
    for finding in found["findings"]:
        for kind in finding["certificates"]:
            # What has a theorem is called after it, never after a neighbour of the same finding and side.
            names = (kind["checker"].rpartition(":")[2], kind["theorem"] or f"{finding['check']} {kind['side']}")
            name = next((NUMBERS[name] for name in names if name in NUMBERS), kind["claim"])
            theorem = f"theorem [{kind['theorem']}](docs/theory/all.md)"
            known = theorem if kind["theorem"] else kind["sample"] or "a count"
            has_word = kind["checker"] or kind["evidence"] == "PROVED"
            again = f"{kind['recheck']} ({kind['count']})" if has_word else ""
            lines.append(_row(name, kind["evidence"], known, again))
        if not finding["certificates"]:
            lines.append(
                _row(NUMBERS.get(finding["check"], finding["title"]), finding["evidence"], finding["sample"], "")
            )
    return "\n".join([*lines, "", f"Taken from one report: {found['about']}."])


def reference(room: str) -> str:
    """A directive for each public name of a room, at the place where it is defined."""
    options = "    options:\n      heading_level: 3\n" if _is_module(room) and room not in FRONTS else ""
    return "\n".join(f"::: {path}\n{options}" for path in public_names(room).values())


PARTS: dict[str, Callable[[str], str]] = {
    "servers": servers_table.servers,
    "theorem": theorem,
    "theorems": theorems,
    "claims": claims,
    "report": report,
    "reference": reference,
    "rows": lambda _: rows_table.table(),
    "rivals": lambda what: {"sentences": rivals_table.sentences, "runs": rivals_table.runs}[what](),
    "families": lambda what: {"summary": families_table.summary, "table": families_table.table}[what](),
}


def claim_results() -> dict[str, ClaimResult]:
    """The committed results by the claim's key; empty while there are none."""
    path = RESULTS / "claims.json"
    if not path.exists():
        return {}
    records = json.loads(path.read_text(encoding="utf-8"))
    return {key: ClaimResult.model_validate(record) for key, record in records.items()}


def gather_claims(folder: Path) -> None:
    """Write the claims' records in `folder` into one file, to be committed; the file's others stay as they are.

    One at quick sizes never takes the place of a full one.
    """
    paths = [folder / f"{claim.key}.json" for claim in CLAIMS]
    known = claim_results()
    for result in [read_claim(path) for path in paths if path.exists()]:
        if result.full or result.key not in known or not known[result.key].full:
            known[result.key] = result
    records = {claim.key: known[claim.key].model_dump(mode="json") for claim in CLAIMS if claim.key in known}
    (RESULTS / "claims.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def gather_report(path: Path) -> None:
    """Write what `report` shows of the report.json at `path` into a file to be committed, without names of folders."""
    made = read_report(path)
    findings: list[dict[str, Any]] = []
    for finding in made.findings:
        if finding.status != "done":
            continue
        kinds: dict[tuple[str, ...], dict[str, Any]] = {}
        for item in finding.certificates:
            kind = (item.side.value, item.evidence.value, item.theorem, item.checker, recheck_words(item), item.sample)
            named = dict(zip(("side", "evidence", "theorem", "checker", "recheck", "sample"), kind, strict=True))
            kinds.setdefault(kind, {"claim": item.claim, "count": 0} | named)["count"] += 1
        about = {"check": finding.check, "title": finding.title, "evidence": finding.evidence.value}
        findings.append(about | {"sample": finding.sample, "certificates": list(kinds.values())})
    model = made.model
    about = (
        f"an audit of a {model['family']} model with {model['layers']} layers and {model['parameters']:,} parameters "
        f"on {made.data['rows']:,} rows, budget {made.settings['budget']}"
    )
    record = {"about": about, "findings": findings}
    (RESULTS / "report_findings.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def public_names(room: str) -> dict[str, str]:
    """The public names of a room and where each is defined, read from its source.

    Args:
        room: a package, a module beside the packages, or ``records`` for the names at the very top.
    """
    path = PACKAGE / (
        "__init__.py" if room == "records" else f"{room}.py" if _is_module(room) else f"{room}/__init__.py"
    )
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if room == "records":
        (modules,) = _assigned(tree, "_NAMES")
        found = {name: f"promptreach.{module}.{name}" for name, module in modules.items()}
    elif room not in FRONTS and _is_module(room):
        made_here = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        # Checkers are called by certificates, by name.
        public = [node.name for node in made_here if node.name[0] != "_" and not _is_marked(node, "rechecks")]
        found = {name: f"promptreach.{room}.{name}" for name in public}
    else:
        froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        imported = [(node.module, alias) for node in froms for alias in node.names]
        listed = _assigned(tree, "__all__")
        # Without a list, `from x import y as y` is how a name is made public.
        public = listed[0] if listed else [alias.name for _, alias in imported if alias.asname == alias.name]
        found = {alias.name: f"{module}.{alias.name}" for module, alias in imported if alias.name in public}
    return dict(sorted(found.items(), key=lambda item: (item[0][0].islower(), item[0].lower())))


def pictures() -> dict[Path, str]:
    """Every picture that is made here, by its path."""
    truth = json.loads((RESULTS / "diagnosis_truth.json").read_text(encoding="utf-8"))
    made = {
        PICTURES / f"verdict_{verdict}.svg": verdict_pictures.bars(title, truth[task]["accuracy"])
        for verdict, (task, title) in verdict_pictures.VERDICT_TASKS.items()
    }
    made[PICTURES / "verdict_order.svg"] = verdict_pictures.order()
    drawn = rivals_table.pictures() | heads_pictures.pictures()
    made |= {PICTURES / name: picture for name, picture in drawn.items()}
    return made | {PICTURES / f"claim_{key}.svg": as_picture(result) for key, result in claim_results().items()}


def _claim(claim: Claim, result: ClaimResult | None) -> str:
    needs = f" Needs the packages {' and '.join(claim.needs)}." if claim.needs else ""
    module = claim.run.__module__.removeprefix("promptreach.")
    lines = [
        f"## {claim.key}",
        "",
        f"**{claim.title}.**",
        "",
        f"> {_untagged(claim.statement)}",
        ">",
        f"> {claim.source}",
        "",
        f"Run it: `promptreach claims run {claim.key} --full --out claims`{_took(result)}. Vary it: the sizes stand in "
        f"`src/promptreach/{module.replace('.', '/')}.py`.{needs}",
        "",
    ]
    if result is None:
        return "\n".join([*lines, f"*Verdict: {NOT_RUN}.*", ""])
    lines += [
        f"{_said(result)} [{result.evidence.value}]. {_untagged(result.because)}",
        "",
        *([more, ""] if (more := rivals_table.in_short(claim.key)) else []),
        f"![{claim.title}](pictures/claim_{claim.key}.svg)",
        "",
        "| | takes for granted | how that is known |",
        "|---|---|---|",
        *(f"| {item.status} | {_cell(item.text)} | {_cell(item.detail)} |" for item in result.hypotheses),
        "",
    ]
    return "\n".join(lines)


def _took(result: ClaimResult | None) -> str:
    return f" (took {format_seconds(result.seconds)})" if result and result.full else ""


def _said(result: ClaimResult) -> str:
    return f"**{result.verdict.value}**{'' if result.full else QUICK}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Text that does not end the cell of a table that it stands in."""
    return _untagged(text).replace("|", "\\|")


def _untagged(text: str) -> str:
    """Text in which nothing is taken for a tag: a statement may well speak of <M, N>."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _breakable(code: re.Match[str]) -> str:
    joints = re.sub(r"([./_])", r"\1<wbr>", code[1])
    return f"<code>{joints}</code>"


def _is_module(room: str) -> bool:
    return (PACKAGE / f"{room}.py").is_file()


def _is_marked(node: ast.ClassDef | ast.FunctionDef, decorator: str) -> bool:
    return decorator in [ast.unparse(mark).partition("(")[0] for mark in node.decorator_list]


def _assigned(tree: ast.Module, name: str) -> list[Any]:
    """What a module assigns to a name, once for each time it does."""
    nodes = [node for node in tree.body if isinstance(node, ast.Assign)]
    return [ast.literal_eval(node.value) for node in nodes if name in map(ast.unparse, node.targets)]


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=Path, metavar="FOLDER", help="gather the claims' results from here first")
    parser.add_argument("--report", type=Path, metavar="FILE", help="gather this report.json first")
    given = parser.parse_args()
    if given.claims is not None:
        gather_claims(given.claims)
    if given.report is not None:
        gather_report(given.report)
    for path, picture in pictures().items():
        path.write_text(picture, encoding="utf-8")
    for page in (PROJECT / "README.md", *DOCS.rglob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
