"""The compiler: a function becomes a prompt for a fixed transformer, with a certificate of the error."""

from promptreach.compiler.backbone import CompiledBackbone
from promptreach.compiler.build import CONSTRUCTIONS, Construction, build_backbone, load_backbone, plan_backbone
from promptreach.compiler.gallery import GALLERY, gallery_function
from promptreach.compiler.plan import Plan, PlanTooLargeError, SizeComparison
from promptreach.compiler.target import TargetFunction
from promptreach.compiler.verify import Measurement, measure

__all__ = [
    "CONSTRUCTIONS",
    "GALLERY",
    "CompiledBackbone",
    "Construction",
    "Measurement",
    "Plan",
    "PlanTooLargeError",
    "SizeComparison",
    "TargetFunction",
    "build_backbone",
    "gallery_function",
    "load_backbone",
    "measure",
    "plan_backbone",
]
