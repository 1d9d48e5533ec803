"""What auto stands for: the checkpoint's own type, or float32 where the CPU has no instructions for it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models import tiny_config, tiny_module, tiny_tokenizer
from promptreach.errors import InputError
from promptreach.hf import open_model
from promptreach.hf.models import placement
from promptreach.hf.models.placement import computing_faults, device_for, dtype_faults, dtype_for


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Sets what instructions the CPU is said to have."""

    def having(flags: str) -> None:
        file = tmp_path / "cpuinfo"
        file.write_text(f"processor : 0\nflags\t: fpu sse {flags}\n")
        monkeypatch.setattr(placement, "CPU_INFO", file)

    return having


@pytest.mark.parametrize(
    ("own", "flags", "expected"),
    [
        (torch.float32, "avx2", torch.float32),
        ("float64", "avx2", torch.float64),
        (torch.bfloat16, "avx2", torch.float32),
        (torch.bfloat16, "avx512_bf16", torch.bfloat16),
        ("bfloat16", "amx_bf16", torch.bfloat16),
        (torch.float16, "avx512_bf16", torch.float32),
        (torch.float16, "avx512_fp16", torch.float16),
        (None, "avx512_bf16", torch.float32),
        (torch.int8, "", torch.float32),
    ],
)
def test_auto_is_the_checkpoints_own_where_the_cpu_is_fast_at_it(own: Any, flags: str, expected: Any, cpu: Any) -> None:
    cpu(flags)
    config = tiny_config("gpt2")
    config.dtype = own
    dtype, why = dtype_for("auto", config, "cpu")
    assert dtype is expected
    assert why.startswith("auto: ")
    # An accelerator has such numbers.
    if own in (torch.bfloat16, torch.float16):
        assert dtype_for("auto", config, "cuda")[0] is own


def test_what_is_asked_for_is_taken(cpu: Any) -> None:
    cpu("")
    assert dtype_for(torch.bfloat16, tiny_config("gpt2"), "cpu") == (torch.bfloat16, "")
    assert dtype_for("float64", tiny_config("gpt2"), "cpu") == (torch.float64, "")
    assert dtype_faults("auto") == dtype_faults(torch.float16) == dtype_faults("bfloat16") == []
    assert "one of auto, float32" in str(dtype_faults("int8")[0])
    assert dtype_faults(torch.int8)


def test_auto_is_the_accelerator_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device_for("auto") == "cpu"
    assert device_for("cuda:1") == "cuda:1"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert device_for("auto") == torch.device("meta")


def test_a_type_that_the_device_does_not_compute_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_module("llama").save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    assert all(computing_faults(dtype, "cpu") == [] for dtype in placement.DTYPES.values())

    def ones(*sizes: int, **options: Any) -> Any:
        raise TypeError("the MPS framework doesn't support float64")

    monkeypatch.setattr(placement.torch, "ones", ones)
    with pytest.raises(InputError, match=r"float64 on 'cpu' .*MPS.*float32"):
        open_model(tmp_path, dtype="float64")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_accelerator_gives_what_the_processor_gives(tmp_path: Path, dtype: str) -> None:
    tiny_module("llama").save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    there, here = (open_model(tmp_path, device=device, dtype=dtype) for device in ("auto", "cpu"))
    assert there.release().device.type != "cpu"
    found, expected = (model.hidden(model.batch([[5, 6, 7, 8]])).float().cpu() for model in (there, here))
    torch.testing.assert_close(found, expected, rtol=0.05 if dtype == "bfloat16" else 1e-4, atol=1e-2)
