"""What a result depends on besides its inputs: versions and machine, for the report."""

import importlib.metadata
import os
import platform
from typing import Any

import torch

_PACKAGES = ("promptreach", "torch", "transformers", "peft", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Versions, platform and threads, names to plain values."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    found["platform"] = platform.platform(terse=True)
    found["cores"] = os.cpu_count()
    found["threads"] = torch.get_num_threads()
    found["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found
