"""A5: on a real model and real text, does the loss stop falling with the prompt's length while LoRA goes lower?"""

import math
from functools import partial

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.packaged import GGUF, SMOLLM2, TEXTS, continued_speeches, smollm2
from promptreach.report.findings import Cell, Curve, Series, Table, Text
from promptreach.training.fit import fit
from promptreach.training.runs import Run
from promptreach.training.task.limits import Limits

LAYERS = 30
"""The layers of the whole model: one that lacks some is no language model, and its loss says nothing of real ones."""

FLAT = 0.02
"""Nats that the longest prompts may differ by where the loss has stopped falling."""


def run(setting: Setting) -> Outcome:
    """Prompts of growing length and small LoRA updates, trained alike, judged on held-out text."""
    layers = setting.pick(2, LAYERS)
    lengths, ranks = setting.pick(((1, 8), (1,)), ((4, 16, 64, 128), (1,)))
    steps, batch_size = setting.pick((8, 4), (150, 8))
    limits = setting.pick(Limits(24, 8, 16, 24), Limits(1024, 128, 256, 64))
    cut = "" if layers == LAYERS else f", its first {layers} layers"
    model, data = smollm2(layers), continued_speeches(words=setting.pick(8, 16))

    bare = fit(model, data, "head", seed=setting.seed, limits=limits, quiet=True)
    train = partial(
        fit,
        model,
        data,
        steps=steps,
        batch_size=batch_size,
        seed=setting.seed,
        limits=limits,
        folder=setting.folder,
        quiet=setting.progress.quiet,
    )
    sizes = [("prompt", length) for length in lengths] + [("lora", rank) for rank in ranks]
    runs = {
        (method, size): train(method, tokens=size, rank=size)
        for method, size in setting.followed(sizes, "prompts and updates")
    }
    losses = {name: _loss(found) for name, found in runs.items()}
    rows: list[list[Cell]] = [["bare model", 0, None, None, _loss(bare)]]
    rows += [
        [f"{method} {size}", found.parameters, found.config.learning_rate, found.train_loss, losses[method, size]]
        for (method, size), found in runs.items()
    ]
    prompts = [losses["prompt", length] for length in lengths]
    best_prompt = min(prompts)
    smaller = [
        losses["lora", rank] for rank in ranks if runs["lora", rank].parameters < runs["prompt", lengths[-1]].parameters
    ]
    saturates = prompts[-2] - prompts[-1] < FLAT
    lora_lower = bool(smaller) and min(smaller) < best_prompt
    seen = (
        f"After {steps} steps of {batch_size} rows, from {lengths[-2]} to {lengths[-1]} tokens the held-out loss moved "
        f"by {prompts[-1] - prompts[-2]:+.3f} nats "
        f"a token; the best prompt reaches {best_prompt:.3f}, LoRA with fewer parameters than the longest "
        f"{min(smaller, default=math.nan):.3f}, the bare model {_loss(bare):.3f}."
    )
    quick = f"{layers} layers and {steps} steps show that it runs, not what is true; run it with --full."
    conditions = {
        f"from {lengths[-2]} to {lengths[-1]} tokens the loss falls by less than {FLAT} nats": saturates,
        "LoRA with fewer parameters than the longest prompt ends lower than every prompt": lora_lower,
    }
    return Outcome(
        verdict=setting.pick(ClaimVerdict.NOT_EXECUTABLE, ClaimVerdict.CAVEAT),
        missed=ClaimVerdict.NOT_REPRODUCED,
        because=setting.pick(quick, "One model, one corpus, one seed."),
        seen=seen,
        evidence=Evidence.MEASURED,
        conditions=setting.pick({}, conditions),
        hypotheses=(
            Hypothesis.declared(
                "the losses are those of well-trained prompts and updates",
                "learning rates are searched; a failed optimiser is not an impossibility",
            ),
            Hypothesis.checked("a causal model and real text", f"SmolLM2-135M{cut}, convention speeches"),
            Hypothesis.declared("the paper's own model, LLaMA-7B", "not run: the weights do not come with any package"),
        ),
        numbers={
            "lengths": list(lengths),
            "prompt_losses": prompts,
            "prompt_parameters": [runs["prompt", length].parameters for length in lengths],
            "ranks": list(ranks),
            "lora_losses": [losses["lora", rank] for rank in ranks],
            "lora_parameters": [runs["lora", rank].parameters for rank in ranks],
            "bare_loss": _loss(bare),
            "saturates": saturates,
            "lora_lower_with_fewer": lora_lower,
        },
        figure=Curve(
            title="Held-out loss against trainable parameters",
            x_label="trainable numbers",
            y_label="nats a token",
            log_x=True,
            series=[
                Series(
                    name="prompts" if method == "prompt" else "LoRA",
                    x=[float(found.parameters) for (kind, _), found in runs.items() if kind == method],
                    y=[losses[name] for name in runs if name[0] == method],
                )
                for method in ("prompt", "lora")
            ],
            note=f"SmolLM2-135M{cut}; {steps} steps at a searched rate.",
        ),
        blocks=(
            Table(
                title="Every run",
                columns=["method and size", "parameters", "learning rate", "training loss", "held-out loss"],
                rows=rows,
            ),
            Text(
                text="Which part of a gap is the optimiser's and which the form's is what `promptreach audit` asks of "
                "one's own model and data."
            ),
        ),
    )


def _loss(found: Run) -> float:
    assert found.held_out is not None
    return found.held_out.mean_loss


CLAIM = Claim(
    key="A5",
    title="The loss saturates in the prompt's length, LoRA goes lower",
    source="Wang et al. 2023, section 7.3 (as remembered, not read)",
    statement="On a real language model the loss of prompt tuning stops falling as the prompt gets longer, while LoRA "
    "with fewer parameters reaches a lower one.",
    run=run,
    needs=(SMOLLM2, TEXTS, GGUF),
)
