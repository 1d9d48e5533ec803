"""A tag a word: softmax and cross-entropy at the first token of each word, and entities where tags mark them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from promptreach.data import TaggedWords, TaskData
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.entities import entity_counts, marks_entities
from promptreach.training.task.kinds.kind import UNSCALED, Places, Scale, TaskKind, row_weights
from promptreach.training.task.objective import HeadObjective, Outcomes
from promptreach.training.task.readout import ClassProblem, LinearHead, Pooling, blank_head, folds
from promptreach.training.task.words import NO_TAG, TagTruth

MOST_WORDS = 8192
"""The words that the probe is fitted to, at most."""
_OUTSIDE = "O"


class WordTags(HeadObjective):
    """The cross-entropy of each word that is read, each tag's times its weight: one answer a word.

    `Outcomes.parts` counts the entities of a text that are given and true, that are given, and that are true. A word
    behind the cut is given O.
    """

    def __init__(self, head: LinearHead, class_weights: Float[Tensor, " tags"] | None = None) -> None:
        super().__init__(head)
        self.class_weights = class_weights

    def answered(self, outputs: Float[Tensor, "batch ..."], data: Encoded, rows: Sequence[int]) -> Outcomes:
        """One answer a word, summed for each text."""
        assert data.targets is not None
        targets = data.targets[torch.tensor(rows), : outputs.shape[1]].to(outputs.device)
        weight = None if self.class_weights is None else self.class_weights.to(outputs)
        losses = cross_entropy(outputs.transpose(1, 2), targets, weight, ignore_index=NO_TAG, reduction="none")
        given, read = outputs.argmax(-1), targets != NO_TAG
        right, answers = ((given == targets) & read).sum(1).to(losses), read.sum(1).to(losses)
        parts = None
        if not torch.is_grad_enabled():
            tagged = given.cpu().tolist()
            truths = [data.truths[row] for row in rows]
            parts = torch.tensor(
                [entity_counts(tags_given(one, own), one.tags) for one, own in zip(truths, tagged, strict=True)]
            )
        return Outcomes(losses.sum(1), answers, right, parts=parts)


def tags_given(truth: TagTruth, given: Sequence[int]) -> list[str]:
    """The tag of each word, from the tag that each token was given."""
    return [_OUTSIDE if place is None else truth.names[given[place]] for place in truth.firsts]


class Tags(TaskKind):
    """One tag a word."""

    name = "tags"
    metrics = ("entity_f1", "accuracy")
    accuracy = "tag accuracy"
    probe = "a logistic regression on each word"
    weighs_classes = True

    def usual(self, data: TaskData) -> str:
        """Entity F1 where the tags mark entities, else the share of right tags."""
        assert isinstance(data, TaggedWords)
        return "entity_f1" if marks_entities(data.label_names) else "accuracy"

    def poolings(self, model_task: str) -> tuple[Pooling, ...]:
        """Each token by itself."""
        return ("each",)

    def outputs(self, data: TaskData) -> int:
        """One a tag."""
        assert isinstance(data, TaggedWords)
        return len(data.label_names)

    def places(self, data: Encoded, seed: int, *, every: bool = False) -> Places:
        """The first token of every word: of as many texts, in an order of the seed's, as `MOST_WORDS` allows."""
        found: dict[int, list[int]] = {}
        count = 0
        for row in torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist():
            words = [place for place in data.truths[row].firsts if place is not None]
            if words and (every or not found or count + len(words) <= MOST_WORDS):
                found[row] = words
                count += len(words)
        return dict(sorted(found.items()))

    def problem(
        self, data: Encoded, places: Places | None, outputs: int, seed: int, class_weights: Tensor | None
    ) -> ClassProblem:
        """A logistic regression of words, all words of a text in one fold."""
        assert places is not None
        assert data.targets is not None
        tags = torch.cat([data.targets[row, list(words)] for row, words in places.items()])
        texts = torch.tensor([row for row, words in places.items() for _ in words])
        own = Encoded((), None, None, 0, weights=None if data.weights is None else data.weights[texts])
        first = torch.tensor([int(data.targets[row, words[0]]) for row, words in places.items()])
        fold_of = dict(zip(places, folds(first.numpy(), seed).tolist(), strict=True))
        folded = torch.tensor([fold_of[row] for row in texts.tolist()]).numpy()
        return ClassProblem(tags.numpy(), outputs, folded, row_weights(own, class_weights, tags))

    def objective(self, head: LinearHead, scale: Scale = UNSCALED, class_weights: Tensor | None = None) -> WordTags:
        """Cross-entropy of the words."""
        return WordTags(head, class_weights)

    def constants(self, train: Encoded, judged: Encoded) -> list[Outcomes]:
        """Each tag of the training texts, for every word."""
        assert train.targets is not None
        assert judged.targets is not None
        found, longest = [], judged.targets.shape[1]
        names = len(train.truths[0].names)
        for tag in sorted(set(train.targets[train.targets != NO_TAG].tolist())):
            outputs = torch.zeros(len(judged), longest, names)
            outputs[..., tag] = 1.0
            with torch.no_grad():
                told = WordTags(blank_head()).answered(outputs, judged, range(len(judged)))
            found.append(told.weighted(judged.weights))
        return found

    def said(
        self,
        outputs: Float[Tensor, "batch ..."],
        data: Encoded,
        rows: Sequence[int],
        names: Sequence[str],
        scale: Scale,
    ) -> list[str]:
        """The tags of each text with blanks between them."""
        tagged = outputs.argmax(-1).tolist()
        return [" ".join(tags_given(data.truths[row], own)) for row, own in zip(rows, tagged, strict=True)]

    def counts(self, train: Encoded, outputs: int) -> Float[Tensor, " outputs"]:
        """The words of each tag."""
        assert train.targets is not None
        return train.targets[train.targets != NO_TAG].bincount(minlength=outputs).float()
