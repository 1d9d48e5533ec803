"""Lower bounds on the soft tokens that a dataset needs, and a low-rank update for the same data.

Let a_i be the head's output on example i without a prompt and t_i the wanted one, both at a query shared by all. A
prompt mixes: t_i = lambda_i a_i + (1 - lambda_i) g_i with 0 <= lambda_i < 1, where g_i is a mixture of the m prompt
values (of the same m vectors for every example, whatever its query). So all t_i - lambda_i a_i lie in a space of
dimension m:

    m  >=  min over lambda in [0, 1)^n of rank [t_1 - lambda_1 a_1, ..., t_n - lambda_n a_n].

If the 2n vectors t_i and a_i are linearly independent, that rank is n for *every* lambda. Independence is what is
proved here, by a lower bound on the least singular value. Otherwise the numerical rank at lambda = 0 is measured: it is
no lower bound.

Reference: Wang et al. 2023 (paper A), Theorems 3 and 4; theorem keys ``token-lower-bound`` and
``low-rank-memorisation``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.limits.oracle.checks import number_faults, weight_faults
from promptreach.limits.oracle.forward import last_outputs
from promptreach.limits.oracle.scales import row_norms
from promptreach.prompt import SoftPrompt
from promptreach.rounding import gamma
from promptreach.weights import AttentionWeights
from promptreach.witness import tensor

_MOST_WORK = 2 * 10**10  # multiplications of a second path, which are minutes
_INDEPENDENT = 1e-15  # of a vector of size 1 that has to be left behind the projections on all others before it


class TokenBound(NamedTuple):
    """The number of prompt tokens, bounded and measured.

    Attributes:
        certified: LOWER. PROVED equal to n where the 2n vectors are independent; else UNKNOWN with the reason.
        measured: MEASURED. The numerical rank of the wanted outputs alone (lambda = 0); bounds nothing.
    """

    certified: Certificate
    measured: Certificate


class LowRankFit(NamedTuple):
    """A feed-forward update that memorises what the prompt must spend n tokens on.

    Attributes:
        up: (n, hidden), down: (hidden, n): x -> x + down relu(up x + up_bias) maps every input to its target.
        up_bias: (n,).
        parameters: the numbers in it.
        error: the largest absolute error over the examples, measured.
    """

    up: Tensor
    up_bias: Tensor
    down: Tensor
    parameters: int
    error: float


@dataclass(frozen=True)
class ComparisonRow:
    """One number of examples in the table of `compare_with_lora`; parameters are counts of trainable numbers.

    Attributes:
        tokens: soft tokens needed at least (paper A, Theorem 3's data).
        prompt_parameters: tokens * hidden_size; a lower bound, since the bound on tokens is one.
        lora_parameters: of the construction (rank = examples); sufficient, not necessary.
        fewer: ``"prompt"``, ``"lora"`` or ``"equal"`` for these two numbers; who wins in truth is not decided by a
            lower bound against a construction unless it says ``"lora"``.
    """

    examples: int
    tokens: int
    prompt_parameters: int
    lora_parameters: int
    fewer: str


def token_lower_bound(outputs: Tensor, targets: Tensor) -> TokenBound:
    """The number of prompt tokens that every prompt needs that turns head outputs into targets.

    For every prompt of m tokens (or key/value slots) of one head with output_i = targets_i for all i: m >= value, where
    the certificate is PROVED. Both arguments live in the head's value space, or behind an output projection of full
    column rank.

    Args:
        outputs: (n, dim), the head's output on each example without a prompt.
        targets: the wanted outputs.

    Raises:
        InputError: for shapes that do not agree, no examples, or numbers that are none.

    Reference: theorem key ``token-lower-bound``.
    """
    raise_if_any(_paired_faults("outputs", outputs, targets))
    bare, wanted = (item.detach().to("cpu", torch.float64) for item in (outputs, targets))
    vectors, count = torch.cat([bare, wanted]), outputs.shape[0]
    least = _least_singular_above_zero(vectors)
    measured = Certificate(
        claim="the numerical rank of the wanted outputs, which bounds no number of tokens",
        value=float(torch.linalg.matrix_rank(wanted)),
        side=Side.EXACT,
        evidence=Evidence.MEASURED,
        sample=f"{count} examples, singular values above float64's rounding of the largest",
    )
    witness = {"outputs": bare, "targets": wanted}
    if least:
        return TokenBound(Certificate.stated(recheck_tokens, float(count), witness).checked(), measured)
    room = "more vectors than dimensions" if len(vectors) > vectors.shape[1] else "dependent to float64"
    reason = f"the {2 * count} outputs and targets are not shown to be independent: {room}"
    claim = _states(witness).claim
    return TokenBound(Certificate(claim, math.nan, Side.LOWER, Evidence.UNKNOWN, reason=reason), measured)


class TokensNeeded(NamedTuple):
    """Data that need a token per example, and a prompt that shows that so many are enough.

    Attributes:
        sequences: each (2, hidden), every one with a last token of its own.
        targets: (n, out).
        certificate: LOWER, PROVED: every prompt that gives all targets exactly has at least n tokens.
        prompt: n soft tokens that give them.
    """

    sequences: list[Tensor]
    targets: Float[Tensor, "n out"]
    certificate: Certificate
    prompt: SoftPrompt


def tokens_needed(weights: AttentionWeights, examples: int, seed: int = 0) -> TokensNeeded:
    """Data for one head that `examples` soft tokens memorise and no fewer do: the bound, and that it is tight.

    The targets are what a prompt of `examples` tokens gives. Its mixtures differ from query to query, so that outputs
    and targets are as a rule 2n independent vectors, and independence is what `token_lower_bound` then certifies.

    Raises:
        InputError: for several heads, rotary weights, more examples than half the value dimension allows, or weights
            for which no independent data were found.
    """
    faults = weight_faults(weights)
    room = min(weights.value.shape[1], weights.output_size) // 2
    if weights.num_heads != 1:
        faults.append(Fault("weights", f"{weights.num_heads} heads", "one head", "Take one with weights.head(index)"))
    if not 1 <= examples <= room:
        faults.append(Fault("examples", str(examples), f"1 to {room}, half the value dimension"))
    raise_if_any(faults)
    weights = weights.detached()
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(3, examples, weights.hidden_size, generator=generator, dtype=torch.float64)
    sequences = list(torch.stack([draw[0], draw[1]], dim=1))
    prompt = SoftPrompt(_spread(weights, draw[1]) * draw[2])
    outputs, targets = last_outputs(weights, sequences), last_outputs(weights, sequences, None, prompt)
    bias = 0.0 if weights.output_bias is None else weights.output_bias
    certificate = token_lower_bound(outputs - bias, targets - bias).certified
    if certificate.evidence is not Evidence.PROVED:
        raise InputError(Fault("weights", certificate.reason, "a value projection of full rank"))
    return TokensNeeded(sequences, targets, certificate, prompt)


def _spread(weights: AttentionWeights, queries: Tensor) -> float:
    """A size of random tokens at which their scores differ by about two nats: the queries then mix them differently."""
    turned = queries @ weights.query[0].mT @ weights.key[0] * weights.softmax_scale
    return 2.0 / max(float(turned.norm(dim=1).mean()), 1e-300)


def low_rank_fit(inputs: Tensor, targets: Tensor) -> LowRankFit:
    """A feed-forward update of n hidden units, x + down relu(up x + up_bias), that maps every input to its target.

    Inputs are sorted along a direction that separates them; unit j switches on between inputs j and j + 1, so that the
    units' values on the examples form a triangular matrix, which is solved for `down`.

    Args:
        inputs: (n, hidden), distinct vectors, for example the attention layer's outputs plus residual.
        targets: the wanted vectors.

    Raises:
        InputError: when two inputs are equal, for shapes that do not agree, no examples, or numbers that are none.

    Reference: Wang et al. 2023 (paper A), Theorem 4 (our construction); theorem key ``low-rank-memorisation``.
    """
    raise_if_any(_paired_faults("inputs", inputs, targets))
    inputs, targets = inputs.detach().to("cpu", torch.float64), targets.detach().to("cpu", torch.float64)
    count, hidden = inputs.shape
    directions = torch.randn(64, hidden, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    along = inputs @ (directions / directions.norm(dim=1, keepdim=True)).mT
    gaps = along.sort(dim=0)[0].diff(dim=0).amin(dim=0) if count > 1 else torch.ones(64, dtype=torch.float64)
    best = int(gaps.argmax())
    if float(gaps[best]) <= 0.0:
        raise InputError(Fault("inputs", "two equal vectors", "distinct ones", "Equal inputs cannot have two targets"))
    direction = directions[best] / directions[best].norm()
    values, order = along[:, best].sort()
    before = values[0] - (values.diff().mean() if count > 1 else 1.0)
    switches = torch.cat([before[None], values[:-1]])
    units = torch.relu(values[:, None] - switches)
    rows = torch.linalg.solve_triangular(units, (targets - inputs)[order], upper=False)
    up, down = direction.repeat(count, 1), rows.mT.contiguous()
    reached = inputs + torch.relu(inputs @ up.mT - switches) @ down.mT
    return LowRankFit(up, -switches, down, up.numel() + down.numel() + count, float((reached - targets).abs().max()))


def compare_with_lora(hidden_size: int, examples: list[int], width: int | None = None) -> tuple[ComparisonRow, ...]:
    """Tokens, prompt parameters and LoRA parameters for n examples each of which needs a token of its own.

    The data are those of Theorem 3 (n independent examples at a shared query: at least n tokens). The LoRA update has
    rank n on both matrices of a feed-forward network: n (hidden + width) numbers each. Both counts grow like
    n * hidden.

    Args:
        hidden_size: of the model.
        examples: the numbers n to tabulate; at most hidden_size / 2, where the bound on tokens holds.
        width: of the feed-forward network; None means an update that adds n units of its own, n (2 hidden + 1) numbers.

    Raises:
        InputError: for sizes that are not positive, or more examples than the bound covers.
    """
    faults = [] if hidden_size > 0 else [Fault("hidden_size", str(hidden_size), "a positive number")]
    if width is not None and width < 1:
        faults.append(Fault("width", str(width), "a positive number"))
    for index, count in enumerate(examples):
        if not 1 <= count <= max(1, hidden_size // 2):
            faults.append(Fault(f"examples[{index}]", str(count), f"1 to hidden_size / 2 = {hidden_size // 2}"))
    raise_if_any(faults)
    rows = []
    for count in examples:
        prompt = count * hidden_size
        lora = count * (2 * hidden_size + 1) if width is None else 2 * count * (hidden_size + width)
        fewer = "equal" if prompt == lora else "prompt" if prompt < lora else "lora"
        rows.append(ComparisonRow(count, count, prompt, lora, fewer))
    return tuple(rows)


def _paired_faults(name: str, vectors: Tensor, targets: Tensor) -> list[Fault]:
    """Faults that keep two lists of vectors from being examples and their targets."""
    faults = [*number_faults(name, vectors), *number_faults("targets", targets)]
    shape = tuple(vectors.shape)
    if vectors.ndim != 2 or not vectors.numel():
        faults.append(Fault(name, f"shape {shape}", "(examples, dim), not empty"))
    if tuple(targets.shape) != shape:
        faults.append(Fault("targets", f"shape {tuple(targets.shape)}", f"that of {name}, {shape}"))
    return faults


def _least_singular_above_zero(vectors: Float[Tensor, "rows dim"]) -> float:
    """A certified lower bound on the least singular value, 0 when there is none; the rows are normalised first."""
    rows, dim = vectors.shape
    sizes = row_norms(vectors)
    if rows > dim or not bool((sizes > 0).all()):
        return 0.0
    unit = vectors / sizes[:, None]
    computed = float(torch.linalg.svdvals(unit)[-1])
    # Backward error of the singular values: far below this many roundings of the norm.
    least = computed - gamma(40 * (rows + dim)) * math.sqrt(rows)
    return max(0.0, least)


def _states(witness: Mapping[str, Any]) -> Statement:
    outputs = tensor(witness, "outputs", None, None)
    tensor(witness, "targets", *outputs.shape)
    return Statement(
        claim=f"every prompt that gives these {len(outputs)} targets exactly at one head that gives these outputs "
        "without a prompt has at least value tokens",
        side=Side.LOWER,
        assumptions=(
            Assumption(
                "outputs and targets are linearly independent",
                True,
                "no vector lies in the others' span, to far more than rounding",
            ),
        ),
        theorem="token-lower-bound",
    )


@rechecks(Independence.FULL, states=_states, extended=True)
def recheck_tokens(certificate: Certificate) -> bool:
    """Second path: a pivoted Gram-Schmidt in extended precision leaves something of every one of the 2n vectors.

    A few minutes at most, on any witness.
    """
    outputs, targets = (certificate.witness[name] for name in ("outputs", "targets"))
    rest = torch.cat([outputs, targets]).numpy().astype(np.longdouble)
    sizes = np.sqrt((rest**2).sum(1))
    if not 0 <= certificate.value <= len(outputs) or len(rest) > rest.shape[1]:
        return False
    if len(rest) * rest.size > _MOST_WORK:
        return False
    if not (sizes > 0).all():
        return False
    rest = rest / sizes[:, None]
    for _ in range(len(rest)):
        lengths = np.sqrt((rest**2).sum(1))
        row = int(lengths.argmax())
        if lengths[row] < _INDEPENDENT:
            return False
        direction = rest[row] / lengths[row]
        rest = np.delete(rest, row, axis=0)
        for _ in range(2):
            rest = rest - np.outer(rest @ direction, direction)
    return True
