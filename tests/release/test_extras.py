"""Without an extra's package everything else opens, and its feature says by name how to install it."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import promptreach
from promptreach.doctor import EXTRAS
from promptreach.errors import InputError, MissingExtraError, install_command
from promptreach.quantisation import quantisation_faults
from promptreach.tables import read_task
from promptreach.training.engines.trackers import tracker_faults

PACKAGES = {"gguf": "gguf", "parquet": "pyarrow", "data": "datasets", "ray": "ray", "quantised": "torchao"}
PACKAGES |= {"tensorboard": "tensorboard", "trackio": "trackio"}


def cluster(folder: Path) -> object:
    from promptreach.training.engines.cluster import Cluster

    return Cluster(None, None, 1)


USES: dict[str, Callable[[Path], object]] = {
    "gguf": lambda folder: promptreach.hf.open_model(folder / "model.gguf"),
    "parquet": lambda folder: read_task(folder / "rows.parquet"),
    "data": lambda folder: read_task("owner/some-data"),
    "ray": cluster,
    "tensorboard": lambda folder: tracker_faults("tensorboard"),
    "trackio": lambda folder: tracker_faults("trackio"),
    "quantised": lambda folder: quantisation_faults({"quantization_config": {"quant_method": "torchao"}}),
}
"""What needs each extra, on files that are none."""

HIDING = """
import json, sys
from pathlib import Path

class Hiding:
    '''A finder that finds everything but some packages, as where they were never installed.'''

    def __init__(self, finder, hidden):
        self.finder, self.hidden = finder, hidden

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder, sys.argv[3:]) for finder in sys.meta_path]
sys.path.append(sys.argv[1])

import promptreach.claims
import test_extras

for name in promptreach.__all__:
    getattr(promptreach, name)
told = {}
for name, use in test_extras.USES.items():
    try:
        use(Path(sys.argv[2]))
    except Exception as error:
        told[name] = [type(error).__name__, str(error)]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extras")
    (folder / "rows.parquet").write_bytes(b"PAR1")
    (folder / "model.gguf").write_bytes(b"GGUF")
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, list[str]]:
    """What the use of each extra raises, its name and message, where none of their packages is there."""
    arguments = [sys.executable, "-c", HIDING, str(Path(__file__).parent), str(folder), *PACKAGES.values()]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, list[str]] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_without_its_package_the_use_names_the_command(extra: str, told: dict[str, list[str]]) -> None:
    error, message = told[extra]
    assert error == "MissingExtraError"
    assert install_command(extra) in message
    assert f'pip install "{PACKAGES[extra]}>=' in message


# With it, `data` would ask the hub.
@pytest.mark.parametrize("extra", ["gguf", "parquet", "ray"])
def test_with_its_package_it_is_not_asked_for(extra: str, folder: Path) -> None:
    raised: InputError | None = None
    try:
        USES[extra](folder)
    except InputError as error:
        raised = error
    assert isinstance(raised, MissingExtraError) == (find_spec(PACKAGES[extra]) is None)


def test_every_extra_is_tried() -> None:
    assert set(PACKAGES) == set(USES) == set(EXTRAS)
