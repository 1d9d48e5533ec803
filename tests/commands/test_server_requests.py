"""The templates of requests: names are filled in, places are those that transformers opens."""

import pytest

from promptreach.commands import server_requests
from promptreach.commands.server_requests import curl, filled


def test_names_are_filled_in() -> None:
    assert filled("f(<PLACE>, <BASE>)", PLACE="1", BASE="2") == b"f(1, 2)"


@pytest.mark.parametrize("name", [name for name in vars(server_requests) if name.isupper() and name[0] != "_"])
def test_every_template_compiles_once_it_is_filled(name: str) -> None:
    names = {"PLACE": "'x'", "BASE": "'x'", "DTYPE": "torch.float32", "VOCABULARY": "9", "TOKENS": "1", "HIDDEN": "2"}
    text = filled(getattr(server_requests, name), **names, ADAPTER="'x'", RANK="8")
    compile(text, name, "exec")
    assert b"<" not in text.replace(b'"<f4"', b"")


def test_curl_sends_every_file_to_its_path() -> None:
    lines = curl({"/a": "a.json", "/b": "b.json"}, 80).decode().splitlines()
    assert [line.rpartition("@")[2] for line in lines if line.startswith("curl")] == ["a.json", "b.json"]
