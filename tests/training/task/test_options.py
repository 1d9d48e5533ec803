"""Answers that are one of several options: the choice by likelihood, against options scored one by one by hand."""

import pytest
import torch

from helpers.tasks import completer, sentences
from promptreach.data import Completions
from promptreach.errors import DataError
from promptreach.training.task.encoding import encode
from promptreach.training.task.judging import Judging
from promptreach.training.task.objective import Completion, RightOption
from promptreach.training.task.options import Options
from promptreach.training.task.task import Task, prepare

WORDS = ("good", "very bad", "awful")


def chosen_rows(count: int = 30) -> Completions:
    """Every third row has two options only."""
    prompts = sentences(count)
    options = tuple(tuple(f" {word}" for word in (WORDS[:2] if row % 3 == 0 else WORDS)) for row in range(count))
    return Completions(tuple(prompts), tuple(own[row % len(own)] for row, own in enumerate(options)), options=options)


@pytest.fixture(scope="module")
def task() -> Task:
    return prepare(completer(), chosen_rows(), longest_prompt=4)


def nats_by_hand(task: Task, prompt: str, option: str) -> float:
    """The loss of an option behind its prompt, read alone."""
    model = task.backbone
    (read,), (answer,) = model.tokenize_pairs([prompt], [option])
    hidden = model.hidden(model.batch([[*read, *answer]]))
    logits = model.vocabulary_logits(hidden)[0, len(read) - 1 : -1].log_softmax(-1)
    return -float(logits[torch.arange(len(answer)), torch.tensor(answer)].sum())


@pytest.mark.parametrize("per_character", [False, True])
def test_the_likeliest_option_is_the_answer(task: Task, per_character: bool) -> None:
    task = Task(**{**vars(task), "judging": Judging(length_normalised=per_character)})
    found = task.evaluate("held_out", task.objective())
    rows = task.held_out
    assert isinstance(rows, Completions)
    for row, (prompt, own) in enumerate(zip(rows.prompts, rows.options, strict=True)):
        nats = [nats_by_hand(task, prompt, option) for option in own]
        size = [len(option.strip()) if per_character else 1 for option in own]
        worth = [one / length for one, length in zip(nats, size, strict=True)]
        assert found.given is not None
        assert int(found.given[row]) == worth.index(min(worth))
        right = own.index(rows.completions[row])
        assert float(found.loss[row]) == pytest.approx(nats[right], rel=1e-4)
        assert float(found.right[row]) == float(worth.index(min(worth)) == right)
    assert found.answers.tolist() == [1.0] * len(rows)


def test_training_minimises_the_loss_that_is_scored(task: Task) -> None:
    objective = task.objective()
    assert isinstance(objective, RightOption)
    data, rows = task.encoded["held_out"], [0, 1, 2]
    batch = data.batch(task.backbone, rows)
    trained = objective.outcomes(task.backbone, task.backbone.hidden(batch), batch, data, rows)
    scored = task.evaluate("held_out", Completion())
    torch.testing.assert_close(trained.loss, scored.loss[:3], rtol=1e-4, atol=1e-4)


def test_all_options_are_read_behind_the_same_prompt_however_long_they_are() -> None:
    data = Completions(
        ("the cat sat on a mat " * 4,) * 2,
        (" good", " bad"),
        options=((" good", " bad is awful film"), (" good", " bad")),
    )
    found = encode(completer(), data, 10)
    assert found.options is not None
    fronts = [
        ids[: len(ids) - own] for ids, own in zip(found.options.sequences, found.options.answer_lengths, strict=True)
    ]
    assert fronts[0] == fronts[1]
    assert fronts[2] == fronts[3]
    assert max(map(len, found.options.sequences)) == 10
    assert found.truncated == 2
    assert [ids[len(ids) - own :] for ids, own in zip(found.sequences, found.answer_lengths or (), strict=True)] == [
        found.options.sequences[place][-found.options.answer_lengths[place] :] for place in (0, 3)
    ]


def test_taken_rows_keep_their_options() -> None:
    options = Options(((1, 2), (1, 3), (4, 5), (4, 6), (4, 7)), (1,) * 5, (2, 3), (1, 0), (3, 3, 4, 4, 4))
    taken = options.take([1])
    assert taken.sequences == ((4, 5), (4, 6), (4, 7))
    assert (taken.counts, taken.true, taken.characters) == ((3,), (0,), (4, 4, 4))
    assert taken.digest != options.digest
    assert options.chosen(torch.tensor([2.0, 1.0, 3.0, 1.0, 2.0])).tolist() == [1, 1]
    assert options.chosen(torch.tensor([2.0, 2.0, 3.0, 1.0, 2.0])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "length", "words"),
    [
        ((" good", " zzz", " qqq"), 20, "' zzz' and ' qqq', which are the same tokens"),
        ((" a a a a a a a a a a good", " a a a a a a a a a a bad"), 8, "read more of them"),
    ],
)
def test_options_that_are_the_same_tokens_are_refused(options: tuple[str, ...], length: int, words: str) -> None:
    data = Completions(("the cat sat", "the dog ran"), (options[0],) * 2, rows=(4, 7), options=(options,) * 2)
    with pytest.raises(DataError, match=words) as caught:
        encode(completer(), data, length)
    assert "row 4, options" in caught.value.faults[0].where
