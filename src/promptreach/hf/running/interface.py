"""The door that transformers gives to attention, with somebody standing in it for the length of a block.

A model looks its attention function up by name. While a door stands open, the function of that name is one that lets
somebody look on, or add to keys and values, and then calls what the model had chosen. Neither the model's config nor
its code changes, so whatever the function knows and its caller does not (sinks, soft-caps, position bias, windows)
stays, and so does every bit of the result when nothing is added.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]
Passing = Callable[[AttentionFunction, str, Any, dict[str, Any]], tuple[Tensor, Tensor | None]]
"""What happens at a call of attention: it gets the model's own function, the name under which that is known, the module
and the arguments by name, and gives the function's result."""

_passing: ContextVar[Passing | None] = ContextVar("promptreach_passing", default=None)
_lock = RLock()
_guests: dict[str, int] = {}  # how many blocks hold the door of a name open, over all threads
_before: dict[str, AttentionFunction | None] = {}


@contextmanager
def through(module: nn.Module, passing: Passing) -> Iterator[None]:
    """Every call of attention in this block, of this thread alone, goes through `passing`.

    A model that looks no attention function up runs as ever, and `passing` is never called.
    """
    names = {part.config._attn_implementation for part in module.modules() if isinstance(part, PreTrainedModel)} - {
        None
    }
    with ExitStack() as stack:
        for name in sorted(names):
            stack.enter_context(_door(name))
        token = _passing.set(_chained(passing, _passing.get()))
        stack.callback(_passing.reset, token)
        yield


def _chained(inner: Passing, outer: Passing | None) -> Passing:
    """Both at every call: the outer one sees what the inner one hands on."""
    if outer is None:
        return inner

    def both(own: AttentionFunction, name: str, module: Any, arguments: dict[str, Any]) -> Any:
        def handed_on(module: Any, **arguments: Any) -> tuple[Tensor, Tensor | None]:
            return outer(own, name, module, arguments)

        return inner(handed_on, name, module, arguments)

    return both


@contextmanager
def _door(name: str) -> Iterator[None]:
    """The function called `name`, for as long as somebody needs it, replaced by one that asks who is in the door."""
    with _lock:
        if not _guests.get(name):
            _before[name] = ALL_ATTENTION_FUNCTIONS.get(name)
            ALL_ATTENTION_FUNCTIONS[name] = _asking(name, _before[name])
        _guests[name] = _guests.get(name, 0) + 1
    try:
        yield
    finally:
        with _lock:
            _guests[name] -= 1
            if not _guests[name]:
                _restore(name, _before.pop(name))


def _restore(name: str, function: AttentionFunction | None) -> None:
    del ALL_ATTENTION_FUNCTIONS[name]  # what was registered for everybody shows again
    if function is not None and ALL_ATTENTION_FUNCTIONS.get(name) is not function:
        ALL_ATTENTION_FUNCTIONS[name] = function


def _asking(name: str, own: AttentionFunction | None) -> AttentionFunction:
    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        function = own or _eager(module)
        passing = _passing.get()
        if passing is None:  # another thread's model
            return function(module, query, key, value, attention_mask, **options)
        arguments = {"query": query, "key": key, "value": value, "attention_mask": attention_mask, **options}
        return passing(function, name, module, arguments)

    return attend


def _eager(module: Any) -> AttentionFunction:
    """The ``eager`` function, which is no registered one but each modelling file's own."""
    for kind in type(module).__mro__:
        eager: AttentionFunction | None = getattr(sys.modules.get(kind.__module__), "eager_attention_forward", None)
        if eager is not None:
            return eager
    raise KeyError(f"no eager attention beside {type(module).__name__}")
