"""The table of servers: whole, dated and with a source for every entry."""

import json
import re
from pathlib import Path

import pytest

from promptreach.cli.export import Server
from promptreach.commands.serving import SERVERS, SERVING, served_kinds, servers_for, serving_faults, takes


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
def test_every_server_answers_for_every_kind_once(kind: str) -> None:
    servers = [row.server for row in servers_for(kind)]
    assert sorted(servers) == sorted({row.server for row in SERVING})


def test_an_unknown_kind_has_no_row() -> None:
    assert servers_for("unipelt") == []


def test_every_entry_says_how_where_and_when() -> None:
    assert all(row.how and row.source and re.fullmatch(r"20\d\d-\d\d", row.dated) for row in SERVING)


def test_the_command_line_knows_the_same_servers() -> None:
    assert {server.value for server in Server} == set(SERVERS)
    assert {row.server for row in SERVING} == set(SERVERS.values())


def test_what_a_server_takes_follows_from_the_table() -> None:
    assert served_kinds("vllm") == ("prompt", "lora")
    assert served_kinds("transformers") == ("lora",)
    assert takes("vllm", "unipelt") is None
    assert all("prefix" not in served_kinds(server) for server in SERVERS)


@pytest.mark.parametrize(
    ("server", "is_causal", "kinds", "expected"),
    [
        (None, False, ["prefix"], []),
        ("vllm", True, ["prefix", "lora"], []),
        ("vllm", True, ["prefix"], ["a method that it takes: prompt or lora"]),
        ("vllm", False, ["prefix"], ["a causal model", "a method that it takes: prompt or lora"]),
        ("tgi", True, ["lora"], ["one of vllm, sglang, llama.cpp, tensorrt-llm, transformers"]),
    ],
)
def test_all_that_a_server_cannot_do_is_told(
    server: str | None, is_causal: bool, kinds: list[str], expected: list[str]
) -> None:
    assert [fault.expected for fault in serving_faults(server, None, is_causal, kinds)] == expected


def test_what_was_run_here_is_what_its_record_says() -> None:
    record = json.loads((Path(__file__).parents[2] / "benchmarks/results/serving_llama_cpp.json").read_text("utf-8"))
    exact = record["runs"]["a random Llama of 2 layers, float32, cache in float32"]
    assert exact["with_prompt"] < 4e-6 < exact["prompt_moves"]
    tried = {row.server: row.tried for row in SERVING if row.tried}
    assert tried.keys() == {"llama.cpp"}
    assert "within 4e-6" in tried["llama.cpp"]
