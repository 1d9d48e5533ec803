"""The exported prompt in llama.cpp itself: its logits against those of transformers and PEFT.

    python benchmarks/serving/in_llama_cpp.py --out benchmarks/results/serving_llama_cpp.json

By hand: it needs llama-cpp-python, which is built from source, and the packaged SmolLM2. Two models: a random Llama in
float32, written as GGUF here, where the two computations differ in rounding alone; and SmolLM2-135M in Q4_1, which
llama.cpp multiplies in 8-bit blocks where transformers computes with the dequantised weights in float32.
"""

import argparse
import json
import runpy
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from helpers.models import smollm2_file, tiny_tokenizer
from promptreach.commands.export import export_adapter
from promptreach.hf import OpenModel, attach, load_adapter, open_model, save_adapter
from promptreach.prompt import SoftPrompt

TEXTS = ("the cat sat on the mat", "a dog is very good but the film was awful")
TOKENS = 16


def tiny_llama(folder: Path) -> OpenModel:
    """A random Llama of two layers, as transformers opens it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=40, intermediate_size=96, max_position_embeddings=128, **sizes)
    module = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    module.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return open_model(folder)


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Query or key rows in llama.cpp's order, which turns neighbours where transformers turns halves."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def as_gguf(model: OpenModel, path: Path) -> Path:
    """The same model as llama.cpp opens it, in float32 and without a vocabulary of its own."""
    config, writer = model.model.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.model.state_dict().items():
        array = tensor.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            array = interleaved(array, heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@torch.no_grad()
def by_transformers(model: OpenModel, adapter: Path | None, ids: list[int]) -> np.ndarray:
    """The logits behind prompt and text, or behind the text alone."""
    batch = model.batch([ids])
    if adapter is None:
        return model.vocabulary_logits(model.hidden(batch))[0, -1].numpy()
    with attach(model, load_adapter(adapter, model)) as joined:
        return model.vocabulary_logits(model.hidden(batch, joined))[0, -1].numpy()


@contextmanager
def float32_cache() -> Iterator[None]:
    """Keys and values in float32 and attention as plain sums, where llama.cpp would take halves and a fused kernel."""
    usual = llama_cpp.llama_context_default_params

    def exact() -> Any:
        options = usual()
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return options

    llama_cpp.llama_context_default_params = exact
    try:
        yield
    finally:
        llama_cpp.llama_context_default_params = usual


def by_llama_cpp(program: dict[str, Any], file: Path, ids: list[int], *, bare: bool = False) -> np.ndarray:
    """The same from llama.cpp, by the functions of the exported request."""
    _, context = program["opened"](str(file), 128)
    if not bare:
        program["decode"](context, 0)
    logits: np.ndarray = program["decode"](context, 0 if bare else TOKENS, ids)
    llama_cpp.llama_free(context)
    return logits


def compared(model: OpenModel, file: Path, folder: Path) -> dict[str, Any]:
    """The largest difference of logits, with and without the prompt, relative to the spread of the logits."""
    generator = torch.Generator().manual_seed(0)
    rows = model.vocabulary[torch.randint(len(model.vocabulary), (TOKENS,), generator=generator)].clone()
    scale = float(rows.std())
    prompt = SoftPrompt(rows + 0.3 * scale * torch.randn(rows.shape, generator=generator))  # no rows of the vocabulary
    save_adapter(folder / "adapter", model, prompt)
    export_adapter(folder / "adapter", "llama.cpp", folder / "out", model=model.origin.source)
    program, found = runpy.run_path(str(folder / "out" / "request.py")), []
    for text in TEXTS:
        ids = model.tokenize([text])[0]
        theirs, own = by_llama_cpp(program, file, ids), by_transformers(model, folder / "adapter", ids)
        plain, plain_own = by_llama_cpp(program, file, ids, bare=True), by_transformers(model, None, ids)
        found.append(
            {
                "with_prompt": float(np.abs(theirs - own).max() / own.std()),
                "without": float(np.abs(plain - plain_own).max() / plain_own.std()),
                "prompt_moves": float(np.abs(own - plain_own).max() / own.std()),
                "same_first_token": bool(theirs.argmax() == own.argmax()),
            }
        )
    return {"texts": len(TEXTS), "virtual_tokens": TOKENS, **{key: _worst(key, found) for key in found[0]}}


def _worst(key: str, found: list[dict[str, Any]]) -> Any:
    values = [one[key] for one in found]
    return all(values) if key == "same_first_token" else min(values) if key == "prompt_moves" else max(values)


def main(out: Path) -> None:
    """Both models; `out` is written after each."""
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = tiny_llama(folder / "tiny")
        small = as_gguf(tiny, folder / "tiny.gguf")
        with float32_cache():
            runs["a random Llama of 2 layers, float32, cache in float32"] = compared(tiny, small, folder)
        runs["the same, cache in float16 as it comes"] = compared(tiny, small, folder)
        write(out, runs)
        file = smollm2_file()
        runs[file.name] = compared(open_model(file), file, folder)
        write(out, runs)


def write(out: Path, runs: dict[str, Any]) -> None:
    """The record of what was compared so far."""
    unit = "largest difference of logits over their standard deviation"
    record = {"unit": unit, "llama_cpp_python": llama_cpp.__version__, "runs": runs}
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    main(parser.parse_args().out)
