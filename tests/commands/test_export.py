"""Files for servers, read back by readers of their own: what comes out is what PEFT computes, to float32 rounding."""

import base64
import io
import json
import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.command_line import saved_model, saved_prompt
from helpers.families import small_module
from helpers.models import VOCABULARY, tiny_tokenizer
from helpers.tasks import prefix_like
from helpers.tolerances import assert_close
from promptreach.commands.export import DTYPES, export_adapter
from promptreach.commands.serving import SERVERS, served_kinds
from promptreach.errors import AdapterError, InputError, OutputError
from promptreach.hf import OpenModel, open_model, save_adapter
from promptreach.prompt import LowRankUpdate, SoftPrompt

TEXT = "the cat is good"
PROMPT_SERVERS = [server for server in SERVERS if "prompt" in served_kinds(server)]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and a prompt of it: rotary positions, learned ones, and embeddings that the model scales."""
    base = tmp_path_factory.mktemp("export")
    if request.param == "gemma":
        small_module("gemma", vocab_size=VOCABULARY).save_pretrained(base / "model")
        tiny_tokenizer().save_pretrained(base / "model")
        saved_prompt(base / "adapter", open_model(base / "model"), 5)
    else:
        saved_prompt(base / "adapter", saved_model(base / "model", request.param), 5)
    return base / "model", base / "adapter"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[OpenModel, Path]:
    base = tmp_path_factory.mktemp("export")
    model = saved_model(base / "model")
    saved_prompt(base / "adapter", model, 5)
    return model, base


def ids_of(model: Path, text: str = TEXT) -> Tensor:
    return AutoTokenizer.from_pretrained(model)(text, return_tensors="pt").input_ids


@torch.no_grad()
def by_peft(model: Path, adapter: Path, text: str = TEXT) -> Tensor:
    """The logits behind prompt and text as transformers and PEFT compute them."""
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return PeftModel.from_pretrained(base, adapter).eval()(ids_of(model, text)).logits[0, -1]


@torch.no_grad()
def by_embeddings(model: Path, embeddings: Tensor) -> Tensor:
    """The logits behind some embeddings, as a server computes them that takes embeddings."""
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    return base(inputs_embeds=embeddings[None]).logits[0, -1]


@torch.no_grad()
def text_embeddings(model: Path, text: str = TEXT) -> Tensor:
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return base.get_input_embeddings()(ids_of(model, text))[0]


def from_base64(blob: str) -> Tensor:
    """As vLLM reads it."""
    return torch.load(io.BytesIO(base64.b64decode(blob, validate=True)), weights_only=True, map_location="cpu")


def read_vllm(out: Path, model: Path) -> list[Tensor]:
    body, chat = (json.loads((out / f"{name}.json").read_text()) for name in ("completion", "chat"))
    part, words = chat["messages"][0]["content"]
    assert (part["type"], words) == ("prompt_embeds", {"type": "text", "text": TEXT})
    assert part["data"] == (out / "prompt_embeds.b64").read_text()
    alone = torch.load(out / "prompt_embeds.pt", weights_only=True)
    assert torch.equal(alone, from_base64(part["data"]))
    return [from_base64(body["prompt_embeds"]), torch.cat([alone, text_embeddings(model)])]


def read_sglang(out: Path, model: Path) -> list[Tensor]:
    whole = torch.tensor(json.loads((out / "generate.json").read_text())["input_embeds"])
    alone = torch.tensor(json.loads((out / "input_embeds.json").read_text()))
    return [whole, torch.cat([alone, text_embeddings(model)])]


def read_tensorrt(out: Path, model: Path) -> list[Tensor]:
    """As p-tuning engines do it: an id beyond the vocabulary is a row of the table."""
    (table,) = torch.from_numpy(np.load(out / "embedding_table.npy"))
    names = runpy.run_path(str(out / "request.py"))
    ids = torch.tensor(names["token_ids"](TEXT))
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    size = base.config.vocab_size
    assert bool((ids[: len(table)] >= size).all())
    with torch.no_grad():
        known = base.get_input_embeddings()(ids.clamp(max=size - 1))
    return [torch.where((ids >= size)[:, None], table[(ids - size).clamp(min=0)], known)]


def read_llama(out: Path, model: Path) -> list[Tensor]:
    floats = np.frombuffer((out / "prompt.f32").read_bytes(), dtype="<f4").copy()
    text = text_embeddings(model)
    return [torch.cat([torch.from_numpy(floats).view(-1, text.shape[1]), text])]


READERS: dict[str, Callable[[Path, Path], list[Tensor]]] = {
    "vllm": read_vllm,
    "sglang": read_sglang,
    "tensorrt-llm": read_tensorrt,
    "llama.cpp": read_llama,
}


@pytest.mark.parametrize("server", PROMPT_SERVERS)
def test_what_a_server_reads_gives_the_logits_of_peft(server: str, folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, adapter = folders
    finding = export_adapter(adapter, server, tmp_path / "out", text=TEXT)
    assert (finding.values["tokens"], finding.values["kind"]) == (5, "prompt")
    expected = by_peft(model, adapter)
    for embeddings in READERS[server](tmp_path / "out", model):
        assert embeddings.dtype == torch.float32
        assert_close(by_embeddings(model, embeddings), expected, "served logits")
    scaled = "scales its embeddings" in (tmp_path / "out" / "README.md").read_text()
    assert scaled == ("gemma" in json.loads((model / "config.json").read_text())["model_type"])


def test_a_prompt_that_is_another_would_be_seen(folders: tuple[Path, Path]) -> None:
    model, adapter = folders
    with pytest.raises(AssertionError):
        assert_close(by_embeddings(model, text_embeddings(model)), by_peft(model, adapter), "served logits")


@pytest.mark.parametrize("server", PROMPT_SERVERS)
def test_the_program_of_every_server_is_python(server: str, llama: tuple[OpenModel, Path], tmp_path: Path) -> None:
    export_adapter(llama[1] / "adapter", server, tmp_path / "out")
    text = (tmp_path / "out" / "request.py").read_text()
    compile(text, "request.py", "exec")
    assert "<" not in text.replace('"<f4"', "")  # no name was left open


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tensor_has_the_type_that_was_asked_for(dtype: str, llama: tuple[OpenModel, Path], tmp_path: Path) -> None:
    export_adapter(llama[1] / "adapter", "vllm", tmp_path / "out", dtype=dtype)
    body = json.loads((tmp_path / "out" / "completion.json").read_text())
    assert from_base64(body["prompt_embeds"]).dtype == DTYPES[dtype]


@contextmanager
def stand_in(answer: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A server that keeps what it is asked and answers the same to everything: its address, and the requests."""
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("server", "answer", "path"),
    [
        ("vllm", {"choices": [{"text": "it said"}]}, "/v1/completions"),
        ("sglang", {"text": "it said"}, "/generate"),
    ],
)
def test_the_request_sends_prompt_and_any_text(
    server: str,
    answer: dict[str, Any],
    path: str,
    llama: tuple[OpenModel, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, adapter, text = llama[1] / "model", llama[1] / "adapter", "a dog is bad"
    export_adapter(adapter, server, tmp_path / "out", text=TEXT)
    with stand_in(answer) as (address, asked):
        monkeypatch.setattr(sys, "argv", ["request.py", text, address])
        runpy.run_path(str(tmp_path / "out" / "request.py"), run_name="__main__")
    assert capsys.readouterr().out == "it said\n"
    ((where, body),) = asked
    assert where == path
    sent = from_base64(body["prompt_embeds"]) if server == "vllm" else torch.tensor(body["input_embeds"])
    assert_close(by_embeddings(model, sent), by_peft(model, adapter, text), "served logits")


@pytest.mark.parametrize("server", SERVERS)
def test_a_prefix_is_refused_with_what_is_taken(server: str, llama: tuple[OpenModel, Path], tmp_path: Path) -> None:
    save_adapter(tmp_path / "prefix", llama[0], prefix_like(llama[0], 4))
    with pytest.raises(AdapterError) as caught:
        export_adapter(tmp_path / "prefix", server, tmp_path / "out")
    (fault,) = caught.value.faults
    assert f"which {SERVERS[server]} does not take" in fault.seen
    assert fault.expected.endswith(" or ".join(served_kinds(server)))
    assert "--serve-with" in fault.remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("server", SERVERS)
def test_a_lora_update_is_served_as_it_lies_there(server: str, llama: tuple[OpenModel, Path], tmp_path: Path) -> None:
    with llama[0].low_rank(2, 4.0, seed=0) as attached:
        save_adapter(tmp_path / "update", llama[0], LowRankUpdate(2, 4.0, attached.state()))
    finding = export_adapter(tmp_path / "update", server, tmp_path / "out", text=TEXT)
    page = (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path / "update") in page
    for name in finding.values["files"]:
        text = (tmp_path / "out" / name).read_text()
        if name.endswith(".json"):
            assert TEXT in json.dumps(json.loads(text))
        elif name.endswith(".py"):
            compile(text, name, "exec")
            assert str(tmp_path / "update") in text
    assert all(f"`{name}`: " in page for name in finding.values["files"])


def test_all_wrong_names_are_told_at_once(llama: tuple[OpenModel, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        export_adapter(llama[1] / "adapter", "tgi", tmp_path / "out", dtype="int8")
    assert [fault.where for fault in caught.value.faults] == ["server", "dtype"]


def test_an_encoder_writes_no_text(tmp_path: Path) -> None:
    saved_prompt(tmp_path / "adapter", saved_model(tmp_path / "model", "bert"))
    with pytest.raises(InputError, match="a model that writes text"):
        export_adapter(tmp_path / "adapter", "vllm", tmp_path / "out")


def test_a_base_that_is_not_here_is_asked_for(llama: tuple[OpenModel, Path], tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", llama[0], SoftPrompt(torch.ones(2, llama[0].hidden_size)))
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "nobody/has-this"}))
    with pytest.raises(AdapterError, match="Name it with --model"):
        export_adapter(tmp_path / "adapter", "vllm", tmp_path / "out")
    export_adapter(tmp_path / "adapter", "vllm", tmp_path / "out", model=str(llama[1] / "model"))
    assert (tmp_path / "out" / "prompt_embeds.b64").is_file()


def test_a_folder_with_something_else_stays_and_an_export_is_replaced(
    llama: tuple[OpenModel, Path], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# Mine")
    with pytest.raises(OutputError):
        export_adapter(llama[1] / "adapter", "vllm", tmp_path / "mine")
    export_adapter(llama[1] / "adapter", "vllm", tmp_path / "out")
    export_adapter(llama[1] / "adapter", "llama.cpp", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "prompt.f32", "request.py"]


def test_a_head_is_told_to_be_unknown_to_servers(llama: tuple[OpenModel, Path], tmp_path: Path) -> None:
    head = {"weight": torch.ones(2, llama[0].hidden_size), "bias": torch.zeros(2)}
    prompt = SoftPrompt(torch.ones(2, llama[0].hidden_size))
    save_adapter(tmp_path / "adapter", llama[0], prompt, readout=(head, {"labels": ["a", "b"], "pooling": "mean"}))
    finding = export_adapter(tmp_path / "adapter", "vllm", tmp_path / "out")
    assert "gives no labels" in finding.blocks[-1].text  # type: ignore[union-attr]
    assert "no label" in (tmp_path / "out" / "README.md").read_text()
