"""The sizes of methods at equal numbers of trainable parameters.

Every method's number of parameters is a constant plus so much for each virtual token, rank or bottleneck unit. Both are
read off the method itself, attached at its smallest sizes, so that no formula here can disagree with what is trained.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from promptreach.backbone import Backbone
from promptreach.errors import raise_if_any
from promptreach.training.arguments import MIN_CONTENT, least_faults
from promptreach.training.methods.methods import METHODS, UNIPELT_SIZES, Shape, method_named


@dataclass(frozen=True)
class MethodSize:
    """A method at one size.

    Attributes:
        method: a key of `METHODS`.
        tokens, rank, bottleneck: its sizes; 0 for those it does not have.
        parameters: how many numbers it trains, the shared head not counted.
    """

    method: str
    tokens: int
    rank: int
    bottleneck: int
    parameters: int

    @property
    def arguments(self) -> dict[str, int]:
        """The sizes as arguments of `fit`."""
        return {name: value for name, value in asdict(self).items() if name in METHODS[self.method].sizes}


def equal_sizes(
    backbone: Backbone, parameters: int, methods: Sequence[str] = tuple(METHODS)
) -> dict[str, MethodSize | None]:
    """The size of each method that comes closest to `parameters` trainable numbers from below.

    Guarantee: no method has more, and none could have one more unit of any of its sizes, unless its virtual tokens fill
    the context. UniPELT's three sizes grow in the published proportion; what that leaves over goes to the dearest of
    them that it pays for, then to the next.

    Args:
        backbone: the model that is tuned.
        parameters: how many numbers each method may train, the shared head not counted.
        methods: keys of `METHODS`.

    Returns:
        By method, in the order of `methods`. None where even the smallest size has more, as full fine-tuning usually
        does; the head alone has 0.

    Raises:
        InputError: for a number below 1, or a method that does not exist.
    """
    raise_if_any(least_faults({"parameters": parameters}))
    return {method: _largest(backbone, method, parameters) for method in dict.fromkeys(methods)}


def parameter_count(backbone: Backbone, method: str, tokens: int = 0, rank: int = 0, bottleneck: int = 0) -> int:
    """The count of numbers that `method` trains at that size, the shared head not included."""
    spec = method_named(method)
    shape = Shape(tokens=tokens, rank=rank, init=spec.inits[-1], seed=0, bottleneck=bottleneck)
    with spec.attach(backbone, shape, [[0]]) as trainable:
        return trainable.size


def _largest(backbone: Backbone, method: str, parameters: int) -> MethodSize | None:
    names = method_named(method).sizes
    ones = dict.fromkeys(names, 1)
    least = parameter_count(backbone, method, **ones)
    each = {name: parameter_count(backbone, method, **ones | {name: 2}) - least for name in names}

    def count(sizes: Mapping[str, int]) -> int:
        return least + sum((sizes[name] - 1) * each[name] for name in names)

    # No method pays less than one number for a step in proportion, so that this many steps are more than enough.
    steps = bisect_right(range(parameters + 1), parameters, key=lambda step: count(_in_proportion(names, step))) - 1
    if steps < 0:
        return None
    sizes = _in_proportion(names, steps)
    for name in sorted(names, key=each.__getitem__, reverse=True):
        sizes[name] += (parameters - count(sizes)) // each[name]
    if "tokens" in sizes:
        sizes["tokens"] = min(sizes["tokens"], backbone.max_positions - MIN_CONTENT)
    tokens, rank, bottleneck = (sizes.get(name, 0) for name in ("tokens", "rank", "bottleneck"))
    return MethodSize(method, tokens, rank, bottleneck, parameters=count(sizes))


def _in_proportion(names: Sequence[str], step: int) -> dict[str, int]:
    """Sizes in the proportion of the published UniPELT, at least 1; each step adds one to the largest of them."""
    proportion = {name: UNIPELT_SIZES["published"][name] for name in names}
    return {name: max(1, step * share // max(proportion.values())) for name, share in proportion.items()}
