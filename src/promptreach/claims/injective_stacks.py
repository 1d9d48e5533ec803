"""A4: contracting layers learn injective maps only; and how steep a layer may get before the certificate ends."""

from dataclasses import replace

import torch
from torch import Tensor

from promptreach.blocks import attention_branch, feed_forward_branch
from promptreach.certificate import Evidence, Verdict
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import least_error
from promptreach.limits import injective_consequence, lipschitz
from promptreach.report.findings import Curve, Series, Text
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights

HIDDEN, HEAD_DIM, HEADS, WIDTH, LAYERS = 6, 3, 2, 12, 2
CONTENT, PROMPT, RADIUS = 3, 4, 1.0


def run(setting: Setting) -> Outcome:
    """Certify a causal stack, ask a prompt to give two inputs one output, and scale the weights until it ends."""
    scales = setting.pick((0.02, 0.05, 0.1, 0.2, 0.4, 0.8), tuple(0.02 * 2 ** (step / 2) for step in range(13)))
    starts, steps = setting.pick(3, 20), setting.pick(60, 300)
    generator = torch.Generator().manual_seed(setting.seed)
    layers = [_layer(generator) for _ in range(LAYERS)]
    first, second = (_inside(CONTENT, generator) for _ in range(2))
    apart = float((first - second).norm())
    floors, reached, steepest = [], [], []
    for scale in setting.followed(scales, "scales of the weights"):
        scaled = [_scaled(layer, scale) for layer in layers]
        certificate = injective_consequence(scaled, RADIUS, CONTENT + PROMPT)
        floors.append(certificate.value * apart / 2)
        bounds = lipschitz(scaled, RADIUS, CONTENT + PROMPT, seed=setting.seed)
        steepest.append(max(max(bound.attention.value, bound.mlp.value) for bound in bounds))
        target = (_outputs(scaled, first) + _outputs(scaled, second)) / 2
        targets = torch.cat([target, target])

        def prompted(prompt: Tensor, scaled: list[LayerWeights] = scaled) -> Tensor:
            # Into the ball that the certificate speaks of.
            inside = prompt * (RADIUS / prompt.norm(dim=1, keepdim=True).clamp_min(RADIUS))
            return torch.cat([_outputs(scaled, content, inside) for content in (first, second)])

        relative = least_error(([_inside(PROMPT, generator)] for _ in range(starts)), prompted, targets, steps)
        # From a root mean square of both outputs to the larger of two Frobenius errors, at least.
        reached.append(relative * float(targets.square().mean().sqrt()) * (targets.numel() / 2) ** 0.5)
    certified = [floor > 0 for floor in floors]
    never_below = all(error >= floor for error, floor in zip(reached, floors, strict=True))
    bidirectional = injective_consequence(
        [replace(layer, attention=_both_ways(layer)) for layer in layers], RADIUS, CONTENT + PROMPT
    )
    last = max(scale for scale, found in zip(scales, certified, strict=True) if found) if any(certified) else 0.0
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because=f"Where every branch contracts (weights scaled by {last:.2g} or less) two inputs with one target are "
        f"missed by the certified floor at least, and {starts} searches a scale never got below it. The condition is "
        "sufficient only, real models miss it by far, and for bidirectional layers the conclusion does not follow: "
        "there the prompt's own states carry what the outputs lose.",
        evidence=Evidence.PROVED,
        conditions={
            "no search ends below a floor": never_below,
            "small weights are certified and large ones are not": any(certified) and not all(certified),
            "nothing is certified of bidirectional layers": bidirectional.evidence is Evidence.UNKNOWN,
        },
        hypotheses=(
            Hypothesis.checked(
                "every branch has a Lipschitz constant below 1 on the ball of inputs",
                "certified upper bounds, prompt tokens counted",
            ),
            Hypothesis.checked("a causal stack with the prompt in front"),
            Hypothesis.checked(f"prompt and content tokens at most {RADIUS:g} long"),
        ),
        numbers={
            "scales": list(scales),
            "floors": floors,
            "reached": reached,
            "largest_branch_constant": steepest,
            "bidirectional": bidirectional.evidence.value,
            "certified_up_to_scale": last,
            "layers_certified": sum(
                bound.invertible is Verdict.POSSIBLE for bound in lipschitz(layers, RADIUS, CONTENT + PROMPT)
            ),
        },
        figure=Curve(
            title="One target for two inputs: the certified miss, and the best prompt found",
            x_label="scale of the weights",
            y_label="larger of the two errors",
            log_x=True,
            series=[
                Series(name="proved: every prompt misses by this (0: no certificate)", x=list(scales), y=floors),
                Series(name="best prompt found by training", x=list(scales), y=reached),
            ],
            note=f"{LAYERS} random causal layers without norms, {CONTENT} content and {PROMPT} prompt tokens.",
        ),
        blocks=(
            Text(
                text="“Injective” does not keep a prompt from being useful: most tasks map different inputs to "
                "different outputs at some position. `promptreach limits MODEL` shows how far a model is from the "
                "condition."
            ),
        ),
    )


def _layer(generator: torch.Generator) -> LayerWeights:
    def draw(*shape: int) -> Tensor:
        matrix: Tensor = torch.randn(*shape, generator=generator, dtype=torch.float64) / shape[-1] ** 0.5
        return matrix

    attention = AttentionWeights(
        draw(HEADS, HEAD_DIM, HIDDEN),
        draw(HEADS, HEAD_DIM, HIDDEN),
        draw(HEADS, HEAD_DIM, HIDDEN),
        draw(HIDDEN, HEADS * HEAD_DIM),
        causal=True,
    )
    return LayerWeights(attention, FeedForwardWeights(draw(WIDTH, HIDDEN), draw(HIDDEN, WIDTH), "relu"))


def _scaled(layer: LayerWeights, scale: float) -> LayerWeights:
    """The layer with what each branch adds times `scale`."""
    assert layer.attention.output is not None
    assert layer.feed_forward is not None
    attention = replace(layer.attention, output=scale * layer.attention.output)
    return replace(
        layer, attention=attention, feed_forward=replace(layer.feed_forward, down=scale * layer.feed_forward.down)
    )


def _both_ways(layer: LayerWeights) -> AttentionWeights:
    return replace(_scaled(layer, 0.01).attention, causal=False)


def _inside(count: int, generator: torch.Generator) -> Tensor:
    """Tokens well inside the ball."""
    tokens = torch.randn(count, HIDDEN, generator=generator, dtype=torch.float64)
    inside: Tensor = 0.9 * RADIUS * tokens / tokens.norm(dim=1, keepdim=True)
    return inside


def _outputs(layers: list[LayerWeights], content: Tensor, prompt: Tensor | None = None) -> Tensor:
    """The outputs at the content positions."""
    states = content if prompt is None else torch.cat([prompt, content])
    for layer in layers:
        states = states + attention_branch(layer)(states)
        states = states + feed_forward_branch(layer)(states)
    return states[-len(content) :]


CLAIM = Claim(
    key="A4",
    title="Contracting stacks learn injective maps only",
    source="Wang et al. 2023, Theorem 5",
    statement="Where every attention and feed-forward block of a transformer has a Lipschitz constant below 1, prompts "
    "of any length make it fit only data from an injective function.",
    run=run,
)
