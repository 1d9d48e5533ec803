"""What works on each family: prompt, prefix and LoRA against PEFT, captures against the model's own attention.

A choice of sixty runs always; every other family that builds is there for `make test-slow`, and all of them stand in
benchmarks/results/families.json.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.families import family_names, small_module
from helpers.reach import SEQUENCES, reach_of, relative
from helpers.tolerances import TOLERANCES
from promptreach.backbone import Prepended
from promptreach.errors import ModelError, UnsupportedModelError
from promptreach.hf import OpenModel

RESULTS = json.loads((Path(__file__).parents[3] / "benchmarks" / "results" / "families.json").read_text())
QUICK = (
    *("afmoe", "apertus", "arcee", "aria_text", "bert", "biogpt", "bitnet", "bloom", "camembert", "codegen", "cohere"),
    *("cohere2", "ctrl", "cwm", "data2vec-text", "deberta", "deberta-v2", "deepseek_v3", "diffllama", "distilbert"),
    *("electra", "ernie", "ernie4_5", "eurobert", "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "glm4"),
    *("gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "granite_swa", "helium", "llama"),
    *("llama4_text", "mamba", "minicpm3", "mistral", "mixtral", "modernbert", "mpnet", "mpt", "nomic_bert", "olmo2"),
    *("olmo3", "opt", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_5_text", "roberta", "smollm3", "stablelm"),
    *("xglm", "xlm-roberta"),
)
REST = tuple(sorted(RESULTS["families"].keys() - set(QUICK)))
CELLS = ("prompt", "prefix", "lora", "capture", "precompute", "limits")


def check(row: dict[str, Any], family: str) -> None:
    known = RESULTS["families"][family]
    # Whatever works, or drops out with its reason, does so as it stands in the results.
    assert {cell: row[cell]["works"] for cell in CELLS} == {cell: known[cell]["works"] for cell in CELLS}
    for cell in CELLS:
        assert row[cell]["works"] or row[cell].get("reason") or family in ("mra", "inkling2_text")
    for method in ("prompt", "prefix", "lora"):
        deviation = row[method].get("peft")
        assert deviation is None or deviation <= TOLERANCES["joined states", torch.float32][0], (method, deviation)
    if row["capture"]["works"]:
        assert row["capture"]["error"] <= TOLERANCES["captured attention", torch.float32][0]
        assert row["capture"]["bit_equal"]


def test_sixty_families_are_looked_at_every_time() -> None:
    assert len(QUICK) >= 60
    assert set(QUICK) <= RESULTS["families"].keys()
    assert len(RESULTS["families"]) >= 110


@pytest.mark.parametrize("family", QUICK)
def test_a_family(family: str) -> None:
    check(reach_of(small_module(family), family), family)


@pytest.mark.slow
@pytest.mark.parametrize("family", REST)
def test_a_further_family(family: str) -> None:
    check(reach_of(small_module(family), family), family)


@pytest.mark.slow
def test_no_family_that_builds_is_forgotten() -> None:
    known = RESULTS["families"].keys() | RESULTS["refused"].keys() | RESULTS["not_built"].keys()
    assert set(family_names()) <= known


def test_latent_keys_in_front_do_what_their_tokens_do() -> None:
    # PEFT has no prefix here, since keys and values differ in size.
    model = OpenModel(small_module("deepseek_v3"), name="deepseek_v3")
    assert model.head_dim != model.value_dim
    tokens = [7, 14, 21]
    whole = model.hidden(model.batch([tokens + ids for ids in SEQUENCES]))
    behind = model.hidden(model.batch(SEQUENCES), Prepended.of(model.cache_of(tokens)))
    mask = model.batch(SEQUENCES).mask
    assert relative(behind[mask], whole[:, 3:][mask]) <= TOLERANCES["captured attention", torch.float32][0]


def test_what_cannot_be_read_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="gives a tuple"):
        OpenModel(small_module("ibert"))
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        OpenModel(small_module("llama", is_encoder_decoder=True))
