"""The error that a forward pass measures with a prompt, as a certificate that can run the pass again."""

from collections.abc import Sequence

from torch import Tensor

from promptreach.certificate import Certificate, Evidence, Independence, Side, rechecks
from promptreach.limits.layers.packing import packed, unpacked_attention
from promptreach.limits.oracle.witness import last_outputs
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.weights import AttentionWeights


def measured_error(
    weights: AttentionWeights,
    sequences: Sequence[Tensor],
    targets: Tensor,
    prefix: Prefix | None,
    prompt: SoftPrompt | None,
) -> Certificate:
    """UPPER, MEASURED: the root-mean-square error over all target entries with this prompt, by a forward pass."""
    value = _error(weights, sequences, targets, prefix, prompt)
    what = f"{prompt.length} soft tokens" if prompt else f"a prefix of {prefix.length} slots" if prefix else "no prompt"
    return Certificate(
        claim=f"with {what}, the root-mean-square error over all target entries is at most value",
        value=value,
        side=Side.UPPER,
        evidence=Evidence.MEASURED,
        sample=f"a float64 forward pass over all {len(sequences)} examples",
        witness={
            "weights": packed(weights),
            "sequences": list(sequences),
            "targets": targets,
            "keys": None if prefix is None else prefix.keys,
            "values": None if prefix is None else prefix.values,
            "embeddings": None if prompt is None else prompt.embeddings,
        },
        checker="limits.oracle.measured:recheck_error",
    )


def _error(
    weights: AttentionWeights,
    sequences: Sequence[Tensor],
    targets: Tensor,
    prefix: Prefix | None,
    prompt: SoftPrompt | None,
    loops: bool | None = None,
) -> float:
    return float((last_outputs(weights, sequences, prefix, prompt, loops) - targets).square().mean().sqrt())


@rechecks(Independence.ARITHMETIC, quick=0)
def recheck_error(certificate: Certificate) -> bool:
    """Second path: the pass by plain loops and by matrix products.

    Both may be over by a part in 1e11 of the targets and of the outputs without a prompt, which are what they round.
    """
    witness = certificate.witness
    keys, embeddings, targets = witness["keys"], witness["embeddings"], witness["targets"]
    prefix = None if keys is None else Prefix(keys, witness["values"])
    prompt = None if embeddings is None else SoftPrompt(embeddings)
    weights = unpacked_attention(witness["weights"])
    bare = last_outputs(weights, witness["sequences"], loops=False)
    slack = 1e-11 * float(targets.square().mean().sqrt() + bare.square().mean().sqrt())
    paths = [_error(weights, witness["sequences"], targets, prefix, prompt, loops) for loops in (True, False)]
    return max(paths) <= certificate.value + slack
