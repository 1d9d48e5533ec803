"""Prompts that make a fixed transformer compute a given function: the room `compiler`."""

from promptreach.theorems.record import PAPER_A, PAPER_B, Theorem

ENTRIES = (
    Theorem(
        key="programmable-table",
        paper="here",
        number="",
        statement=(
            "One frozen transformer (one attention layer, one head) is prompted into every f with |f(X) - f(X')| <= "
            "C |X - X'| on the cube of s = tokens dim axes: with m cells an axis, tokens m^dim slots that hold f at "
            "the cells' centres, whole-number scores of sharpness beta and ramps eta wide, d_2 <= ((C (s / 12)^(1/2) / "
            "m + leak)^2 + s^2 (m - 1) eta)^(1/2) with leak <= 2 s^(1/2) exp(-beta) / (1 - exp(-3 beta)), up to stated "
            "rounding, and |error| <= C s^(1/2) / (2 m) + leak outside the ramps. Certificates add the room of "
            "`sample-room`."
        ),
        hypotheses=(
            "f takes the table's values at the centres, and is as steep as the claim says (a condition in it)",
            "IEEE arithmetic; an exponential right to 8 units in the last place",
        ),
        function="compiler.programmable.programmable:Programmable",
        test="tests/compiler/programmable/test_programmable_laws.py",
        claim="A1",
        confidence="derived here; every pass tested at every cell, and the bound attacked",
    ),
    Theorem(
        key="sample-room",
        paper="Bernstein 1924",
        number="inequality",
        statement=(
            "If independent squared errors have mean at most q, variance at most v q^2 and no value above (1 + b) q, "
            "the mean of n >= 20,000 of them exceeds (1 + x) q with probability at most 10^-9 for "
            "n x^2 = 2 log(10^9) (v + b x / 3) at n = 20,000."
        ),
        hypotheses=("independent uniform points",),
        function="compiler.programmable.error_budget:sample_room",
        test="tests/compiler/programmable/test_error_budget_laws.py",
        confidence="textbook",
    ),
    Theorem(
        key="programmable-interpolation",
        paper="here",
        number="",
        statement=(
            "Softmax scores -beta (n - c - 1/2)^2 + lambda (n - c - 1/2) with lambda = log(t / (1 - t)) give nodes c "
            "and c + 1 the weights 1 - t and t; scores of several axes add, so weights multiply. For f whose second "
            "derivatives along each axis are at most H long, multilinear interpolation on m cells an axis has d_2 "
            "error at most (H / (2 m^2)) (s / 30 + s (s - 1) / 36)^(1/2) and sup error at most H s / (8 m^2)."
        ),
        hypotheses=(
            "f takes the table's values at the nodes, and has the constants of the claim (a condition in it)",
            "IEEE arithmetic; an exponential right to 8 units in the last place",
        ),
        function="compiler.programmable.multilinear:Multilinear",
        test="tests/compiler/programmable/test_multilinear_laws.py",
        confidence="derived here; interpolation tested by hand on random tables, and the bound attacked",
    ),
    Theorem(
        key="kernel-smoother",
        paper="here, after Petrov, Torr, Bibi 2024 (2402.14753)",
        number="",
        statement=(
            "With centres at distance h on a grid of the cube of D axes, values f there, and softmax weights "
            "proportional to exp(-s |X - c|^2 / h^2), the weighted mean of the values has d_2 error at most C h "
            "(D (1/12 + 1/s^2))^(1/2) for every f with |f(X) - f(X')| <= C |X - X'|, up to stated leaks and rounding; "
            "there is no bad set."
        ),
        hypotheses=(
            "f takes the prompt's values at the centres, and is as steep as the claim says (a condition in it)",
            "IEEE arithmetic; an exponential right to 8 units in the last place",
        ),
        function="compiler.papers.kernel:Kernel",
        test="tests/compiler/papers/test_kernel_laws.py",
        claim="A1",
        confidence="proved in the module's docstring; the integral is computed again numerically",
    ),
    Theorem(
        key="codebook",
        paper="here",
        number="",
        statement=(
            "For every C-Lipschitz f on the cube of D axes, its means over the m^D cells, taken at s^D points and "
            "rounded to q levels, are a table within d_2 error ((C/m)^2 D/12 + (C (D/12)^(1/2) / (m s) + D^(1/2) / "
            "(2 q))^2)^(1/2) of f, and levels of two cells at distance k satisfy sum max(0, |difference| - 1)^2 <= "
            "(q C k)^2."
        ),
        hypotheses=("|f(X) - f(X')| <= C |X - X'| in the 2-norm over all entries",),
        function="compiler.papers.codebook:Codebook",
        test="tests/compiler/papers/test_codebook_laws.py",
    ),
    Theorem(
        key="single-layer-table",
        paper=PAPER_B,
        number="Theorems 2.3 and 2.4",
        statement=(
            "One softmax attention layer with one head between relu layers, wide or of width dim + 2, is prompted into "
            "every f of a codebook exactly, outside the ramps of its quantiser: softmax with mixed-radix weights and a "
            "skip connection gives every (function, input, own token) its own number."
        ),
        hypotheses=(
            "f has the codeword that the prompt holds (a condition in the claim)",
            "the separation exceeds the rounding of the arithmetic",
        ),
        function="compiler.papers.single_layer:SingleLayer",
        test="tests/compiler/papers/test_single_layer_laws.py",
        claim="B1",
        confidence="statements from memory, 85 %; construction and certificate are ours",
    ),
    Theorem(
        key="contextual-separation",
        paper=PAPER_B,
        number="Lemma 2.2",
        statement=(
            "Without repeated tokens, softmax attention with one head and weights of any rank is a contextual map with "
            "separation exp(-5 |V|^4 d kappa gamma_max log(L) / epsilon), kappa = gamma_max / gamma_min."
        ),
        hypotheses=("distinct tokens in a sequence", "norms in [gamma_min, gamma_max], tokens epsilon apart"),
        function="compiler.papers.separation:paper_separation_log10",
        test="tests/compiler/papers/test_separation_oracle.py",
        confidence="statement and constant from memory, 85 %; printed beside achieved separations, never relied on",
    ),
    Theorem(
        key="selective-shift-table",
        paper=PAPER_A,
        number="Theorem 1",
        statement=(
            "A deep hardmax transformer (two heads of size 1 a layer) is prompted into every f of a codebook exactly, "
            "outside the ramps of its quantiser: moving the rows at v up by B (max z - min z), for v = 0, 1, ..., "
            "gives every (function, input, own token) its own whole number when B exceeds the codes of a row."
        ),
        hypotheses=(
            "f has the codeword that the prompt holds (a condition in the claim)",
            "all numbers are whole and exact in the dtype",
        ),
        function="compiler.papers.deep:Deep",
        test="tests/compiler/papers/test_deep_laws.py",
        claim="A1",
        confidence="statement from memory, 90 %; after Yun et al. 2020; proof and smaller base B are ours",
    ),
)
