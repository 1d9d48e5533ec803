"""The names of metrics: told without anything heavy, and those that kinds of tasks use are among them."""

import subprocess
import sys
from pathlib import Path

import promptreach
from promptreach.training.task.kinds.registry import KINDS
from promptreach.training.task.metric_names import METRICS, metric_name_faults, metric_named

LOADED = "import sys, promptreach.training.task.metric_names; print('torch' in sys.modules)"


def test_a_name_is_known_or_refused_with_those_that_are() -> None:
    assert metric_named("mcc") == "mcc"
    assert metric_named("MCC") is None
    assert metric_named(None) is None
    assert metric_name_faults(None) == metric_name_faults("loss") == []
    (fault,) = metric_name_faults("MCC")
    assert "'MCC'" in str(fault)
    assert all(name in str(fault) for name in METRICS)


def test_every_metric_of_every_kind_has_its_name_here() -> None:
    assert {metric for kind in KINDS.values() for metric in kind.metrics} <= set(METRICS)


def test_torch_is_not_loaded_for_a_name() -> None:
    source = Path(promptreach.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=source)
    assert ran.stdout.strip() == "False"
