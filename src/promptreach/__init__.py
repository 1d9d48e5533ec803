"""promptreach tells you, before you spend the compute, what a soft prompt can and cannot do to your model.

The whole public surface, loaded on first use so that importing this package costs next to nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from promptreach._version import __version__ as __version__

# Read once by the libraries under torch, when they are loaded; whoever has set them is not overruled.
# A matrix product is then the same bit for bit over any number of threads (Intel's conditional numerical
# reproducibility, 0 to 2 % of time here). Otherwise threads change the last digits, and where a learning rate is nearly
# too large training makes them grow into other answers.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# A thread that waits for another keeps its processor for microseconds. By default it does for milliseconds, and beside
# other work an audit then takes several times as long; on an idle machine nothing is lost.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from promptreach.certificate import Assumption as Assumption
    from promptreach.certificate import Certificate as Certificate
    from promptreach.certificate import Evidence as Evidence
    from promptreach.certificate import Side as Side
    from promptreach.certificate import Verdict as Verdict
    from promptreach.prompt import LowRankUpdate as LowRankUpdate
    from promptreach.prompt import Prefix as Prefix
    from promptreach.prompt import SoftPrompt as SoftPrompt
    from promptreach.weights import AttentionWeights as AttentionWeights
    from promptreach.weights import FeedForwardWeights as FeedForwardWeights
    from promptreach.weights import LayerWeights as LayerWeights
    from promptreach.weights import NormWeights as NormWeights

    from . import attention as attention
    from . import audit as audit
    from . import compiler as compiler
    from . import doctor as doctor
    from . import hf as hf
    from . import inference as inference
    from . import limits as limits
    from . import norms as norms
    from . import reference as reference
    from . import theorems as theorems
    from . import tuning as tuning

# Rooms: `pr.tuning.fit`. The package `audit` is itself callable, so that `pr.audit(model, data)` works as well.
_ROOMS = (
    "attention",
    "audit",
    "compiler",
    "doctor",
    "hf",
    "inference",
    "limits",
    "norms",
    "reference",
    "theorems",
    "tuning",
)

_NAMES = {
    "Assumption": "certificate",
    "AttentionWeights": "weights",
    "Certificate": "certificate",
    "Evidence": "certificate",
    "FeedForwardWeights": "weights",
    "LayerWeights": "weights",
    "LowRankUpdate": "prompt",
    "NormWeights": "weights",
    "Prefix": "prompt",
    "Side": "certificate",
    "SoftPrompt": "prompt",
    "Verdict": "certificate",
}

__all__ = ["__version__", *_ROOMS, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
