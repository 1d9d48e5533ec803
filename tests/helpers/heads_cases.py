"""Problems with several heads that are hard on floating point, and errors of prompts in extended precision."""

import numpy as np
import torch

from helpers.oracle_problems import normal, prompted, random_sequences, random_weights
from promptreach.limits.oracle.box_bound import box_bounds, mass_problem, reference
from promptreach.limits.oracle.statistics import HeadStatistics, head_statistics


def setting(heads, count, seed, kv_heads=None, out=4):
    weights = random_weights(8, 4, seed, heads, kv_heads, out=out, bias=False)
    sequences = random_sequences(8, count, seed)
    targets = prompted(weights, sequences, 2, seed) + 0.1 * normal(seed)(count, out)
    statistics = [head_statistics(weights, sequences, head) for head in range(heads)]
    return statistics, weights.output.split(4, dim=1), targets


def wide(tensor):
    return tensor.numpy().astype(np.longdouble)


def errors_at(statistics, outputs, targets, places, shifts=None):
    """The error of one prompt at each vector of masses z, in extended precision; its value sums are nearly the best.

    The statistics are taken as they stand, or shifted by (log mass, mean) per head.
    """
    errors = []
    for place in places.tolist():
        fixed, columns = -wide(targets), []
        for index, (item, output, z) in enumerate(zip(statistics, outputs, map(np.longdouble, place), strict=True)):
            lse, mean = (0, 0) if shifts is None else shifts[index]
            zeta = np.exp(wide(item.lse) + lse - reference(item))[:, None]
            total = zeta * (1 - z) + z
            fixed = fixed + zeta * (1 - z) / total * ((wide(item.mean) + mean) @ wide(output).T)
            columns.append((wide(output) / total[:, :, None]).reshape(targets.numel(), -1))
        design, best = np.concatenate(columns, axis=1), np.sqrt((fixed**2).sum())
        design = design / np.maximum(np.sqrt((design**2).sum(axis=0)), np.longdouble(1e-300))
        singular, right = np.linalg.svd(design.astype(np.float64), full_matrices=False)[1:]
        # Any value sums are a fair attack; where columns are nearly dependent, either rank may give the better ones.
        for kept in (singular > least * singular[0] for least in (1e-15, 1e-12, 1e-9)):
            lift, residual = wide(torch.from_numpy(right[kept].T / singular[kept])), fixed.ravel()
            for _ in range(6):
                residual = residual - design @ (lift @ ((design @ lift).T @ residual))
            best = min(best, np.sqrt((residual**2).sum()))
        errors.append(best)
    return np.array(errors)


def hard_problem(seed):
    """Statistics with errors, projections and targets of the kinds that are hard on floating point."""
    draw, pick = normal(seed), np.random.default_rng(seed)
    heads, n, width, out = pick.integers(2, 5), pick.integers(2, 9), pick.integers(1, 5), pick.integers(1, 9)
    spread, error = pick.choice([0.0, 1e-8, 1e-3, 1.0, 5.0, 20.0]), pick.choice([0.0, 1e-12, 1e-6])
    masses = [spread * draw(n) + 3 * draw(1) for _ in range(heads)]
    means = [draw(n, width) * 10 ** float(2 * draw(1)) for _ in range(heads)]
    outputs = [draw(out, width) for _ in range(heads)]
    match pick.integers(0, 8):
        case 1:  # ill conditioned
            outputs = [output * torch.logspace(0, -7, width, dtype=torch.float64) for output in outputs]
        case 2:  # nearly equal heads
            outputs = [outputs[0] + 1e-7 * output for output in outputs]
            masses = [masses[0] + 1e-7 * mass for mass in masses]
        case 3:  # a head that is not read
            outputs[0] = torch.zeros_like(outputs[0])
        case 4:  # rank deficient
            outputs[0][:, -1] = outputs[0][:, 0]
        case 5:
            outputs[1] = outputs[0].clone()
    errors = torch.full((n,), error, dtype=torch.float64)
    statistics = [
        HeadStatistics(mass, mean, errors, errors * mean.norm()) for mass, mean in zip(masses, means, strict=True)
    ]
    targets = draw(n, out)
    if seed % 2:  # reached by a prompt, exactly or nearly
        targets = pick.choice([0.0, 1e-9, 1e-5, 1e-2]) * targets
        for item, output in zip(statistics, outputs, strict=True):
            share = torch.sigmoid(reference(item) + draw(1) - item.lse)[:, None]
            targets = targets + ((1 - share) * item.mean + share * draw(width)) @ output.mT
    return statistics, outputs, targets


def shifts_within(statistics, pick):
    """Statistics that the true ones may be: their errors, nearly used up."""
    shifts = []
    for item in statistics:
        away = pick.normal(size=item.mean.shape)
        away = 0.99 * away / np.linalg.norm(away, axis=1, keepdims=True) * item.mean_error.numpy()[:, None]
        shifts.append((0.99 * pick.choice([-1, 1], len(item.lse)) * item.lse_error.numpy(), away))
    return shifts


def boxes_at(places, widths, pick):
    """Boxes that contain the places."""
    share = torch.from_numpy(pick.random(places.shape))
    low = torch.minimum(places, (places - widths * share).clamp(min=0.0))
    return torch.stack([low, torch.maximum(places, (places + widths * (1 - share)).clamp(max=1.0))], dim=2)


def bounds_and_errors(seed):
    """Bounds of boxes from points to wide ones, and errors inside them for statistics within their account."""
    statistics, outputs, targets = hard_problem(seed)
    pick = np.random.default_rng(seed + 1)
    problem, heads = mass_problem(statistics, outputs, targets), len(statistics)
    places = torch.from_numpy(pick.random((10, heads)))
    places[2:4] = 1 - 10 ** (-8 * places[2:4])
    places[4] = 10 ** (-8 * places[4])
    places[5:7] = torch.tensor([[0.0], [1.0]])
    widths = torch.from_numpy(np.where(np.arange(10) % 2, 10 ** (-12 * pick.random(10)), 0.0))[:, None]
    pairs = []
    for shifts in (None, shifts_within(statistics, pick)):
        errors = errors_at(statistics, outputs, targets, places, shifts)
        bounds, _ = box_bounds(problem, boxes_at(places, widths, pick), 2 * float(errors.max()), np.inf)
        pairs.append((wide(bounds), errors))
    return pairs


def violations(pairs):
    return sum(int((bounds > errors).sum()) for bounds, errors in pairs)
