"""Errors of fast attention: the room `inference`."""

from promptreach.theorems.record import PAPER_B, Theorem

ENTRIES = (
    Theorem(
        key="almost-linear-inference",
        paper=PAPER_B,
        number="Theorem 3.2",
        statement=(
            "When head_dim = O(log n) and all entries of queries and keys are o(sqrt(log n)), attention over prompt "
            "and content is approximated to a polynomially small error in time n^(1+o(1)) by the polynomial method."
        ),
        hypotheses=("n to infinity with unspecified constants", "scores q.k / head_dim", "bounded values"),
        function="fast_attention.polynomial.method:PolynomialMethod",
        test="tests/fast_attention/polynomial/test_method_attack.py",
        claim="B5",
        confidence="statement from memory, 88 %; describes, never certifies",
    ),
    Theorem(
        key="polynomial-remainder",
        paper="here, after Alman, Song 2023 (2302.13214)",
        number="",
        statement=(
            "With the Taylor polynomial of degree g in place of exp, the output at query i is off by at most (sum "
            "over t = g + 1 .. G of |q_i|^t |T_t| / t! + |q_i|^G (q_i^T C q_i)^(1/2) S / (G + 1)!) / D_i, where T_t "
            "are the keys' moment tensors with the values' deviations, C = sum_j w_j |k_j|^2G theta^2 k_j k_j^T, "
            "S^2 = sum_j w_j (v_j - o_i)^2, and D_i is the mass. Rounding adds Gamma (sum_j w_j "
            "exp(2 |q_i||k_j|))^(1/2) (sum_j w_j v_j^2)^(1/2) / D_i, and what it moves the weights."
        ),
        hypotheses=(
            "finite inputs",
            "IEEE arithmetic, products as sums in some order in the working dtype, exp and sqrt to one unit in the "
            "last place",
        ),
        function="fast_attention.polynomial.remainder:row_errors",
        test="tests/fast_attention/polynomial/test_method_attack.py",
        confidence="proved in polynomial/remainder.py; no violation among random and adversarial problems",
    ),
    Theorem(
        key="symmetric-tensor-norm",
        paper="textbook",
        number="",
        statement=(
            "A symmetric tensor T of order t, flattened to a matrix over normalised monomials of degrees s and t - s, "
            "has |T(q, .., q)| <= |q|^t times the matrix's spectral norm, for every s; and the spectral norm of a "
            "symmetric A is |A^(2^k)| to the power 2^-k, at most that power of its Frobenius norm."
        ),
        hypotheses=("float64, counted roundings",),
        function="fast_attention.polynomial.tensors:form_norms",
        test="tests/fast_attention/polynomial/test_tensors_laws.py",
    ),
    Theorem(
        key="held-out-rows",
        paper="here",
        number="",
        statement=(
            "Errors of rows drawn independently and uniformly: the largest of h bounds all but a fraction "
            "1 - delta^(1/h) of all rows with probability 1 - delta; and the smallest r at which bets against "
            "E min(e, T) >= r^2 "
            "E min(d, D) win 1/delta bounds the root of their ratio with probability 1 - delta."
        ),
        hypotheses=("rows drawn by `draw_rows`, not used in the fit", "caps set by other rows"),
        function="fast_attention.sampled.holdout:certify",
        test="tests/fast_attention/sampled/test_holdout_laws.py",
        confidence="proved in sampled/holdout.py (Ville's inequality); 2,000 problems in benchmarks/inference",
    ),
)
