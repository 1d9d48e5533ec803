"""``promptreach compile``: what it prints, saves and refuses, and its exit status."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModel
from typer.testing import CliRunner, Result

from promptreach import Certificate, cli
from promptreach.commands.compile import parse_options
from promptreach.compiler import CONSTRUCTIONS
from promptreach.compiler.gallery import GALLERY
from promptreach.errors import InputError
from promptreach.hf import load_compiled_prompt

MODULE = """
import numpy as np
from promptreach.compiler import TargetFunction

def wave(x):
    return 0.5 + 0.2 * np.sin(4 * x)

declared = TargetFunction(wave, 1, 1, 0.8, name="declared")
number = 7
calls = 0

def changes_its_mind(x):
    global calls
    calls += 1
    return np.full_like(x, 0.2 if calls < 400 else 0.9)

def steep(x):
    return np.clip(9 * x, 0, 1)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command in a folder of its own, where ``compile_cases.py`` lies."""
    (tmp_path / "compile_cases.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "compile_cases", raising=False)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["compile", *arguments], env={"COLUMNS": "200"})

    return invoke


def test_a_function_of_the_gallery_is_compiled_tried_drawn_and_saved(run, tmp_path):
    ran = run("sort", "--tokens", "2", "--tol", "0.2", "--points", "500", "--out", "out")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.startswith("programmable: dim 1, tokens 2, Lipschitz 1, tol 0.2")  # the plan comes first
    assert "The error on fresh points is" in ran.stdout
    assert ran.stderr == ""
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "certificate.json",
        "compiled.json",
        "model",
        "page.html",
        "prompt",
    ]
    record = json.loads((out / "compiled.json").read_text())
    assert record["measured"]["value"] <= record["certificate"]["value"] <= 0.2
    assert record["reloaded_difference"] == 0
    certificate = Certificate.from_dict(json.loads((out / "certificate.json").read_text()))
    assert certificate.recheck()
    assert certificate.value == record["certificate"]["value"]
    # What lies in the folders plays the function.
    tuned = load_compiled_prompt(AutoModel.from_pretrained(record["files"]["model"]), record["files"]["prompt"])
    x = torch.rand(300, 2, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    errors = (tuned(x).values.detach() - x.sort(dim=1).values).flatten(1).norm(dim=1)
    assert float(errors.square().mean().sqrt()) <= 0.2


def test_the_page_holds_target_and_output_and_refers_to_nothing_outside(run, tmp_path):
    assert run("sort", "--tokens", "2", "--tol", "0.3", "--points", "100", "--out", "out", "--quiet").exit_code == 0
    page = (tmp_path / "out" / "page.html").read_text()
    for text in ("<title>sort(0), by prompt alone</title>", "target", "output", "MEASURED", "PROVED"):
        assert text in page
    assert "steeper than" not in page
    assert page.count("<svg") >= 6  # a curve for each entry of the output, and four maps
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []


def test_a_function_of_ones_own_is_found_from_the_current_folder(run):
    ran = run("compile_cases:wave", "--tol", "0.1", "--points", "200", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["function"] == "wave"
    assert ran.stderr == ""


def test_a_declared_target_brings_its_own_constant(run):
    ran = run("compile_cases:declared", "--tol", "0.1", "--points", "200", "--json")
    assert "<= 0.8 |X - X'|" in json.loads(ran.stdout)["certificate"]["claim"]


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_every_construction_can_be_asked_for(run, construction):
    options = ["--option", "curvature=4"] if construction == "multilinear" else []
    ran = run("reverse", "--tol", "0.3", "--construction", construction, "--points", "200", "--json", *options)
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["plan"]["construction"] == construction


def test_the_same_seed_gives_the_same_record(run):
    def record():
        found = json.loads(run("ridge", "--tol", "0.2", "--points", "300", "--seed", "3", "--json").stdout)
        return {name: value for name, value in found.items() if name != "environment"}

    assert record() == record()


def test_a_function_that_breaks_its_word_exits_with_1(run):
    ran = run("compile_cases:changes_its_mind", "--lipschitz", "0.5", "--tol", "0.1", "--points", "2000")
    assert ran.exit_code == 1
    assert "steeper than its declared Lipschitz constant" in " ".join(ran.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["no_such_module:f"], "no module named 'no_such_module'"),
        (["compile_cases:nothing"], "has no function 'nothing'"),
        (["compile_cases:number"], "has no function 'number'"),
        (["compile_cases:steep"], "declared Lipschitz constant 1"),
        (["compile_cases:wave", "--dim", "0"], "dim: 0"),
        (["compile_cases:declared", "--dim", "2"], "made for dim 1"),
        (["nonsense"], "package.module:function"),
        (["sort", "--tol", "0"], "tol: 0"),
        (["sort", "--tol", "-1", "--lipschitz", "nan"], "lipschitz: nan"),
        (["sort", "--points", "0"], "--points: 0"),
        (["sort", "--construction", "magic"], "programmable"),
        (["sort", "--option", "depth=3"], "expected options of programmable"),
        (["sort", "--option", "depth"], "NAME=VALUE"),
        (["sort", "--memory", "0"], "memory: 0"),
        (["sort", "--memory", "nan"], "memory: nan"),
        (["sort", "--memory", "inf"], "memory: inf"),
        (["sort", "--dim", "4", "--tokens", "4", "--tol", "0.01"], "10^"),
        (["sort", "--float32", "--tol", "1e-7"], ""),
    ],
)
def test_wrong_calls_are_named_exit_with_2_and_write_nothing(run, tmp_path, arguments, named):
    ran = run(*arguments)
    assert ran.exit_code == 2, ran.output
    assert ran.stderr.startswith("promptreach: ")
    assert named in ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("__")) == ["compile_cases.py"]


def test_a_module_that_cannot_be_imported_is_named(run, tmp_path):
    (tmp_path / "compile_broken.py").write_text("raise RuntimeError('not today')")
    ran = run("compile_broken:f")
    assert ran.exit_code == 2
    assert "importing it raised RuntimeError: not today" in ran.stderr


def test_a_folder_with_something_else_is_left_alone_and_an_earlier_result_is_replaced(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    arguments = ("reverse", "--tol", "0.4", "--points", "50", "--out", "out")
    assert run(*arguments).exit_code == 2
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    assert run(*arguments).exit_code == 0
    first = json.loads((out / "compiled.json").read_text())
    assert run("reverse", "--tol", "0.3", "--points", "50", "--out", "out").exit_code == 0
    assert json.loads((out / "compiled.json").read_text())["tol"] != first["tol"]


def test_help_names_the_gallery_and_the_constructions(run):
    text = run("--help").stdout
    assert [name for name in (*GALLERY, *CONSTRUCTIONS) if name not in text] == []


def test_options_are_read_as_numbers_where_they_are_numbers():
    assert parse_options(["rank=2", "curvature=4.5", "form=narrow"]) == {"rank": 2, "curvature": 4.5, "form": "narrow"}
    with pytest.raises(InputError) as refused:
        parse_options(["rank", "=3", "form="])
    assert len(refused.value.faults) == 2  # "=3" names no option; the construction says so
