"""A small sample of every record that the library writes for other programs, made by the library on tiny random models.

    python tests/helpers/release_samples.py      writes tests/release/golden anew: once for every version of a format

The samples that are committed were written by the version that they name. Today's readers have to read them, and
today's writers have to write everything that is in them.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1]))

from helpers.models import WORDS, tiny_model
from helpers.sample_report import sample_result
from helpers.tasks import labelled
from promptreach import cli
from promptreach.certificate import CERTIFICATE_VERSION, Certificate
from promptreach.claims import read_claim, run_claim, write_claim
from promptreach.claims.claim import SCHEMA_VERSION as CLAIM_VERSION
from promptreach.commands.compile import RECORD_VERSION
from promptreach.doctor import SCHEMA_VERSION as DOCTOR_VERSION
from promptreach.doctor import examine
from promptreach.formats import read_record
from promptreach.hf import load_readout, open_model, save_adapter
from promptreach.hf.adapters.folders import READOUT_VERSION
from promptreach.prompt import SoftPrompt
from promptreach.report.findings import FINDING_VERSION
from promptreach.report.html import write_report
from promptreach.report.json import read_finding, read_report
from promptreach.report.result import SCHEMA_VERSION as REPORT_VERSION
from promptreach.training.runs import RUN_VERSION, RunStore, read_run
from promptreach.tuning import fit

GOLDEN = Path(__file__).parents[1] / "release" / "golden"


@dataclass(frozen=True)
class Format:
    """One kind of record.

    Attributes:
        version: that this release writes.
        write: makes a sample, and what has to lie beside it, in the current folder.
        read: what today's reader makes of a file; raises for one that it does not know.
        file: what the record is called there.
        key: under which the version stands.
    """

    version: int
    write: Callable[[], object]
    read: Callable[[Path], Any]
    file: str = "record.json"
    key: str = "schema_version"


def printed(*arguments: object) -> Callable[[], None]:
    """Writes what a command prints with ``--json``, run on a tiny model, an adapter for it and a text."""

    def write() -> None:
        model = tiny_model("llama")
        model.release().save_pretrained("model")
        model.tokenizer.save_pretrained("model")
        opened = open_model("model")
        save_adapter("adapter", opened, SoftPrompt(torch.randn(5, 32, generator=torch.Generator().manual_seed(0))))
        Path("text.txt").write_text(" ".join(WORDS * 12), encoding="utf-8")
        ran = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"])
        assert ran.exit_code in (0, 3), ran.output
        Path("record.json").write_text(ran.stdout, encoding="utf-8")

    return write


def write_compiled() -> None:
    arguments = ["compile", "reverse", "--tol", "0.4", "--points", "50", "--out", "compiled"]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    for path in Path("compiled").glob("*.json"):
        path.rename(path.name)


def write_examination() -> None:
    def version_of(name: str) -> str | None:
        return None if name == "peft" else "9999.0"

    found = examine(version_of, lambda name: SimpleNamespace(is_registered=lambda: True))
    Path("record.json").write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")


def write_run() -> None:
    options: dict[str, Any] = {"learning_rate": 0.05, "steps": 2, "tokens": 2, "pooling": "mean", "quiet": True}
    run = fit(tiny_model("bert"), labelled(), "prompt", **options)
    RunStore(Path.cwd().parent).put(Path.cwd().name, run)  # where a run lies is part of its digest


def write_readout() -> None:
    head = {"weight": torch.ones(2, 32), "bias": torch.zeros(2)}
    about = {"labels": ["bad", "good"], "pooling": "mean"}
    save_adapter("adapter", tiny_model("bert"), SoftPrompt(torch.ones(1, 32)), readout=(head, about))
    for path in Path("adapter").glob("readout.*"):
        path.rename(path.name)


def read_certificate(path: Path) -> Certificate:
    return Certificate.from_dict(json.loads(path.read_text(encoding="utf-8")))


FORMATS = {
    "report": Format(
        REPORT_VERSION,
        lambda: write_report(sample_result(num_layers=2, num_heads=2), Path()),
        read_report,
        "report.json",
    ),
    "limits": Format(FINDING_VERSION, printed("limits", "model", "--tokens", 4), read_finding),
    "attend": Format(FINDING_VERSION, printed("attend", "model", "--tokens", 8), read_finding),
    "shrink": Format(
        FINDING_VERSION,
        printed("shrink", "adapter", "--tokens", 3, "--steps", 2, "--text", "text.txt", "--model", "model"),
        read_finding,
    ),
    "capacity": Format(
        FINDING_VERSION,
        printed("capacity", "model", "--tokens", 1, "--text", "text.txt", "--steps", 4, "--longest", 8),
        read_finding,
    ),
    "claim": Format(CLAIM_VERSION, lambda: write_claim(run_claim("B2"), Path()), read_claim, "B2.json"),
    "compiled": Format(RECORD_VERSION, write_compiled, lambda path: read_record(path, RECORD_VERSION), "compiled.json"),
    "certificate": Format(CERTIFICATE_VERSION, write_compiled, read_certificate, "certificate.json", "version"),
    "doctor": Format(DOCTOR_VERSION, write_examination, lambda path: read_record(path, DOCTOR_VERSION)),
    "run": Format(RUN_VERSION, write_run, lambda path: read_run(path.parent), "run.json", "version"),
    "readout": Format(
        READOUT_VERSION, write_readout, lambda path: load_readout(path.parent), "readout.json", "version"
    ),
}


def main() -> None:
    """Write every golden sample anew."""
    for name, kind in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            Path(name).mkdir()
            os.chdir(name)  # a record may hold the name of its folder
            kind.write()
            record = Path(kind.file)
            (GOLDEN / name).mkdir(parents=True, exist_ok=True)
            for file in (record, *Path().glob(f"{record.stem}.safetensors")):
                (GOLDEN / name / file).write_bytes(file.read_bytes())


if __name__ == "__main__":
    main()
