"""The table of servers: whole, dated and with a source for every entry."""

import re

import pytest

from promptreach.commands.serving import SERVING, servers_for


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
def test_every_server_answers_for_every_kind_once(kind: str) -> None:
    servers = [row.server for row in servers_for(kind)]
    assert sorted(servers) == sorted({row.server for row in SERVING})


def test_an_unknown_kind_has_no_row() -> None:
    assert servers_for("unipelt") == []


def test_every_entry_says_how_where_and_when() -> None:
    assert all(row.how and row.source and re.fullmatch(r"20\d\d-\d\d", row.dated) for row in SERVING)
