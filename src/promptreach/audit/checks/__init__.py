"""The checks: each measures one thing and returns a finding. A new check is one file and one line here.

They run in this order; a later one may use what an earlier one left in the context.
"""

from collections.abc import Callable
from dataclasses import dataclass

from promptreach.audit.checks import (
    attempt,
    attention_share,
    bare_model,
    collapse,
    data,
    drift,
    inference_cost,
    initialisation,
    limits,
    planted,
    prediction,
    training,
)
from promptreach.audit.context import AuditContext
from promptreach.report.findings import Finding


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: its key in findings, rules and the report.
        title: its heading in the report.
        run: measures, and returns what it found.
    """

    name: str
    title: str
    run: Callable[[AuditContext], Finding]


CHECKS = (
    Check("data", "The data", data.run),
    Check("bare_model", "The model without a prompt", bare_model.run),
    Check("training", "Matched training", training.run),
    Check("initialisation", "Where the virtual tokens start", initialisation.run),
    Check("attempt", "What your adapter lost, and where", attempt.run),
    Check("collapse", "How your adapter spreads its answers", collapse.run),
    Check("planted", "Does training find a prompt that exists?", planted.run),
    Check("prediction", "What was predicted before training", prediction.run),
    Check("drift", "What tuning does to other text", drift.run),
    Check("attention_share", "Attention taken by the prompt", attention_share.run),
    Check("limits", "What no prompt can do", limits.run),
    Check("inference_cost", "What inference will cost", inference_cost.run),
)
