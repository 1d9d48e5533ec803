"""The rows of the supported architectures against transformers' own modules."""

import pytest
from transformers import AutoConfig

from helpers.models import ENCODERS, tiny_config, tiny_model, tiny_module
from helpers.models import FAMILIES as TINY
from promptreach.errors import InputError
from promptreach.hf.models.families import FAMILIES, family_of, task_of


def test_every_row_has_a_tiny_model_in_the_tests() -> None:
    assert set(FAMILIES) == set(TINY)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_path_of_a_row_leads_to_a_part_of_a_layer(name: str) -> None:
    row, base = FAMILIES[name], tiny_module(name).base_model
    layer = next(base.get_submodule(row.layers).children())
    named = (row.attention, *row.projections, row.output, row.up, row.down, row.attention_norm, row.feed_forward_norm)
    paths = [*named, *filter(None, (row.gate, row.query_norm, row.key_norm))]
    assert set(paths) <= {path for path, _ in layer.named_modules()}
    assert row.final_norm is None or row.final_norm in dict(base.named_modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_positions_that_padding_takes_are_not_counted(name: str) -> None:
    # RoBERTa's first position stands behind that of its padding token.
    assert tiny_model(name).max_positions == 64


@pytest.mark.parametrize("name", FAMILIES)
def test_a_config_says_what_the_model_is_for(name: str) -> None:
    config = AutoConfig.for_model(name)
    assert task_of(config) == ("encoder" if name in ENCODERS else "causal")
    assert task_of(config, "encoder") == "encoder"
    config.architectures = ["SomethingForSequenceClassification"]
    assert task_of(config) == "encoder"


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_predicts_no_next_token(name: str) -> None:
    config = tiny_config(name)
    with pytest.raises(InputError, match="every token sees every other"):
        task_of(config, "causal")


@pytest.mark.parametrize("variant", [("bert", {"is_decoder": True}), ("llama", {"is_causal": False})])
def test_a_variant_whose_attention_is_another_has_no_row(variant: tuple[str, dict[str, bool]]) -> None:
    config = tiny_config(variant[0])
    for name, value in variant[1].items():
        setattr(config, name, value)
    assert family_of(config) is None
    assert family_of(AutoConfig.for_model("gemma2")) is None
