"""The weights of a model as they are stored: numbers as they are, or packed by a quantiser.

A packed weight is no matrix of numbers: an entry holds several of them, with scales and tables beside it, as a tensor
of another type, a tensor class, or buffers of a module that is no `torch.nn.Linear`. It is run as it is and never
trained. What has to read weights (limits, a record of layers) says that it cannot.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from promptreach.errors import UnsupportedModelError
from promptreach.quantisation import scheme_name

_OFF = 0.05
"""The share by which a projection's gradient may miss its own output; kernels in 8 bits round activations too."""


def packing_of(module: nn.Module) -> str:
    """The name of the scheme that the weights are packed by; empty where they are numbers as they are."""
    config = getattr(module.config, "quantization_config", None)
    name = "" if config is None else scheme_name(config)
    return "" if name == "gguf" else name  # transformers unpacks a GGUF file when it opens it


def plain_parts(tensor: Tensor) -> list[Tensor]:
    """The tensors that a tensor is stored as: itself, unless it is of a class that holds several."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in plain_parts(getattr(tensor, name))]


def is_plain(tensor: Tensor) -> bool:
    """Whether a weight is numbers as they are, in the type that is computed in."""
    return tensor.dtype.itemsize > 1 and tensor.is_floating_point() and not is_traceable_wrapper_subclass(tensor)


def stored_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that holds weights, detached, by name in the names' order; of packed ones scales and tables too."""
    if not packing_of(module):
        for name, weight in sorted(module.named_parameters()):
            yield name, weight.detach()
        return
    for name, tensor in sorted(module.state_dict().items()):
        for index, part in enumerate(plain_parts(tensor)) if isinstance(tensor, Tensor) else ():
            yield f"{name}.{index}", part


def fingerprint_of(module: nn.Module) -> str:
    """A SHA-256 of the config and of every weight's bytes; about half a second for a gigabyte."""
    # Where a model lies and which release wrote it say nothing of what it computes; and what the settings of a
    # quantiser decide is in its tensors, while they may stand here as an object.
    passing = {
        "_name_or_path",
        "architectures",
        "transformers_version",
        "_attn_implementation",
        "dtype",
        "torch_dtype",
        "quantization_config",
    }
    settings: Any = module.config
    config = {name: value for name, value in settings.to_dict().items() if name not in passing}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in stored_tensors(module):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def stored_bytes(module: nn.Module) -> int:
    """The bytes of all weights, packed ones as they lie in memory; tied ones once."""
    parts = [part for tensor in (*module.parameters(), *module.buffers()) for part in plain_parts(tensor.data)]
    return sum({part.data_ptr(): part.numel() * part.element_size() for part in parts}.values())


def projection_sizes(module: nn.Module) -> tuple[int, int] | None:
    """The sizes of the vectors that a module maps linearly, in and out; None for another module.

    Quantisers have classes of their own for what a `torch.nn.Linear` does.
    """
    sizes = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if not isinstance(sizes[0], int) or not isinstance(sizes[1], int) or list(module.children()):
        return None
    return sizes[0], sizes[1]


def matrix_entries(module: nn.Module) -> int:
    """The entries of the matrices in a packed module, counted as if they were plain."""
    found = 0
    for part in module.modules():
        if sizes := projection_sizes(part):
            found += math.prod(sizes)
        else:
            found += sum(own.numel() for own in part.parameters(recurse=False) if own.ndim > 1)
    return found


def entries_of(module: nn.Module) -> int:
    """The number of a model's weights; those of packed matrices as if they were plain."""
    if packing_of(module):
        return matrix_entries(module)
    return sum(weight.numel() for weight in module.parameters())


def keep_differentiable(module: nn.Module) -> None:
    """Keep packed projections in the form that gradients pass, and their kernels from repeating themselves.

    bitsandbytes moves a 4-bit weight on a CPU, at the first input without a gradient, into an order for which it has no
    backward pass: gradients would be zero from there on, without an error.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for part in module.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            vars(part)["support_avx512bf16_for_cpu"] = False
            part.state_dict()  # puts one back that has been moved


def check_gradients(module: Any, scheme: str) -> None:
    """Refuse a packed model whose projections do not hand gradients on.

    A projection is linear, so <gradient of <f(x), y>, x> is <f(x), y> itself, up to its bias. One of each class is
    asked.

    Raises:
        UnsupportedModelError: naming the scheme and the class of the projection.
    """
    head = module.get_output_embeddings()
    keep_differentiable(module)
    kinds = {type(part): part for part in module.modules() if projection_sizes(part) and part is not head}
    for part in kinds.values():
        if not _hands_on(part, *(projection_sizes(part) or (0,))[:1]):
            raise UnsupportedModelError(
                f"{module.config.model_type} quantised by {scheme}, whose {type(part).__name__} has no gradient here",
                ("weights that a prompt can be trained through",),
                "Other versions of its kernels, or an accelerator, may have one; or open the model that it was made "
                "from.",
            )


def _hands_on(part: nn.Module, width: int) -> bool:
    like = next((tensor for tensor in (*part.parameters(), *part.buffers()) if tensor.is_floating_point()), None)
    device = next((tensor.device for tensor in (*part.parameters(), *part.buffers())), torch.device("cpu"))
    dtype = torch.float32 if like is None else like.dtype
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, width, generator=generator).to(device, dtype)
    with torch.enable_grad():
        inputs.requires_grad_()
        try:
            outputs = part(inputs)
            with torch.no_grad():
                bias = part(torch.zeros_like(inputs))
            weights = (outputs - bias).detach()
            (gradient,) = torch.autograd.grad((outputs * weights).sum(), inputs)
        except RuntimeError:
            return False
    passed, expected = float((gradient * inputs.detach()).sum()), float((weights * weights).sum())
    return abs(passed - expected) <= _OFF * expected
