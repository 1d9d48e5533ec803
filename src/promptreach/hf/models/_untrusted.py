"""The boundary to what a model folder holds: whatever is damaged or meant to harm there ends in a named error.

Nothing here decides what a model is; it only sees to it that reading one ends, in bounded time and memory, without a
word about anything outside its folder.
"""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from promptreach.errors import Fault, InputError, ModelError, PromptreachError
from promptreach.formats import read_json
from promptreach.memory import is_shortage, require, shortage_text
from promptreach.terminal import one_line

Found = TypeVar("Found")

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_COUNTS = (
    *(*_LAYERS, "hidden_size", "n_embd", "d_model", "dim", "intermediate_size", "n_inner", "head_dim", "vocab_size"),
    *("num_attention_heads", "n_head", "n_heads", "num_key_value_heads", "max_position_embeddings", "n_positions"),
    *("type_vocab_size",),
)
"""Fields of a config that count something, of which there must be one at least."""
_MOST_LAYERS = 10_000
"""More layers than any model has; it holds where no file tells how many tensors there are."""
_MOST_OF_FILE = 2
"""A model has at most so many numbers as its files, times this: what ties or leaves out weights stays below."""

_TOKENIZER_SECONDS, _LETTERS_A_SECOND = 8.0, 5_000
"""The patience with a tokenizer: a start, and more for every letter; the slowest ones do twenty times as many."""
_ASLEEP = 10
"""That patience is in processor time; by the clock it is so many times as long."""
_BATCH_TEXTS, _BATCH_LETTERS = 64, 1_000_000


def count_faults(config: Path | None, weights: Sequence[Path]) -> list[Fault]:
    """The faults of a config's counts, before anything is made of them.

    Args:
        config: a JSON object, as `json_faults` has found; None where the weights' own file holds it.
        weights: whole safetensors files.
    """
    if config is None:
        return []
    tensors = sum(len(_header(path)) for path in weights) or _MOST_LAYERS
    said = read_json(config)
    faults = []
    for where, part in ((str(config), said), (f"{config}, text_config", said.get("text_config"))):
        for name in _COUNTS if isinstance(part, dict) else ():
            value = part.get(name)
            if value is None:
                continue
            if type(value) is not int or value < 1:
                faults.append(Fault(where, f"{name} {_short(value)}", "a whole number of at least 1"))
            elif name in _LAYERS and value > tensors:
                faults.append(Fault(where, f"{name} {value:,}", f"at most {tensors:,}, the number of its tensors"))
            elif value >= 2**31:
                faults.append(Fault(where, f"{name} {value:,}", "a size that a model can have"))
    return faults


def allocation_faults(
    config: PretrainedConfig, weights: Sequence[Path], where: str, dtype: torch.dtype, loader: Any = AutoModel
) -> list[Fault]:
    """The refusal of a config that asks for far more numbers than its files hold, before they are allocated.

    Args:
        config: with counts that are whole numbers.
        weights: its files.
        where: for the message.
        dtype: of the numbers in memory.
        loader: the class of transformers that reads the weights, where that is another part of the model.

    Raises:
        MemoryShortError: when there is less memory than they take.
    """
    packed = getattr(config, "quantization_config", None) is not None
    held = sum(_numbers(path, packed) for path in weights)
    with torch.device("meta"):
        module = loader.from_config(config)
    asked = sum(parameter.numel() for parameter in module.parameters())
    if held and asked > _MOST_OF_FILE * held:
        return [Fault(where, f"a config for {asked:,} numbers", f"about the {held:,} that its files hold")]
    needed = sum(path.stat().st_size for path in weights) if packed else asked * dtype.itemsize
    require(needed, f"opening {where} in {str(dtype).removeprefix('torch.')}")
    return []


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return header


def _numbers(path: Path, packed: bool) -> int:
    if packed or path.suffix == ".gguf":
        return 8 * path.stat().st_size  # a bit a number at least
    return sum(math.prod(entry["shape"]) for entry in _header(path).values())


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """The opening of a model; whatever damage makes its readers raise, or panic, becomes one `ModelError`.

    Raises:
        ModelError: naming the place; errors with names of their own and Ctrl-C pass.
    """
    try:
        yield
    except (PromptreachError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # readers of damaged files raise whatever they stumble over, and Rust panics
        if is_shortage(error):
            raise ModelError(Fault(where, shortage_text("opening it", error), "a model that fits")) from error
        raise ModelError(Fault(where, f"it cannot be opened ({_said(error)})", "a whole model", _AGAIN)) from error


_AGAIN = "copy or download it again"


@torch.no_grad()
def forward_faults(model: PreTrainedModel, where: str) -> list[Fault]:
    """The refusal of a model that opened and cannot read two tokens: a setting of its config is damaged."""
    device = model.get_input_embeddings().weight.device
    ids = torch.zeros(1, 2, dtype=torch.long, device=device)
    written = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    try:
        model.eval().base_model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **written)
    except Exception as error:
        if is_shortage(error):
            raise
        return [Fault(where, f"a model that cannot be run ({_said(error)})", "a whole model", "mend its config.json")]
    return []


