"""The device and the type of weights that ``auto`` stands for."""

from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from promptreach.errors import Fault

AUTO = "auto"
"""What leaves the choice to this module."""
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
"""The types of weights by name."""
_FAST_ON_CPU = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16", "svebf16"},
    torch.float16: {"avx512_fp16", "amx_fp16", "asimdhp", "fphp"},
}
"""The instructions, as Linux names them, of which a CPU needs one to multiply such numbers as fast as float32."""
CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux tells them."""


def device_for(device: str | torch.device) -> str | torch.device:
    """The device: for ``auto`` this machine's accelerator if torch finds one, else the CPU."""
    if device != AUTO:
        return device
    return torch.accelerator.current_accelerator() or "cpu" if torch.accelerator.is_available() else "cpu"


def dtype_faults(dtype: Any) -> list[Fault]:
    """Faults of a type of weights, as an argument."""
    if dtype == AUTO or dtype in DTYPES.values() or (isinstance(dtype, str) and dtype in DTYPES):
        return []
    return [Fault("dtype", repr(dtype), f"one of {', '.join((AUTO, *DTYPES))}")]


def computing_faults(dtype: torch.dtype, device: str | torch.device) -> list[Fault]:
    """The fault of a type of weights that a device does not compute in, found by a product of four numbers on it."""
    try:
        square = torch.ones(2, 2, dtype=dtype, device=device)
        (square @ square).sum().item()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        seen = f"{str(dtype).removeprefix('torch.')} on {str(device)!r} ({reason})"
        return [Fault("dtype", seen, "a type that the device computes in", "every device computes in float32")]
    return []


def dtype_for(
    dtype: torch.dtype | str, config: PretrainedConfig, device: str | torch.device
) -> tuple[torch.dtype, str]:
    """The type of weights, and for ``auto`` why it is that: the checkpoint's own, as its config has it.

    float32 takes the place of a type that the config does not tell, and on a CPU that of one for which the CPU has no
    instructions: it is many times slower there. Which it is depends on the checkpoint and the CPU's model alone.
    """
    if dtype != AUTO:
        return (DTYPES[dtype] if isinstance(dtype, str) else dtype), ""
    named = str(getattr(config, "dtype", None)).removeprefix("torch.")
    own = DTYPES.get(named)
    if own is None:
        return torch.float32, "auto: the checkpoint names no other"
    if torch.device(device).type == "cpu" and own in _FAST_ON_CPU and not _FAST_ON_CPU[own] & _cpu_flags():
        return torch.float32, f"auto: this CPU is slow at the checkpoint's {named}"
    return own, "auto: the checkpoint's own"


def _cpu_flags() -> set[str]:
    """The instruction sets of this CPU, as far as the system names them."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
