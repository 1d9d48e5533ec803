"""What no prompt can do, how long prompts have to be, and how far a layer can stretch: the room `limits`."""

from promptreach.theorems.record import PAPER_A, PAPER_B, Theorem

ENTRIES = (
    Theorem(
        key="one-query-reachability",
        paper="here",
        number="",
        statement=(
            "Outputs u_i of one head at one shared query are those of some prompt if and only if there are a > 0 and "
            "b with N_i + b = (Z_i + a) u_i for all i: n * value_dim linear equations in value_dim + 1 unknowns."
        ),
        hypotheses=("one head", "one query vector other than 0, shared by all examples", "free prefix keys and values"),
        function="limits.oracle.certified:minimise",
        test="tests/limits/test_memorisable_oracle.py",
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
        function="limits.oracle.certified:minimise",
        test="tests/limits/test_memorisable_attack.py",
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
        function="limits.oracle.witness:one_slot",
        test="tests/limits/test_witness_laws.py",
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
        function="limits.oracle.witness:soft_tokens",
        test="tests/limits/test_witness_laws.py",
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
        function="limits.oracle.box_bound:box_bounds",
        test="tests/limits/test_heads_attack.py",
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
        function="limits.oracle.several:heads_floor",
        test="tests/limits/test_heads_attack.py",
        confidence="elementary",
    ),
    Theorem(
        key="unmemorisable-pair",
        paper=PAPER_A,
        number="Theorem 2",
        statement=(
            "For a single attention layer there are two sequences with a common token, and targets each of which some "
            "prompt reaches, such that no prompt of any length reaches both."
        ),
        hypotheses=("one head", "full-rank weights", "output dimension at least 2"),
        function="limits.oracle.pairs:unmemorisable_pair",
        test="tests/limits/test_pairs_oracle.py",
        claim="A2",
        confidence="statement from memory, 88 %; proved here for each pair by its own certificate",
    ),
    Theorem(
        key="token-lower-bound",
        paper=PAPER_A,
        number="Theorem 3",
        statement=(
            "If outputs a_i and targets t_i (2n vectors) are linearly independent, every prompt that gives all targets "
            "exactly has at least n tokens, since all t_i - lambda_i a_i lie in the span of the prompt's values."
        ),
        hypotheses=("one head", "2n <= value dimension", "the 2n vectors are independent"),
        function="limits.counting.tokens:token_lower_bound",
        test="tests/limits/test_tokens_oracle.py",
        claim="A3",
        confidence="statement from memory, 75 %; re-derived",
    ),
    Theorem(
        key="low-rank-memorisation",
        paper=PAPER_A,
        number="Theorem 4",
        statement=(
            "For n distinct inputs there is a relu update with n hidden units, and 2 n hidden + n numbers, that maps "
            "each input to any wanted vector."
        ),
        hypotheses=("distinct inputs",),
        function="limits.counting.tokens:low_rank_fit",
        test="tests/limits/test_tokens_oracle.py",
        claim="A3",
        confidence="statement from memory, 65 %; the construction and its count are ours",
    ),
    Theorem(
        key="table-prompt-length",
        paper=PAPER_B,
        number="Theorem 2.5",
        statement=(
            "For C-Lipschitz functions on the cube [0,1]^(dL) in the alpha-norm, a table of L (2 C "
            "(dL)^(1/alpha) / tol)^(dL) "
            "vectors, at least L, holds a function within tol of each; the paper's specially built "
            "transformer reads one "
            "vector from each prompt token. A sufficient length of one construction."
        ),
        hypotheses=("functions into [0,1]^(dL)", "a backbone that reads a table vector from each prompt token"),
        function="limits.counting.lengths:prompt_length",
        test="tests/limits/test_lengths_oracle.py",
        claim="B2",
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
        function="limits.counting.lengths:prompt_length",
        test="tests/limits/test_lengths_oracle.py",
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
        function="limits.layers.lipschitz:lipschitz",
        test="tests/limits/layers/test_lipschitz_attack.py",
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
        function="limits.layers.lipschitz:lipschitz",
        test="tests/limits/layers/test_lipschitz_attack.py",
        confidence="proved in docs/theory/lipschitz.md section 5",
    ),
    Theorem(
        key="contracting-injective",
        paper=PAPER_A,
        number="Theorem 5",
        statement=(
            "If every branch G of a stack of layers x + G(x) has a Lipschitz constant c < 1 on its ball, the "
            "stack keeps "
            "inputs apart by a factor of at least the product of the 1 - c; causal and prompt first, so do "
            "the outputs at the "
            "content positions, for every prompt."
        ),
        hypotheses=("no norm behind a residual sum", "for the consequence: causal layers, prompt in front"),
        function="limits.layers.invert:injective_consequence",
        test="tests/limits/layers/test_invert_oracle.py",
        claim="A4",
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
        function="limits.layers.invert:invert",
        test="tests/limits/layers/test_invert_oracle.py",
        confidence="textbook; docs/theory/lipschitz.md section 6",
    ),
)
