"""What a prompt of limited precision can memorise: the room `tuning`."""

from promptreach.theorems.record import Theorem

ENTRIES = (
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
        function="capacity.counting:counting_bound",
        test="tests/capacity/test_counting_laws.py",
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
        function="capacity.counting:counting_bound",
        test="tests/capacity/test_counting_laws.py",
        confidence="elementary; tried on all texts at toy size",
    ),
)
