"""Several heads: the branch and bound closes its gap, and nothing gets below what it certifies."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from helpers.oracle_problems import normal, prompted, random_sequences, random_weights
from helpers.tolerances import TOLERANCES
from promptreach.certificate import Certificate, Evidence, Verdict
from promptreach.limits import memorisable
from promptreach.limits.oracle.box_bound import box_bounds, mass_problem, reference
from promptreach.limits.oracle.box_check import bounded, tiles
from promptreach.limits.oracle.heads import branch_and_bound
from promptreach.limits.oracle.several import _combined, _separate, _taken_apart, heads_floor
from promptreach.limits.oracle.single_head import head_floor
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
            log_mass, mean = (0, 0) if shifts is None else shifts[index]
            zeta = np.exp(wide(item.log_mass) + log_mass - reference(item))[:, None]
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
            share = torch.sigmoid(reference(item) + draw(1) - item.log_mass)[:, None]
            targets = targets + ((1 - share) * item.mean + share * draw(width)) @ output.mT
    return statistics, outputs, targets


def shifts_within(statistics, pick):
    """Statistics that the true ones may be: their errors, nearly used up."""
    shifts = []
    for item in statistics:
        away = pick.normal(size=item.mean.shape)
        away = 0.99 * away / np.linalg.norm(away, axis=1, keepdims=True) * item.mean_error.numpy()[:, None]
        shifts.append((0.99 * pick.choice([-1, 1], len(item.log_mass)) * item.log_mass_error.numpy(), away))
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


def test_no_bound_of_any_box_is_above_any_error_inside_it_however_hard_the_numbers():
    pairs = [pair for seed in range(80) for pair in bounds_and_errors(seed)]
    assert violations(pairs) == 0
    assert sum(int((bounds > 0).sum()) for bounds, _ in pairs) > len(pairs)


def test_the_second_path_confirms_every_bound_of_the_first():
    for seed in range(25):
        statistics, outputs, targets = hard_problem(seed)
        pick = np.random.default_rng(seed)
        places = torch.from_numpy(pick.random((8, len(statistics))))
        boxes = boxes_at(places, torch.from_numpy(10 ** (-8 * pick.random((8, 1)))), pick)
        upper = float(targets.norm())
        bounds, _ = box_bounds(mass_problem(statistics, outputs, targets), boxes, upper, np.inf)
        for box, bound in zip(boxes, bounds.tolist(), strict=True):
            assert bounded(statistics, outputs, targets, box[None], bound, upper)
            assert not bounded(statistics, outputs, targets, box[None], 1.001 * upper, upper)


def test_the_bound_of_a_point_is_the_error_there_and_a_little_more_is_seen_as_a_violation():
    statistics, outputs, targets = setting(3, 12, 5)
    places = 0.1 + 0.8 * torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = errors_at(statistics, outputs, targets, places)
    points = torch.stack([places, places], dim=2)
    bounds = wide(box_bounds(mass_problem(statistics, outputs, targets), points, 2 * float(errors.max()), np.inf)[0])
    slack = TOLERANCES["several heads point", torch.float64][0]
    assert (bounds >= errors * (1 - slack)).all()
    assert violations([(bounds, errors)]) == 0
    assert violations([(bounds * (1 + 2 * slack), errors)]) == len(places)


def test_a_mass_error_left_out_is_seen():
    seen = 0
    for seed in range(60):
        statistics, outputs, targets = hard_problem(seed)
        if float(statistics[0].log_mass_error[0]) < 1e-6:
            continue
        pick = np.random.default_rng(seed)
        places = torch.from_numpy(0.1 + 0.8 * pick.random((4, len(statistics))))
        errors = errors_at(statistics, outputs, targets, places, shifts_within(statistics, pick))
        problem = mass_problem(statistics, outputs, targets)._replace(mass_error=0.0, fixed_error=0.0)
        points = torch.stack([places, places], dim=2)
        seen += violations([(wide(box_bounds(problem, points, 2 * float(errors.max()), np.inf)[0]), errors)])
    assert seen > 0


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (2, 1), (3, 3), pytest.param(4, 4, marks=pytest.mark.slow)])
def test_twenty_examples_are_settled_to_one_percent_and_survive_random_masses(heads, kv_heads):
    statistics, outputs, targets = setting(heads, 20, heads, kv_heads)
    lower, upper, place, boxes = branch_and_bound(mass_problem(statistics, outputs, targets))
    assert upper - lower <= TOLERANCES["several heads gap", torch.float64][0] * upper
    draws = torch.rand(100, heads, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    near = (place + 0.02 * normal(2)(100, heads)).clamp(0, 1)
    ends = torch.where(normal(3)(30, heads) > 0, 1e-9, 1 - 1e-9).double()
    assert errors_at(statistics, outputs, targets, torch.cat([draws, near, ends])).min() >= lower
    assert tiles(boxes)
    assert bounded(statistics, outputs, targets, boxes, lower, upper)


@pytest.mark.parametrize("seed", range(11, 29, 2))
def test_hard_problems_are_certified_or_refused_and_what_is_certified_holds(seed):
    statistics, outputs, targets = hard_problem(seed)
    problem = mass_problem(statistics, outputs, targets)
    lower, upper, place, boxes = branch_and_bound(problem, budget=30)
    assert tiles(boxes)
    assert bounded(statistics, outputs, targets, boxes, lower, upper)
    assert errors_at(statistics, outputs, targets, place[None])[0] >= lower
    group = heads_floor(statistics, torch.cat(outputs, dim=1), targets)
    best = group.best
    found = torch.sigmoid(best.log_mass - torch.tensor([reference(item) for item in statistics], dtype=torch.float64))
    shifts = shifts_within(statistics, np.random.default_rng(seed))
    assert errors_at(statistics, outputs, targets, torch.stack([place, found]), shifts).min() >= group.lower


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e10])
@pytest.mark.parametrize("out", [6, 9])
def test_heads_taken_apart_keep_below_every_error_at_any_condition(condition, out):
    statistics = setting(2, 6, 1, out=8)[0]
    statistics = [dataclasses.replace(item, mean=item.mean[:, :3]) for item in statistics]
    basis, _, right = torch.linalg.svd(normal(out)(out, 6), full_matrices=False)
    output = basis * torch.logspace(0, -np.log10(condition), 6, dtype=torch.float64) @ right
    outputs, z = output.split(3, dim=1), torch.tensor([0.3, 0.6], dtype=torch.float64)
    targets = torch.zeros(6, out, dtype=torch.float64)
    for item, part, share in zip(statistics, outputs, z, strict=True):
        inside = torch.sigmoid(reference(item) + torch.logit(share) - item.log_mass)[:, None]
        targets = targets + ((1 - inside) * item.mean + inside) @ part.mT
    for noise in (0.0, 1e-9, 1e-3):
        wanted = targets + noise * normal(1)(6, out)
        lower = _separate(statistics, output, wanted)[0]
        assert errors_at(statistics, outputs, wanted, z[None])[0] >= lower
        assert lower > 0 or noise < 1e-3 or condition > 1e6


def test_an_output_of_zeros_is_bounded_by_the_targets():
    weights = dataclasses.replace(random_weights(8, 4, 3, 2, out=4, bias=False), output=torch.zeros(4, 8).double())
    targets = normal(3)(5, 4)
    floor = memorisable(weights, random_sequences(8, 5, 3), targets).floor
    size = float(targets.square().mean().sqrt())
    assert size * (1 - TOLERANCES["several heads gap", torch.float64][0]) <= floor.value <= size
    assert floor.recheck()


def test_masses_too_far_apart_are_refused():
    statistics, outputs, targets = setting(2, 6, 1)
    far = dataclasses.replace(statistics[0], log_mass=statistics[0].log_mass * 0 + 60.0 * torch.arange(6.0).double())
    assert mass_problem([far, statistics[1]], outputs, targets) is None
    assert mass_problem(statistics, [0 * output for output in outputs], 0 * targets) is None


def test_only_exact_tilings_are_accepted():
    cube = torch.tensor([[[0.0, 1.0]] * 3], dtype=torch.float64)
    boxes, pick = cube, np.random.default_rng(0)
    for _ in range(60):
        index, axis = pick.integers(len(boxes)), pick.integers(3)
        low, high = boxes[index, axis].tolist()
        halves = boxes[index].repeat(2, 1, 1)
        halves[0, axis, 1] = halves[1, axis, 0] = low + (high - low) * float(pick.choice([0.5, 0.3]))
        boxes = torch.cat([boxes[:index], boxes[index + 1 :], halves])
    assert tiles(cube)
    assert tiles(boxes)
    assert tiles(boxes[torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))])
    assert not tiles(boxes[:0])
    assert not tiles(boxes[1:])
    assert not tiles(torch.cat([boxes, boxes[:1]]))
    assert not tiles(torch.cat([boxes[1:], boxes[:1].flip(2)]))
    for index in range(len(boxes)):
        moved = boxes.clone()
        moved[index, 0, 0] = np.nextafter(float(moved[index, 0, 0]), 2.0)
        assert not tiles(moved)
    # Volume 1 and disjoint interiors are not enough: a box outside the cube for one inside.
    swapped = boxes.clone()
    swapped[0] += 1.0
    assert not tiles(swapped)


@pytest.mark.parametrize(("heads", "out"), [(2, None), (2, 8), (2, 12), (6, 24)])
def test_heads_that_can_be_taken_apart_are(heads, out):
    weights = random_weights(12, 4, heads, heads, out=out)
    sequences = random_sequences(12, 6, heads)
    fitted = memorisable(weights, sequences, prompted(weights, sequences, 2, heads), tol=1e-8)
    assert fitted.verdict is Verdict.POSSIBLE
    noisy = memorisable(weights, sequences, normal(heads)(6, weights.output_size))
    assert noisy.verdict is Verdict.IMPOSSIBLE
    assert noisy.floor.value <= noisy.upper.value
    assert noisy.floor.recheck()
    assert noisy.upper.recheck()
    if out is None:
        assert noisy.upper.value <= noisy.floor.value * (1 + 1e-6)


def test_the_second_path_takes_the_wishes_of_a_machine_that_factorises_otherwise(monkeypatch):
    weights, sequences = random_weights(12, 4, 2, 2), random_sequences(12, 6, 2)
    floor = memorisable(weights, sequences, normal(2)(6, 8)).floor
    assert floor.theorem == "separate-heads-bound"
    group = floor.witness["groups"][0]
    stored = torch.cat([part["targets"] for part in group["heads"]], dim=1)
    factorise = torch.linalg.svd

    def otherwise(matrix, full_matrices=True):
        basis, singular, right = factorise(matrix, full_matrices=full_matrices)
        return basis * (1 + 2.0**-51), singular, right

    monkeypatch.setattr(torch.linalg, "svd", otherwise)
    assert not torch.equal(_taken_apart(torch.eye(8).double(), group["targets"]).wanted, stored)
    assert floor.recheck()
    assert not dataclasses.replace(floor, value=1.01 * floor.value).recheck()


@pytest.mark.parametrize("off", [0.0, 1e-9, 1e-3, 1.0])
def test_heads_taken_apart_keep_below_every_error_whatever_their_wishes(off):
    for seed in range(5):
        statistics, outputs, targets = setting(2, 6, seed, out=12)
        whole = torch.cat(outputs, dim=1)
        wanted = targets @ torch.linalg.pinv(whole).mT
        apart = _taken_apart(whole, targets, wanted + off * normal(seed)(*wanted.shape))
        blocks = torch.split(apart.wanted, outputs[0].shape[1], dim=1)
        floors = [head_floor(item, block).lower for item, block in zip(statistics, blocks, strict=True)]
        lower = _combined(apart, sum(floor**2 for floor in floors))
        places = torch.rand(30, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert errors_at(statistics, outputs, targets, places).min() >= lower
        assert lower > 0 or off == 1.0


def test_more_than_four_heads_that_cannot_be_taken_apart_stay_undecided_with_both_numbers():
    weights = random_weights(8, 4, 5, heads=6, out=3)
    result = memorisable(weights, random_sequences(8, 5, 5), normal(5)(5, 3))
    assert result.verdict in (Verdict.UNKNOWN, Verdict.POSSIBLE)
    assert 0.0 <= result.floor.value <= result.upper.value


def test_the_certificate_is_proved_survives_a_file_and_refuses_tampering():
    weights = random_weights(8, 4, 9, 2, out=4, bias=False)
    sequences = random_sequences(8, 8, 9)
    targets = prompted(weights, sequences, 2, 9) + 0.1 * normal(9)(8, 4)
    floor = memorisable(weights, sequences, targets).floor
    assert floor.value > 0
    assert floor.evidence is Evidence.PROVED
    assert Certificate.from_dict(json.loads(json.dumps(floor.to_dict()))).recheck()
    assert not dataclasses.replace(floor, value=floor.value * 1.02).recheck()
    group = floor.witness["groups"][0]
    boxes, lower = group["boxes"], group["lower"]
    for tampered in ({"boxes": boxes[1:]}, {"lower": 1.02 * lower}, {"lower": -1e3 * lower}, {"upper": 0.5 * lower}):
        witness = {**floor.witness, "groups": [{**group, **tampered}]}
        assert not dataclasses.replace(floor, value=floor.value * 1.02, witness=witness).recheck()
    shifted = {**floor.witness, "groups": [{**group, "targets": 0.9 * group["targets"]}]}
    assert not dataclasses.replace(floor, witness=shifted).recheck()
