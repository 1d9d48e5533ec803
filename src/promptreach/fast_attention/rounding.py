"""The arithmetic that certificates of this room rest on, said once.

Sums, products and quotients are those of IEEE arithmetic; a matrix product is a sum of products in some order, fused or
not, in the dtype of its operands; exp and sqrt are right to one unit in the last place. Every count of roundings is
rounded up. Bounds themselves are formed in float64, where each number is nonnegative, so that counting roundings is all
there is to do.
"""

import torch


def unit(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding in `dtype`: half the gap between 1 and the next number."""
    return 0.5 * float(torch.finfo(dtype).eps)


def gamma(count: int, dtype: torch.dtype = torch.float64) -> float:
    """At least the relative error that `count` roundings in `dtype` can add up to; infinite when it has no bound."""
    share = (count + 1) * unit(dtype)
    return share / (1 - share) if share < 0.5 else float("inf")
