"""The audit of a model and its data: checks measure, rules judge, writers show.

This package is also the verb: ``promptreach.audit(model, data)`` audits. A package and a function cannot share a name
in a module's namespace, so the module itself is made callable.
"""

import sys
from types import ModuleType
from typing import Any

from promptreach.audit.plan import AuditPlan as AuditPlan
from promptreach.audit.run import AuditResult as AuditResult
from promptreach.audit.run import audit as audit
from promptreach.report.findings import Finding as Finding
from promptreach.report.result import Reason as Reason
from promptreach.report.result import Recommendation as Recommendation
from promptreach.report.verdict import TuningVerdict as TuningVerdict


class _CallableModule(ModuleType):
    def __call__(self, model: Any, data: Any, **options: Any) -> Any:
        return audit(model, data, **options)


sys.modules[__name__].__class__ = _CallableModule
