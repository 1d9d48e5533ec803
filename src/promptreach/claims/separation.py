"""N2: data that cost a prompt a token an example and an update a change of rank one, exactly and nearly."""

import dataclasses

import torch
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import least_error, random_head
from promptreach.limits import nearly_one_slot, rank_one_separation, soft_token_floor
from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import SoftPrompt
from promptreach.report.findings import Cell, Curve, Series, Table, Text
from promptreach.weights import FeedForwardWeights, LayerWeights

SLOTS = (1e1, 1e2, 1e4, 1e6)
"""Sizes of the value of the one free slot."""
FITTED = 1e-8


def run(setting: Setting) -> Outcome:
    """The bound, the update and both trained, for a head alone; the bound and the update with a network behind."""
    examples, hidden, starts, steps = setting.pick((3, 8, 1, 12), (5, 12, 2, 100))
    generator = torch.Generator().manual_seed(setting.seed)
    head = random_head(hidden, hidden, generator)
    data = rank_one_separation(LayerWeights(head), examples, setting.seed)
    size = float(data.targets.square().mean().sqrt())
    layer = LayerWeights(head, _contracting(hidden, generator))
    behind = rank_one_separation(layer, min(examples, hidden // 2), setting.seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def of_tokens(prompt: Tensor) -> Tensor:
        return last_outputs(head, data.sequences, None, SoftPrompt(prompt), loops=False)

    def of_update(left: Tensor, right: Tensor) -> Tensor:
        output = torch.eye(hidden, dtype=torch.float64) + torch.outer(left, right)
        return last_outputs(dataclasses.replace(head, output=output), data.sequences, loops=False)

    lengths = list(range(1, examples))
    floors = [soft_token_floor(head, data.sequences, data.targets, length) for length in lengths]
    trained = [
        least_error(([draw(length, hidden)] for _ in range(starts)), of_tokens, data.targets, steps)
        for length in setting.followed(lengths, "Training short prompts")
    ]
    update = least_error(([0.1 * draw(hidden), 0.1 * draw(hidden)] for _ in range(2)), of_update, data.targets, 400)
    slots = [nearly_one_slot(head, data, value)[1] / size for value in SLOTS]
    least = [floor.value / size for floor in floors]
    needed = int(data.tokens.value) * hidden
    rows: list[list[Cell]] = [
        ["head alone", int(data.tokens.value), needed, int(data.numbers.value)],
        ["with a network", int(behind.tokens.value), int(behind.tokens.value) * hidden, int(behind.numbers.value)],
    ]
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because=f"{examples} examples are proved to need {examples} tokens, {needed} numbers, where a change of rank "
        f"one fits with {int(data.numbers.value)}; trained from scratch it ends at {update:.1g} of the targets' size. "
        f"But for slots of a prefix this is an artefact of exactness: a single one comes to {slots[-1]:.1g}. For soft "
        f"tokens, whose keys follow from their values here, it is not: one of them errs by {least[0]:.2g} at least, "
        f"and training ended at {trained[0]:.2g}.",
        evidence=Evidence.PROVED,
        conditions={
            "the tokens needed and the update that fits are confirmed by their second paths": all(
                found.recheck() for item in (data, behind) for found in (item.tokens, item.numbers)
            ),
            "the n tokens and the update fit": max(data.prompt_error, data.update_error, behind.update_error) < FITTED,
            "the update is found by training": not setting.full or update < 1e-4,
            "no trained soft prompt lies below its floor": all(map(float.__le__, least, trained)),
            "a prompt of one soft token has a floor above 0": least[0] > 0,
        },
        hypotheses=(
            Hypothesis.checked("one attention head whose values tell its tokens", "least singular value"),
            Hypothesis.checked("the network behind contracts", "certified norms"),
        ),
        numbers={
            "examples": examples,
            "prompt_numbers": needed,
            "update_numbers": int(data.numbers.value),
            "lengths": lengths,
            "floors": least,
            "trained": trained,
            "update_trained": update,
            "slot_values": list(SLOTS),
            "one_slot": slots,
        },
        figure=Curve(
            title="Fewer tokens than examples: what is proved of soft tokens, and what training reaches",
            x_label="tokens",
            y_label="error over the targets' size",
            log_y=True,
            series=[
                Series(name="proved floor of soft tokens", x=[*lengths], y=least),
                Series(name="soft prompts, trained", x=[*lengths], y=trained),
                Series(name=f"one free slot of value {SLOTS[-1]:.0e}", x=[*lengths], y=[slots[-1]] * len(lengths)),
            ],
            note=f"{examples} examples, hidden size {hidden}; {examples} soft tokens and one change of rank one fit.",
        ),
        blocks=(
            Table(
                title="What it costs",
                columns=["layer", "tokens ≥", "prompt numbers ≥", "rank-one update's numbers"],
                rows=rows,
            ),
            Table(
                title="One free slot",
                columns=["size of its value", "its error"],
                rows=[list(row) for row in zip(SLOTS, slots, strict=True)],
            ),
            Text(
                text="What it means for your next prompt: where one direction is to be added at many inputs, a "
                "rank-one LoRA says it once, and a prompt spells it out input by input. That a prefix comes near with "
                "one slot of an enormous value is no help to soft tokens whose keys follow from their values."
            ),
        ),
    )


def _contracting(hidden: int, generator: torch.Generator) -> FeedForwardWeights:
    up, down = (torch.randn(4 * hidden, hidden, generator=generator, dtype=torch.float64) for _ in range(2))
    size = torch.linalg.matrix_norm(up, 2) * torch.linalg.matrix_norm(down, 2)
    return FeedForwardWeights(up, 0.6 * down.mT / size, "gelu")


CLAIM = Claim(
    key="N2",
    title="A rank-one update against a token for every example",
    source="this project, after Wang et al. 2023, Theorems 3 and 4; docs/theory/wang-4-lora.md",
    statement="For a given head, or a head and a contracting feed-forward network, there are n examples that need n "
    "soft tokens, n d numbers, while a change of rank one of a single matrix fits them.",
    run=run,
)
