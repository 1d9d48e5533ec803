"""Suggestions that would make inference cheaper, ranked by the work that they save.

Each option that saves work is compared with the one it would replace. The work is PREDICTED from shapes, so that the
order is the same on every machine; the measured times of both stand beside it where both ran.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from promptreach.audit.context import AuditContext
from promptreach.audit.cost.work import DeploymentOption
from promptreach.certificate import Evidence
from promptreach.diagnosis.numbers import Comparison
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.prompt import LowRankUpdate, Prefix
from promptreach.report.findings import Code
from promptreach.training.runs import Run

LONG = 32
"""Slots from which shortening a trained prefix is worth a try; a trained prompt of fewer is better trained shorter."""

SHRUNK = 8
"""A long prefix is first tried with so many times fewer slots."""

Paired = Callable[[Run, Run], tuple[Comparison, str]]
"""The gain of the first run over the second on the held-out rows, and the same in words."""


@dataclass(frozen=True, eq=False)
class Suggestion:
    """One thing to do.

    Attributes:
        what: the thing, in a few words.
        now, then: the option that runs now, and the one that would run.
        cost: what is lost by it, in words with numbers.
        evidence: how sure the cost is.
        code: what to copy.
    """

    what: str
    now: DeploymentOption
    then: DeploymentOption
    cost: str
    evidence: Evidence
    code: Code


def suggestions(
    context: AuditContext,
    options: Sequence[DeploymentOption],
    differences: Mapping[str, tuple[float, bool]],
    paired: Paired,
) -> list[Suggestion]:
    """Everything that applies, in no order.

    Args:
        options: all that can run, the bare model first.
        differences: how far each precomputed option's logits are from those of the prompt in front, and whether every
            next token is the same.
        paired: compares two trained runs.
    """
    return [
        *_precompute(context, options, differences),
        *_trained_alike(context, options, paired),
        *_shrink(context, options),
        *_merge(options),
    ]


def _precompute(
    context: AuditContext, options: Sequence[DeploymentOption], differences: Mapping[str, tuple[float, bool]]
) -> Iterator[Suggestion]:
    for then in options:
        if then.cache is None:
            continue
        now = next(option for option in options if option.adapter is then.adapter and option.cache is None)
        gap, same = differences[then.name]
        yield Suggestion(
            f"Precompute {now.name}",
            now,
            then,
            f"logits off by {gap:.2g} of their size, {'the same' if same else 'not all the same'} next tokens",
            Evidence.MEASURED,
            Code(
                title=f"Precompute {now.name}",
                language="python",
                text="import promptreach as pr\n\n"
                f"# adapter: the PEFT folder of {now.name}, beside this report or your own\n"
                f"cache = pr.inference.precompute({context.model.name!r}, 'adapter')\n"
                "model = cache.model.release()\n"
                "output = model.generate(**cache.inputs(input_ids), max_new_tokens=32)",
            ),
        )


def _trained_alike(context: AuditContext, options: Sequence[DeploymentOption], paired: Paired) -> Iterator[Suggestion]:
    """The best prompt against the shortest prompt and, on encoders, the prefix that are as good."""
    now = next((option for option in options if option.runs_prompt and option.name in context.runs), None)
    if now is None:
        return
    best = context.runs[now.name]
    runs = [run for run in context.runs.values() if run.status == "finished"]
    shorter = [run for run in runs if run.config.method == "prompt" and run.config.tokens < best.config.tokens]
    # On a causal model a precomputed prompt is a prefix already.
    prefixes = [run for run in runs if run.config.method == "prefix" and context.model.both_ways]
    for rivals in (sorted(shorter, key=lambda run: run.config.tokens), prefixes):
        for run in rivals:
            gain, words = paired(run, best)
            if gain.low >= -MARGIN[context.metric]:
                name = run.config.label
                yield Suggestion(
                    f"Use {name}: as good as {now.name}",
                    now,
                    DeploymentOption(name, run.adapter),
                    f"{words} on the held-out rows",
                    Evidence.MEASURED,
                    _training_code(context, run),
                )
                break


def _shrink(context: AuditContext, options: Sequence[DeploymentOption]) -> Iterator[Suggestion]:
    """A long prefix, or a long prompt that is one once it is precomputed, on a causal model."""
    for now in options:
        prefix = now.cache.prefix if now.cache is not None else now.adapter
        if not isinstance(prefix, Prefix) or prefix.length < LONG or context.model.both_ways:
            continue
        slots = max(1, prefix.length // SHRUNK)
        shortened = Prefix(prefix.keys[:, :, :slots], prefix.values[:, :, :slots])
        yield Suggestion(
            f"Shrink {now.name} to {slots} slots",
            now,
            DeploymentOption(f"{now.name}, {slots} slots", shortened),
            "not measured yet: the command measures the loss on held-out text",
            Evidence.UNKNOWN,
            Code(
                title=f"Shrink {now.name}",
                language="shell",
                text=f"promptreach shrink adapter --tokens {slots} --text texts.txt",
            ),
        )


def _merge(options: Sequence[DeploymentOption]) -> Iterator[Suggestion]:
    for now in options:
        if isinstance(now.adapter, LowRankUpdate):
            yield Suggestion(
                f"Merge {now.name} into the weights",
                now,
                options[0],
                "a copy of the weights for each adapter",
                Evidence.PREDICTED,
                Code(
                    title=f"Merge {now.name}",
                    language="python",
                    text="from peft import PeftModel\n\n"
                    f"# base: the model as you load it; adapter: the PEFT folder of {now.name}\n"
                    "model = PeftModel.from_pretrained(base, 'adapter').merge_and_unload()",
                ),
            )


def _training_code(context: AuditContext, run: Run) -> Code:
    config = run.config
    given = dict(context.model.origin.options) if context.model.origin else {}
    given = {name: given.get(name) for name in ("task", "revision", "num_layers", "dtype")}
    given = {name: value for name, value in given.items() if value not in (None, torch.float32)}
    opening = "".join(f", {name}={value!r}" for name, value in given.items())
    call = (
        f"run = pr.tuning.fit(model, {context.data.source!r}, {config.method!r}, tokens={config.tokens}, "
        f"learning_rate={config.learning_rate:g}, steps={config.steps})"
    )
    return Code(
        title=f"Train {config.label}",
        language="python",
        text=("import torch\n\n" if "dtype" in given else "") + "import promptreach as pr\n\n"
        f"model = pr.hf.open_model({context.model.name!r}{opening})\n{call}\n"
        "pr.hf.save_adapter('adapter', model, run.adapter)",
    )
