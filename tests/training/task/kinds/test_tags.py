"""Tags of words: loss, counts of entities, and answers behind the cut."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from helpers.tolerances import assert_close
from promptreach.data import TaggedWords
from promptreach.training.task.deciding import metric_faults, usual_metric
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.tags import Tags, WordTags, tags_given
from promptreach.training.task.metrics import score
from promptreach.training.task.readout import blank_head
from promptreach.training.task.words import NO_TAG, TagTruth

NAMES = ("B-PER", "I-PER", "O")
TRUTHS = (
    TagTruth(("B-PER", "I-PER", "O"), (1, 2, 4), NAMES),
    TagTruth(("O", "B-PER"), (1, None), NAMES),
)
TARGETS = torch.tensor([[NO_TAG, 0, 1, NO_TAG, 2], [NO_TAG, 2, NO_TAG, NO_TAG, NO_TAG]])
DATA = Encoded(((9, 5, 6, 7, 8), (9, 5, 3)), TARGETS, None, 0, truths=TRUTHS)


def outputs(tags: list[list[int]]) -> torch.Tensor:
    """Logits that are sure of one tag a token."""
    return 5 * torch.nn.functional.one_hot(torch.tensor(tags), 3).float()


@torch.no_grad()
def test_each_word_is_an_answer_and_entities_are_counted() -> None:
    given = outputs([[2, 0, 1, 1, 2], [2, 0, 2, 2, 2]])
    found = WordTags(blank_head()).answered(given, DATA, [0, 1])
    assert (found.answers.tolist(), found.right.tolist()) == ([3, 1], [3, 0])
    assert found.parts is not None
    # The second text's entity stands behind the cut: it is missed, and another is told in its place.
    assert found.parts.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert score("entity_f1", found) == 0.5
    expected = [
        cross_entropy(given[row][TARGETS[row] >= 0], TARGETS[row][TARGETS[row] >= 0], reduction="sum") for row in (0, 1)
    ]
    assert_close(found.loss, torch.stack(expected), "loss")
    assert tags_given(TRUTHS[1], [2, 0, 2]) == ["B-PER", "O"]


def test_weights_of_tags_weigh_the_loss_alone() -> None:
    given, weight = torch.randn(2, 5, 3), torch.tensor([1.0, 2.0, 0.5])
    plain, heavy = (WordTags(blank_head(), one).answered(given, DATA, [0, 1]) for one in (None, weight))
    read = TARGETS[0] >= 0
    expected = cross_entropy(given[0][read], TARGETS[0][read], weight, reduction="sum")
    assert_close(heavy.loss[0], expected, "loss")
    assert torch.equal(plain.answers, heavy.answers)
    assert plain.parts is None, "nothing is counted while gradients are on"


def test_the_probe_reads_every_word_and_keeps_a_text_in_one_fold() -> None:
    kind = Tags()
    places = kind.places(DATA, 0)
    assert dict(places) == {0: [1, 2, 4], 1: [1]}
    problem = kind.problem(DATA, places, 3, 0, None)
    assert problem.y.tolist() == [0, 1, 2, 2]
    assert len(set(problem.fold_of[:3].tolist())) == 1
    assert kind.counts(DATA, 3).tolist() == [1, 1, 2]
    assert [score("entity_f1", one) for one in kind.constants(DATA, DATA)] == [0, 0, 0]
    assert [one.accuracy for one in kind.constants(DATA, DATA)] == [0.25, 0.25, 0.5]


@pytest.mark.parametrize(("names", "usual"), [(NAMES, "entity_f1"), (("NN", "VB"), "accuracy")])
def test_entities_decide_where_tags_mark_them(names: tuple[str, ...], usual: str) -> None:
    data = TaggedWords((("a",), ("b",)), ((0,), (1,)), names)
    assert usual_metric(data) == usual
    assert bool(metric_faults("entity_f1", data)) == (usual == "accuracy")
    assert metric_faults("accuracy", data) == []
