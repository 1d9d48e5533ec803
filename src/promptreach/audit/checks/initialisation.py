"""The initialisation doctor: how far virtual tokens stand from anything the model has seen, and what that costs.

A vocabulary row is the model's own idea of an input. Virtual tokens many times longer than any of them saturate the
first norm, hardly turn under an optimiser's steps, and raise the loss before training starts.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.audit.context import AuditContext
from promptreach.audit.findings import Cell, Finding, Table, Text
from promptreach.certificate import Evidence
from promptreach.prompt import SoftPrompt
from promptreach.tuning.backbone import Joined
from promptreach.tuning.initial import PREFIX_INITS, PROMPT_INITS, initial_prefix, initial_prompt

_FAR = 3.0
"""Virtual tokens longer than this many median vocabulary rows are called far out."""


def run(context: AuditContext) -> Finding:
    """Compare starts, and what training made of the best one, with the vocabulary."""
    task, tokens = context.task, context.settings.prefix_tokens
    sequences = task.encoded["train"].sequences
    bare = _start_loss(context, Joined())
    prompts = {
        f"{init} (start)": initial_prompt(context.model, tokens, init, sequences, context.settings.seed)
        for init in PROMPT_INITS
    }
    starts = {name: _start_loss(context, Joined(prompt=prompt.embeddings)) for name, prompt in prompts.items()}
    trained = context.best("prompt")
    if trained is not None and isinstance(trained.adapter, SoftPrompt):
        prompts["after training"] = trained.adapter
    if isinstance(context.adapter, SoftPrompt):
        prompts["your prompt"] = context.adapter
        starts["your prompt"] = _start_loss(context, Joined(prompt=context.adapter.embeddings))
    prefixes = {}
    for init in PREFIX_INITS:
        prefix = initial_prefix(context.model, tokens, init, sequences, context.settings.seed)
        prefixes[init] = _start_loss(context, Joined(prefix_keys=prefix.keys, prefix_values=prefix.values))
    geometry = {name: _geometry(prompt.embeddings, context.model.vocabulary) for name, prompt in prompts.items()}
    random, used = geometry["random (start)"]["norm_ratio"], geometry["vocabulary (start)"]["norm_ratio"]
    summary = (
        f"PEFT's random start puts prompt tokens at {random:.1f} times the median vocabulary row and moves the "
        f"validation loss from {bare:.3f} to {starts['random (start)']:.3f} nats before the first step; vocabulary "
        f"rows ({used:.1f} times) move it to {starts['vocabulary (start)']:.3f}. A random prefix starts at "
        f"{prefixes['random']:.3f}, the cache of real text at {prefixes['text']:.3f}."
    )
    return Finding(
        check="initialisation",
        title="Where the virtual tokens start",
        evidence=Evidence.MEASURED,
        sample=f"{len(task.validation):,} validation rows, {tokens} virtual tokens, 1 seed",
        summary=summary,
        values={
            "bare_loss": bare,
            "prompt_start_loss": starts,
            "prefix_start_loss": prefixes,
            "geometry": geometry,
            "far_out": [name for name, found in geometry.items() if found["norm_ratio"] > _FAR],
        },
        blocks=[_prompt_table(geometry, starts, bare), _prefix_table(prefixes, bare), _advice(context)],
    )


def _start_loss(context: AuditContext, joined: Joined) -> float:
    """The validation loss with the untrained head (probe) and `joined` in front."""
    return context.task.evaluate("validation", context.task.objective(), joined).mean_loss


def _geometry(prompt: Float[Tensor, "prompt hidden"], vocabulary: Float[Tensor, "vocab hidden"]) -> dict[str, float]:
    """Norm and direction of virtual tokens against the vocabulary.

    Returns:
        The median norm over that of the vocabulary, the share of vocabulary rows that are shorter than it, and the
        median over virtual tokens of the cosine to the nearest vocabulary row.
    """
    rows = vocabulary.float()
    lengths = rows.norm(dim=1)
    own = prompt.float().to(rows.device)
    median = own.norm(dim=1).median()
    # A row of zeros (some padding rows) has no direction and is nearest to nothing.
    cosines = (own @ rows.T) / own.norm(dim=1, keepdim=True) / torch.where(lengths > 0, lengths, torch.inf)
    return {
        "norm_ratio": float(median / lengths.median()),
        "longer_than": float((lengths < median).float().mean()),
        "nearest_cosine": float(cosines.max(dim=1).values.median()),
    }


def _prompt_table(geometry: dict[str, dict[str, float]], starts: dict[str, float], bare: float) -> Table:
    rows: list[list[Cell]] = []
    for name, found in geometry.items():
        loss = starts.get(name)
        change = None if loss is None else loss - bare
        rows.append([name, found["norm_ratio"], found["longer_than"], found["nearest_cosine"], loss, change])
    columns = ["prompt", "norm / median row", "longer than share of rows", "cosine to nearest row"]
    return Table(
        title="Prompt tokens against the vocabulary",
        columns=[*columns, "loss at start", "change from bare"],
        rows=rows,
    )


def _prefix_table(prefixes: dict[str, float], bare: float) -> Table:
    names = {"text": "cache of real text", "random": "random (PEFT's default)"}
    rows: list[list[Cell]] = [[names[init], loss, loss - bare] for init, loss in prefixes.items()]
    return Table(title="Prefix starts", columns=["prefix", "loss at start", "change from bare"], rows=rows)


def _advice(context: AuditContext) -> Text:
    head = ", with the head at its probe" if context.is_classification else ""
    return Text(
        text=f"Losses are in nats per answer on the validation rows{head}. A start that raises the loss has to be "
        "unlearnt first; a token far longer than any vocabulary row hardly turns at learning rates that suit the "
        "vocabulary."
    )
