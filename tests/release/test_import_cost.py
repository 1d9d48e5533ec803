"""What `import promptreach` costs beside torch: next to no time, and none of the heavy packages."""

import statistics
import subprocess
import sys
from pathlib import Path

import promptreach

# Everything that the package's own records and algebra are: no room, which may load what it needs.
ROOMS = {"audit", "compiler", "doctor", "hf", "inference", "limits", "tuning"}
PUBLIC = [name for name in promptreach.__all__ if name not in ROOMS]

HEAVY = {
    *("transformers", "peft", "huggingface_hub", "safetensors", "tokenizers", "accelerate", "datasets"),
    *("sklearn", "scipy", "pandas", "pyarrow", "gguf", "ray", "threadpoolctl"),
    *("pydantic", "jinja2", "rich", "typer", "packaging"),
}

COST = """
import sys, time
began = time.perf_counter()
import torch
before, middle = set(sys.modules), time.perf_counter()
import promptreach
for name in {names!r}:
    getattr(promptreach, name)
print(middle - began, time.perf_counter() - middle)
print(*set(sys.modules) - before)
"""


def import_cost(names: list[str]) -> tuple[float, float, set[str]]:
    """Seconds for torch, seconds for the package with `names` on top, and the modules that those alone have loaded."""
    ran = subprocess.run(
        [sys.executable, "-c", COST.format(names=names)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(promptreach.__file__).parents[1],
    )
    seconds, _, loaded = ran.stdout.partition("\n")
    torch, ours = map(float, seconds.split())
    return torch, ours, set(loaded.split())


def heavy(loaded: set[str]) -> set[str]:
    """The heavy packages among loaded modules."""
    return {name.partition(".")[0] for name in loaded} & HEAVY


def test_the_package_with_its_records_and_algebra_is_cheap() -> None:
    assert {"attention", "AttentionWeights", "norms", "theorems"} <= set(PUBLIC)
    runs = [import_cost(PUBLIC) for _ in range(3)]
    for _, _, loaded in runs:
        assert "promptreach.attention" in loaded  # what is loaded is seen
        assert heavy(loaded) == set()
    # 0.3 seconds on a quiet machine; on a busy one torch takes longer as well, which it then measures.
    assert statistics.median(ours for _, ours, _ in runs) <= max(0.3, 0.2 * runs[0][0])


def test_the_bare_package_loads_nothing_of_its_own() -> None:
    _, _, loaded = import_cost([])
    assert {name for name in loaded if name.startswith("promptreach")} == {"promptreach", "promptreach._version"}


def test_a_heavy_import_is_seen() -> None:
    assert heavy(import_cost(["doctor"])[2]) == {"packaging"}