def encoded(tokenizer: Any, texts: Sequence[str], **options: Any) -> Mapping[str, list[Any]]:
    """`tokenizer`'s output on `texts`, joined over batches; one that panics, breaks or takes forever is refused.

    Args:
        options: passed on.

    Raises:
        InputError: naming the first text of the batch that it could not do.
    """
    joined: dict[str, list[Any]] = {}
    began, spent, letters = time.monotonic(), time.process_time(), 0
    for start, batch in _batches(texts):
        letters += sum(map(len, batch))
        patience = _TOKENIZER_SECONDS + letters / _LETTERS_A_SECOND - (time.process_time() - spent)
        where = f"tokenizer, text {start + 1}" + (f" to {start + len(batch)}" if len(batch) > 1 else "")
        try:
            found = _within(patience, partial(tokenizer, batch, **options))
        except TimeoutError as error:
            seen = f"no answer after {time.monotonic() - began:.0f} s"
            remedy = "Take the tokenizer that belongs to the model; a pattern in its tokenizer.json may never end."
            raise InputError(Fault(where, seen, f"{_LETTERS_A_SECOND:,} letters a second", remedy)) from error
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            remedy = "Take the tokenizer that belongs to the model, whole."
            raise InputError(Fault(where, f"it broke ({_said(error)})", "token ids", remedy)) from error
        for name, values in found.items():
            joined.setdefault(name, []).extend(values)
    return joined


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    start, batch, letters = 0, list[str](), 0
    for index, text in enumerate(texts):
        most = _BATCH_TEXTS if start else 1  # a tokenizer that breaks on every text is found at once
        if batch and (len(batch) == most or letters + len(text) > _BATCH_LETTERS):
            yield start, batch
            start, batch, letters = index, [], 0
        batch.append(text)
        letters += len(text)
    if batch:
        yield start, batch


def _within(seconds: float, work: Callable[[], Found]) -> Found:
    """The result of `work` within so many seconds of processor time, or ten times as many by the clock; a thread does
    it, so that one that never ends can be left behind.

    Raises:
        TimeoutError: when it has not ended in time.
        BaseException: what `work` raised.
    """
    found: list[Found] = []
    raised: list[BaseException] = []
    silence = _Silence()

    def do() -> None:
        try:
            found.append(work())
        except BaseException as error:
            raised.append(error)
        finally:
            silence.end()

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    # Processor time, so that a busy machine refuses nothing that would have ended; the clock ends what only sleeps.
    began, spent, seconds = time.monotonic(), time.process_time(), max(0.1, seconds)
    while thread.is_alive() and time.process_time() - spent < seconds and time.monotonic() - began < _ASLEEP * seconds:
        thread.join(0.1)
    if thread.is_alive():
        silence.outlive()
        raise TimeoutError
    if raised:
        raise raised[0]
    return found[0]


class _Silence:
    """Standard error closed below Python, where a panic writes before Python hears of it, until `end`.

    One at a time for the whole process; a second one meanwhile does nothing.
    """

    _one = threading.Lock()

    def __init__(self) -> None:
        self._kept: int | None = None
        if not self._one.acquire(blocking=False):
            return
        try:
            sys.stderr.flush()
            self._kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        except (OSError, ValueError, AttributeError):  # there is no standard error
            self._one.release()

    def end(self) -> None:
        """Everything as it was; where somebody else has changed it since, as they have it."""
        if self._kept is not None:
            if os.path.samestat(os.fstat(2), os.stat(os.devnull)):
                os.dup2(self._kept, 2)
            os.close(self._kept)
            self._one.release()

    def outlive(self) -> None:
        """Python's own messages go where they went, while the work that is left behind stays silent."""
        with suppress(OSError, ValueError, AttributeError):  # what is no file goes elsewhere anyway
            if self._kept is not None and sys.stderr.fileno() == 2:
                sys.stderr = os.fdopen(os.dup(self._kept), "w", encoding=sys.stderr.encoding)


def _said(error: BaseException) -> str:
    reason = str(error).strip().partition("\n")[0][:200]
    return one_line(f"{type(error).__name__}: {reason}" if reason else type(error).__name__)


def _short(value: object) -> str:
    return repr(value)[:60]
