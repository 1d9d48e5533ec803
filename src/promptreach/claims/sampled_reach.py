"""N5: how much of what is wanted prompts reach in a model that can only be run, beside what is proved of it."""

import torch
from torch import Tensor

from promptreach.capacity.reach import reached_share
from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import random_head
from promptreach.limits import memorisable
from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import SoftPrompt
from promptreach.report.findings import Curve, Series, Text

WITHIN = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Errors, beside the targets' size, up to which a target counts as reached."""


def run(setting: Setting) -> Outcome:
    """One head as a black box: shares reached by drawn prompts, and the shares that floors prove out of reach."""
    hidden, wanted, prompts = 6, setting.pick(12, 60), setting.pick(60, 2000)
    generator = torch.Generator().manual_seed(setting.seed)
    head = random_head(hidden, hidden, generator)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    last = draw(1, hidden)
    sequences = [torch.cat([draw(3, hidden), last]) for _ in range(2)]
    bare = last_outputs(head, sequences)
    targets = torch.stack([bare + 0.5 * draw(2, hidden) * (index / wanted) for index in range(wanted)])
    size = float(targets.square().mean().sqrt())
    floors = torch.tensor([memorisable(head, sequences, target).floor.value for target in targets])

    def prompt(source: torch.Generator) -> SoftPrompt:
        return SoftPrompt(2 * torch.randn(1, hidden, generator=source, dtype=torch.float64))

    def output(given: SoftPrompt) -> Tensor:
        return last_outputs(head, sequences, None, given, loops=False)

    low, most, seen, more = [], [], [], []
    above = True
    for share in setting.followed(WITHIN, "Drawing prompts"):
        found = reached_share(output, prompt, targets, share * size, prompts, seed=setting.seed)
        low.append(found.share.value)
        more.append(found.more.value)
        seen.append(float((found.least <= share * size).double().mean()))
        most.append(float((floors <= share * size).double().mean()))
        above &= bool((found.least >= floors).all())
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because=f"With {prompts:,} drawn prompts of one token {seen[-1]:.0%} of the targets are reached within "
        f"{WITHIN[-1]:g} of their size, at least {low[-1]:.0%} of all such targets (95 %), where floors leave "
        f"{most[-1]:.0%} within reach; within {WITHIN[1]:g} it is {seen[1]:.0%} against {most[1]:.0%}. Drawing shows "
        "what is reached and how rarely more drawing helps, never what is out of reach.",
        evidence=Evidence.MEASURED,
        conditions={
            "no target is reached within less than its proved floor": above,
            "the shares seen lie within what floors leave": all(map(float.__le__, seen, most)),
            "something is reached": seen[-1] > 0,
        },
        hypotheses=(
            Hypothesis.declared("targets are a sample of what is wanted", "they are drawn here; yours may not be"),
            Hypothesis.checked("prompts are drawn independently, all in the same way"),
        ),
        numbers={"within": list(WITHIN), "at_least": low, "seen": seen, "floors_leave": most, "one_more": more},
        figure=Curve(
            title="Share of targets reached, by drawing prompts and by proof",
            x_label="error beside the targets' size",
            y_label="share of targets",
            log_x=True,
            series=[
                Series(name="not proved out of reach (any prompt)", x=list(WITHIN), y=most),
                Series(name="reached by drawn prompts", x=list(WITHIN), y=seen),
                Series(name="of all targets at least, 95 %", x=list(WITHIN), y=low),
            ],
            note=f"{wanted} targets, {prompts:,} prompts of one token, one head of size {hidden}.",
        ),
        blocks=(
            Text(
                text="What it means for your next prompt: on a model that you can only run, drawn prompts that reach "
                "little, with a small chance that one more reaches something new, say that drawing is spent. They do "
                "not say that training would fail."
            ),
        ),
    )


CLAIM = Claim(
    key="N5",
    title="Reach without weights",
    source="this project, after GenCtrl (arXiv 2601.05637); docs/limits.md",
    statement="From outputs alone one can bound, without assuming a distribution, what share of wanted outputs drawn "
    "prompts reach and how often one more prompt reaches something new.",
    run=run,
)
