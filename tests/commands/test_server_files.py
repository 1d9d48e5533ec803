"""The parts of an export that no reader sees: commands to start a server, and the pages' lists of files."""

from pathlib import Path

import pytest
import torch

from promptreach.commands.server_files import Export, files_for, folder_page, start_of
from promptreach.commands.serving import SERVERS, served_kinds, takes


def made(server: str, kind: str, scaled: bool = False) -> Export:
    row = takes(server, kind)
    assert row is not None
    prompt = torch.ones(3, 4) if kind == "prompt" else None
    return Export(
        server=server,
        row=row,
        adapter=Path("/adapters/mine"),
        base="owner/base",
        revision="abc",
        vocab_size=10,
        scaled=scaled,
        prompt=prompt,
        content=torch.zeros(2, 4),
        rank=8,
        text="Hello",
        dtype=torch.bfloat16,
        head=False,
    )


ALL = [(server, kind) for server in SERVERS for kind in served_kinds(server)]


@pytest.mark.parametrize(("server", "kind"), ALL)
def test_every_file_is_on_the_page(server: str, kind: str) -> None:
    export = made(server, kind)
    files = files_for(export)
    page = folder_page(export, files)
    assert page.startswith(f"# For {SERVERS[server]}\n")
    assert all(f"- `{name}`: " in page for name in files)
    assert start_of(export).splitlines()[0] in page
    assert export.row.source in page


def test_only_vllm_knows_the_type_and_only_its_chat_moves_the_prompt() -> None:
    assert "--dtype bfloat16" in start_of(made("vllm", "prompt"))
    pages = {server: folder_page(made(server, "prompt"), {}) for server in SERVERS if "prompt" in served_kinds(server)}
    assert [server for server, page in pages.items() if "not trained" in page] == ["vllm"]


def test_an_engine_has_room_for_the_table() -> None:
    assert "--max_prompt_embedding_table_size 3" in start_of(made("tensorrt-llm", "prompt"))


def test_scaled_embeddings_are_told() -> None:
    assert "scales its embeddings" in folder_page(made("vllm", "prompt", scaled=True), {})
    assert "scales its embeddings" not in folder_page(made("vllm", "prompt"), {})
