"""Memory that cannot be had: refused before it is tried where that is known, and one error however it fails."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from promptreach.errors import MemoryShortError
from promptreach.memory import available_memory, is_shortage, peak_memory, require, shortage_named, shortage_text

MUCH = 2**60


def allocate(what: str) -> object:
    match what:
        case "python":
            return bytearray(MUCH)
        case "numpy":
            return np.ones(MUCH // 8)
        case "torch":
            return torch.ones(MUCH // 8, dtype=torch.float64)
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize("what", ["python", "numpy", "torch", "cuda"])
def test_every_allocation_that_fails_is_the_same_error_with_the_estimate(what: str) -> None:
    told = r"out of memory while trying; .*estimated at 1.1e\+09 GiB"
    with pytest.raises(MemoryShortError, match=told), shortage_named("trying", MUCH):
        allocate(what)


@pytest.mark.parametrize("error", [RuntimeError("a shape"), ValueError("out of memory"), OSError("x"), KeyError()])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_shortage(error)
    with pytest.raises(type(error)), shortage_named("trying"):
        raise error


def test_what_cannot_be_had_is_refused_before_it_is_tried() -> None:
    require(1, "a byte")
    with pytest.raises(MemoryShortError, match="a model takes at least"):
        require(MUCH, "a model")
    assert "could not be had" in shortage_text("it", RuntimeError("you tried to allocate 123 bytes."))


def test_the_limit_of_the_process_counts() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
        "from promptreach.memory import available_memory; print(available_memory())"
    )
    if sys.platform == "linux":
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert 0 < int(found.stdout) <= 2**33
    assert (available_memory() or 1) > 0


def test_the_peak_does_not_fall_when_memory_is_handed_back() -> None:
    before = peak_memory()
    block = bytearray(64 * 2**20)
    block[:: 2**12] = b"x" * (2**14)
    del block
    assert peak_memory() >= before
    assert peak_memory() > 64 * 2**20
