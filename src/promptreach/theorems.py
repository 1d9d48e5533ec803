"""The theorems this library rests on: where each comes from, what it needs, what uses it and which test holds it.

`Certificate.theorem` names a key of `THEOREMS`. The table in the documentation is `as_markdown()`, so what it says of a
theorem and what the code does cannot drift apart: a test looks up every function and every test file named here.

An entry appears when its function exists. Statements marked "from memory" were written down without the paper's full
text at hand and derived again as far as `confidence` says; check the PDF before quoting their numbers.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theorem:
    """One statement and everything that stands behind its use here.

    Attributes:
        key: what certificates call it.
        paper: authors and year, with the arXiv number; ``"here"`` for what this project derived.
        number: the paper's own number, or empty.
        statement: with its quantifiers, in the library's notation.
        hypotheses: what has to hold; a PROVED certificate has checked each of them.
        function: ``"module:function"`` inside promptreach, or empty where the statement only informs a docstring.
        test: the file that tests it, relative to the project.
        claim: the claim of the papers it belongs to (A1..A5 and B1..B5: their theorems in order), or empty.
        confidence: how the statement is known.
    """

    key: str
    paper: str
    number: str
    statement: str
    hypotheses: tuple[str, ...]
    function: str
    test: str
    claim: str = ""
    confidence: str = "proved in the docstring or comments of its function"


_PETROV = "Petrov, Torr, Bibi 2024 (2310.19698)"
_PAPER_B = "Hu et al. 2025 (2411.16525)"

_ENTRIES = (
    Theorem(
        key="mixture-identity",
        paper=_PETROV,
        number="",
        statement=(
            "For every query, attention over content and prompt is (1 - rho) h + rho g, where h and g are attention "
            "over the content and over the prompt alone and rho = Z_P / (Z_X + Z_P); the ratio between two content "
            "weights does not depend on the prompt."
        ),
        hypotheses=("one layer at given queries, keys and values; any mask, scale and head grouping",),
        function="attention:split",
        test="tests/test_laws_attention.py",
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
        test="tests/test_laws_attention.py",
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
        test="tests/test_laws_attention.py",
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
        function="norms:centred",
        test="tests/test_laws_norms.py",
        confidence="elementary",
    ),
    Theorem(
        key="almost-linear-hardness",
        paper=_PAPER_B,
        number="Theorem 3.1",
        statement=(
            "Under SETH, for every q > 0 there are constants such that no algorithm approximates attention over prompt "
            "and content to a polynomially small error in time O(n^(2-q)), n = prompt and content length, when "
            "head_dim = C log n and entries reach C_b sqrt(log n)."
        ),
        hypotheses=("SETH", "worst-case inputs, n to infinity", "scores q.k / head_dim"),
        function="norms:norm_criterion",
        test="tests/test_laws_norms.py",
        claim="B4",
        confidence="statement from memory, 88 %; describes, never certifies",
    ),
    Theorem(
        key="almost-linear-inference",
        paper=_PAPER_B,
        number="Theorem 3.2",
        statement=(
            "When head_dim = O(log n) and all entries of queries and keys are o(sqrt(log n)), attention over prompt "
            "and content is approximated to a polynomially small error in time n^(1+o(1)) by the polynomial method."
        ),
        hypotheses=("n to infinity with unspecified constants", "scores q.k / head_dim", "bounded values"),
        function="norms:norm_criterion",
        test="tests/test_laws_norms.py",
        claim="B5",
        confidence="statement from memory, 88 %; describes, never certifies",
    ),
    Theorem(
        key="max-norm",
        paper="here",
        number="",
        statement="The largest absolute entry of a float64 matrix is a float64 number and is found without rounding.",
        hypotheses=("every entry is a finite float64 number",),
        function="norms:max_norm",
        test="tests/test_oracle_norms.py",
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
        test="tests/test_attack_norms.py",
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
        test="tests/test_attack_norms.py",
    ),
    Theorem(
        key="spectral-lower",
        paper="here",
        number="",
        statement="For every v other than 0, the spectral norm of A is at least |A v| / |v|.",
        hypotheses=("every entry is a finite float64 number",),
        function="norms:spectral_lower",
        test="tests/test_attack_norms.py",
        confidence="definition of the norm",
    ),
)

THEOREMS: dict[str, Theorem] = {theorem.key: theorem for theorem in _ENTRIES}


def as_markdown() -> str:
    """The documentation's table: one row a theorem."""
    lines = [
        "| Key | Source | Statement | Hypotheses | Function | Test | How it is known |",
        "|---|---|---|---|---|---|---|",
    ]
    for theorem in THEOREMS.values():
        source = ", ".join(
            part for part in (theorem.paper, theorem.number, theorem.claim and f"claim {theorem.claim}") if part
        )
        function = f"`{theorem.function.replace(':', '.')}`" if theorem.function else ""
        cells = (
            f"`{theorem.key}`",
            source,
            theorem.statement,
            "; ".join(theorem.hypotheses),
            function,
            f"`{theorem.test}`",
            theorem.confidence,
        )
        # A bar inside a cell would end it.
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
