"""The pictures of the verdicts: what tasks of the suite reached, as bars, and the order of the rules."""

from markupsafe import Markup

from promptreach.diagnosis.rules.rules import RULES
from promptreach.report.html import packaged

VERDICT_TASKS = {
    "fits": ("planted-max", "“Name the largest letter”: the answers came from a prompt, so one exists"),
    "optimiser": ("crippled-first", "“Name the first letter”: the same length, two ways of training"),
    "more_tokens": ("lookup-two-c", "A random answer for each of 36 letters"),
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

_TONES = {"FITS": "s2", "OPTIMISER": "s1", "MORE_TOKENS": "s1", "FORM": "s4", "DATA": "s4", "UNDECIDED": "s3"}


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
