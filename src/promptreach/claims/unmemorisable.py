"""A2: two examples that no prompt of any length fits, for a single attention layer; a low-rank update fits them."""

from dataclasses import replace

import torch
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import least_error, random_head
from promptreach.evidence import Side
from promptreach.limits import unmemorisable_pair
from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import SoftPrompt
from promptreach.report.findings import Curve, Series, Text
from promptreach.rounding import shown_bound

HIDDEN, HEAD_DIM = 16, 8
FITTED = 1e-3
"""An error, relative to the targets, from which an update counts as having fitted them."""


def run(setting: Setting) -> Outcome:
    """Certify a floor, try to get below it, and fit the same data with a low-rank update of the same head."""
    lengths = setting.pick((1, 4, 16), (1, 2, 4, 8, 16, 32, 64, 128, 256))
    ranks = (1, 2, 4)
    starts, steps = setting.pick(2, 8), setting.pick(100, 400)
    generator = torch.Generator().manual_seed(setting.seed)
    head = random_head(HIDDEN, HEAD_DIM, generator)
    pair = unmemorisable_pair(head, setting.seed)
    floor = pair.certificate.value / float(pair.targets.square().mean().sqrt())
    rechecked = pair.certificate.recheck()

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def prompted(prompt: Tensor) -> Tensor:
        return last_outputs(head, pair.sequences, None, SoftPrompt(prompt), loops=False)

    def updated(*factors: Tensor) -> Tensor:
        query, value = factors[0] @ factors[1], factors[2] @ factors[3]
        changed = replace(head, query=head.query + query, value=head.value + value)
        return last_outputs(changed, pair.sequences, loops=False)

    def prompts(targets: Tensor) -> list[float]:
        return [least_error(([normal(m, HIDDEN)] for _ in range(starts)), prompted, targets, steps) for m in lengths]

    def update(rank: int) -> list[Tensor]:
        shapes = [(HEAD_DIM, rank), (rank, HIDDEN)] * 2
        return [normal(*shape) * (0.1 if shape[1] == rank else 0.01) for shape in shapes]

    trained, control = prompts(pair.targets), prompts(pair.control_targets)
    updates = [least_error((update(rank) for _ in range(starts)), updated, pair.targets, steps) for rank in ranks]
    numbers = [float(length * HIDDEN) for length in lengths]
    sizes = [float(2 * rank * (HEAD_DIM + HIDDEN)) for rank in ranks]
    return Outcome(
        verdict=ClaimVerdict.HOLDS,
        because="It is proved that no prompt of any length errs by less than "
        f"{shown_bound(floor, Side.LOWER)} of the targets' size, and "
        f"{len(lengths) * starts} searches with up to {lengths[-1]} tokens ended at {min(trained):.3f} or above; a "
        f"LoRA update of the same head reaches {min(updates):.1e}.",
        evidence=Evidence.PROVED,
        conditions={
            "the certificate re-checks": rechecked,
            "no search ends below the floor": min(trained) >= floor,
            "prompts reach the control targets": min(control) < FITTED,
            "an update reaches the targets": min(updates) < FITTED,
        },
        hypotheses=(
            Hypothesis.checked("one attention head, no feed-forward network behind it"),
            Hypothesis.checked("full-rank weights, outputs of at least two dimensions", "refused otherwise"),
            Hypothesis.checked(
                "each target alone can be reached by some prompt",
                "every point is reached by a value sum; the control targets are reached by training",
            ),
        ),
        numbers={
            "floor": floor,
            "rechecked": rechecked,
            "lengths": list(lengths),
            "prompts": trained,
            "control": control,
            "ranks": list(ranks),
            "lora": updates,
        },
        figure=Curve(
            title="Two examples that no prompt fits",
            x_label="trainable numbers",
            y_label="error / size of targets",
            log_x=True,
            log_y=True,
            series=[
                Series(name="proved floor: no prompt of any length is below", x=numbers, y=[floor] * len(numbers)),
                Series(name="soft prompts, trained", x=numbers, y=trained),
                Series(name="LoRA of rank 1, 2 and 4 on the same head, trained", x=sizes, y=updates),
                Series(name="control: other targets on the same inputs, prompts trained", x=numbers, y=control),
            ],
            note=f"A random head of {HEAD_DIM} dimensions on tokens of {HIDDEN}; best of {starts} starts, L-BFGS.",
        ),
        blocks=(
            Text(
                text="The floor is about this head alone: in a whole model later layers and other heads may make up "
                "for it. The papers state the claim for a layer with a feed-forward network; behind an injective one "
                "it carries over, behind another it needs every preimage of the targets looked at."
            ),
        ),
    )


CLAIM = Claim(
    key="A2",
    title="Some data no prompt memorises",
    source="Wang et al. 2023, Theorems 2 and 4",
    statement="For a given single-layer transformer there are two input-output pairs that no prompt of any length "
    "makes it reproduce, while a low-rank update of its weights does.",
    run=run,
)
