"""Random single-layer problems for the oracle, and the forward pass that attacks differentiate."""

import torch

from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import SoftPrompt
from promptreach.weights import AttentionWeights


def normal(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_weights(hidden, head_dim, seed, heads=1, kv_heads=None, out=None, bias=True, size=1.0):
    draw, kv_heads = normal(seed), heads if kv_heads is None else kv_heads
    scale = size / hidden**0.5
    return AttentionWeights(
        query=draw(heads, head_dim, hidden) * scale,
        key=draw(kv_heads, head_dim, hidden) * scale,
        value=draw(kv_heads, head_dim, hidden) * scale,
        output=None if out is None else draw(out, heads * head_dim) / (heads * head_dim) ** 0.5,
        query_bias=draw(heads, head_dim) if bias else None,
        key_bias=draw(kv_heads, head_dim) if bias else None,
        value_bias=draw(kv_heads, head_dim) if bias else None,
        output_bias=draw(out or heads * head_dim) if bias else None,
    )


def random_sequences(hidden, count, seed, groups=1, tokens=3):
    draw = normal(seed + 10_000)
    lasts = draw(groups, hidden)
    return [torch.cat([draw(tokens + k % 3, hidden), lasts[k % groups][None]]) for k in range(count)]


def prompted(weights, sequences, length, seed):
    """Targets that a random soft prompt gives."""
    prompt = SoftPrompt(normal(seed + 20_000)(length, weights.hidden_size))
    return last_outputs(weights, sequences, None, prompt)


def attack(weights, sequences, targets, length, seed, prefix=False, steps=40):
    """The root-mean-square error that L-BFGS reaches with soft tokens or free slots, one head."""
    draw, size = normal(seed + 30_000), weights.head_dim
    query = weights.query[0] @ sequences[0][-1] + (0 if weights.query_bias is None else weights.query_bias[0])
    key_bias = 0 if weights.key_bias is None else weights.key_bias[0]
    value_bias = 0 if weights.value_bias is None else weights.value_bias[0]
    scores = [(s @ weights.key[0].T + key_bias) @ query * weights.softmax_scale for s in sequences]
    values = [s @ weights.value[0].T + value_bias for s in sequences]
    parameters = [draw(length, size), draw(length, size)] if prefix else [draw(length, weights.hidden_size)]
    for parameter in parameters:
        parameter.requires_grad_()
    search = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")
    best = [float("inf")]

    def closure():
        search.zero_grad()
        if prefix:
            keys, own = parameters
        else:
            keys, own = parameters[0] @ weights.key[0].T + key_bias, parameters[0] @ weights.value[0].T + value_bias
        extra = keys @ query * weights.softmax_scale
        rows = [
            torch.softmax(torch.cat([extra, s]), 0) @ torch.cat([own, v]) for s, v in zip(scores, values, strict=True)
        ]
        outputs = torch.stack(rows)
        outputs = outputs if weights.output is None else outputs @ weights.output.T
        outputs = outputs if weights.output_bias is None else outputs + weights.output_bias
        loss = (outputs - targets).square().mean()
        loss.backward()
        best[0] = min(best[0], float(loss.detach()) ** 0.5)
        return loss

    search.step(closure)
    return best[0]
