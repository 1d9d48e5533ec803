"""The script for a machine with a GPU runs through on any: what it will do there has been rehearsed."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import gpu


def test_the_rehearsal_runs_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = gpu.RESULT.read_bytes() if gpu.RESULT.exists() else None
    found = gpu.main(["--tiny"])
    assert found["rehearsal"]
    assert len(found["steps"]) == 6
    assert all(record["seconds_a_step"] > 0 for record in found["steps"])
    compared = [record["method"] for record in found["steps"] if record["ratio"] is not None]
    assert compared == ["prompt", "prefix", "lora", "prompt", "lora"]
    assert found["audit"]
    assert (gpu.RESULT.read_bytes() if gpu.RESULT.exists() else None) == before


def test_without_a_gpu_it_does_not_begin() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="--tiny"):
        gpu.main([])
