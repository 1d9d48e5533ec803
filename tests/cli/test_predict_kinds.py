"""Every kind of task on the command line: rows are fitted, and its folder is evaluated and asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run, saved_model
from helpers.kind_rows import ROWS, TEXTS
from helpers.pairs import pair_module, pair_tokenizer

SECONDS = {"pairs": ("--pair", "pair"), "span": ("--context", "context")}
ANSWER = {
    "labels": "label",
    "pairs": "label",
    "several labels": "labels",
    "number": "number",
    "tags": "tags",
    "span": "answer",
    "completions": "completion",
}
SHORT = ("--steps", 2, "--tokens", 2, "--learning-rate", 0.01, "--max-length", 24, "--quiet", "--json")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, a decoder and both behind each other."""
    base = tmp_path_factory.mktemp("kinds")
    saved_model(base / "bert", "bert")
    saved_model(base / "llama")
    pair_module("t5").save_pretrained(base / "t5")
    pair_tokenizer().save_pretrained(base / "t5")
    return base


def values(*arguments: object) -> dict[str, Any]:
    """What a call that is right finds."""
    status, out, err = run(*arguments)
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)["values"]
    return found


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        *((kind, "bert") for kind in ROWS if kind not in ("labels", "options", "completions")),
        ("span", "llama"),
        ("labels", "t5"),
        ("completions", "t5"),
    ],
)
def test_what_was_fitted_is_evaluated_and_asked(kind: str, family: str, models: Path, tmp_path: Path) -> None:
    rows, model, adapter = tmp_path / "rows.jsonl", models / family, tmp_path / "own"
    rows.write_text("\n".join(map(json.dumps, ROWS[kind])))
    values("fit", model, rows, "--out", adapter, *SHORT)
    scored = values("evaluate", model, adapter, rows, "--max-length", 24, "--json", "--quiet")["metrics"]
    assert set(scored) == {"bare model", "own"}
    texts, seconds = tmp_path / "texts.txt", tmp_path / "seconds.txt"
    texts.write_text("\n".join(["what is it"] * 3 if kind == "span" else TEXTS[:3]))
    seconds.write_text("\n".join(TEXTS[:3]))
    given = (SECONDS[kind][0], seconds) if kind in SECONDS else ()
    answers = values("predict", model, adapter, texts, *given, "--json")["answers"]
    assert [ANSWER[kind] in answer for answer in answers] == [True] * 3
    if kind in SECONDS:
        assert [answer[SECONDS[kind][1]] for answer in answers] == TEXTS[:3]
        status, _, err = run("predict", model, adapter, texts)
        assert (status, f"{SECONDS[kind][0]} TEXT|FILE" in err) == (2, True)
        # What one text is told stands for all of them, and is what a file of it repeated says.
        seconds.write_text("\n".join([TEXTS[0]] * 3))
        whole = [values("predict", model, adapter, texts, given[0], one, "--json") for one in (TEXTS[0], seconds)]
        assert whole[0] == whole[1]


def test_what_a_folder_does_not_take_is_refused(models: Path, tmp_path: Path) -> None:
    rows, adapter = tmp_path / "rows.jsonl", tmp_path / "own"
    rows.write_text("\n".join(map(json.dumps, ROWS["labels"])))
    values("fit", models / "bert", rows, "--out", adapter, "--method", "head", *SHORT)
    more = ("--pair", "a cat", "--context", "a dog", "--chat", "--max-length", 1)
    status, _, err = run("predict", models / "bert", adapter, "the cat", *more)
    words = ("not a head for two texts", "not a head for answers in a context", "an adapter that writes", "at least")
    assert (status, [word in err for word in words]) == (2, [True] * 4)
    rows.write_text("\n".join(map(json.dumps, ROWS["pairs"])))
    values("fit", models / "bert", rows, "--out", adapter, "--method", "head", *SHORT)
    (tmp_path / "three.txt").write_text("a\nb\nc")
    (tmp_path / "two.txt").write_text("a\nb")
    status, _, err = run("predict", models / "bert", adapter, tmp_path / "three.txt", "--pair", tmp_path / "two.txt")
    assert (status, "one, or one for each text" in err) == (2, True)


def test_a_turn_is_written_by_the_template_as_in_training(models: Path, tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    rows, adapter = tmp_path / "rows.jsonl", tmp_path / "own"
    chats = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        for row in ROWS["completions"]
    ]
    rows.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats))
    values("fit", models / "llama", rows, "--out", adapter, "--chat-template", template, *SHORT)
    said = [
        values("predict", models / "llama", adapter, text, *more, "--json", "--max-new-tokens", 6)["answers"]
        for text, more in (
            ("the cat", ("--chat-template", template)),
            ("user the cat assistant ", ()),
        )
    ]
    assert said[0][0]["text"] == "the cat"
    assert said[0][0]["completion"] == said[1][0]["completion"]
    status, _, err = run("predict", models / "llama", adapter, "the cat", "--chat")
    assert (status, "without a chat template" in err) == (2, True)
