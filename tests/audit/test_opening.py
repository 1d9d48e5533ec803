"""The lines that open a model do open the same one."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from helpers.audit_cases import SETTINGS, rows, save_model
from promptreach.audit.context import prepared
from promptreach.audit.opening import auto_class, config_lines, opening_call, place_of
from promptreach.hf import open_model
from promptreach.tables import read_task


@pytest.mark.parametrize(
    ("family", "options", "name"),
    [
        ("bert", {}, "AutoModel"),
        ("llama", {"num_layers": 1}, "AutoModelForCausalLM"),
        ("gpt2", {}, "AutoModelForCausalLM"),
    ],
)
def test_the_same_model_opens(family: str, options: dict[str, Any], name: str, tmp_path: Path) -> None:
    save_model(tmp_path, family)
    context = prepared(open_model(tmp_path, **options), read_task(rows()), SETTINGS)
    assert auto_class(context) == name
    assert place_of(context) == repr(str(tmp_path))
    known: dict[str, Any] = {**vars(transformers), "torch": torch}
    exec("\n".join([*config_lines(context), f"model = {opening_call(context)}"]), known)
    ids = torch.tensor([[4, 5, 6]])
    own = context.model.release()
    with torch.no_grad():
        assert torch.equal(known["model"].eval()(input_ids=ids)[0], own(input_ids=ids)[0])
