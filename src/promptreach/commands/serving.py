"""The servers that can run a trained adapter, by kind of adapter: what each takes, and where that is said.

The entries are what the projects' own pages, threads and sources said, for causal models. `tried` says which of
them was run here; all others are READ and no more. The head of a classifier lies beside an adapter, and no server knows
it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from promptreach.data import Completions
from promptreach.errors import Fault

READ_IN = "2026-11"
"""The month in which the entries were last compared with their sources."""

SERVERS = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llama.cpp": "llama.cpp",
    "tensorrt-llm": "TensorRT-LLM",
    "transformers": "transformers serve",
}
"""Names of the servers, by what stands for them on the command line."""
KINDS = ("prompt", "prefix", "lora")
"""The kinds of adapter that the table knows."""


@dataclass(frozen=True)
class Serving:
    """One server and one kind of adapter.

    Attributes:
        server: its name.
        kind: of the adapter.
        served: ``"yes"`` as the folder lies there, ``"converted"`` once another file is made of it, ``"no"``.
        how: what to start and what to send; for ``"no"``, what stands against it.
        source: the page, thread or file that says so.
        dated: the month of a thread, or the month in which a page was read.
        tried: what was run here, and how near it came; empty where the entry was only read.
    """

    server: str
    kind: Literal["prompt", "prefix", "lora"]
    served: Literal["yes", "converted", "no"]
    how: str
    source: str
    dated: str = READ_IN
    tried: str = ""


_WITHOUT = "leave --serve-with out, and run the adapter with transformers"
_NO_STATES = "no field of a request brings keys and values"
_ONLY_WEIGHTS = "it attaches adapters that change weights; a prompt or prefix takes peft.PeftModel"
_TRT_LORA = "https://nvidia.github.io/TensorRT-LLM/features/lora.html"
_TRANSFORMERS = "integrations/peft.py of transformers 5.23"

SERVING = (
    Serving(
        "vLLM",
        "prompt",
        "converted",
        "--enable-prompt-embeds: prompt and content as one tensor in completions, the place that PEFT trains in; in "
        "chats a prompt_embeds part, which the chat template encloses (prompt adapters as such were removed in 0.10)",
        "https://docs.vllm.ai/features/prompt_embeds.html, vllm pulls 40720 and 20588",
        "2026-04",
    ),
    Serving("vLLM", "prefix", "no", _NO_STATES, "vllm issue 660, closed"),
    Serving("vLLM", "lora", "yes", "--enable-lora --lora-modules NAME=DIR", "https://docs.vllm.ai/features/lora.html"),
    Serving(
        "SGLang",
        "prompt",
        "converted",
        "input_embeds of /generate: prompt and content, embedded before, as lists of numbers; the radix cache has to "
        "be off, and prefill in one chunk",
        "sglang issue 745, pull 9541, and GenerateReqInput of its io_struct.py",
    ),
    Serving("SGLang", "prefix", "no", _NO_STATES, "https://docs.sglang.io/docs/basic_usage/sampling_params.md"),
    Serving(
        "SGLang", "lora", "yes", "--enable-lora --lora-paths NAME=DIR", "https://docs.sglang.io/advanced_features/lora"
    ),
    Serving(
        "llama.cpp",
        "prompt",
        "converted",
        "llama_batch.embd, from C or Python: the prompt as floats, decoded before the text's tokens",
        "llama.cpp issues 4885 and 9630",
        tried="logits within 4e-6 of their spread of PEFT's, in float32 (benchmarks/results/serving_llama_cpp.json)",
    ),
    Serving("llama.cpp", "prefix", "no", "nothing makes its cache of a PEFT folder", "llama.cpp issue 9630"),
    Serving(
        "llama.cpp", "lora", "converted", "convert_lora_to_gguf.py, then --lora FILE", "llama.cpp pull 10994", "2024-12"
    ),
    Serving(
        "TensorRT-LLM",
        "prompt",
        "converted",
        "PromptTuningConfig(embedding_table=...) of a request, whose first token ids lie beyond the vocabulary; an "
        "engine built with --max_prompt_embedding_table_size",
        "tensorrt_llm.bindings.executor, and examples/run.py (--prompt_table_path)",
    ),
    Serving("TensorRT-LLM", "prefix", "no", _NO_STATES, "tensorrt_llm.bindings.executor"),
    Serving("TensorRT-LLM", "lora", "yes", "LoraConfig(lora_dir=[DIR]) of the PyTorch backend", _TRT_LORA),
    Serving("transformers serve", "prompt", "no", _ONLY_WEIGHTS, _TRANSFORMERS),
    Serving("transformers serve", "prefix", "no", _ONLY_WEIGHTS, _TRANSFORMERS),
    Serving(
        "transformers serve", "lora", "yes", "the folder as the model's name; the base is found by it", _TRANSFORMERS
    ),
)
"""All rows, server by server."""


def servers_for(kind: str) -> Sequence[Serving]:
    """The rows of `SERVING` for one kind of adapter: ``"prompt"``, ``"prefix"`` or ``"lora"``; none for another."""
    return [row for row in SERVING if row.kind == kind]


def takes(server: str, kind: str) -> Serving | None:
    """The row of one server, by its key in `SERVERS`, and one kind of adapter; None for a kind that is not known."""
    return next((row for row in servers_for(kind) if row.server == SERVERS[server]), None)


def served_kinds(server: str) -> tuple[str, ...]:
    """The kinds of adapter that a server takes, as they are or converted."""
    return tuple(kind for kind in KINDS if (row := takes(server, kind)) is not None and row.served != "no")


def serving_faults(server: str | None, data: object, is_causal: bool, methods: Collection[str] | None) -> list[Fault]:
    """The refusal of a server by name, of a task whose answers it cannot give, and of methods none of which it takes.

    Args:
        server: a key of `SERVERS`, or None where no server was asked for.
        data: the rows, or None where they could not be read.
        is_causal: whether the model writes text.
        methods: that are to be trained; None or none leaves them open.
    """
    if server is None:
        return []
    if server not in SERVERS:
        return [Fault("serve_with", repr(server), f"one of {', '.join(SERVERS)}")]
    name, faults = SERVERS[server], []
    if not is_causal:
        faults.append(Fault("serve_with", f"{name}, and a model that writes no text", "a causal model", _WITHOUT))
    elif data is not None and not isinstance(data, Completions):
        seen = f"{name}, and labels that a head reads, which no server knows"
        remedy = f"Write the labels as completions of prompts, or {_WITHOUT}"
        faults.append(Fault("serve_with", seen, "rows of prompt and completion", remedy))
    kinds = [method.removesuffix("_all") for method in methods or KINDS]
    if not set(kinds) & set(served_kinds(server)):
        seen = f"{name}, and {' and '.join(kinds)}"
        faults.append(Fault("serve_with", seen, f"a method that it takes: {' or '.join(served_kinds(server))}"))
    return faults
