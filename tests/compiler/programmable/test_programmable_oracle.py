"""Every pass of `programmable` at every cell, against what plain loops say it holds there."""

import itertools

import pytest
import torch

from helpers.compiler_cases import small
from promptreach.compiler.parts.blocks import Attention
from promptreach.prompt import SoftPrompt

CASES = [(1, 1, 0.06), (1, 2, 0.12), (2, 1, 0.12), (1, 3, 0.15), (2, 2, 0.2)]


def random_table(backbone, seed=0):
    """A prompt with random entries: a table need not belong to any Lipschitz function for the lookup to be right."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(backbone.points().shape, generator=generator, dtype=torch.float64)
    return values, backbone.rows(values)


def states_by_pass(backbone, x, embeddings):
    """The content states after each pass."""
    content, rows = backbone.embed(x), embeddings[None].clone()
    seen = {}
    for item in backbone.passes:
        if isinstance(item, Attention):
            content, rows = item(content, rows)
        else:
            content, rows = item(content), item(rows)
        seen[item.name] = content.clone()
    return seen


def inputs_at_cells(backbone, seed=0):
    """One input in every box: at a random place of its good part, corners included."""
    generator = torch.Generator().manual_seed(seed)
    edges = backbone.edges()
    lows, highs = edges[::2], edges[1::2]
    cells = list(itertools.product(range(backbone.plan.cells), repeat=backbone.plan.tokens * backbone.plan.dim))
    picks = torch.tensor(cells)
    share = torch.rand(picks.shape, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    x = lows[picks] + share.clamp(0, 1) * (highs - lows)[picks]
    x = torch.minimum(torch.maximum(x, lows[picks]), highs[picks])
    return cells, x.reshape(-1, backbone.plan.tokens, backbone.plan.dim)


@pytest.mark.parametrize("case", CASES)
def test_every_pass_holds_at_every_cell_what_its_name_says(case):
    backbone = small(*case)
    plan, stream = backbone.plan, backbone.stream
    dim, tokens, m, own = plan.dim, plan.tokens, plan.cells, plan.cells**plan.dim
    values, embeddings = random_table(backbone)
    cells, x = inputs_at_cells(backbone)
    seen = states_by_pass(backbone, x, embeddings)
    offset = tokens * own // 2

    def block(name, block_name, row, token):
        return seen[name][row, token, stream.blocks[block_name]].tolist()

    for row in range(0, len(cells), max(1, len(cells) // 150)):
        digits = [cells[row][token * dim : (token + 1) * dim] for token in range(tokens)]
        for token in range(tokens):
            assert block("steps", "digit", row, token) == list(digits[token])
            cell = 0
            for digit in digits[token]:
                cell = cell * m + digit
            number = token * own + cell - offset
            assert block("address", "square", row, token) == [number**2]
            filed = [[0] * dim for _ in range(tokens)]
            filed[token] = list(digits[token])
            assert block("address", "filed", row, token) == [digit for row_of_axes in filed for digit in row_of_axes]
            gathered = [digit for other in digits for digit in other]
            assert block("lookup", "gathered", row, token) == pytest.approx(gathered, abs=m * plan.tol / 1000)
            slot_row = embeddings[number + offset, stream.blocks["row"]].tolist()
            assert block("lookup", "row", row, token) == pytest.approx(slot_row, abs=plan.tol / 1000)
            if tokens > 1:
                others = [digit for other in range(tokens) if other != token for digit in digits[other]]
                assert block("context", "context", row, token) == pytest.approx(others, abs=m * plan.tol / 1000)
                context = 0
                for digit in others:
                    context = context * m + digit
                lowered = block("select", "row", row, token)
                kept = range(context * dim, (context + 1) * dim)
                assert [lowered[place] for place in kept] == [block("lookup", "row", row, token)[p] for p in kept]
                assert all(entry < 0 for place, entry in enumerate(lowered) if place not in kept)
                assert [slot_row[place] for place in kept] == values[row, token].tolist()
            assert block("read", "raw", row, token) == pytest.approx(values[row, token].tolist(), abs=plan.tol / 1000)
            assert block("clamp", "output", row, token) == pytest.approx(
                values[row, token].tolist(), abs=plan.tol / 1000
            )


@pytest.mark.parametrize("case", CASES)
def test_the_slots_hold_the_table_and_their_numbers_alone(case):
    backbone = small(*case)
    plan, stream = backbone.plan, backbone.stream
    values, embeddings = random_table(backbone)
    assert embeddings.shape == (plan.slots, plan.hidden_size)
    half = plan.slots // 2
    assert embeddings[:, stream.blocks["slot"]].flatten().tolist() == [n - half for n in range(plan.slots)]
    assert embeddings[:, stream.blocks["slot_square"]].flatten().tolist() == [
        (n - half) ** 2 for n in range(plan.slots)
    ]
    # Each entry of the table stands in the prompt exactly once: as many numbers as counting asks for.
    entries = embeddings[:, stream.blocks["row"]].flatten()
    assert torch.equal(entries.sort().values, values.flatten().sort().values)
    assert len(entries) == plan.table_entries == plan.tokens * plan.dim * plan.cells ** (plan.dim * plan.tokens)
    elsewhere = embeddings.clone()
    for name in ("slot", "slot_square", "row"):
        elsewhere[:, stream.blocks[name]] = 0
    assert not elsewhere.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scores_are_whole_and_fall_by_the_sharpness(dtype):
    backbone = small(2, 2, 0.2, dtype=dtype)
    head = next(item for item in backbone.passes if isinstance(item, Attention))
    embeddings = backbone.rows(torch.rand(backbone.points().shape).double())
    _, x = inputs_at_cells(backbone)
    states = states_by_pass(backbone, x.to(dtype), embeddings)["address"]
    stream = backbone.stream
    query = stream.read(states, head.query_reads) @ head.query.T + head.query_bias
    prompt = stream.read(embeddings, head.key_reads) @ head.key.T
    scores, own = query @ prompt.T, query @ (stream.read(states, head.key_reads) @ head.key.T).mT
    assert torch.equal(scores, scores.round())
    top = scores.amax(dim=-1)
    assert torch.equal(own, top[..., None].expand_as(own))
    below = scores.topk(2, dim=-1).values
    assert bool((below[..., 0] - below[..., 1] >= backbone.plan.sharpness).all())


def test_inside_ramps_outputs_stay_in_the_cube():
    backbone = small(1, 2, 0.12)
    _, embeddings = random_table(backbone)
    edges = backbone.edges()
    inside = edges[1:-1:2] + torch.linspace(0, 1, 21, dtype=torch.float64)[:, None] * backbone.plan.ramp
    x = torch.cartesian_prod(inside.flatten(), torch.rand(7, dtype=torch.float64))[:, :, None]
    y = backbone(x, SoftPrompt(embeddings))
    assert bool(((y >= 0) & (y <= 1)).all())
    assert not bool(backbone.good(x).all())
