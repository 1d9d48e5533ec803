"""``promptreach export`` on a tiny model: the files, what is printed, and what is refused."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.command_line import run, saved_model, saved_prompt
from promptreach.cli.export import Server
from promptreach.commands.serving import SERVERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("export")
    saved_prompt(base / "adapter", saved_model(base / "model"))
    return base


def test_the_files_are_named_and_their_page_says_what_to_start(folder: Path, tmp_path: Path) -> None:
    status, out, _ = run("export", folder / "adapter", "--for", "vllm", "--out", tmp_path / "out")
    assert status == 0
    assert "prompt_embeds.b64" in out
    assert "READ in" in out
    assert "vllm serve" in (tmp_path / "out" / "README.md").read_text()


def test_json_tells_the_same(folder: Path, tmp_path: Path) -> None:
    status, out, _ = run("export", folder / "adapter", "--for", "llama.cpp", "--out", tmp_path / "out", "--json")
    values = json.loads(out)["values"]
    assert (status, values["files"], values["tokens"]) == (0, ["prompt.f32", "request.py"], 9)


def test_its_servers_are_those_of_the_table() -> None:
    assert {server.value for server in Server} == set(SERVERS)


def test_a_server_that_takes_none_is_refused(folder: Path, tmp_path: Path) -> None:
    status, out, err = run("export", folder / "adapter", "--for", "transformers", "--out", tmp_path / "out")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "transformers serve does not take" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_the_shell_script_is_one_that_a_shell_reads(folder: Path, tmp_path: Path) -> None:
    run("export", folder / "adapter", "--for", "sglang", "--out", tmp_path / "out")
    read = subprocess.run(["sh", "-n", str(tmp_path / "out" / "request.sh")], capture_output=True, check=False)
    assert (read.returncode, read.stderr) == (0, b"")
