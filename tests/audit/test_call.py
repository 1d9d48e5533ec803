"""The identity of a call: the same contents have one key, whatever else is called otherwise."""

from dataclasses import replace

from helpers.audit_cases import rows
from helpers.models import tiny_model
from promptreach.audit.call import about_model, call_again, key_of
from promptreach.rows.options import with_options
from promptreach.tables import read_task


def test_the_key_is_of_contents_settings_and_options_and_of_no_names() -> None:
    model, data = tiny_model("llama"), read_task(rows(20))
    key = key_of(model, data, {"seed": 0}, None)
    assert key == key_of(model, replace(data, source="elsewhere"), {"seed": 0}, None)
    chosen = with_options(data, {"fresh": "good", "rotten": "bad"})
    others = with_options(data, {"fresh": "good", "rotten": "awful"})
    assert not isinstance(chosen, list)
    assert not isinstance(others, list)
    keys = [key, key_of(model, data, {"seed": 1}, None), key_of(tiny_model("llama", seed=1), data, {"seed": 0}, None)]
    keys += [key_of(model, one, {"seed": 0}, None) for one in (chosen, others)]
    assert len(set(keys)) == len(keys)


def test_the_model_and_the_call_are_told_as_they_can_be_used() -> None:
    told = about_model(tiny_model("gpt2"))
    assert (told["family"], told["task"], told["layers"], told["context"]) == ("gpt2", "causal", 2, 64)
    call = call_again(None, "a model", "rows.csv", {"budget": "quick", "seed": None})
    assert call.text == "promptreach.audit('a model', 'rows.csv', budget='quick')"
    assert call_again("promptreach audit a b", "a", "b", {}).language == "shell"
