"""Quantised weights as a model's config names them: who reads each kind, and what a machine needs for it.

All of it is told from the config alone, without torch. The kernels are other packages' work; what is missing of them is
named before anything large is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from promptreach.errors import Fault, MissingExtraError, install_command

INSTEAD = "Or open the model that it was made from, or a GGUF file of it."
"""What is left where a kind cannot be read on a machine."""


@dataclass(frozen=True)
class Scheme:
    """One kind of quantised weights.

    Attributes:
        packages: distributions that hold its kernels; none where transformers reads it alone.
        accelerator: whether none of them runs on a CPU.
    """

    packages: tuple[str, ...] = ()
    accelerator: bool = False


SCHEMES: Mapping[str, Scheme] = {
    "aqlm": Scheme(("aqlm",)),
    "auto-round": Scheme(("auto-round",)),
    "awq": Scheme(("gptqmodel",)),
    "bitnet": Scheme(),
    "bitsandbytes": Scheme(("bitsandbytes",)),
    "compressed-tensors": Scheme(("compressed-tensors",)),
    "eetq": Scheme(("kernels",), accelerator=True),
    "fbgemm_fp8": Scheme(("fbgemm-gpu",), accelerator=True),
    "fp8": Scheme(),
    "fp_quant": Scheme(("fp-quant",), accelerator=True),
    "gptq": Scheme(("gptqmodel", "optimum")),
    "higgs": Scheme(("flute-kernel",), accelerator=True),
    "hqq": Scheme(("hqq",)),
    "mxfp4": Scheme(),
    "mxfp8": Scheme(),
    "quanto": Scheme(("optimum-quanto",)),
    "quark": Scheme(("amd-quark",)),
    "spqr": Scheme(("spqr-quant",), accelerator=True),
    "torchao": Scheme(("torchao",)),
    "vptq": Scheme(("vptq",), accelerator=True),
}
"""The kinds by the ``quant_method`` of their configs. Where there is no kernel for fp8 and mxfp4, transformers opens
them in bfloat16, as plain numbers."""


_MODULES = {"amd-quark": "quark", "flute-kernel": "flute", "optimum-quanto": "optimum.quanto"}
"""Packages whose modules bear other names."""


def scheme_name(config: Any) -> str:
    """The name of the scheme in a ``quantization_config``, a mapping or a record; empty where it names none."""
    fields: Mapping[str, Any] = config if isinstance(config, Mapping) else vars(config)
    found = fields.get("quant_method")
    if not found and (fields.get("load_in_8bit") or fields.get("load_in_4bit")):
        return "bitsandbytes"
    return str(getattr(found, "value", found) or "")


def quantisation_faults(config: Mapping[str, Any], device: str = "auto") -> list[Fault]:
    """The faults of a model's config, as read from JSON, as far as its weights are quantised; none of plain ones.

    Args:
        config: the whole config.json.
        device: where the model goes; of ``auto`` nothing is known yet.

    Raises:
        MissingExtraError: naming the packages that are not installed, and how to get them.
    """
    given = config.get("quantization_config")
    if given is None:
        return []
    where = "config.json, quantization_config"
    if not isinstance(given, Mapping):
        return [Fault(where, f"a {type(given).__name__}", "the settings of a quantisation, with a quant_method")]
    name, kind = scheme_name(given), str(config.get("model_type", "a model"))
    scheme = SCHEMES.get(name)
    if scheme is None:
        seen = f"{kind} quantised by {name or 'a method without a name'}"
        return [Fault(where, seen, f"one of {', '.join(SCHEMES)}", INSTEAD.removeprefix("Or ").capitalize())]
    if missing := [package for package in scheme.packages if not _installed(package)]:
        seen = f"{kind} quantised by {name}, without the kernels that read it"
        command = install_command("quantised") if missing == ["torchao"] else f"pip install {' '.join(missing)}"
        raise MissingExtraError(Fault(where, seen, f"the package {' and '.join(missing)}", f"{command}. {INSTEAD}"))
    if scheme.accelerator and device.partition(":")[0] == "cpu":
        seen = f"{device!r} for a {kind} quantised by {name}, which has no kernel for it"
        return [Fault("device", seen, "an accelerator", INSTEAD.removeprefix("Or ").capitalize())]
    return []


def _installed(package: str) -> bool:
    try:
        return find_spec(_MODULES.get(package, package.replace("-", "_"))) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
