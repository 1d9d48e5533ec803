"""The servers that can run a trained adapter, by kind of adapter: what each takes, and where that is said.

READ, not run here: the entries are what the projects' own pages and threads said, for causal models. The head of a
classifier lies beside an adapter and is known to no server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

READ_IN = "2026-11"
"""The month in which the entries were last compared with their sources."""


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
    """

    server: str
    kind: Literal["prompt", "prefix", "lora"]
    served: Literal["yes", "converted", "no"]
    how: str
    source: str
    dated: str = READ_IN


_NO_STATES = "no field of a request brings keys and values"
_ONLY_WEIGHTS = "it attaches adapters that change weights; a prompt or prefix takes peft.PeftModel"
_TRT_LORA = "https://nvidia.github.io/TensorRT-LLM/features/lora.html"
_TRANSFORMERS = "integrations/peft.py of transformers 5.23"

SERVING = (
    Serving(
        "vLLM",
        "prompt",
        "converted",
        "--enable-prompt-embeds, and promptreach.hf.save_prompt_embeds: in chats a prompt_embeds part beside the text, "
        "in completions prompt and content as one tensor (adapters of this kind as such were removed in 0.10)",
        "https://docs.vllm.ai/features/prompt_embeds.html, vllm pulls 40720 and 20588",
        "2026-04",
    ),
    Serving("vLLM", "prefix", "no", _NO_STATES, "vllm issue 660, closed"),
    Serving("vLLM", "lora", "yes", "--enable-lora --lora-modules NAME=DIR", "https://docs.vllm.ai/features/lora.html"),
    Serving(
        "SGLang",
        "prompt",
        "converted",
        "input_embeds of /generate: prompt and content, embedded before, as lists of numbers",
        "sglang issue 745",
        "2024-07",
    ),
    Serving("SGLang", "prefix", "no", _NO_STATES, "https://docs.sglang.io/docs/basic_usage/sampling_params.md"),
    Serving(
        "SGLang", "lora", "yes", "--enable-lora --lora-paths NAME=DIR", "https://docs.sglang.io/advanced_features/lora"
    ),
    Serving(
        "llama.cpp",
        "prompt",
        "converted",
        "llama_batch.embd, in C: prompt and content, embedded before, as floats",
        "llama.cpp issues 4885 and 9630",
    ),
    Serving("llama.cpp", "prefix", "no", "nothing makes its cache of a PEFT folder", "llama.cpp issue 9630"),
    Serving(
        "llama.cpp", "lora", "converted", "convert_lora_to_gguf.py, then --lora FILE", "llama.cpp pull 10994", "2024-12"
    ),
    Serving(
        "TensorRT-LLM",
        "prompt",
        "converted",
        "PromptTuningConfig(embedding_table=...) of a request: the table is the folder's prompt_embeddings",
        "tensorrt_llm.bindings.executor",
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
