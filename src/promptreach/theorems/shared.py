"""Attention over a prompt and content, and norms: what every room rests on."""

from promptreach.theorems.record import PAPER_B, PETROV, Theorem

ENTRIES = (
    Theorem(
        key="mixture-identity",
        paper=PETROV,
        number="",
        statement=(
            "For every query, attention over content and prompt is (1 - rho) h + rho g, where h and g are attention "
            "over the content and over the prompt alone and rho = Z_P / (Z_X + Z_P); the ratio between two content "
            "weights does not depend on the prompt."
        ),
        hypotheses=("one layer at given queries, keys and values; any mask, scale and head grouping",),
        function="attention:split",
        test="tests/test_attention_laws.py",
        confidence="elementary; re-derived, and tested against dense attention",
    ),
    Theorem(
        key="statistics-merge",
        paper="here",
        number="",
        statement=(
            "Mass and value sum over a disjoint union of key sets are the sums over its parts, so statistics merge "
            "commutatively and associatively, with the empty set as neutral element."
        ),
        hypotheses=("the same queries and scale",),
        function="attention:merge",
        test="tests/test_attention_laws.py",
        confidence="elementary",
    ),
    Theorem(
        key="statistics-complete",
        paper="Mondal, Shihab 2026 (manuscript)",
        number="Proposition 2",
        statement=(
            "Two inputs give equal outputs under every one-slot key/value prefix if and only if their statistics "
            "(q, Z, N) are equal."
        ),
        hypotheses=("one head at one query position", "free prefix keys and values"),
        function="attention:statistics",
        test="tests/test_attention_laws.py",
        confidence=(
            "the manuscript is not peer reviewed; re-derived: varying the slot's value reads off Z and then N, varying "
            "its key reads off q"
        ),
    ),
    Theorem(
        key="centring-invariance",
        paper="here",
        number="",
        statement=(
            "For every query, softmax weights do not change when one vector is subtracted from all keys, nor when a "
            "vector c is subtracted from all queries and key j is weighted by exp(scale * c.k_j)."
        ),
        hypotheses=("the same vectors for all queries and keys of one softmax",),
        function="fast_attention.norm_criterion:centred",
        test="tests/fast_attention/test_norm_criterion_laws.py",
        confidence="elementary",
    ),
    Theorem(
        key="almost-linear-hardness",
        paper=PAPER_B,
        number="Theorem 3.1",
        statement=(
            "Under SETH, for every q > 0 there are constants such that no algorithm approximates attention over prompt "
            "and content to a polynomially small error in time O(n^(2-q)), n = prompt and content length, when "
            "head_dim = C log n and entries reach C_b sqrt(log n)."
        ),
        hypotheses=("SETH", "worst-case inputs, n to infinity", "scores q.k / head_dim"),
        function="fast_attention.norm_criterion:norm_criterion",
        test="tests/fast_attention/test_norm_criterion_laws.py",
        claim="B4",
        confidence="statement from memory, 88 %; describes, never certifies",
    ),
    Theorem(
        key="max-norm",
        paper="here",
        number="",
        statement="The largest absolute entry of a float64 matrix is a float64 number and is found without rounding.",
        hypotheses=("every entry is a finite float64 number",),
        function="norms:max_norm",
        test="tests/test_norms_oracle.py",
        confidence="elementary",
    ),
    Theorem(
        key="frobenius-upper",
        paper="Higham 2002, Accuracy and Stability of Numerical Algorithms",
        number="Section 3.1",
        statement=(
            "A sum of k squares formed in any order errs by a factor of at most 1 + gamma(k), where "
            "gamma(k) = k u / (1 - k u)."
        ),
        hypotheses=("every entry is a finite float64 number",),
        function="norms:frobenius",
        test="tests/test_norms_attack.py",
        confidence="textbook",
    ),
    Theorem(
        key="spectral-upper",
        paper="here",
        number="",
        statement=(
            "For all matrices U, V, all s >= 0 and R = A - U diag(s) V^T: |A| <= |U| max(s) |V| + |R|, and "
            "|F|^2 <= 1 + |F^T F - I| for every F. Both are evaluated with rounding accounted for."
        ),
        hypotheses=("every entry is a finite float64 number",),
        function="norms:spectral_upper",
        test="tests/test_norms_attack.py",
    ),
    Theorem(
        key="spectral-lower",
        paper="here",
        number="",
        statement="For every v other than 0, the spectral norm of A is at least |A v| / |v|.",
        hypotheses=("every entry is a finite float64 number",),
        function="norms:spectral_lower",
        test="tests/test_norms_attack.py",
        confidence="definition of the norm",
    ),
)
