"""The tokenizer that lies beside an adapter: the one its texts were read with, which the base model's may not be.

Trainers save it there. Where it has tokens that the model's own lacks, the model would read every one of them as the
unknown token, and the adapter would be judged on texts that it never saw.
"""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from promptreach.errors import AdapterError, Fault
from promptreach.hf.models.load import quietly
from promptreach.hf.models.model import OpenModel
from promptreach.model_files import TOKENIZER_FILES

_SHOWN = 5


def added_tokens(folder: str | Path, model: OpenModel) -> tuple[str, ...]:
    """The tokens of an adapter's own tokenizer that `model` reads otherwise, by their ids; none where none lies there.

    A padding token is left out: padding is masked, whatever it is called.

    Raises:
        AdapterError: when the tokenizer cannot be read.
    """
    beside = _beside(Path(folder))
    if beside is None or model.tokenizer is None:
        return ()
    own = model.tokenizer.get_vocab()
    other = {token: index for token, index in beside.get_vocab().items() if own.get(token) != index}
    return tuple(sorted(other.keys() - {beside.pad_token}, key=lambda token: (other[token], token)))


def reading_as(folder: str | Path, model: OpenModel) -> OpenModel:
    """`model` with the tokenizer beside the adapter, where that has tokens of its own; otherwise `model` itself.

    Raises:
        AdapterError: naming the tokens that the model has no row for.
    """
    added = added_tokens(folder, model)
    if not added:
        return model
    beside = _beside(Path(folder))
    assert beside is not None
    vocabulary, rows = beside.get_vocab(), len(model.vocabulary)
    without = [token for token in added if vocabulary[token] >= rows]
    if without:
        seen = f"a tokenizer with {_tokens(without)} that {model.name}, of {rows:,} rows, has no row for"
        remedy = "open the model that was trained, with the embeddings that were resized for them"
        raise AdapterError(Fault(str(folder), seen, "tokens that the model has rows for", remedy))
    return model.with_tokenizer(beside)


def tokenizer_faults(folder: Path, model: OpenModel) -> list[Fault]:
    """The refusal of a model that reads texts otherwise than the tokenizer beside the adapter."""
    added = added_tokens(folder, model)
    if not added:
        return []
    seen = f"a tokenizer beside the adapter that differs from the model's: it has {_tokens(added)}"
    remedy = f"open the model that was trained, with tokenizer=AutoTokenizer.from_pretrained({str(folder)!r})"
    return [Fault(str(folder), seen, f"the tokens of {model.name}", remedy)]


def _tokens(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{len(names):,} tokens ({', '.join(names[:_SHOWN])}{more})"


def _beside(folder: Path) -> Any:
    """The tokenizer in a folder, or None."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    try:
        with quietly():
            return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # the readers of damaged files raise whatever they stumble over
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        seen = f"its tokenizer cannot be read ({reason})"
        raise AdapterError(Fault(str(folder), seen, "a whole tokenizer")) from error
