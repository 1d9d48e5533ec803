"""The one table of tolerances: how far each quantity may be from its reference, by dtype.

Only the *tight* side of a bound and comparisons of two correct computations have a row. The sound side of a bound is
compared with plain ``<=`` and ``>=``: it has no tolerance anywhere.
"""

import torch
from torch import Tensor

TOLERANCES: dict[tuple[str, torch.dtype], tuple[float, float]] = {
    # (quantity, dtype of the computation under test): (relative, absolute)
    ("attention output", torch.float64): (1e-12, 1e-13),
    ("attention output", torch.float32): (2e-5, 2e-6),
    # Inputs carry 8 bits, the computation runs in float32, and the reference sees the same rounded inputs.
    ("attention output", torch.bfloat16): (2e-5, 2e-6),
    # Relative only: a share of 1e-200 must be right in its leading digits too.
    ("attention share", torch.float64): (1e-12, 0.0),
    ("attention share", torch.float32): (2e-5, 0.0),
    ("attention statistic", torch.float64): (1e-12, 1e-12),
    ("attention gradient", torch.float64): (1e-9, 1e-10),
    # Our float32 formula against transformers' float32 kernels.
    ("captured attention", torch.float32): (1e-5, 2e-6),
    ("real captured attention", torch.float32): (1e-5, 2e-5),
    # The same module twice, by our road and by PEFT's.
    ("joined states", torch.float32): (1e-5, 2e-6),
    # Logits of a tiny model from embeddings that were written to a file, against PEFT's in front of the same text.
    ("served logits", torch.float32): (1e-5, 2e-6),
    # A trained head multiplies the rounding of the states it reads.
    ("classifier logits", torch.float32): (1e-4, 1e-4),
    # The same states from a batch of another shape, so that sums run in another order through two layers.
    ("reordered states", torch.float32): (1e-5, 2e-5),
    ("layer output", torch.float64): (1e-11, 1e-12),
    # transformers' RMSNorm computes in float32 whatever the model's dtype.
    ("layer output after a float32 norm", torch.float64): (1e-5, 2e-6),
    ("transformer output", torch.float64): (1e-11, 1e-12),
    # Softmax scores of several hundred: their rounding moves weights by as many units in the last place.
    ("interpolated output", torch.float64): (1e-9, 1e-10),
    ("pooled states", torch.float32): (1e-6, 1e-6),
    # Two float32 roads through the same head; standardising may take the difference of numbers of size 10.
    ("folded logits", torch.float32): (1e-5, 1e-4),
    # scikit-learn's float64 solution against the float32 head that starts from it.
    ("probe probabilities", torch.float32): (1e-4, 1e-5),
    # A mean over answers, summed in another order.
    ("loss", torch.float32): (1e-5, 1e-6),
    # One row's loss from states that another batch shape rounds differently.
    ("loss of a row", torch.float32): (1e-4, 1e-4),
    # A few steps of Adam at rates up to 0.3 from gradients whose sums ran in another order.
    ("side by side", torch.float32): (1e-3, 1e-3),
    # 4,000 resamples know a standard error to about one per cent; the formula is itself of first order.
    ("bootstrapped error", torch.float64): (0.05, 0.0),
    # Gradients of examples in one batch against one example at a time, through two layers in float32.
    ("tangent kernel", torch.float32): (1e-3, 1e-4),
    ("log odds", torch.float32): (1e-4, 1e-4),
    # Newton's method stops at relative gains of 1e-12 in an objective that is quadratic there.
    ("log odds", torch.float64): (1e-4, 1e-4),
    ("logistic regression", torch.float64): (1e-4, 1e-4),
    # A direction whose eigenvalue is within a few times 1e-8 of the mean is reached by degrees.
    ("reachable share", torch.float64): (0.0, 1e-4),
    # Certified over numerical spectral norm, minus one: what the rounding account may cost at sizes up to 64.
    ("spectral norm slack", torch.float64): (1e-11, 0.0),
    # Certified floor against the error that was reached, for one head.
    ("oracle gap", torch.float64): (1e-8, 0.0),
    # The oracle's numbers against closed forms.
    ("oracle value", torch.float64): (1e-7, 1e-6),
    # The same for several heads: the branch and bound stops a little short of one percent.
    ("several heads gap", torch.float64): (1e-2, 0.0),
    # What the account of rounding costs a box that is a single point, with well-conditioned numbers.
    ("several heads point", torch.float64): (1e-10, 0.0),
    # What L-BFGS in float64 leaves of targets of size 1 that it can reach.
    ("trained to the target", torch.float64): (0.0, 1e-5),
    # Mass and mean of a built prompt against the wanted ones.
    ("built prompt", torch.float64): (1e-9, 1e-10),
    # A compiled prompt put in front by PEFT and by the backbone itself: the same modules on the same rows.
    ("compiled through PEFT", torch.float64): (0.0, 1e-13),
    # PEFT's default keeps the prompt in float32; one head multiplies its rows by tokens + 1.
    ("compiled through PEFT", torch.float32): (0.0, 5e-7),
    # A compiled kernel against plain sums: scores near 1e2 lose two digits in the exponential.
    ("kernel smoother", torch.float64): (1e-12, 1e-12),
    # Centring moves means of size 10 by softmax-neutral shifts: scores near 1e3 lose three digits.
    ("centred weights", torch.float64): (1e-11, 1e-11),
    # A head's error against dense attention: the same sums in another order, over a deviation of size 1.
    ("shrink error", torch.float64): (1e-9, 1e-10),
    # A kernel of a few hundred features against the truncated series.
    ("polynomial kernel", torch.float64): (1e-11, 1e-11),
    ("tensor norm", torch.float64): (1e-11, 0.0),
    # Second moments that a linear map made equal; a ridge of 1e-8 is part of the map.
    ("balanced moments", torch.float64): (1e-5, 1e-12),
    # Asked for a range error of 1e-3 with values of range up to 5: the certificate is the sound side.
    ("polynomial output at 1e-3", torch.float32): (0.0, 5e-3),
    # Asked for a range error of 1e-8; a gradient multiplies it by the degree.
    ("polynomial gradient", torch.float64): (1e-5, 1e-7),
    # The output itself carries 8 bits.
    ("attention output in bfloat16", torch.bfloat16): (8e-3, 1e-3),
    # torch's fused kernel, with the mass from the sentinel's share, against the definition in float64.
    ("fused statistic", torch.float64): (1e-11, 1e-11),
    ("fused statistic", torch.float32): (1e-4, 2e-5),
    # An approximate answer's gradient against the exact one's: the norm of the difference over that of the exact one.
    ("approximate gradient", torch.float64): (0.0, 0.2),
    # Mean losses of a tiny model, batched with padding against one text after another.
    ("language loss", torch.float32): (1e-4, 1e-5),
}


def assert_close(actual: Tensor, expected: Tensor, quantity: str, dtype: torch.dtype | None = None) -> None:
    """Fail unless every entry agrees within the table's row for `quantity` (by default at the dtype of `actual`)."""
    relative, absolute = TOLERANCES[quantity, actual.dtype if dtype is None else dtype]
    torch.testing.assert_close(actual.double(), expected.double(), rtol=relative, atol=absolute)
