"""An answer in a context: two scores at each token, where the answer begins and where it ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from promptreach.data import TaskData
from promptreach.training.task.contexts import NOWHERE, SpanTruth
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.kind import UNSCALED, Places, Scale, TaskKind, row_weights
from promptreach.training.task.kinds.span_scores import LONGEST, span_scores, spans_given
from promptreach.training.task.objective import HeadObjective, Outcomes
from promptreach.training.task.readout import LinearHead, Pooling, Problem, Reals, Wholes, blank_head, counted, folds

MOST_TOKENS = 16384
"""The tokens that the probe is fitted to, at most."""
_NEVER = -1e4
"""The score of a token that no answer begins or ends at; finite, so that nothing becomes infinite less infinite."""


class ContextAnswers(HeadObjective):
    """The mean cross-entropy of the first and the last token, each among the tokens of the context and the one that
    stands for no answer: one answer a question, right where it is SQuAD's exact match.

    `Outcomes.judged` is its F1 over words.
    """

    def answered(self, outputs: Float[Tensor, "batch ..."], data: Encoded, rows: Sequence[int]) -> Outcomes:
        """One answer a question."""
        assert data.targets is not None
        targets = data.targets[torch.tensor(rows)].to(outputs.device)
        truths: list[SpanTruth] = [data.truths[row] for row in rows]
        scores = outputs + _barred(truths, outputs)[..., None]
        loss = sum(cross_entropy(scores[..., end], targets[:, end], reduction="none") for end in (0, 1)) / 2
        assert isinstance(loss, Tensor)
        ones = torch.ones_like(loss)
        if torch.is_grad_enabled():
            return Outcomes(loss, ones, (scores.argmax(1) == targets).all(1).to(loss))
        found = spans_given(scores).tolist()
        scored = [span_scores(one.text(*span), one.answers) for one, span in zip(truths, found, strict=True)]
        exact, shared = torch.tensor(scored).to(loss).T
        return Outcomes(loss, ones, exact, judged=shared[:, None])


def _barred(truths: Sequence[SpanTruth], outputs: Tensor) -> Float[Tensor, "batch seq"]:
    """Zero at the tokens that an answer may begin or end at, and a score that never wins elsewhere."""
    barred = torch.full(outputs.shape[:2], _NEVER, dtype=outputs.dtype, device=outputs.device)
    for row, truth in enumerate(truths):
        barred[row, [NOWHERE, *truth.readable]] = 0.0
    return barred


@dataclass(frozen=True, eq=False)
class SpanProblem(Problem):
    """Two softmaxes over the tokens of each question, at one ridge penalty.

    Attributes:
        question: of each token, counted from 0.
        ends: for each question its first and its last right token, as rows of the features.
        weights: how much each question counts; None where all count alike.
    """

    question: Wholes
    ends: Wholes
    fold_of: Wholes
    weights: Reals | None = None

    def solve(self, x: Reals, rows: Wholes, penalty: float) -> tuple[Reals, Reals]:
        """The conditional logit of either end, by L-BFGS from zero."""
        found = [self._end(x, rows, end, penalty) for end in (0, 1)]
        return np.stack(found), np.zeros(2)

    def _end(self, x: Reals, rows: Wholes, end: int, penalty: float) -> Reals:
        features = torch.from_numpy(x[rows])
        asked, question = np.unique(self.question[rows], return_inverse=True)
        group = torch.from_numpy(question)
        right = torch.from_numpy(x[self.ends[asked, end]])
        own = counted(self.weights, asked)
        share = torch.ones(len(asked), dtype=torch.float64) if own is None else torch.from_numpy(own)
        weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            solver.zero_grad()
            nats = _normalisers(features @ weight, group, len(asked)) - right @ weight
            loss = (share * nats).sum() / share.sum() + penalty / 2 * weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with torch.enable_grad():
            solver.step(closure)  # type: ignore[no-untyped-call]
        found: Reals = weight.detach().numpy()
        return found

    def judge(self, outputs: Reals) -> tuple[float, float]:
        """The mean cross-entropy of both ends, and the share of questions with both right."""
        scores, group = torch.from_numpy(outputs), torch.from_numpy(self.question)
        count = len(self.ends)
        nats, hits = torch.zeros(count, dtype=torch.float64), torch.ones(count, dtype=torch.bool)
        for end in (0, 1):
            right = scores[torch.from_numpy(self.ends[:, end]), end]
            nats += (_normalisers(scores[:, end], group, count) - right) / 2
            best = torch.full((count,), -torch.inf, dtype=torch.float64)
            hits &= right >= best.scatter_reduce(0, group, scores[:, end], "amax")
        return float(np.average(nats, weights=self.weights)), float(np.average(hits.double(), weights=self.weights))


def _normalisers(scores: Tensor, group: Tensor, count: int) -> Tensor:
    """The logarithm of the summed exponentials of each group's scores."""
    most = torch.full((count,), -torch.inf, dtype=scores.dtype).scatter_reduce(0, group, scores.detach(), "amax")
    summed = torch.zeros(count, dtype=scores.dtype).index_add(0, group, (scores - most[group]).exp())
    return summed.log() + most


