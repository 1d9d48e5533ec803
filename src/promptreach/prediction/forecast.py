"""The forecast of what training would reach, from log odds and the empirical NTK at its start.

Notation: K_h the kernel of the head around the probe that it starts from, K_t the NTK of the tuning method, scaled to a
mean diagonal of 1; v_h and v the variances of the shifts in log odds that the penalty allows a priori, in
nats^2, so that the kernel of the whole is v_h K_h + v K_t.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Side
from promptreach.prediction.kernel_logistic import Fit, fit_log_odds, left_out, nats, reachable_share
from promptreach.prediction.log_odds import LogOdds
from promptreach.report.formatting import counted

HEAD_SHIFTS = (0.0, 0.1, 1.0)
"""Variances v_h that are tried, in nats^2; 0 leaves the head at the probe."""
SHIFTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Variances v that are tried, in nats^2; 0 leaves the method at its start."""
CONFIDENCE = 0.9
"""The share of cases in which an interval holds what training reaches."""
_QUANTILE = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
TRAINING_ERROR = 0.02
"""Standard deviation, in nats an answer, of what training reached around what was predicted, beyond what the number of
rows explains: what 24 runs of benchmarks/tuning/predict.py with one seed asked for (`training_error_for_coverage`).
Other seeds say there how often the intervals then hold."""
_MODEL_OF_TRAINING = (
    Assumption("log odds move as their first derivative at the start says", checked=False, detail="a model"),
    Assumption("training stops where the leave-one-out loss would", checked=False, detail="a model"),
)


@dataclass(frozen=True)
class Prediction:
    """A prediction of what training one method at one size reaches, at a well-chosen learning rate and best stop.

    The head is not trained beyond the probe that it starts from, so that what it reaches is measured there.

    Attributes:
        method: as for `fit`.
        tokens, rank: its size; 0 where it has none.
        parameters: trainable numbers of the method itself, the shared head not counted.
        start_loss: of held-out answers at the start, before any training; nats per answer, as all losses here.
        train_loss: of training rows.
        left_out_loss: of training rows, each predicted by the fit without it, and read by a classifier without it.
        held_out_loss: of held-out rows.
        accuracy: share of right held-out answers.
        interval: holds the held-out loss that training reaches in `CONFIDENCE` of cases, by past experience; a single
            point for the head, which is measured.
        reachable_share: of the squared residuals of training rows at the start, the share that some small change of
            this form answers to first order; below 1 the form itself, and not its training, leaves the rest.
        shift: the chosen variance of the log odds' shift, nats^2; 0 when no training of this form is expected to help.
        sample: what was looked at.
    """

    method: str
    tokens: int
    rank: int
    parameters: int
    start_loss: float
    train_loss: float
    left_out_loss: float
    held_out_loss: float
    accuracy: float
    interval: tuple[float, float]
    reachable_share: float
    shift: float
    sample: str

    @property
    def label(self) -> str:
        """A few words for tables."""
        size = f" {counted(self.tokens, 'token')}" if self.tokens else f" rank {self.rank}" if self.rank else ""
        return f"{self.method}{size}"

    @property
    def evidence(self) -> Evidence:
        """MEASURED for the head, which `fit` does not train beyond its start; PREDICTED for every other method."""
        return Evidence.MEASURED if self.method == "head" else Evidence.PREDICTED

    @property
    def certificates(self) -> tuple[Certificate, Certificate, Certificate]:
        """The held-out loss, the accuracy and the reachable share with what they rest on."""
        is_predicted = self.evidence is Evidence.PREDICTED
        low, high = self.interval
        interval = f"; {CONFIDENCE:.0%} interval {low:.3f} to {high:.3f}" if is_predicted else ""
        whose = f"a trained {self.label}" if is_predicted else "the head alone"

        def certificate(claim: str, value: float) -> Certificate:
            assumptions = _MODEL_OF_TRAINING if is_predicted else ()
            return Certificate(claim, value, Side.EXACT, self.evidence, assumptions, sample=self.sample)

        return (
            certificate(f"held-out loss of {whose}, nats per answer{interval}", self.held_out_loss),
            certificate(f"share of right held-out answers of {whose}", self.accuracy),
            certificate(
                f"share of the squared residual on training rows that a {self.label} reaches to first order",
                self.reachable_share,
            ),
        )


@dataclass(frozen=True, eq=False)
class Start:
    """The log odds where a form starts. A kernel between all its rows and the training rows has theirs in this order.

    Attributes:
        train: training rows, as training sees them.
        left_out: training rows as rows that were never seen: read by classifiers that do not know their labels.
        held_out: held-out rows.
    """

    train: LogOdds
    left_out: LogOdds
    held_out: LogOdds

    @property
    def parts(self) -> tuple[LogOdds, LogOdds, LogOdds]:
        return self.train, self.left_out, self.held_out

    def split(self, kernel: Float[Tensor, "all rows"]) -> tuple[Tensor, ...]:
        """The kernel's rows of each part."""
        return torch.split(kernel, [len(part.log_odds) for part in self.parts])


def gram(
    train: Float[Tensor, "rows numbers"],
    left_out: Float[Tensor, "some numbers"],
    held_out: Float[Tensor, "others numbers"],
) -> Float[Tensor, "all rows"]:
    """The products of gradients, in float64: rounded products would have negative eigenvalues."""
    known = train.double().T
    return torch.cat([part.double() @ known for part in (train, left_out, held_out)])


def normalised(kernel: Float[Tensor, "all rows"]) -> Float[Tensor, "all rows"]:
    """With a mean diagonal of 1 among the training rows; a kernel of zeros as it is."""
    mean = float(kernel.diagonal().mean())
    return kernel * (1.0 / mean) if mean > 0 else kernel


