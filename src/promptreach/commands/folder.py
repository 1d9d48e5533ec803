"""The folder of a trained run: the adapter, its head, a model card, and the shortest way in which others load the two.

A classifier is PEFT's own kind of folder wherever transformers' class reads it as we do, which is tried out on held-out
rows; elsewhere load.py lies beside it. Where PEFT cannot run the adapter at all, the card says that too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from promptreach.commands.reading import headed, readout_of
from promptreach.hf import OpenModel, save_adapter, save_readout
from promptreach.hf.adapters.by_config import ConfiguredAdapter, attached_by_config, config_of, save_by_config
from promptreach.hf.adapters.folders import Readout, base_of, loader_facts, to_peft
from promptreach.hf.adapters.own_heads import HeadedAdapter, OwnHead, TrainedHead, own_head
from promptreach.prompt import Adapter, Prefix
from promptreach.training.methods.initial import OWN, text_tokens
from promptreach.training.methods.methods import CONFIGURED
from promptreach.training.runs import Run
from promptreach.training.task.kinds.kind import UNSCALED
from promptreach.training.task.task import Task

_ROWS = 16
"""Held-out rows on which a classifier's logits are compared."""

By = Literal["classifier", "loader", "peft", "promptreach"]
"""The way to load a folder: transformers' classifier through PEFT, load.py, PEFT with the model's own language head, or
this library alone."""


@dataclass(frozen=True, eq=False)
class FolderPlan:
    """The form in which a run's folder is written.

    Attributes:
        by: how it is loaded.
        base: the base's name and its revision.
        length: tokens of a row that are read.
        own: the classifier, where it is one.
        reason: why it is none, as a sentence; empty where it is one or has no head.
        readout: the head and what it takes to read it, or None.
        dtype: of the base's numbers, as Python.
    """

    by: By
    base: tuple[str, str | None]
    length: int
    own: OwnHead | None = None
    reason: str = ""
    readout: Readout | None = None
    dtype: str = "torch.float32"

    @property
    def compared(self) -> str:
        """How far the classifier agrees with the report, as a sentence; empty where there is none."""
        if self.own is None:
            return ""
        said = f"Compared on {self.own.rows} held-out rows one by one, its logits differ from the report's by at most "
        said += f"{self.own.difference:.1e} of their size."
        if not self.own.batches:
            said += " Rows padded to one length would differ: behind a prompt padding is not seen. Keep batch_size=1."
        return said


def planned(model: OpenModel, task: Task, run: Run, length: int, base_id: str = "") -> FolderPlan:
    """The form of a run's folder, found by trying.

    Args:
        model: the base.
        task: what the run was trained on.
        run: a full run.
        length: tokens of a row that are read.
        base_id: the base's hub id, where `model` was opened from a folder.
    """
    base = (base_id, None) if base_id else base_of(model)
    readout = readout_of(task, run)
    if isinstance(run.adapter, Prefix) and (model.traits.prefix_by == "door" or model.head_dim != model.value_dim):
        reason = f"PEFT has no prefix for {model.family}: this library alone runs it."
        noted = None if readout is None else (readout[0], {**readout[1], "only_here": reason})
        return FolderPlan("promptreach", base, length, None, reason, noted)
    if readout is None:
        return FolderPlan("peft", base, length)
    adapter = _adapter_of(run)
    own = "" if adapter is None else _own_head(model, adapter, task, readout)
    tensors, info = readout
    told: Readout = tensors, {**info, "loader": loader_facts(model, length, base_id)}
    if isinstance(own, OwnHead):
        compared = {"rows": own.rows, "difference": own.difference, "batches": own.batches}
        told = tensors, {**told[1], "classifier": compared}
        return FolderPlan("classifier", base, length, own, "", told, str(model.release().dtype))
    return FolderPlan("loader", base, length, None, own, (tensors, {**told[1], "no_classifier": own}))


def write_run(
    out: Path, model: OpenModel, task: Task, run: Run, plan: FolderPlan, card: str = "", base_id: str = ""
) -> Path:
    """Write a run's folder as planned, and return its path.

    Raises:
        OutputError: when it cannot be written, or something else is there.
    """
    more: dict[str, Any] = {"card": card, "loader": plan.by == "loader"}
    adapter = _adapter_of(run)
    if isinstance(adapter, ConfiguredAdapter):
        more |= {"own": plan.own, "base": base_id}
        return save_by_config(out, model, adapter.config, adapter.state, readout=plan.readout, **more)
    if run.adapter is not None:
        text = _start_text(model, task, run)
        more |= {"init": run.config.init, "init_text": text, "own": plan.own, "base": base_id}
        return save_adapter(out, model, run.adapter, readout=plan.readout, **more)
    assert plan.readout is not None
    return save_readout(out, plan.readout, **more)


def _adapter_of(run: Run) -> Adapter | ConfiguredAdapter | None:
    """What a run trained beside its head."""
    if run.config.method == CONFIGURED:
        return ConfiguredAdapter(config_of(json.loads(run.config.peft)), run.state)
    return run.adapter


def _start_text(model: OpenModel, task: Task, run: Run) -> str:
    """The text whose tokens a prompt started from; empty where it started otherwise."""
    config = run.config
    if config.method != "prompt" or config.init not in ("text", OWN) or config.start is not None:
        return ""
    sequences = [config.own_text] if config.own_text else task.encoded["train"].sequences
    text: str = model.tokenizer.decode(text_tokens(sequences, config.tokens, config.seed))
    return text


def _own_head(model: OpenModel, adapter: Adapter | ConfiguredAdapter, task: Task, readout: Readout) -> OwnHead | str:
    """The trained run as a classifier of transformers, or why it is none."""
    tensors, info = readout
    scale = tuple(info.get("scale", UNSCALED))
    head = TrainedHead(
        tensors["weight"].cpu(), tensors["bias"].cpu(), info["pooling"], info["kind"], scale, info["pairs"]
    )
    sequences = task.encoded["held_out"].sequences[:_ROWS]
    expected = headed(Path(), model, adapter, readout).outputs(sequences) * scale[1] + scale[0]
    return own_head(HeadedAdapter(model, *_as_saved(model, adapter), head, sequences, expected))


def _as_saved(model: OpenModel, adapter: Adapter | ConfiguredAdapter) -> tuple[Any, Mapping[str, Tensor]]:
    """PEFT's config and tensors of an adapter."""
    if not isinstance(adapter, ConfiguredAdapter):
        return to_peft(adapter, model)
    with attached_by_config(model, adapter.config, seed=0) as method:
        method.load(adapter.state)
        return method.as_saved()