class Spans(TaskKind):
    """An answer that is a stretch of a context, or none."""

    name = "span"
    metrics = ("token_f1", "accuracy")
    accuracy = "exact match"
    probe = "a linear score of where an answer begins and one of where it ends"

    def poolings(self, model_task: str) -> tuple[Pooling, ...]:
        """Each token by itself."""
        return ("each",)

    def outputs(self, data: TaskData) -> int:
        """The two ends."""
        return 2

    def places(self, data: Encoded, seed: int, *, every: bool = False) -> Places:
        """The tokens that an answer may begin at: of as many questions as `MOST_TOKENS` allows."""
        found: dict[int, list[int]] = {}
        count = 0
        for row in torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist():
            tokens = sorted({NOWHERE, *data.truths[row].readable})
            if every or not found or count + len(tokens) <= MOST_TOKENS:
                found[row] = tokens
                count += len(tokens)
        return dict(sorted(found.items()))

    def problem(
        self, data: Encoded, places: Places | None, outputs: int, seed: int, class_weights: Tensor | None
    ) -> SpanProblem:
        """Two softmaxes; all tokens of a question are in one fold."""
        assert places is not None
        assert data.targets is not None
        question, ends, start = [], [], 0
        for number, (row, tokens) in enumerate(places.items()):
            question += [number] * len(tokens)
            ends.append([start + list(tokens).index(int(end)) for end in data.targets[row]])
            start += len(tokens)
        rows = torch.tensor(list(places))
        own = Encoded((), None, None, 0, weights=None if data.weights is None else data.weights[rows])
        fold_of = folds(np.array(ends)[:, 0] * 0, seed)
        weights = row_weights(own, None, torch.zeros(len(rows)))
        return SpanProblem(np.array(question), np.array(ends), fold_of[np.array(question)], weights)

    def objective(
        self, head: LinearHead, scale: Scale = UNSCALED, class_weights: Tensor | None = None
    ) -> ContextAnswers:
        """Cross-entropy of both ends."""
        return ContextAnswers(head)

    def said(
        self,
        outputs: Float[Tensor, "batch ..."],
        data: Encoded,
        rows: Sequence[int],
        names: Sequence[str],
        scale: Scale,
    ) -> list[str]:
        """The answer to each question; "none" where there is none."""
        truths: list[SpanTruth] = [data.truths[row] for row in rows]
        found = spans_given(outputs + _barred(truths, outputs)[..., None]).tolist()
        return [truth.text(*span) or "none" for truth, span in zip(truths, found, strict=True)]

    def constants(self, train: Encoded, judged: Encoded) -> list[Outcomes]:
        """No answer, the whole of what may be answered from the context's first token, and its first token alone."""
        longest = max(map(len, judged.sequences))
        found = []
        for last in (None, LONGEST, 1):
            outputs = torch.zeros(len(judged), longest, 2)
            for row, truth in enumerate(judged.truths):
                tokens = truth.readable
                outputs[row, NOWHERE if last is None else tokens[0], 0] = 1.0
                outputs[row, NOWHERE if last is None else tokens[:last][-1], 1] = 1.0
            with torch.no_grad():
                told = ContextAnswers(blank_head()).answered(outputs, judged, range(len(judged)))
            found.append(told.weighted(judged.weights))
        return found
