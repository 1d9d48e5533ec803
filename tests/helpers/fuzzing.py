"""Every format that is read, with a valid sample and its reader, and what a mutated sample may end in.

The guarantee that is tried: whatever stands in a file, reading it ends in a named error (`PromptreachError`, exit
status 2) or in a result, within a time limit, and writes nothing beside its own folder.
"""

import base64
import gzip
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from helpers.audit_cases import rows
from helpers.models import tiny_model
from helpers.mutations import mutation_of
from helpers.sample_report import sample_result
from helpers.single_run import train
from helpers.tasks import config_of, no_step, task_of
from promptreach.errors import PromptreachError
from promptreach.hf import load_adapter, open_model, save_adapter
from promptreach.hf.adapters.folders import load_readout, save_readout
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.report.json import read_report, render_json
from promptreach.tables import read_task
from promptreach.training.runs import RunStore
from promptreach.training.store import Store, read_stored, read_tensors

SECONDS = 20.0
"""A reader that takes longer has no limit."""


@dataclass(frozen=True)
class Target:
    """One format.

    Attributes:
        name: of it.
        files: that are mutated, one at a time.
        make: writes a valid sample into an empty folder.
        read: reads it as the library does.
        weight: how often it is drawn; slow readers less.
    """

    name: str
    files: tuple[str, ...]
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    weight: int = 10


def _save(family: str, folder: Path, shards: bool = False) -> None:
    model = tiny_model(family)
    model.release().save_pretrained(folder, **({"max_shard_size": "10KB"} if shards else {}))
    model.tokenizer.save_pretrained(folder)


def _open(folder: Path) -> None:
    opened = open_model(folder)
    ids = opened.tokenize(["the cat sat", "a good film\x1b[2J", ""])
    opened.hidden(opened.batch([one for one in ids if one][:2] or [[0]]))


def _adapter(folder: Path, kind: str) -> None:
    model, draw = tiny_model("llama"), torch.Generator().manual_seed(0)
    shape = (model.num_layers, model.num_kv_heads, 3, model.head_dim)
    if kind == "lora":
        run = train(task_of("llama"), config_of("lora"), RunStore(None), no_step)
        assert run.adapter is not None
        save_adapter(folder, model, run.adapter)
        return
    adapters = {
        "prompt": SoftPrompt(torch.randn(3, model.hidden_size, generator=draw)),
        "prefix": Prefix(torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)),
    }
    save_adapter(folder, model, adapters[kind])


def _rows(folder: Path, name: str) -> None:
    some, path = rows(40), folder / name
    if name.endswith(".jsonl"):
        text = "\n".join(json.dumps(row) for row in some)
    else:
        mark = "\t" if ".tsv" in name else ","
        text = "\n".join([f"text{mark}label", *(f'"{row["text"]}"{mark}{row["label"]}' for row in some)])
    if name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some), path)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def _run(folder: Path) -> None:
    RunStore(folder).put("it", train(task_of("gpt2"), config_of("prompt"), RunStore(None), no_step))


def _read_run(folder: Path) -> None:
    found = RunStore(folder).get("it")
    assert found is None or found.config.method == "prompt"


def _stored(folder: Path) -> None:
    Store(folder).write_record("a/points.json", {"texts": [{"method": "prompt", "bits": 1.5}]})
    Store(folder).write_tensors("a/paused.safetensors", {"state": {"a": torch.ones(3)}}, {"steps": 2, "losses": [0.5]})


def _read_stored(folder: Path) -> None:
    record = Store(folder).load("a/points.json", read_stored)
    assert record in (None, {"texts": [{"method": "prompt", "bits": 1.5}]})
    kept = Store(folder).load("a/paused.safetensors", read_tensors)
    assert kept is None or (kept[1] == {"steps": 2, "losses": [0.5]} and bool((kept[0]["state"]["a"] == 1).all()))


def _readout(folder: Path) -> None:
    save_readout(folder / "it", ({"weight": torch.ones(2, 32)}, {"labels": ["a", "b"], "pooling": "mean"}))


