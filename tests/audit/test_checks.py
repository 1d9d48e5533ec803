"""The checks on cases whose answer is known."""

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.models import tiny_model
from promptreach.audit.checks import CHECKS
from promptreach.audit.checks import data as data_check
from promptreach.audit.checks.attention_share import mean_share
from promptreach.audit.context import AuditContext
from promptreach.audit.settings import BUDGETS, settings_for
from promptreach.backbone import Joined
from promptreach.certificate import Certificate, Evidence
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.diagnosis.measures import floors
from promptreach.hf import capture
from promptreach.progress import Progress
from promptreach.training.runs import RunStore


def context_for(data: TaskData, family: str = "bert") -> AuditContext:
    settings = replace(BUDGETS["quick"], tokens=(2, 4), steps=4, batch_size=4)
    return AuditContext(tiny_model(family), data, settings, RunStore(None), Progress(quiet=True))


def texts(pairs: list[tuple[str, str]]) -> LabelledTexts:
    names = tuple(sorted({label for _, label in pairs}))
    return LabelledTexts(tuple(t for t, _ in pairs), tuple(names.index(label) for _, label in pairs), names)


def test_data_floor_of_a_hand_made_contradiction() -> None:
    """Three rows of one input split two to one: entropy of (2/3, 1/3) over 6 rows, and one row lost."""
    pairs = [("the cat", "x"), ("the cat", "x"), ("the cat", "y"), ("a dog", "x"), ("a mat", "y"), ("a tree", "y")]
    finding = data_check.run(context_for(texts(pairs)))
    entropy = -(2 * math.log(2 / 3) + math.log(1 / 3)) / 6
    assert finding.values["loss_floor"] == pytest.approx(entropy, rel=1e-12)
    assert finding.values["best_accuracy"] == pytest.approx(5 / 6, rel=1e-12)
    assert finding.values["conflicting_rows"] == 3
    assert finding.evidence is Evidence.PROVED


def test_inputs_that_only_tokenization_makes_equal_contradict_each_other() -> None:
    """The tiny tokenizer maps unknown words to one token, so the model cannot tell these two apart."""
    finding = data_check.run(context_for(texts([("zebra", "x"), ("giraffe", "y"), ("the cat", "x")])))
    assert finding.values["conflicting_rows"] == 2


@given(st.lists(st.tuples(st.sampled_from(["cat", "dog", "mat"]), st.sampled_from("xyz")), min_size=2, max_size=30))
def test_no_classifier_beats_the_floor(pairs: list[tuple[str, str]]) -> None:
    """Sound side without slack: the best map from input to label gets at most the stated share right."""
    pairs = [*pairs, ("the", "x"), ("a", "y")]
    contents, labels = [tuple(text.encode()) for text, _ in pairs], [(ord(label),) for _, label in pairs]
    counts = [[len(rows) for rows in context] for context in floors.disputed_contexts(contents, labels)]
    loss = floors.loss_floor(counts, labels)
    accuracy = floors.best_accuracy(floors.disputed_contents(contents, labels).values(), labels)
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in pairs:
        groups[text][label] += 1
    right = sum(max(group.values()) for group in groups.values())
    assert Fraction(right, len(pairs)) <= Fraction(accuracy.value)
    assert loss.recheck()
    assert accuracy.recheck()


def test_floor_certificates_survive_json_and_catch_tampering() -> None:
    pairs = [("the cat", "x"), ("the cat", "y"), ("a dog", "x")]
    finding = data_check.run(context_for(texts(pairs)))
    for made in finding.certificates:
        certificate = Certificate.from_dict(json.loads(json.dumps(made.to_dict())))
        assert certificate.recheck()
        assert not replace(certificate, value=certificate.value + 0.01).recheck()


def test_completion_floor_counts_tokens() -> None:
    data = Completions(("the cat", "the cat"), (" sat", " ran"))
    finding = data_check.run(context_for(data, "llama"))
    answers = 2 * len(tiny_model("llama").tokenize([" sat"], special_tokens=False)[0])
    ends = 2 * (tiny_model("llama").end_token is not None)
    assert finding.values["loss_floor"] == pytest.approx(2 * math.log(2) / (answers + ends), rel=1e-12)
    assert f"or below {finding.values['loss_floor']:.3f} nats per token" in finding.summary


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_attention_share_is_the_mass_that_softmax_puts_on_the_prompt(family: str) -> None:
    model = tiny_model(family)
    batch = model.batch(model.tokenize(["the cat sat on the mat", "a dog ran"]))
    prompt = torch.randn(3, model.hidden_size, generator=torch.Generator().manual_seed(1))
    joined = Joined(prompt=prompt)
    for layer in capture(model, batch, joined):
        groups = layer.query.shape[1] // layer.key.shape[1]
        scores = layer.query @ layer.key.repeat_interleave(groups, 1).mT * layer.scale
        weights = scores.masked_fill(~layer.mask, -torch.inf).softmax(-1)
        share = weights[:, :, 3:, :3].sum(-1)
        expected = (share * batch.mask[:, None]).sum((0, 2)) / batch.mask.sum()
        torch.testing.assert_close(mean_share(layer, batch), expected, rtol=1e-5, atol=1e-6)


def test_larger_models_get_smaller_batches_and_never_none() -> None:
    sizes = [settings_for("quick", 0, count, 512).batch_size for count in (10**6, 10**7, 10**8, 10**10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 32
    assert sizes[-1] == 4


def test_every_check_has_its_own_name_and_returns_it() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
