"""Folders of tiny models with quantised weights: int8 by torchao, 4 and 8 bits by bitsandbytes, fp8 by hand."""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, TorchAoConfig

from helpers.models import tiny_module, tiny_tokenizer

PACKERS = ("torchao", "bitsandbytes-4bit", "bitsandbytes-8bit")
WIDE = {"hidden_size": 64, "intermediate_size": 64}
"""Sizes of models whose projections all have rows by the 32, as 4-bit kernels on a CPU ask for."""
_BLOCK = 16


def packer(name: str) -> Any:
    """transformers' settings of a quantiser that runs on this machine's CPU, or a skip that says what is absent."""
    package = name.partition("-")[0]
    try:
        version(package)
    except PackageNotFoundError:
        pytest.skip(f"needs the package {package}, which is not installed")
    if package == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    if name.endswith("4bit"):
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    return BitsAndBytesConfig(load_in_8bit=True)


def packed_folder(folder: Path, name: str, family: str = "llama") -> Path:
    """A tiny model as its quantiser saves it, with its tokenizer."""
    settings = packer(name)
    plain = tiny_module(family, **WIDE)
    plain.save_pretrained(folder / "plain")
    packed = type(plain).from_pretrained(folder / "plain", quantization_config=settings, device_map="cpu")
    packed.save_pretrained(folder / "packed")
    tiny_tokenizer(family).save_pretrained(folder / "packed")
    return folder / "packed"


def fp8_folder(folder: Path, family: str = "llama") -> Path:
    """A tiny model whose projections lie there in fp8, with a scale for every block of them."""
    tiny_module(family).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith("_proj.weight")]:
        rows, columns = weights[name].shape
        blocks = weights[name].view(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
        scales = blocks.abs().amax((1, 3)) / 448.0
        weights[name] = (blocks / scales[:, None, :, None]).view(rows, columns).to(torch.float8_e4m3fn)
        weights[name.replace("weight", "weight_scale_inv")] = scales
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    quantised(folder, {"quant_method": "fp8", "weight_block_size": [_BLOCK, _BLOCK], "activation_scheme": "dynamic"})
    return folder


def quantised(folder: Path, settings: Any) -> Path:
    """The folder with `settings` as its ``quantization_config``."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    return folder
