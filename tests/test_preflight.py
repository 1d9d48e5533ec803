"""A wrong argument is refused before torch is imported, in a fraction of a second of processor time."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.models import tiny_module, tiny_tokenizer
from promptreach.errors import InputError
from promptreach.preflight import config_faults, device_faults, look, place_faults


def folder_of(path: Path, **config: object) -> Path:
    tiny_module("llama").save_pretrained(path)
    tiny_tokenizer("llama").save_pretrained(path)
    written = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**written, **config}))
    return path


def test_every_fault_of_a_call_is_told_at_once(tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,kind\ngood,1\nbad,0\n")
    with pytest.raises(InputError) as refused:
        look(
            str(tmp_path / "model"),
            data=data,
            adapter=tmp_path / "adapter",
            texts=[tmp_path / "no.txt"],
            device="tpu",
        )
    seen = [str(fault) for fault in refused.value.faults]
    assert len(seen) == 5
    for part in ("label", "no.txt: no such file", "'tpu'", "adapter: nothing there", "model: nothing there"):
        assert any(part in fault for fault in seen), part


def test_a_right_call_passes(tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\ngood,1\nbad,0\n")
    look(folder_of(tmp_path / "model"), data=data, columns={"text_col": "text"}, num_layers=2)
    look("org/not-here-yet")


def test_a_config_that_rules_a_model_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quantised by gptq, without the kernels"):
        look(folder_of(tmp_path, quantization_config={"quant_method": "gptq"}))


def test_what_is_asked_of_a_config(tmp_path: Path) -> None:
    assert "1 to 2" in str(config_faults({"num_hidden_layers": 2}, num_layers=3)[0])
    masked = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    assert "every token sees every other" in str(config_faults(masked, task="causal")[0])
    assert "no decoder behind an encoder" in str(config_faults({"model_type": "llama"}, task="seq2seq")[0])
    assert config_faults({"model_type": "t5", "is_encoder_decoder": True}, task="seq2seq") == []
    assert config_faults({"text_config": {"num_hidden_layers": 4}}, num_layers=4) == []


def test_an_adapter_names_the_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/nowhere/model"}')
    with pytest.raises(InputError, match="/nowhere/model: nothing there"):
        look(adapter=tmp_path)
    (tmp_path / "adapter_config.json").write_text("[]")
    look(adapter=tmp_path)


def test_devices_and_places() -> None:
    assert device_faults("cpu") == []
    assert "nonsense" in str(device_faults("nonsense")[0])
    assert place_faults("org/name") == []
    assert place_faults("not a name!") != []


@pytest.mark.parametrize(
    ("call", "status", "seconds"),
    [
        (["--help"], 0, 1.0),
        (["audit", "/nowhere", "/nowhere.csv", "--device", "tpu"], 2, 1.5),
        (["limits", "/nowhere"], 2, 1.5),
        (["attend", "./nowhere", "--text", "/no.txt"], 2, 1.5),
        (["doctor", "/nowhere"], 2, 1.5),
        (["shrink", "/nowhere", "--tokens", "0"], 2, 1.5),
        (["capacity", "/nowhere", "--tokens", "0", "--steps", "0"], 2, 1.5),
        (["fit", "/nowhere", "/nowhere.csv", "--out", "x", "--steps", "0"], 2, 1.5),
    ],
)
def test_a_refusal_costs_nothing(call: list[str], status: int, seconds: float) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "promptreach.cli", *call], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == status, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < seconds


COMMANDS = (
    *("attend", "audit", "capacity", "claims", "compile", "doctor", "evaluate", "fit", "inspect", "limits", "predict"),
    "shrink",
)

HELP = """
import resource, sys
from typer.testing import CliRunner
from promptreach.cli import app
shown = CliRunner().invoke(app, [sys.argv[1], "--help"])
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = [name for name in ("torch", "transformers", "peft", "scipy", "sklearn", "pandas") if name in sys.modules]
print(shown.exit_code, used.ru_utime + used.ru_stime, *heavy)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, command], capture_output=True, text=True, check=True)
    code, seconds, *heavy = done.stdout.split()
    assert (code, heavy) == ("0", [])
    assert float(seconds) < 1.0
