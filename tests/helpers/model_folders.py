"""Tiny models in other forms than a folder of their own: a GGUF file, and the text part of a larger model."""

from pathlib import Path

import gguf
import numpy as np
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from helpers.families import small_config
from helpers.models import tiny_config, tiny_tokenizer


def write_gguf(path: Path, architecture: str = "llama") -> Path:
    """A tiny Llama as a GGUF file with a byte-pair vocabulary."""
    config = tiny_config("llama")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*(chr(ord("!") + i) for i in range(config.vocab_size - 1)), '!"'])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(['! "'])
    generator = np.random.default_rng(0)
    shapes = {"token_embd": (40, 32), "output_norm": (32,)}
    for i in range(2):
        shapes |= {f"blk.{i}.{name}": (32,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{i}.{name}": (32, 32) for name in ("attn_q", "attn_output")}
        shapes |= {f"blk.{i}.{name}": (16, 32) for name in ("attn_k", "attn_v")}
        shapes |= {f"blk.{i}.ffn_gate": (48, 32), f"blk.{i}.ffn_up": (48, 32), f"blk.{i}.ffn_down": (32, 48)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", generator.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_composite(folder: Path, kind: str, text: str) -> PreTrainedModel:
    """A tiny model of images and text in a folder, with a tokenizer; its part for text is a `text`."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    vision = {**sizes, "image_size": 28, "patch_size": 14}
    inner = {name: value for name, value in small_config(text).to_dict().items() if name != "architectures"}
    extra = {"mm_tokens_per_image": 4} if kind == "gemma3" else {}
    config = AutoConfig.for_model(kind, text_config=inner, vision_config=vision, **extra)
    whole = AutoModelForImageTextToText.from_config(config).eval()
    whole.save_pretrained(folder)
    tiny_tokenizer("llama").save_pretrained(folder)
    return whole
