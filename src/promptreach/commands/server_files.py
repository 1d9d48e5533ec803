"""The files of an export: the numbers in the form that a server reads, and the page that says what each is for.

`torch.save` writes the tensor for vLLM, because that is what vLLM asks for; it and the request here read it with
``weights_only=True``, so that nothing in it can run. Everything else is JSON, a NumPy array or bare numbers.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from promptreach.commands.opening import place_of
from promptreach.commands.server_requests import (
    LLAMA_REQUEST,
    SGLANG_REQUEST,
    TENSORRT_REQUEST,
    TENSORRT_UPDATE,
    VLLM_REQUEST,
    curl,
    filled,
)
from promptreach.commands.serving import READ_IN, SERVERS, Serving

ANSWER: dict[str, object] = {"max_tokens": 32, "temperature": 0}
"""The length and the greediness of the example answers."""


@dataclass(frozen=True, eq=False)
class Export:
    """All that the files for a server are made of.

    Attributes:
        server: its key in `SERVERS`.
        row: what the table of servers says of it and this kind of adapter.
        adapter: the folder.
        base, revision: the base model, as others find it.
        vocab_size: rows of the base's vocabulary.
        scaled: whether the base multiplies its embeddings, so that what its layers read are no rows of its weights.
        prompt: the virtual tokens (tokens, hidden) in float32 as the first layer reads them; None for a LoRA update.
        content: the embeddings of the example text (tokens, hidden), likewise.
        rank: of a LoRA update, else 0.
        text: of the example.
        dtype: of the tensors for servers that know several.
        head: whether a classifier's head lies beside the adapter.
    """

    server: str
    row: Serving
    adapter: Path
    base: str
    revision: str | None
    vocab_size: int
    scaled: bool
    prompt: Tensor | None
    content: Tensor
    rank: int
    text: str
    dtype: torch.dtype
    head: bool

    @property
    def virtual(self) -> Tensor:
        """The virtual tokens of a prompt."""
        assert self.prompt is not None
        return self.prompt

    @property
    def joined(self) -> Tensor:
        """Prompt and example text as one sequence, where PEFT puts the prompt: in front of everything."""
        return torch.cat([self.virtual, self.content])


def files_for(made: Export) -> dict[str, bytes]:
    """The files for a server by name: numbers where it wants them in another form, and requests."""
    if made.prompt is None:
        return _update_files(made)
    return _PROMPT_FILES[made.server](made)


def saved_tensor(tensor: Tensor) -> bytes:
    """A tensor as `torch.save` writes it."""
    buffer = io.BytesIO()
    torch.save(tensor.contiguous(), buffer)
    return buffer.getvalue()


def _vllm(made: Export) -> dict[str, bytes]:
    alone, whole = (saved_tensor(tensor.to(made.dtype)) for tensor in (made.virtual, made.joined))
    blob = base64.b64encode(alone)
    part = [{"type": "prompt_embeds", "data": blob.decode()}, {"type": "text", "text": made.text}]
    chat = {"model": made.base, "messages": [{"role": "user", "content": part}], **ANSWER}
    completion = {"model": made.base, "prompt_embeds": base64.b64encode(whole).decode(), **ANSWER}
    return {
        "prompt_embeds.pt": alone,
        "prompt_embeds.b64": blob,
        "completion.json": _json(completion),
        "chat.json": _json(chat),
        "request.sh": curl({"/v1/completions": "completion.json", "/v1/chat/completions": "chat.json"}, 8000),
        "request.py": _filled(VLLM_REQUEST, made),
    }


def _sglang(made: Export) -> dict[str, bytes]:
    parameters = {"max_new_tokens": ANSWER["max_tokens"], "temperature": ANSWER["temperature"]}
    # A float32 is a float64, which JSON writes so that it is read back to the last bit.
    return {
        "input_embeds.json": _json(made.virtual.tolist()),
        "generate.json": _json({"input_embeds": made.joined.tolist(), "sampling_params": parameters}),
        "request.sh": curl({"/generate": "generate.json"}, 30000),
        "request.py": _filled(SGLANG_REQUEST, made),
    }


def _tensorrt(made: Export) -> dict[str, bytes]:
    table = io.BytesIO()
    np.save(table, made.virtual[None].numpy().astype("<f4"))  # NumPy has no bfloat16: the request makes it of these
    return {"embedding_table.npy": table.getvalue(), "request.py": _filled(TENSORRT_REQUEST, made)}


def _llama(made: Export) -> dict[str, bytes]:
    return {"prompt.f32": made.virtual.numpy().astype("<f4").tobytes(), "request.py": _filled(LLAMA_REQUEST, made)}


_PROMPT_FILES: Mapping[str, Callable[[Export], dict[str, bytes]]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tensorrt-llm": _tensorrt,
    "llama.cpp": _llama,
}


def _update_files(made: Export) -> dict[str, bytes]:
    """The request for a LoRA update, whose folder the servers read themselves."""
    name = made.adapter.name
    completion = {"model": name, "prompt": made.text, **ANSWER}
    if made.server == "vllm":
        return {"completion.json": _json(completion), "request.sh": curl({"/v1/completions": "completion.json"}, 8000)}
    if made.server == "sglang":
        parameters = {"max_new_tokens": ANSWER["max_tokens"], "temperature": ANSWER["temperature"]}
        body: dict[str, object] = {"text": made.text, "lora_path": name, "sampling_params": parameters}
        return {"generate.json": _json(body), "request.sh": curl({"/generate": "generate.json"}, 30000)}
    if made.server == "llama.cpp":
        body = {"prompt": made.text, "n_predict": ANSWER["max_tokens"], "temperature": ANSWER["temperature"]}
        return {"completion.json": _json(body), "request.sh": curl({"/completion": "completion.json"}, 8080)}
    if made.server == "transformers":
        said = {"model": str(made.adapter), "messages": [{"role": "user", "content": made.text}], **ANSWER}
        return {"chat.json": _json(said), "request.sh": curl({"/v1/chat/completions": "chat.json"}, 8000)}
    names = {"BASE": repr(made.base), "ADAPTER": repr(str(made.adapter)), "RANK": str(made.rank)}
    return {"request.py": filled(TENSORRT_UPDATE, **names)}


def start_of(made: Export) -> str:
    """The command that starts the server for this adapter."""
    base, name, folder = made.base, made.adapter.name, made.adapter
    dtype, tokens = str(made.dtype).removeprefix("torch."), 0 if made.prompt is None else len(made.prompt)
    if made.prompt is not None:
        return {
            "vllm": f"vllm serve {base} --enable-prompt-embeds --dtype {dtype}",
            "sglang": f"python -m sglang.launch_server --model-path {base} --disable-radix-cache "
            "--chunked-prefill-size -1",
            "tensorrt-llm": f"trtllm-build --checkpoint_dir CHECKPOINT --output_dir ENGINE "
            f"--max_prompt_embedding_table_size {tokens}",
            "llama.cpp": 'python request.py MODEL.gguf "a text"',
        }[made.server]
    return {
        "vllm": f"vllm serve {base} --enable-lora --lora-modules {name}={folder}",
        "sglang": f"python -m sglang.launch_server --model-path {base} --enable-lora --lora-paths {name}={folder}",
        "tensorrt-llm": 'python request.py "a text"',
        "llama.cpp": f"python convert_lora_to_gguf.py {folder} --base {base} --outfile update.gguf\n"
        "llama-server -m MODEL.gguf --lora update.gguf",
        "transformers": "transformers serve",
    }[made.server]


_CONTENTS = {
    "prompt_embeds.pt": "the virtual tokens as a tensor (tokens, hidden); torch.save wrote it, since vLLM reads that",
    "prompt_embeds.b64": "the same in base64: `data` of a chat's prompt_embeds part",
    "completion.json": "a request for a completion",
    "chat.json": "a request of a chat",
    "input_embeds.json": "the virtual tokens as lists of numbers",
    "generate.json": "a request to /generate",
    "embedding_table.npy": "the virtual tokens as a float32 array (1, tokens, hidden), also for --prompt_table_path",
    "prompt.f32": "the virtual tokens as bare little-endian float32, row after row: what llama_batch.embd points to",
    "request.sh": "curl with these requests",
    "request.py": 'the same for any text: python request.py "a text"',
}


def folder_page(made: Export, files: Mapping[str, bytes]) -> str:
    """The page of an export: how to start the server, what lies here, and how near its numbers come."""
    name, revision = SERVERS[made.server], f", revision `{made.revision}`" if made.revision else ""
    kind = "LoRA update" if made.prompt is None else f"prompt of {len(made.prompt)} virtual tokens"
    known = f"RUN: {made.row.tried}" if made.row.tried else "The server was not run here."
    lines = [
        f"# For {name}",
        "",
        f"A {kind} for `{made.base}`{revision}, from `{made.adapter}`.",
        "",
        "```",
        *start_of(made).splitlines(),
        "```",
        "",
        *(f"- `{file}`: {_CONTENTS[file]}" for file in files),
        "",
        *_how_near(made),
        f"What {name} takes was READ in {READ_IN}: {made.row.source}. {known}",
        "",
    ]
    return "\n".join(lines)


def _how_near(made: Export) -> list[str]:
    lines = []
    if made.prompt is not None:
        lines += [
            "The numbers are what the base's first layer reads, so that logits are those of transformers and PEFT "
            "up to rounding, with the prompt in front of everything and the text tokenised as there.",
            "",
        ]
    if made.prompt is not None and made.server == "vllm":
        lines += [
            "In `chat.json` the chat template puts the prompt where that part of the message stands: behind the "
            "template's own opening, where it was not trained. Completions have it in front.",
            "",
        ]
    if made.scaled and made.prompt is not None:
        lines += ["This base scales its embeddings; whether the server does so once more was not looked at.", ""]
    if made.head:
        lines += ["No server knows the classifier's head beside the adapter: what comes out is text, and no label.", ""]
    return lines


def _filled(template: str, made: Export) -> bytes:
    return filled(
        template,
        PLACE=place_of(made.base, made.revision),
        BASE=repr(made.base),
        DTYPE=str(made.dtype),
        VOCABULARY=str(made.vocab_size),
        TOKENS=str(len(made.virtual)),
        HIDDEN=str(made.virtual.shape[1]),
    )


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
