"""What is said of a compiled function: when it holds, and what becomes of its certificate on the way to the page."""

from dataclasses import replace

from promptreach import Certificate, SoftPrompt
from promptreach.certificate import Recheck
from promptreach.commands.compile_findings import CompiledFunction, error_finding
from promptreach.compiler import build_backbone
from promptreach.compiler.gallery import gallery_function
from promptreach.compiler.verify import measure


def test_the_luck_of_few_points_is_no_refutation_and_a_wrong_table_is():
    # For an isometry the certificate is nearly an equality, so that few points err by more every so often.
    backbone, target = build_backbone(1, 2, 1.0, 0.3), gallery_function("sort", 1, 2, 1.0)
    right, wrong = (backbone.prompt_for(gallery_function(name, 1, 2, 1.0)) for name in ("sort", "reverse"))

    def tried(prompt: SoftPrompt, points: int, seed: int) -> CompiledFunction:
        measured = measure(backbone, prompt, target, points, seed)
        certificate = prompt.certificate.checked()
        return CompiledFunction(target, backbone, prompt, certificate, measured, points, 0.0, (0.0, 0.0))

    lucky = [tried(right, 100, seed) for seed in range(30)]
    assert any(not compiled.measured.holds for compiled in lucky)
    assert all(compiled.holds for compiled in lucky)
    assert not any(tried(wrong, 2000, seed).holds for seed in range(5))


def test_what_speaks_against_a_prompt_is_said():
    backbone, target = build_backbone(1, 1, 1.0, 0.3), gallery_function("reverse", 1, 1, 1.0)
    prompt = backbone.prompt_for(target)
    measured = measure(backbone, prompt, target, 100)

    def compiled(certificate: Certificate, reloaded: float) -> CompiledFunction:
        return CompiledFunction(target, backbone, prompt, certificate, measured, 100, 0.0, (0.0, reloaded))

    good = compiled(prompt.certificate.checked(), 0.0)
    assert good.holds
    assert "float32" not in error_finding(good).summary
    assert "float32" in error_finding(compiled(prompt.certificate.checked(), 0.5)).summary
    assert not compiled(replace(prompt.certificate), 0.0).holds  # its second path was not run
    tampered = compiled(replace(prompt.certificate, value=prompt.certificate.value / 2).checked(), 0.0)
    assert not tampered.holds
    found = error_finding(tampered)
    assert (found.status, found.evidence.name, found.blocks) == ("failed", "UNKNOWN", [])
    assert "did not confirm" in found.summary


def test_the_page_keeps_the_re_check_and_not_the_weights():
    backbone, target = build_backbone(1, 1, 1.0, 0.3), gallery_function("reverse", 1, 1, 1.0)
    prompt = backbone.prompt_for(target)
    tried = measure(backbone, prompt, target, 100)
    compiled = CompiledFunction(target, backbone, prompt, prompt.certificate.checked(), tried, 100, 0.0, (0.0, 0.0))
    certificate, measured = error_finding(compiled).certificates
    assert certificate.recheck_state is Recheck.HELD
    assert (certificate.witness, certificate.value) == ({}, prompt.certificate.value)
    assert "certificate.json" in certificate.witness_left_out
    assert measured == tried.error
