"""The settings of the libraries under torch: made before torch is loaded, and never against the user's own."""

import os
import subprocess
import sys

import pytest

SETTINGS = {"MKL_CBWR": "AUTO,STRICT", "GOMP_SPINCOUNT": "10000"}
SHOWN = "import promptreach, os, sys; assert 'torch' not in sys.modules; print(os.environ.get('{}'))"


def seen(name: str, **given: str) -> str:
    """The variable in a fresh interpreter that has imported the library, of these variables alone."""
    kept = {key: value for key, value in os.environ.items() if key not in {*SETTINGS, "OMP_WAIT_POLICY"}}
    call = [sys.executable, "-c", SHOWN.format(name)]
    return subprocess.run(call, env=kept | given, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", SETTINGS)
def test_they_stand_before_torch_is_loaded_and_the_users_own_are_kept(name: str) -> None:
    assert seen(name) == SETTINGS[name]
    assert seen(name, **{name: "7"}) == "7"


def test_a_wait_policy_of_the_users_own_decides_how_threads_wait() -> None:
    assert seen("GOMP_SPINCOUNT", OMP_WAIT_POLICY="ACTIVE") == "None"
    assert seen("MKL_CBWR", OMP_WAIT_POLICY="ACTIVE") == SETTINGS["MKL_CBWR"]
