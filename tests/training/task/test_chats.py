"""Chats through templates: opened once, ended once, and the rows named on which a template fails."""

from typing import Any

import pytest

from helpers.chat_models import ASKING, BARE, STRICT, TEMPLATE, chat_model
from helpers.tasks import completer, completions
from promptreach.data import Completions
from promptreach.errors import DataError, InputError
from promptreach.tables import read_task
from promptreach.training.task.chats import rendered
from promptreach.training.task.encoding import encode
from promptreach.training.task.task import prepare


def chats(count: int = 2, **more: Any) -> Completions:
    """Sums as chats."""
    rows = [
        {"messages": [{"role": "user", "content": f"{i % 3 + 1} + {i % 2} ?"}, {"role": "assistant", "content": "2"}]}
        for i in range(count)
    ]
    task = read_task(rows, **more)
    assert isinstance(task, Completions)
    return task


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE.removeprefix("{{ bos_token }}")])
def test_the_opening_token_comes_once_and_the_end_is_the_templates(template: str, opens: bool) -> None:
    model = chat_model(template, opens)
    data = rendered(model, chats())
    assert isinstance(data, Completions)
    assert (data.completions[0], data.closed, data.chats) == ("2<|end|>", True, ())
    encoded = encode(model, chats(), 64)
    text = model.tokenizer.decode(encoded.sequences[0])
    assert text.count("<s>") == (1 if opens or template == TEMPLATE else 0)
    assert text.endswith("2<|end|>") or text.endswith("2 <|end|>")
    assert encoded.answer_lengths == (2, 2)
    assert rendered(model, data) is data


@pytest.mark.parametrize("opens", [True, False])
def test_a_chat_that_is_cut_keeps_its_opening_token(opens: bool) -> None:
    model = chat_model(TEMPLATE, opens)
    cut = encode(model, chats(), 8)
    assert cut.truncated == 2
    assert [ids.count(model.tokenizer.bos_token_id) for ids in cut.sequences] == [1, 1]
    assert {ids[0] for ids in cut.sequences} == {model.tokenizer.bos_token_id}


def test_an_answer_that_the_template_leaves_open_gets_the_end_token() -> None:
    model = chat_model(BARE + ASKING)
    data = rendered(model, chats())
    assert isinstance(data, Completions)
    assert (data.completions[0], data.closed) == ("2", False)
    assert encode(model, chats(), 64).sequences[0][-1] == model.end_token


def test_the_users_template_stands_before_the_models_own(tmp_path: Any) -> None:
    (tmp_path / "t.jinja").write_text(BARE + ASKING)
    given = rendered(chat_model(), chats(chat_template=str(tmp_path / "t.jinja")))
    assert given == rendered(chat_model(), chats(chat_template=tmp_path / "t.jinja"))
    assert given == rendered(chat_model(None), chats(chat_template=BARE + ASKING))
    with pytest.raises(InputError, match=r"chat_template, 'none.jinja': No such file"):
        chats(chat_template="none.jinja")
    with pytest.raises(InputError, match="rows that are no chats"):
        read_task([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}], chat_template=BARE)


def test_chats_without_any_template_are_refused_with_one_that_works() -> None:
    with pytest.raises(InputError, match="without a chat template") as caught:
        rendered(completer(), chats())
    remedy = caught.value.faults[0].remedy
    template = remedy[remedy.index("{%") :]
    data = rendered(completer(), chats(chat_template=template))
    assert isinstance(data, Completions)
    assert data.prompts[0] == "user: 1 + 0 ?\nassistant: "


def test_instructions_need_no_template_and_use_the_models_own() -> None:
    rows = [
        {"instruction": "sum", "input": "1 + 1", "output": "2"},
        {"instruction": "sum", "input": "2", "output": "2"},
    ]
    plain, written = rendered(completer(), read_task(rows)), rendered(chat_model(), read_task(rows))
    assert isinstance(plain, Completions)
    assert isinstance(written, Completions)
    assert (plain.prompts[0], plain.completions[0], plain.closed) == ("sum\n\n1 + 1\n\n", "2", False)
    assert written.prompts[0] == "<|turn|>user : sum\n\n1 + 1<|end|>\n<|turn|>assistant : "


def test_a_template_that_fails_names_its_rows_all_at_once() -> None:
    turns = [{"role": "user", "content": "1 ?"}, {"role": "assistant", "content": "2"}]
    odd = {"messages": [{"role": "system", "content": "sum"}, *turns]}
    with pytest.raises(DataError) as caught:
        prepare(chat_model(STRICT), read_task([odd, {"messages": turns}, odd]))
    assert [fault.where for fault in caught.value.faults] == ["data, row 1", "data, row 3"]
    assert "no system turns here" in str(caught.value)
    with pytest.raises(DataError, match="the chat template fails"):
        rendered(chat_model("{% for %}"), chats())
    with pytest.raises(DataError, match="does not hold the last answer"):
        rendered(chat_model("nothing at all"), chats())


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "no end after"),
        ("{{ 'x' * 99999999999 }}", "chat template fails: MemoryError"),
        ("{{ 'x' * 9999999 }}", r"it writes \d+,\d+,\d+ characters"),
        ("{{ messages.append('x') }}", "is unsafe"),
    ],
    ids=["a loop", "all memory", "a long text", "one that changes what it is given"],
)
def test_a_hostile_template_is_ended(template: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptreach.training.task.chats._SECONDS", 1.0)
    with pytest.raises((InputError, DataError), match=said):
        rendered(chat_model(template), chats())


def test_other_data_stays_as_it_is() -> None:
    data = completions(4)
    assert rendered(completer(), data) is data
