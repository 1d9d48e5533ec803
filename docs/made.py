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

from markupsafe import Markup

sys.path.insert(0, str(Path(__file__).parent))
import families_table
import rows_table
import servers_table

from promptreach.claims import CLAIMS, Claim, ClaimResult
from promptreach.claims.run import as_picture, read_claim
from promptreach.diagnosis.rules.rules import RULES
from promptreach.report.formatting import format_seconds
from promptreach.report.html import packaged
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

VERDICT_TASKS = {
    "fits": ("planted-max", "“Name the largest letter”: the answers came from a prompt, so one exists"),
    "optimiser": ("crippled-first", "“Name the first letter”: the same length, two ways of training"),
    "more_tokens": ("lookup-two-c", "A random answer for each of 16 letters"),
    "form": ("count-last", "“How often did the last letter occur before?”: no skill of this one layer"),
    "data": ("contradicted-letters", "Nearly every input occurs twice, with two different answers"),
}
"""The task of the diagnosis suite that each verdict's page shows: its name, and what the picture is called."""

QUESTIONS = {
    "nothing_measured": ("Did a measurement that every verdict needs fail?", "UNDECIDED"),
    "conflicting_labels": ("Do contradictions take most of what any method could gain?", "DATA"),
    "conflicting_completions": ("Completions: do contradictions make up most of the loss?", "DATA"),
    "one_label": ("Have (nearly) all held-out rows one label?", "UNDECIDED"),
    "rows_cut": ("Was nothing learnt from rows that are cut?", "UNDECIDED"),
    "known_rows": ("Were most held-out rows trained on?", "UNDECIDED"),
    "nothing_learnt": ("Does nothing, LoRA included, beat the most frequent label?", "DATA"),
    "left_out": ("Were LoRA or every soft prompt left out of the choice?", "UNDECIDED"),
    "own_beats_all": ("Does what you brought beat everything trained here?", "UNDECIDED"),
    "control_does": ("Is yours worse than the control, and nothing here better?", "OPTIMISER"),
    "blame_training": ("Does yours fall short where one trained here does not?", "OPTIMISER, MORE_TOKENS"),
    "rival_not_trained": ("Is the LoRA that a prompt keeps up with not trained itself?", "UNDECIDED, MORE_TOKENS"),
    "longer_fits": ("Does only a length beyond those asked for keep up with LoRA?", "MORE_TOKENS"),
    "soft_prompt_keeps_up": ("Is a prompt or a prefix as good as LoRA?", "FITS"),
    "harmed_by_start": ("Does every prompt end below the control?", "UNDECIDED"),
    "gap_not_settled": ("Is the difference too close to call?", "UNDECIDED"),
    "more_tokens_help": ("Does length close the gap, falling on as it does?", "MORE_TOKENS"),
    "training_not_done": ("Was the loss still falling, or the best rate the largest tried?", "UNDECIDED"),
    "nothing_memorised": ("Were rows to be memorised, and LoRA does not either?", "UNDECIDED"),
    "lengths_not_compared": ("Were fewer than three lengths of this form compared?", "UNDECIDED"),
    "longest_not_done": ("Would the longest one, still falling, close what length leaves?", "UNDECIDED"),
    "training_not_trusted": ("Does this training miss a prompt that is known to exist?", "UNDECIDED"),
    "form_falls_short": ("None of these: what is left to blame is the form.", "FORM"),
}
"""What each rule asks, and the verdict that a yes leads to."""

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
    "inference_cost": "time and memory of what can be deployed; norms against sqrt(log n), which describe and no more",
}
"""What stands in a report: the certificates by theorem, by checker, or by finding and side; findings without any."""

FRONTS = ("inference", "tuning")
"""Modules that only name what other rooms make."""

_TONES = {"FITS": "s2", "OPTIMISER": "s1", "MORE_TOKENS": "s1", "FORM": "s4", "DATA": "s4", "UNDECIDED": "s3"}
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
        PICTURES / f"verdict_{verdict}.svg": bars(title, truth[task]["accuracy"])
        for verdict, (task, title) in VERDICT_TASKS.items()
    }
    made[PICTURES / "verdict_order.svg"] = order()
    return made | {PICTURES / f"claim_{key}.svg": as_picture(result) for key, result in claim_results().items()}


def bars(title: str, shares: dict[str, float]) -> str:
    """Shares of right answers as bars, in the colours of the project's other pictures."""
    names = {"possible": "no function of the input gets more", "majority": "most frequent answer alone"}
    names |= {"head": "head alone, no prompt", "hidden prompt": "the prompt that wrote the answers"}
    names["attempt"] = "the attempt to be diagnosed"
    rows = []
    for index, (key, share) in enumerate(shares.items()):
        method, _, size = key.rpartition(" ")
        trained = {"prompt": f"prompt, {size} tokens, trained", "prefix": f"prefix, {size} slots, trained"}
        trained["lora"] = f"LoRA, rank {size}"
        tones = {"prompt": "s0", "prefix": "s0", "lora": "s2"}
        rows.append(
            Markup(
                '<g transform="translate(0 {})"><text class="axis" x="0" y="11">{}</text><rect x="190" width="{}" '
                'height="14" style="fill: var(--{})"/><text class="axis" x="{}" y="11">{:.1%}</text></g>'
            ).format(
                34 + 21 * index,
                names.get(key) or trained[method],
                round(200 * share, 1),
                "s1" if key == "attempt" else tones.get(method, "line"),
                round(196 + 200 * share, 1),
                share,
            )
        )
    note = Markup('<text x="0" y="{}">Share of right answers on held-out rows, one seed.</text>').format(
        42 + 21 * len(rows)
    )
    return _drawing(title, 440, 50 + 21 * len(rows), Markup("").join([*rows, note]))


def order() -> str:
    """The questions of the rules in the order in which they are asked, each with the verdict that a yes leads to."""
    names = ["nothing_measured", "conflicting_labels", *(rule.__name__ for rule in RULES)]
    rows = []
    for index, name in enumerate(names):
        question, verdict = QUESTIONS[name]
        style = "fill: var(--{}); font-weight: 600".format(_TONES[verdict.split(",")[0]])
        rows.append(
            Markup(
                '<g transform="translate(0 {})"><circle cx="8" cy="7" r="8" style="fill: var(--line)"/>'
                '<text class="axis" x="8" y="10.5" text-anchor="middle">{}</text>'
                '<text class="axis" x="24" y="11">{}</text>'
                '<path class="frame" d="M338 7h16m-4 -3l4 3l-4 3" fill="none"/>'
                '<text x="362" y="11" style="{}">{}</text></g>'
            ).format(30 + 22 * index, index + 1, question, style, verdict)
        )
    return _drawing("The first yes decides", 530, 34 + 22 * len(rows), Markup("").join(rows))


def _drawing(title: str, width: int, height: int, content: Markup) -> str:
    """A picture of its own in the style of the project's other pictures."""
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="-12 0 {0} {1}" width="{2}" role="img" '
        'aria-label="{3}"><style>svg {{ font-family: system-ui, sans-serif; }}\n{4}</style>'
        '<rect x="-12" width="{0}" height="{1}" style="fill: var(--paper)"/>'
        '<text class="axis" x="0" y="18" style="font-weight: 600">{3}</text>{5}</svg>\n'
    ).format(width + 24, height, round(1.5 * (width + 24)), title, Markup(packaged("figures.css")), content)


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
