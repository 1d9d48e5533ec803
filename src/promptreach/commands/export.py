"""An adapter as the files that a server takes, beside the request that uses them."""

from collections.abc import Mapping
from pathlib import Path

import torch

from promptreach.certificate import Evidence
from promptreach.commands.server_files import Export, files_for, folder_page
from promptreach.commands.serving import READ_IN, SERVERS, served_kinds, takes
from promptreach.errors import AdapterError, Fault, InputError, raise_if_any
from promptreach.files import atomic_folder
from promptreach.hf import OpenModel, load_readout, open_model
from promptreach.hf.adapters.folders import base_of
from promptreach.hf.adapters.inspection import Inspection, base_of_folder, inspect_folder
from promptreach.prompt import LowRankUpdate, SoftPrompt
from promptreach.report.findings import Block, Cell, Finding, Table, Text

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types that servers run models in, by name."""
TEXT = "Hello"
"""The content of the example request where none is given."""
PAGE = "README.md"
_MARK = "# For "


def export_adapter(
    folder: Path,
    server: str,
    out: Path,
    *,
    model: str | None = None,
    revision: str | None = None,
    text: str = TEXT,
    dtype: str = "float32",
) -> Finding:
    """Write what `server` takes of the adapter in `folder` into `out`: numbers, a request that uses them, and a page.

    What a server is given are the embeddings that the base's first layer reads, so that its logits are those of
    transformers up to the rounding of its own arithmetic and of `dtype`.

    Args:
        folder: of a PEFT adapter.
        server: a key of `SERVERS`.
        out: a new or empty folder, or one that holds such an export.
        model, revision: its base; None takes the one that it names, if that is on this machine.
        text: the content of the example request, whole as the adapter was trained on it (a chat is rendered before).
        dtype: a key of `DTYPES`, of the tensors for vLLM and TensorRT-LLM; the others take float32 alone.

    Raises:
        AdapterError: for a folder that is no sound adapter, or whose kind the server does not take.
        InputError: for a name that is none, an encoder, a text without tokens, or a base that is not here.
        OutputError: when `out` holds something else or cannot be written.
    """
    raise_if_any(_name_faults(server, dtype))
    found = inspect_folder(folder)
    raise_if_any(list(found.faults) or kind_faults(server, found.kind, str(folder)), AdapterError)
    opened = _base(folder, model, revision)
    made = _gathered(found, opened, server, text, dtype)
    files = files_for(made)
    _write(out, files | {PAGE: folder_page(made, files).encode()})
    return _finding(made, out, files, dtype)


def kind_faults(server: str, kind: str, where: str) -> list[Fault]:
    """The refusal of a kind of adapter that a server does not take, with what it takes instead."""
    row = takes(server, kind)
    if row is not None and row.served != "no":
        return []
    name, taken = SERVERS[server], " or ".join(served_kinds(server))
    why = f" ({row.how}; {row.source})" if row is not None else ""
    seen = f"a {kind}, which {name} does not take{why}" if kind else f"a kind of adapter that nobody told {name}"
    remedy = f"promptreach fit --serve-with {server} trains what it takes, and promptreach audit says what that costs"
    return [Fault(where, seen, f"what {name} takes: {taken}", remedy)]


def _name_faults(server: str, dtype: str) -> list[Fault]:
    faults = []
    for where, seen, known in (("server", server, SERVERS), ("dtype", dtype, DTYPES)):
        if seen not in known:
            faults.append(Fault(where, repr(seen), f"one of {', '.join(known)}"))
    return faults


def _base(folder: Path, model: str | None, revision: str | None) -> OpenModel:
    """The base of an adapter, which writes text."""
    name, revision = base_of_folder(folder, model, revision)
    opened = open_model(name, revision=revision)
    if opened.task != "causal":
        seen, expected = f"{opened.name}, no causal language model", "a model that writes text"
        raise InputError(Fault("model", seen, expected, "run the adapter with transformers, as its model card shows"))
    return opened


def _gathered(found: Inspection, model: OpenModel, server: str, text: str, dtype: str) -> Export:
    faults = inspect_folder(found.folder, model)
    raise_if_any(list(faults.faults), AdapterError)
    token_ids = model.tokenize([text])[0]
    if not token_ids:
        raise InputError(Fault("text", repr(text), "a text that has tokens"))
    vocabulary = model.vocabulary.float().cpu()
    adapter, row = faults.adapter, takes(server, found.kind)
    assert row is not None
    base, revision = base_of(model)
    return Export(
        server=server,
        row=row,
        adapter=found.folder.resolve(),
        base=base,
        revision=revision,
        vocab_size=len(vocabulary),
        scaled=not torch.equal(vocabulary, model.model.get_input_embeddings().weight.detach().float().cpu()),
        prompt=adapter.embeddings.detach().float().cpu() if isinstance(adapter, SoftPrompt) else None,
        content=vocabulary[torch.tensor(token_ids)],
        rank=adapter.rank if isinstance(adapter, LowRankUpdate) else 0,
        text=text,
        dtype=DTYPES[dtype],
        head=load_readout(found.folder) is not None,
    )


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    with atomic_folder(out, replace=_is_export(out)) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)


def _is_export(out: Path) -> bool:
    """Whether a folder holds an export, which the next one may replace."""
    page = out / PAGE
    return page.is_file() and page.read_text(encoding="utf-8", errors="replace").startswith(_MARK)


def _finding(made: Export, out: Path, files: Mapping[str, bytes], dtype: str) -> Finding:
    name = SERVERS[made.server]
    rows: list[list[Cell]] = [[file, len(content)] for file, content in files.items()]
    known = f"RUN here: {made.row.tried}" if made.row.tried else f"READ in {READ_IN}, not run here: {made.row.source}"
    blocks: list[Block] = [
        Table(title=f"For {name}", columns=["file", "bytes"], rows=rows),
        Text(text=f"{made.row.how[0].upper()}{made.row.how[1:]}."),
        Text(text=f"{known}."),
    ]
    if made.head:
        blocks.append(Text(text="The classifier's head beside the adapter is known to no server: it gives no labels."))
    what = "The prompt" if made.prompt is not None else "The request for the LoRA update"
    return Finding(
        check="export",
        title="An adapter for a server",
        evidence=Evidence.MEASURED,
        sample=f"{made.adapter} on {made.base}",
        summary=f"{what} for {name} is in {out}; {PAGE} there says how to start the server and what to send.",
        values={
            "server": made.server,
            "kind": made.row.kind,
            "served": made.row.served,
            "folder": str(out.resolve()),
            "files": sorted(files),
            "tokens": 0 if made.prompt is None else len(made.prompt),
            "dtype": dtype,
            "source": made.row.source,
            "dated": made.row.dated,
            "tried": made.row.tried,
        },
        blocks=blocks,
    )
