"""The steps of ``promptreach compile``: plan, find the function, build, compile, try, save, draw."""

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from promptreach.commands.compile_findings import CompiledFunction, compiled_findings
from promptreach.compiler import TargetFunction, build_backbone, plan_backbone
from promptreach.compiler.gallery import GALLERY, gallery_function
from promptreach.compiler.target import as_target
from promptreach.compiler.verify import measure
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.files import atomic_folder
from promptreach.hf.compiled import reload_differences, save_backbone, save_compiled_prompt
from promptreach.progress import Progress
from promptreach.report.html import render_page
from promptreach.report.result import environment
from promptreach.training.arguments import least_faults

MODEL, PROMPT, CERTIFICATE, RECORD, PAGE = "model", "prompt", "certificate.json", "compiled.json", "page.html"

RECORD_VERSION = 1
"""The version of compiled.json: raised when a field is renamed, removed or changes its meaning."""


def compile_function(
    function: str,
    *,
    dim: int,
    tokens: int,
    lipschitz: float,
    tol: float,
    construction: str,
    options: Mapping[str, float | int | str],
    dtype: torch.dtype,
    memory: int,
    points: int,
    seed: int,
    out: Path,
    progress: Progress,
    say: Callable[[str], None],
) -> tuple[CompiledFunction, str]:
    """The compiled function and its record as JSON, with everything saved in `out`.

    Args:
        function: a name of the gallery, or ``"package.module:function"``.
        memory: bytes granted.
        points: fresh points to try it on.
        out: appears whole or not at all; what an earlier compilation left there is replaced.
        say: called with the plan before anything is built.

    Raises:
        PromptreachError: for whatever is wrong with the call, the function or the folder.
    """
    raise_if_any(least_faults({"--points": points}, most=10_000_000))
    plan = plan_backbone(dim, tokens, lipschitz, tol, construction, dtype=dtype, memory=memory, **options)
    target = find_function(function, dim, tokens, lipschitz, seed)
    say(plan.summary())
    with atomic_folder(out, replace=(out / RECORD).is_file()) as folder, progress.task("compiling") as step:
        step(note="build the backbone")
        backbone = build_backbone(dim, tokens, lipschitz, tol, construction, dtype=dtype, memory=memory, **options)
        prompt = backbone.prompt_for(target, seed, progress=lambda name: step(note=name))
        assert prompt.certificate is not None
        step(note=f"try {points:,} fresh points")
        began = time.perf_counter()
        measured = measure(backbone, prompt, target, points, seed + 1)  # not those that declarations are tried at
        seconds = time.perf_counter() - began
        step(note="check the certificate by the second path")
        certificate = prompt.certificate.checked()
        step(note="save, and load again")
        save_backbone(folder / MODEL, backbone)
        save_compiled_prompt(folder / PROMPT, backbone, prompt, str(out / MODEL))
        reloaded = reload_differences(folder / MODEL, folder / PROMPT, backbone, prompt)
        _write_json(folder / CERTIFICATE, certificate.to_dict())
        compiled = CompiledFunction(target, backbone, prompt, certificate, measured, points, seconds, reloaded)
        step(note="draw")
        (folder / PAGE).write_text(_page(compiled), encoding="utf-8")
        record = _write_json(folder / RECORD, _record(compiled, out))
    return compiled, record


def find_function(name: str, dim: int, tokens: int, lipschitz: float, seed: int) -> TargetFunction:
    """The function behind `name`, as a target of this shape.

    Args:
        name: one of `GALLERY`, or ``"package.module:function"``. The module is looked for in the current folder first,
            and importing it runs its code.
        seed: of the gallery's random parts.

    Raises:
        InputError: when there is no such function, or importing its module raises.
    """
    if ":" in name:
        return as_target(_imported(name), dim, tokens, lipschitz)
    if name not in GALLERY:
        raise InputError(Fault("FUNCTION", repr(name), f"package.module:function, or one of {', '.join(GALLERY)}"))
    return gallery_function(name, dim, tokens, lipschitz, seed)


def _imported(name: str) -> object:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # what `python -m` does, and a console script does not
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        seen = f"no module named {error.name!r}"
        raise InputError(Fault(name, seen, f"a module that Python finds in {here} or among its packages")) from error
    except Exception as error:  # it is the user's module: anything can go wrong in it
        seen = f"importing it raised {type(error).__name__}: {error}"
        raise InputError(Fault(name, seen, "a module that can be imported")) from error
    found: object = getattr(module, function_name, None)
    if not (callable(found) or isinstance(found, TargetFunction)):
        seen = f"{module_name} has no function {function_name!r}"
        raise InputError(Fault(name, seen, "a function or a TargetFunction of that name in the module"))
    return found


def parse_options(pairs: Sequence[str]) -> dict[str, float | int | str]:
    """``["form=narrow", "rank=2"]`` as names and values, numbers as numbers.

    Raises:
        InputError: for what is not NAME=VALUE.
    """
    faults = [Fault("--option", repr(pair), "NAME=VALUE") for pair in pairs if not pair.partition("=")[2]]
    raise_if_any(faults)
    return {name: _number_or_text(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def bytes_of(memory: float) -> int:
    """GiB as bytes.

    Raises:
        InputError: for what is not a positive finite number.
    """
    raise_if_any([] if 0 < memory < math.inf else [Fault("--memory", f"{memory} GiB", "a positive finite number")])
    return int(memory * 2**30)


def _number_or_text(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _page(compiled: CompiledFunction) -> str:
    plan, name = compiled.backbone.plan, compiled.target.name
    lead = (
        f"A transformer that was fixed before {name} was seen plays it because of the {plan.slots:,} virtual tokens in "
        "front of its input. Another prompt makes the same transformer another function."
    )
    return render_page(f"{name}, by prompt alone", lead, compiled_findings(compiled), environment())


def _record(compiled: CompiledFunction, out: Path) -> dict[str, Any]:
    """What programs need to know; the certificate with its witness lies in a file of its own."""
    certificate = compiled.certificate.to_dict()
    del certificate["witness"]
    return {
        "schema_version": RECORD_VERSION,
        "function": compiled.target.name,
        "holds": compiled.holds,
        "refuted": compiled.refuted,
        "tol": compiled.backbone.plan.tol,
        "certificate": certificate,
        "rechecked": compiled.rechecked,
        "measured": compiled.measured.error.to_dict(),
        "largest_outside_ramps": compiled.measured.largest,
        "points_in_ramps": compiled.measured.in_ramps,
        "reloaded_difference": compiled.reloaded[0],
        "reloaded_difference_float32": compiled.reloaded[1],
        "plan": asdict(compiled.backbone.plan),
        "files": {name: str(out / file) for name, file in _FILES.items()},
        "environment": environment(),
    }


_FILES = {"model": MODEL, "prompt": PROMPT, "certificate": CERTIFICATE, "page": PAGE}


def _write_json(path: Path, record: Mapping[str, Any]) -> str:
    text = json.dumps(record, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return text