TARGETS = {
    target.name: target
    for target in (
        Target("encoder", ("config.json", "model.safetensors"), lambda at: _save("bert", at), _open, 2),
        Target("decoder", ("config.json", "model.safetensors"), lambda at: _save("llama", at), _open, 2),
        Target("tokenizer", ("tokenizer.json", "tokenizer_config.json"), lambda at: _save("llama", at), _open, 2),
        Target("shards", ("model.safetensors.index.json", "config.json"), lambda at: _save("gpt2", at, True), _open, 1),
        *(
            Target(
                kind,
                ("adapter_config.json", "adapter_model.safetensors"),
                lambda at, kind=kind: _adapter(at / "it", kind),  # type: ignore[misc]
                lambda at: load_adapter(at / "it", tiny_model("llama")),
                4,
            )
            for kind in ("prompt", "prefix", "lora")
        ),
        *(
            Target(name, (name,), lambda at, name=name: _rows(at, name), lambda at, name=name: read_task(at / name))  # type: ignore[misc]
            for name in ("rows.csv", "rows.tsv", "rows.jsonl", "rows.csv.gz", "rows.parquet")
            if find_spec("pyarrow") or not name.endswith(".parquet")
        ),
        Target("run", ("it/run.json", "it/run.safetensors"), _run, _read_run),
        Target("stored", ("a/points.json", "a/paused.safetensors"), _stored, _read_stored),
        Target("readout", ("it/readout.json", "it/readout.safetensors"), _readout, lambda at: load_readout(at / "it")),
        Target(
            "report",
            ("report.json",),
            lambda at: (at / "report.json").write_text(render_json(sample_result())) and None,
            lambda at: read_report(at / "report.json"),
        ),
    )
}


@dataclass(frozen=True)
class Outcome:
    """What one input ended in: ``named``, ``read``, or what was wrong."""

    target: str
    file: str
    end: str
    seconds: float
    content: bytes

    @property
    def is_wrong(self) -> bool:
        return self.end not in ("named", "read")


class Fuzzer:
    """Samples in a folder of their own, mutated one file at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, dict[str, bytes]] = {}

    def sample(self, name: str) -> dict[str, bytes]:
        """The valid files of a format."""
        if name not in self._whole:
            at = self.folder / "whole" / name
            at.mkdir(parents=True)
            TARGETS[name].make(at)
            self._whole[name] = {
                str(path.relative_to(at)): path.read_bytes() for path in sorted(at.rglob("*")) if path.is_file()
            }
        return self._whole[name]

    def one(self, name: str, number: int) -> Outcome:
        """The end of the input with that number."""
        draw = random.Random(f"{name} {number}")
        files = self.sample(name)
        known = [file for file in files if file.endswith(TARGETS[name].files)]
        file = draw.choice(known)
        return self.given(name, file, mutation_of(file)(files[file], draw))

    def given(self, name: str, file: str, content: bytes) -> Outcome:
        """The end of one file's content among the others of the sample."""
        at = self.folder / "here" / name
        if not at.exists():
            for other, whole in self.sample(name).items():
                (at / other).parent.mkdir(parents=True, exist_ok=True)
                (at / other).write_bytes(whole)
        before = set(self.folder.iterdir())
        (at / file).write_bytes(content)
        began = time.monotonic()
        try:
            with chdir(self.folder), redirect_stderr(StringIO()):
                TARGETS[name].read(at)
            end = "read"
        except PromptreachError as error:
            end = "named" if str(error) else "an error without a word"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            end = f"{type(error).__name__}: {error}"[:300]
        seconds = time.monotonic() - began
        if seconds > SECONDS:
            end = f"{end} after {seconds:.0f} s"
        (at / file).write_bytes(self.sample(name)[file])
        if set(self.folder.iterdir()) != before:
            end = "something was written outside"
        if {str(path.relative_to(at)) for path in at.rglob("*") if path.is_file()} != set(self.sample(name)):
            end = "something was written beside it"
            shutil.rmtree(at)
        return Outcome(name, file, end, seconds, content)


def numbers(seed: int) -> Iterator[tuple[str, int]]:
    """Formats and numbers of inputs without end, formats by their weight."""
    draw = random.Random(seed)
    names = [name for name, target in TARGETS.items() for _ in range(target.weight)]
    while True:
        yield draw.choice(names), draw.randrange(2**48)


def as_seed(outcome: Outcome) -> str:
    """A wrong outcome as a file of `tests/fuzz/seeds`."""
    content = base64.b64encode(outcome.content).decode()
    return json.dumps(
        {"target": outcome.target, "file": outcome.file, "was": outcome.end, "content": content}, indent=1
    )


def from_seed(path: Path) -> dict[str, Any]:
    """What `as_seed` wrote."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found | {"content": base64.b64decode(found["content"])}


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
