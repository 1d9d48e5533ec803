"""Written answers as they are judged: what is compared, what ends them, and what is refused."""

import pytest
import torch

from helpers.chat_models import chat_model
from helpers.models import tiny_model
from helpers.tasks import completer, completions, labelled
from promptreach.data import Completions
from promptreach.errors import InputError
from promptreach.rows.chats import Turn
from promptreach.training.task.judging import Judging, decoded, judging_faults, judging_of, room_of
from promptreach.training.task.metrics import score
from promptreach.training.task.task import prepare
from promptreach.training.task.text_metrics import combined, statistics

GSM8K = r"#### (-?[0-9.,]+)"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (None, " as it is ", " as it is "),
        (GSM8K, "so 3 + 4 = 7\n#### 7", "7"),
        (GSM8K, "#### 1 but no, #### 1,234,567", "1234567"),
        (GSM8K, "it is 7", None),
        (r"\d+", "7 or 8", "8"),
        (r"(yes)|(no)", "no or yes or no", "no"),
        (r"\(([A-D])\)", "the answer is (B)", "B"),
    ],
)
def test_the_last_match_stands_for_the_text(pattern: str | None, text: str, found: str | None) -> None:
    assert Judging(pattern=pattern).compared(text) == found


def test_written_answers_are_judged_by_what_they_say() -> None:
    task = prepare(completer(), completions(), longest_prompt=4, judging=Judging("token_f1"))
    bare = task.evaluate("validation", task.objective())
    found = task.answered("validation", bare)
    assert bare.judged is None
    assert found.judged is not None
    assert found.written is not None
    texts = decoded(task.backbone, found.written.tolist())
    assert task.encoded["validation"].texts == task.validation.answers
    again = statistics("token_f1", texts, task.validation.answers)
    torch.testing.assert_close(found.judged, again)
    mean = combined("token_f1", again, torch.ones(1, len(texts), dtype=torch.float64)).item()
    assert score("token_f1", found) == pytest.approx(mean)


def test_another_way_of_judging_is_another_task() -> None:
    plain, judged = (
        prepare(completer(), completions(), longest_prompt=4, judging=judging)
        for judging in (Judging(), Judging("chrf"))
    )
    assert plain.digest != judged.digest


def test_a_chat_ends_as_its_template_ends_an_answer_and_is_compared_without_that() -> None:
    model = chat_model()
    chats = tuple((Turn("user", f"{a} + {b} ?"), Turn("assistant", str(a + b))) for a in (1, 2, 3) for b in (1, 2, 3))
    data = Completions(tuple(chat[0].content for chat in chats), tuple(chat[1].content for chat in chats), chats=chats)
    from promptreach.training.task.encoding import encode

    encoded = encode(model, data, 32)
    assert encoded.texts == tuple(str(a + b) for a in (1, 2, 3) for b in (1, 2, 3))
    most, stops = room_of(model, encoded)
    assert model.tokenizer.convert_tokens_to_ids("<|end|>") in stops
    assert most == max(encoded.answer_lengths or ()) + 8


def test_where_nothing_ends_an_answer_none_is_written() -> None:
    with pytest.raises(InputError, match="without an end token"):
        prepare(tiny_model("gpt2"), completions(), longest_prompt=4, judging=Judging("exact_match"))


def test_all_that_is_wrong_with_a_way_of_judging_is_told() -> None:
    rows = completions()
    told = {
        "a regular expression": judging_faults(Judging(pattern="(")),
        "finds an empty text": judging_faults(Judging(pattern="x*")),
        "'', which finds": judging_faults(judging_of(None, "", False)),
        "finds nothing in 40 of 40 completions": judging_faults(Judging(pattern=GSM8K), rows),
        "not written": judging_faults(Judging(pattern=r"\w"), labelled()),
        "rows without options": judging_faults(Judging(length_normalised=True), rows),
        "does not see": judging_faults(Judging("rouge_l"), Completions(("a", "b"), ("\u6771\u4eac", "kyoto"))),
    }
    for words, faults in told.items():
        assert len(faults) == 1, words
        assert words in str(faults[0])
    assert len(judging_faults(Judging(pattern=r"\w", length_normalised=True), labelled())) == 2
    assert judging_faults(Judging("chrf", r"\w+"), rows) == []


def test_a_pattern_alone_asks_for_exact_matches() -> None:
    assert judging_of(None, GSM8K, False) == Judging("exact_match", GSM8K)
    assert judging_of("chrf", GSM8K, False).metric == "chrf"
    assert judging_of("accuracy", None, True) == Judging(None, None, True)
