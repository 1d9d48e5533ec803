"""The attention-matching baseline, written from its description: kept keys, masses by nonnegative least squares, values
by ridge regression, all in closed form against reference queries.

For reference queries with exact output o and log mass z: keep `count` of the keys, by the root mean square attention
that they receive, or one after the other by orthogonal matching pursuit on the masses; fit weights w >= 0 with
sum_c w_c exp(q.k_c - z) = 1; then values so that the weighted softmax over the kept keys gives o.

Reference: Attention Matching, 2602.16284, as described in the project's notes; no code of theirs.
"""

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from promptreach.attention import Statistics

RIDGE = 1e-6
CANDIDATES = 8192
"""Keys that matching pursuit may choose from: those with the most attention."""
SELECTIONS = ("attention", "pursuit")


def attention_matching(query: Tensor, exact: Statistics, key: Tensor, value: Tensor, count: int, selection: str):
    """A function from queries (scaled) to outputs, with `count` kept keys."""
    squares = torch.zeros(len(key))
    for rows, mass in zip(query.split(128), exact.lse.split(128), strict=True):
        squares += torch.exp(2 * (rows @ key.T - mass[:, None])).sum(dim=0)
    order = squares.argsort(descending=True)
    chosen = order[:count]
    if selection == "pursuit":
        candidates = order[:CANDIDATES]
        features = torch.exp(query @ key[candidates].T - exact.lse[:, None])
        chosen = candidates[pursuit(features, count)]
    kept = key[chosen]
    features = torch.exp(query @ kept.T - exact.lse[:, None]).double().numpy()
    weights, _ = nnls(features, np.ones(len(features)), maxiter=50 * count)
    bias = torch.from_numpy(weights).clamp_min(1e-30).log().float()
    shares = torch.softmax(query @ kept.T + bias, dim=1).double()
    gram = shares.T @ shares
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    fitted = torch.linalg.solve(gram, shares.T @ exact.mean.double()).float()
    return lambda rows: torch.softmax(rows @ kept.T + bias, dim=1) @ fitted


def pursuit(features: Tensor, count: int) -> Tensor:
    """Orthogonal matching pursuit of the constant 1: the columns chosen, by correlation with what is left."""
    size = features.norm(dim=0).clamp_min(1e-30)
    rest = torch.ones(len(features))
    basis = torch.zeros(len(features), count)
    chosen: list[int] = []
    for step in range(count):
        score = (features.T @ rest) / size
        score[chosen] = -torch.inf
        best = int(score.argmax())
        chosen.append(best)
        direction = features[:, best].clone()
        for _ in range(2):  # twice is enough for orthogonality in float32
            direction -= basis[:, :step] @ (basis[:, :step].T @ direction)
        basis[:, step] = direction / direction.norm().clamp_min(1e-30)
        rest = rest - basis[:, step] * (basis[:, step] @ rest)
    return torch.tensor(chosen)
