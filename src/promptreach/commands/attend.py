"""Fast attention on a model's own heads, as a finding: norms, needs, and what the planner chooses.

One sequence is read; every head is looked at on its own, so that one hard head hides no easy one.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from promptreach.backbone import Prepended
from promptreach.certificate import Certificate, Evidence
from promptreach.errors import Fault, raise_if_any
from promptreach.evidence import Side
from promptreach.fast_attention.attend import attend
from promptreach.fast_attention.measure import value_range
from promptreach.fast_attention.norm_report import norm_report
from promptreach.hf import LayerCapture, OpenModel, capture
from promptreach.hf.running.capture import require_plain
from promptreach.limits import slots_needed
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.report.certificates import finished, settled
from promptreach.report.findings import Cell, Finding, Table, Text

_Head = tuple[dict[str, Cell], tuple[Certificate, Certificate]]
"""A row of the table about one head, the bound on the error of what ran there, and on the slots that it takes."""

JUDGED = 128
"""Queries of a head on which the least number of slots is proved, in some hundredths of a second."""


def attention_of_model(
    model: OpenModel,
    token_ids: Sequence[int] | None,
    tokens: int,
    *,
    prompt: SoftPrompt | Prefix | None = None,
    tol: float = 1e-2,
    relative_to: str = "range",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Finding:
    """The norm report and the planner's choice for every head, on `tokens` tokens of text or of random tokens.

    Args:
        token_ids: the text; None draws uniformly from the vocabulary with `seed`.
        tokens: how many of them are read, without the prompt.
        tol, relative_to: as in `promptreach.fast_attention.attend`.

    Raises:
        UnsupportedModelError: when attention cannot be looked at, or is more than a softmax of scores.
        InputError: for a tolerance that is not positive, fewer tokens than asked for, or more than the model's context.
    """
    length = prompt.length if prompt is not None else 0
    raise_if_any(_faults(model, token_ids, tokens, length, tol))
    if token_ids is None:
        generator = torch.Generator().manual_seed(seed)
        token_ids = torch.randint(len(model.vocabulary), (tokens,), generator=generator).tolist()
    joined = None if prompt is None else Prepended.of(prompt)

    def heads_of(layer: LayerCapture) -> list[_Head]:
        require_plain(layer, model.name)
        if progress is not None:
            progress(layer.layer, model.num_layers)
        return _heads(layer, not model.both_ways, tol, relative_to)

    layers = capture(model, model.batch([list(token_ids)[:tokens]]), joined, reduce=heads_of)
    rows, proofs = map(list, zip(*(head for heads in layers for head in heads), strict=True))
    certificates = [item for kind in zip(*proofs, strict=True) for item in kind]
    return finished(_finding(rows, certificates, tokens, length, tol, relative_to))


def _heads(layer: LayerCapture, causal: bool, tol: float, relative_to: str) -> list[_Head]:
    """One row a head, and the bound on the error of what ran there.

    A sliding window, which the captured mask may hold, is left out of account.
    """
    report = norm_report(layer.query, layer.key, layer.prompt_length, scale=layer.scale, tol=tol)
    sizes, criterion = report.joined, report.criterion.joined
    groups = layer.query.shape[1] // layer.key.shape[1]
    found: list[_Head] = []
    for head in range(layer.query.shape[1]):
        kv = slice(head // groups, head // groups + 1)
        _, answer = attend(
            layer.query[0, head : head + 1],
            layer.key[0, kv],
            layer.value[0, kv],
            tol,
            causal=causal,
            scale=layer.scale,
            relative_to=relative_to,
        )
        needed = _needed(layer.output[0, head], layer.value[0, kv][0], tol, relative_to)
        row: dict[str, Cell] = {
            "layer": layer.layer,
            "head": head,
            "entry/√log n": float(criterion.centred_ratio[head]),
            "score": float(criterion.score_max[head]),
            "centred": float(criterion.centred_score_max[head]),
            "degree": sizes.degree[head],
            "rank": sizes.rank[head],
            "work": sizes.work[head],
            "method": answer.method,
            "error": answer.error.value,
            "slots used": answer.rank,
            "at least": needed.value,
        }
        # Settled at once: a witness holds the head's inputs and output.
        where = f"Layer {layer.layer}, head {head}"
        found.append((row, (settled(answer.error.about(where)), settled(needed.about(where), "the head's outputs"))))
    return found


def _needed(output: Tensor, value: Tensor, tol: float, relative_to: str) -> Certificate:
    """The slots that these outputs need for the tolerance, on at most 128 of the queries.

    An error of every entry of at most `tol` is a root-mean-square one of at most that.
    """
    rows = torch.linspace(0, len(output) - 1, min(JUDGED, len(output)), device=output.device).round().long()
    wanted = output[rows].double()
    if relative_to == "range":
        spread = value_range(value)
        return slots_needed(wanted[:, spread > 0] / spread[spread > 0] if bool((spread > 0).any()) else wanted, tol)
    return slots_needed(wanted, tol * float((wanted - wanted.mean(dim=0)).square().mean().sqrt()))


def _finding(
    rows: list[dict[str, Cell]], certificates: list[Certificate], tokens: int, length: int, tol: float, relative_to: str
) -> Finding:
    ratios = sorted(float(row["entry/√log n"] or 0) for row in rows)
    counts = dict(sorted(Counter(str(row["method"]) for row in rows).items()))
    cheap = sum(row["work"] is not None and float(row["work"]) < 1 for row in rows)
    behind = f" behind a prompt of {length}" if length else ""
    taken = ", ".join(f"{name} for {count}" for name, count in counts.items())
    summary = (
        f"At {tokens} tokens{behind}, {cheap} of {len(rows)} heads would take less work by polynomials than exactly, "
        f"for an error of {tol:g}. The planner takes {taken}."
    )
    return Finding(
        check="attend",
        title="Fast attention on this model's heads",
        evidence=Evidence.MEASURED,
        sample=f"one sequence of {tokens} tokens{behind}",
        summary=summary,
        values={
            "tokens": tokens,
            "prompt_length": length,
            "tol": tol,
            "relative_to": relative_to,
            "heads": len(rows),
            "cheap_heads": cheap,
            "methods": counts,
            "median_centred_ratio": ratios[len(ratios) // 2],
            "table": rows,
        },
        blocks=[
            Table.of(
                "Every head",
                rows,
                note="entry/√log n: the largest centred query or key entry against paper B's threshold. score, "
                "centred: the largest score in nats, before and after the exact centring. degree, rank, work: of the "
                "polynomial method, work PREDICTED as a share of exact attention's. method, error: what ran, with its "
                "own bound. slots used: landmarks, or features of the polynomial. at least: PROVED on at most 128 of "
                "the queries: fewer slots that serve all of them miss the tolerance, whatever they are.",
                sides={"error": Side.UPPER, "at least": Side.LOWER},
            ),
            Text(
                text="Beyond the criterion only worst cases are hard: a head there may still be approximated well, and "
                "exact attention always answers. Below some thousand tokens exact attention is the fastest anyway."
            ),
        ],
        certificates=certificates,
    )


def _faults(model: OpenModel, token_ids: Sequence[int] | None, tokens: int, length: int, tol: float) -> list[Fault]:
    faults = []
    room = model.max_positions - length
    if not 2 <= tokens <= room:
        faults.append(Fault("tokens", str(tokens), f"2 to {room}, what the context leaves"))
    if token_ids is not None and len(token_ids) < tokens:
        faults.append(
            Fault("text", f"{len(token_ids)} tokens", f"at least {tokens}", "give more text, or fewer tokens")
        )
    if not 0 < tol < float("inf"):
        faults.append(Fault("tol", repr(tol), "a positive finite number"))
    return faults
