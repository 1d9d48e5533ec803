"""Laws of a prefix that is trained through a network: where it starts, what it folds into, how far a step goes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tasks import model_of, prefix_like
from promptreach.training.methods.reparameterised import OFFSET, fold, reach, reparameterised


@settings(max_examples=20)
@given(length=st.integers(1, 6), width=st.integers(1, 9), seed=st.integers(0, 5), trained=st.booleans())
def test_folded_is_unfolded(length: int, width: int, seed: int, trained: bool) -> None:
    """Entry by entry against the definition; untrained, it is the start itself, bit for bit."""
    start = prefix_like(model_of("llama"), length)
    tensors = reparameterised(start, width, seed)
    if trained:
        tensors |= {
            name: torch.randn(part.shape, generator=torch.Generator().manual_seed(seed))
            for name, part in tensors.items()
            if name != OFFSET
        }
    keys, values = fold(tensors)
    if not trained:
        assert torch.equal(keys, start.keys)
        assert torch.equal(values, start.values)
    slot, layer, head, place = length - 1, 1, 1, 3
    for part, found in ((0, keys), (1, values)):
        hidden = torch.tanh(tensors["inner"] @ tensors["table"][slot] + tensors["inner_bias"])
        moved = (tensors["outer"] @ hidden + tensors["outer_bias"]).view(2, *start.keys.shape[:2], -1)
        expected = (start.keys, start.values)[part][layer, head, slot, place] + moved[part, layer, head, place]
        torch.testing.assert_close(found[layer, head, slot, place], expected)


def test_a_first_step_reaches_as_far_as_a_plain_prefixes() -> None:
    """With every entry of the last layer moved by r against its slot's features, the prefix moves by r times reach."""
    tensors = reparameterised(prefix_like(model_of("llama"), 1), 16, 0)
    hidden = torch.tanh(tensors["inner"] @ tensors["table"][0])
    before = fold(tensors)[0]
    tensors["outer"] += 0.01 * hidden.sign()
    tensors["outer_bias"] += 0.01
    torch.testing.assert_close(fold(tensors)[0] - before, torch.full_like(before, 0.01 * reach(tensors)))