def head_kernel(start: Start) -> Float[Tensor, "all rows"]:
    """K_h: what the linear head, its bias included, can do about the log odds; zeros where there is no head."""
    features, sides = (torch.cat([getattr(part, name) for part in start.parts]) for name in ("features", "sides"))
    similarity = features @ start.train.features.T / max(1, features.shape[1]) + 1.0
    return (sides @ start.train.sides.T) * similarity


@dataclass(frozen=True, eq=False)
class Choice:
    """A fit, and how the rows left out fare in it.

    Attributes:
        shift: the variance that was chosen.
        fit: of the training rows.
        left_out_loss: nats per answer.
    """

    shift: float
    fit: Fit
    left_out_loss: float


def choose(start: Start, kernel_of: Callable[[float], Tensor], shifts: Sequence[float]) -> Choice:
    """The shift with the lowest leave-one-out loss; the first one of equals."""

    def tried(shift: float) -> Choice:
        among, before, _ = start.split(kernel_of(shift))
        fit = fit_log_odds(among, start.train.log_odds, start.train.answers)
        seen = start.left_out
        log_odds = left_out(fit, start.train.example, seen.log_odds, before, seen.example)
        return Choice(shift, fit, mean_loss(log_odds, seen))

    return min(map(tried, shifts), key=lambda one: one.left_out_loss)


def mean_loss(log_odds: Tensor, rows: LogOdds) -> float:
    """The mean loss of rows with these log odds, nats per answer."""
    return float((rows.answers * nats(log_odds)).sum() / rows.answers.sum())


def standard_error(log_odds: Tensor, rows: LogOdds) -> float:
    """The standard error of `mean_loss`, over examples as a random sample (a ratio estimate)."""
    loss = torch.zeros(int(rows.example[-1]) + 1, dtype=torch.float64)
    answers = loss.index_add(0, rows.example, rows.answers)
    loss = loss.index_add(0, rows.example, rows.answers * nats(log_odds))
    residual = loss - mean_loss(log_odds, rows) * answers
    return float(residual.std() / answers.mean() / math.sqrt(len(loss)))


def accuracy(log_odds: Float[Tensor, " rows"], rows: LogOdds, seen: LogOdds) -> float:
    """The predicted share of right answers among rows with these log odds.

    A wrong answer has at most half the probability, so it costs at least log 2 nats: of c answers with the mean loss L
    at most c L / log 2 are wrong. Answers below half the probability may be right as well; how often is read off the
    rows `seen`, as a curve that rises with their log odds.
    """
    curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    curve.fit(seen.log_odds.numpy(), (seen.right / seen.answers).numpy(), sample_weight=seen.answers.numpy())
    usual = rows.answers * torch.from_numpy(curve.predict(log_odds.numpy()))
    least = rows.answers - (rows.answers * nats(log_odds) / math.log(2)).floor()
    return float(torch.maximum(usual, least).sum() / rows.answers.sum())


def forecast(start: Start, ntk: Tensor, *, method: str, tokens: int, rank: int, parameters: int) -> Prediction:
    """The prediction for one method at one size, from where it starts and its NTK."""
    head, ntk = head_kernel(start), normalised(ntk)
    of_head = choose(start, lambda shift: head * shift, HEAD_SHIFTS if head.any() else HEAD_SHIFTS[:1])
    moved_head = head * of_head.shift
    chosen = choose(start, lambda shift: moved_head + ntk * shift, SHIFTS)
    held_out = start.held_out.log_odds + start.split(moved_head + ntk * chosen.shift)[2] @ chosen.fit.pull
    loss = mean_loss(held_out, start.held_out)
    half = _QUANTILE * math.hypot(standard_error(held_out, start.held_out), TRAINING_ERROR)
    return Prediction(
        method=method,
        tokens=tokens,
        rank=rank,
        parameters=parameters,
        start_loss=mean_loss(start.held_out.log_odds, start.held_out),
        train_loss=mean_loss(chosen.fit.log_odds, start.train),
        left_out_loss=chosen.left_out_loss,
        held_out_loss=loss,
        accuracy=accuracy(held_out, start.held_out, start.left_out),
        interval=(max(0.0, loss - half), loss + half),
        reachable_share=reachable_share(start.split(ntk)[0], _pull(start)),
        shift=chosen.shift,
        sample=_sample(start),
    )


def control(start: Start) -> Prediction:
    """The head alone, which `fit` does not train beyond the probe: what is MEASURED at its start."""
    train, held_out = start.train, start.held_out
    loss = mean_loss(held_out.log_odds, held_out)
    return Prediction(
        method="head",
        tokens=0,
        rank=0,
        parameters=0,
        start_loss=loss,
        train_loss=mean_loss(train.log_odds, train),
        left_out_loss=mean_loss(start.left_out.log_odds, start.left_out),
        held_out_loss=loss,
        accuracy=float(held_out.right.sum() / held_out.answers.sum()),
        interval=(loss, loss),
        reachable_share=reachable_share(start.split(head_kernel(start))[0], _pull(start)),
        shift=0.0,
        sample=_sample(start),
    )


def _pull(start: Start) -> Tensor:
    """The pull of each training row at its log odds before any training: the residual of its answers."""
    return start.train.answers * torch.sigmoid(-start.train.log_odds)


def _sample(start: Start) -> str:
    train, held_out = (int(part.example[-1]) + 1 for part in (start.train, start.held_out))
    return f"{train} training and {held_out} held-out rows, one start"
