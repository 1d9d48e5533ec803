"""N1: the error that no prompt of m tokens goes below, beside what training reaches with m tokens."""

import torch
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import least_error, random_head
from promptreach.limits import token_floors, tokens_needed
from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.report.findings import Cell, Curve, Series, Table, Text

EXAMPLES = 6
FITTED = 1e-8


def run(setting: Setting) -> Outcome:
    """For data that n tokens fit exactly: the floor at each length, and soft prompts and prefixes trained there."""
    generator = torch.Generator().manual_seed(setting.seed)
    head = random_head(2 * EXAMPLES, 2 * EXAMPLES, generator)
    data = tokens_needed(head, EXAMPLES, setting.seed)
    size = float(data.targets.square().mean().sqrt())
    starts, steps = setting.pick((1, 12), (2, 100))
    lengths = list(range(1, EXAMPLES))
    certificates = token_floors(head, data.sequences, data.targets, lengths)
    floors = [floor.value / size for floor in certificates]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def of_tokens(prompt: Tensor) -> Tensor:
        return last_outputs(head, data.sequences, None, SoftPrompt(prompt), loops=False)

    def of_slots(keys: Tensor, values: Tensor) -> Tensor:
        prefix = Prefix(keys[None, None], values[None, None])
        return last_outputs(head, data.sequences, prefix, loops=False)

    tokens, slots = [], []
    for length in setting.followed(lengths, "Training short prompts"):
        soft = ([draw(length, head.hidden_size)] for _ in range(starts))
        free = ([draw(length, head.head_dim), draw(length, head.head_dim)] for _ in range(starts))
        tokens.append(least_error(soft, of_tokens, data.targets, steps))
        slots.append(least_error(free, of_slots, data.targets, steps))
    fitted = float((of_tokens(data.prompt.embeddings) - data.targets).abs().max()) / size
    rows: list[list[Cell]] = [list(row) for row in zip(lengths, floors, slots, tokens, strict=True)]
    return Outcome(
        verdict=ClaimVerdict.HOLDS,
        because=f"With {EXAMPLES - 1} tokens for {EXAMPLES} examples no prompt or prefix errs by less than "
        f"{floors[-1]:.2g} of the targets' size, with one by less than {floors[0]:.2g}; training ended at "
        f"{min(slots[-1], tokens[-1]):.2g} and {min(slots[0], tokens[0]):.2g}, and {EXAMPLES} tokens fit exactly.",
        evidence=Evidence.PROVED,
        conditions={
            "every floor is above 0 and confirmed by its second path": all(
                floor.value > 0 and floor.recheck() for floor in certificates
            ),
            "no trained prompt or prefix lies below its floor": all(map(float.__le__, floors + floors, tokens + slots)),
            f"{EXAMPLES} tokens fit": fitted < FITTED,
        },
        hypotheses=(
            Hypothesis.checked("one attention head, the outputs without a prompt known", "computed, with rounding"),
            Hypothesis.checked("the same prompt for all examples"),
        ),
        numbers={"lengths": lengths, "floors": floors, "soft_tokens": tokens, "slots": slots, "fitted": fitted},
        figure=Curve(
            title="Error that no m tokens go below",
            x_label="tokens",
            y_label="error over the targets' size",
            log_y=True,
            series=[
                Series(name="proved floor", x=[*lengths], y=floors),
                Series(name="prefixes, trained", x=[*lengths], y=slots),
                Series(name="soft prompts, trained", x=[*lengths], y=tokens),
            ],
            note=f"{EXAMPLES} examples that {EXAMPLES} tokens fit exactly, hidden size {head.hidden_size}.",
        ),
        blocks=(
            Table(title="Length by length", columns=["tokens", "floor", "prefix", "soft prompt"], rows=rows),
            Text(
                text="What it means for your next prompt: a run that ends near the floor of its length has nothing "
                "left to train, only to lengthen; one that ends far above it may be short of training or of tokens."
            ),
        ),
    )


CLAIM = Claim(
    key="N1",
    title="A floor for every length",
    source="this project; docs/theory/wang-3-tokens.md",
    statement="For the outputs of given heads and any targets, an error can be computed that no prompt or prefix of m "
    "tokens goes below, for every m below the number of examples.",
    run=run,
)
