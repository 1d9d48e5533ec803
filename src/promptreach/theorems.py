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
_PAPER_A = "Wang et al. 2023 (2305.18787)"
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
        function="inference.polynomial:polynomial",
        test="tests/inference/test_attack_polynomial.py",
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
    Theorem(
        key="one-query-reachability",
        paper="here",
        number="",
        statement=(
            "Outputs u_i of one head at one shared query are those of some prompt if and only if there are a > 0 and "
            "b with N_i + b = (Z_i + a) u_i for all i: n * value_dim linear equations in value_dim + 1 unknowns."
        ),
        hypotheses=("one head", "one query vector other than 0, shared by all examples", "free prefix keys and values"),
        function="limits.certified:minimise",
        test="tests/limits/test_oracle_memorisable.py",
        claim="A2",
        confidence="derived here; tested on targets built from prompts",
    ),
    Theorem(
        key="one-query-dual-bound",
        paper="here",
        number="",
        statement=(
            "For every M with sum_i M_i = 0, all a >= 0 and all b, the error |(N + b) / (Z + a) - t| is at least "
            "<M, N - (Z + a) t> / |(Z + a) M|, which is quasi-concave in a where it is positive, and so is least at "
            "an end of every interval of masses."
        ),
        hypotheses=("one head", "one query vector shared by all examples"),
        function="limits.certified:minimise",
        test="tests/limits/test_attack_memorisable.py",
        claim="A2",
    ),
    Theorem(
        key="one-slot-prefix",
        paper="Mondal, Shihab 2026 (manuscript)",
        number="Theorem 5",
        statement=(
            "At one query q != 0, a single key/value slot has any mass a > 0 and any value sum b: key "
            "log(a) q / (scale |q|^2), value b / a. At q = 0 the mass of a prompt is its number of slots."
        ),
        hypotheses=("one head at one query", "free prefix keys and values"),
        function="limits.witness:one_slot",
        test="tests/limits/test_laws_witness.py",
        confidence="elementary; re-derived",
    ),
    Theorem(
        key="soft-token-count",
        paper="here",
        number="",
        statement=(
            "With m soft tokens at one query, (a, pbar) is reachable if and only if 0 < log a - g.pbar <= log m (or "
            "= 0 with m = 1), where the value mean is W_v pbar. So exp(log a - g.pbar) rounded up is the least m if "
            "g is in the row space of W_v, and 1 otherwise."
        ),
        hypotheses=("one head at one query", "keys not normalised", "g = scale W_k^T q is not 0"),
        function="limits.witness:soft_tokens",
        test="tests/limits/test_laws_witness.py",
        confidence="derived here: sum_t w_t g.p_t = log a - H(w), and 0 <= H(w) <= log m",
    ),
    Theorem(
        key="several-heads-box-bound",
        paper="here",
        number="",
        statement=(
            "On a box of masses, where the residual is r = y + d + (P + E) g with |d| <= D and |E| <= eta, |r| >= "
            "<r0, r> / |r0| for any r0, with the best coefficients g within (|P^T (y + P g0)| + p (D + eta |g0|) + "
            "eta U) / (1 - |P^T P - I| - p eta) of any g0, where p^2 = 1 + |P^T P - I| and U is an error already "
            "reached; rounding enters through D and eta."
        ),
        hypotheses=("at most four heads", "one query token shared by all examples"),
        function="limits.box_bound:box_bounds",
        test="tests/limits/test_attack_heads.py",
    ),
    Theorem(
        key="separate-heads-bound",
        paper="here",
        number="",
        statement=(
            "If the output projection W has full column rank, |W u - t|^2 >= sigma_min(W)^2 |u - W^+ t|^2 + |t - W "
            "W^+ t|^2, and the heads' blocks of u - W^+ t are single-head problems. For any u* in place of W^+ t and "
            "r = W u* - t with |<W x, r>| <= kappa |W x| for all x, it is at least (sigma_min(W) |u - u*| - kappa)^2 - "
            "kappa^2 + |r|^2 while the bracket is positive."
        ),
        hypotheses=("the output projection has full column rank, or there is none",),
        function="limits.several:heads_floor",
        test="tests/limits/test_attack_heads.py",
        confidence="elementary",
    ),
    Theorem(
        key="unmemorisable-pair",
        paper=_PAPER_A,
        number="Theorem 2",
        statement=(
            "For a single attention layer there are two sequences with a common token, and targets each of which some "
            "prompt reaches, such that no prompt of any length reaches both."
        ),
        hypotheses=("one head", "full-rank weights", "output dimension at least 2"),
        function="limits.pairs:unmemorisable_pair",
        test="tests/limits/test_oracle_pairs.py",
        claim="A2",
        confidence="statement from memory, 88 %; proved here for each pair by its own certificate",
    ),
    Theorem(
        key="token-lower-bound",
        paper=_PAPER_A,
        number="Theorem 3",
        statement=(
            "If outputs a_i and targets t_i (2n vectors) are linearly independent, every prompt that gives all targets "
            "exactly has at least n tokens, since all t_i - lambda_i a_i lie in the span of the prompt's values."
        ),
        hypotheses=("one head", "2n <= value dimension", "the 2n vectors are independent"),
        function="limits.tokens:token_lower_bound",
        test="tests/limits/test_oracle_tokens.py",
        claim="A3",
        confidence="statement from memory, 75 %; re-derived",
    ),
    Theorem(
        key="low-rank-memorisation",
        paper=_PAPER_A,
        number="Theorem 4",
        statement=(
            "For n distinct inputs there is a relu update with n hidden units, and 2 n hidden + n numbers, that maps "
            "each input to any wanted vector."
        ),
        hypotheses=("distinct inputs",),
        function="limits.tokens:low_rank_fit",
        test="tests/limits/test_oracle_tokens.py",
        claim="A4",
        confidence="statement from memory, 65 %; the construction and its count are ours",
    ),
    Theorem(
        key="table-prompt-length",
        paper=_PAPER_B,
        number="Theorem 2.5",
        statement=(
            "For C-Lipschitz functions on the cube [0,1]^(dL) in the alpha-norm, a table of L (2 C "
            "(dL)^(1/alpha) / tol)^(dL) "
            "vectors, at least L, holds a function within tol of each; the paper's specially built "
            "transformer reads one "
            "vector from each prompt token. A sufficient length of one construction."
        ),
        hypotheses=("functions into [0,1]^(dL)", "a backbone that reads a table vector from each prompt token"),
        function="limits.lengths:prompt_length",
        test="tests/limits/test_oracle_lengths.py",
        claim="B3",
        confidence="statement from memory, 85 %; the table's size re-derived, docs/theory/lipschitz.md section 8",
    ),
    Theorem(
        key="counting-prompt-length",
        paper="here",
        number="",
        statement=(
            "For every backbone, selecting each C-Lipschitz function to within tol takes at least (log2 N - "
            "1) / (bits of a "
            "token) soft tokens, where N = (q+1)^(k g^(dL)) functions of the class differ pairwise by more than 2 tol "
            "somewhere."
        ),
        hypotheses=("prompt entries of a stated precision", "(g-1) q 2 tol k^(1/alpha) < C or g = 1, and q 2 tol < 1"),
        function="limits.lengths:prompt_length",
        test="tests/limits/test_oracle_lengths.py",
        confidence="proved in docs/theory/lipschitz.md section 9; listed in full at toy size",
    ),
    Theorem(
        key="attention-lipschitz",
        paper="here; implies Castin, Ablin, Peyre 2024 (2312.14820) and paper A's lemma",
        number="",
        statement=(
            "For all inputs of at most n tokens in the ball of radius r, one head changes by at most |M| "
            "(sqrt(kappa (1 + "
            "B^2)) + B) times the change of its input, B = scale |A| r^2, kappa = n / (1 + (n-1) e^(-2B)), or "
            "below 1 + e^(2B) "
            "log(1 + (n-1) e^(-2B)) under a causal mask; with biases, rotation, norms and many heads as derived."
        ),
        hypotheses=("tokens in the ball, the prompt's included", "full or causal visibility", "finite weights"),
        function="limits.lipschitz:lipschitz",
        test="tests/limits/test_attack_lipschitz.py",
        confidence="proved in docs/theory/lipschitz.md sections 1 to 4; hill climbs never exceed it",
    ),
    Theorem(
        key="feed-forward-lipschitz",
        paper="here",
        number="",
        statement=(
            "For slopes of the activation in [low, high], centre c and half width w: down(act(up x)) is "
            "Lipschitz with c "
            "|down up| + w |down S^-1| |S up| for every positive diagonal S; gated networks on a ball by the "
            "product rule."
        ),
        hypotheses=("finite weights", "for gated networks: tokens in the ball"),
        function="limits.lipschitz:lipschitz",
        test="tests/limits/test_attack_lipschitz.py",
        confidence="proved in docs/theory/lipschitz.md section 5",
    ),
    Theorem(
        key="contracting-injective",
        paper=_PAPER_A,
        number="Theorem 5",
        statement=(
            "If every branch G of a stack of layers x + G(x) has a Lipschitz constant c < 1 on its ball, the "
            "stack keeps "
            "inputs apart by a factor of at least the product of the 1 - c; causal and prompt first, so do "
            "the outputs at the "
            "content positions, for every prompt."
        ),
        hypotheses=("no norm behind a residual sum", "for the consequence: causal layers, prompt in front"),
        function="limits.invert:injective_consequence",
        test="tests/limits/test_oracle_invert.py",
        claim="A5",
        confidence=(
            "statement from memory, 85 %; re-derived. Bidirectional layers have a gap, shown by a "
            "counterexample in the test"
        ),
    ),
    Theorem(
        key="contracting-inverse",
        paper="Banach 1922",
        number="fixed point theorem",
        statement=(
            "If G is Lipschitz with c < 1 on a convex set that holds the ball of radius e = |y - x - G(x)| / "
            "(1 - c) around x, "
            "exactly one point z of the set has z + G(z) = y, and |z - x| <= e."
        ),
        hypotheses=("c certified on the ball", "rounding of G included in |y - x - G(x)|"),
        function="limits.invert:invert",
        test="tests/limits/test_oracle_invert.py",
        confidence="textbook; docs/theory/lipschitz.md section 6",
    ),
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
        function="compiler.programmable:Programmable",
        test="tests/compiler/test_laws_programmable.py",
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
        function="compiler.sampling:sample_room",
        test="tests/compiler/test_laws_sampling.py",
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
        function="compiler.interpolation:Multilinear",
        test="tests/compiler/test_laws_interpolation.py",
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
        function="compiler.kernel:Kernel",
        test="tests/compiler/test_kernel.py",
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
        function="compiler.codebook:Codebook",
        test="tests/compiler/test_laws_codebook.py",
    ),
    Theorem(
        key="single-layer-table",
        paper=_PAPER_B,
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
        function="compiler.single_layer:SingleLayer",
        test="tests/compiler/test_single_layer.py",
        claim="B1",
        confidence="statements from memory, 85 %; construction and certificate are ours",
    ),
    Theorem(
        key="contextual-separation",
        paper=_PAPER_B,
        number="Lemma 2.2",
        statement=(
            "Without repeated tokens, softmax attention with one head and weights of any rank is a contextual map with "
            "separation exp(-5 |V|^4 d kappa gamma_max log(L) / epsilon), kappa = gamma_max / gamma_min."
        ),
        hypotheses=("distinct tokens in a sequence", "norms in [gamma_min, gamma_max], tokens epsilon apart"),
        function="compiler.separation:paper_separation_log10",
        test="tests/compiler/test_oracle_separation.py",
        confidence="statement and constant from memory, 85 %; printed beside achieved separations, never relied on",
    ),
    Theorem(
        key="selective-shift-table",
        paper=_PAPER_A,
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
        function="compiler.deep:Deep",
        test="tests/compiler/test_deep.py",
        claim="A1",
        confidence="statement from memory, 90 %; after Yun et al. 2020; proof and smaller base B are ours",
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
        function="inference.remainder:row_errors",
        test="tests/inference/test_attack_polynomial.py",
        confidence="proved in inference/remainder.py; no violation among random and adversarial problems",
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
        function="inference.tensors:form_norms",
        test="tests/inference/test_laws_polynomial.py",
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
        function="inference.holdout:certify",
        test="tests/inference/test_laws_holdout.py",
        confidence="proved in inference/holdout.py (Ville's inequality); 2,000 problems in benchmarks/inference",
    ),
    Theorem(
        key="stored-bits",
        paper="here",
        number="",
        statement=(
            "Of 2^B prompts let one be chosen for each text of n tokens out of V. Averaged over all V^n texts, the "
            "loss with the chosen prompt is at least n log2 V - B bits; and at most a share 2^-t of the texts has a "
            "loss of n log2 V - B - t bits or less."
        ),
        hypotheses=("prompt entries of a stated precision", "next-token probabilities that sum to at most 1"),
        function="tuning.memory.counting:counting_bound",
        test="tests/tuning/memory/test_laws_counting.py",
        confidence="proved in tuning/memory/counting.py; tried on all texts at toy size",
    ),
    Theorem(
        key="recalled-texts",
        paper="here; the counting behind Meyer et al. 2026 (2605.22223)",
        number="",
        statement=(
            "2^B prompts make at most 2^B texts by greedy decoding, so where V^n > 2^B some text of n tokens out of V "
            "is given by none."
        ),
        hypotheses=("prompt entries of a stated precision",),
        function="tuning.memory.counting:counting_bound",
        test="tests/tuning/memory/test_laws_counting.py",
        confidence="elementary; tried on all texts at toy size",
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
