"""The start: how far virtual tokens stand from anything the model has seen, and what that costs before any step.

A vocabulary row is the model's own idea of an input. Virtual tokens many times longer than any of them saturate the
first norm, hardly turn under an optimiser's steps, and raise the loss before training starts.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.backbone import Joined
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Study
from promptreach.prompt import SoftPrompt
from promptreach.training.methods.initial import PREFIX_INITS, PROMPT_INITS, initial_prefix, initial_prompt

FAR = 3.0
"""Virtual tokens longer than this many median vocabulary rows are called far out."""


def measure(study: Study) -> Measured:
    """Compare starts, and what training made of the best one, with the vocabulary."""
    task, backbone, tokens = study.task, study.task.backbone, study.prefix_tokens
    sequences = task.encoded["train"].sequences
    prompts = {
        f"{init} (start)": initial_prompt(backbone, tokens, init, sequences, study.seed) for init in PROMPT_INITS
    }
    starts = {name: _start_loss(study, Joined(prompt=prompt.embeddings)) for name, prompt in prompts.items()}
    trained = study.best("prompt")
    if trained is not None and isinstance(trained.adapter, SoftPrompt):
        prompts["after training"] = trained.adapter
    if isinstance(study.adapter, SoftPrompt):
        prompts["your prompt"] = study.adapter
        starts["your prompt"] = _start_loss(study, Joined(prompt=study.adapter.embeddings))
    prefixes = {}
    for init in PREFIX_INITS:
        prefix = initial_prefix(backbone, tokens, init, sequences, study.seed)
        prefixes[init] = _start_loss(study, Joined(prefix_keys=prefix.keys, prefix_values=prefix.values))
    geometry = {name: geometry_of(prompt.embeddings, backbone.vocabulary) for name, prompt in prompts.items()}
    values = {
        "bare_loss": _start_loss(study, Joined()),
        "prompt_start_loss": starts,
        "prefix_start_loss": prefixes,
        "geometry": geometry,
        "far_out": [name for name, found in geometry.items() if found["norm_ratio"] > FAR],
    }
    sample = f"{len(task.validation):,} validation rows, {tokens} virtual tokens, 1 seed"
    return Measured("initialisation", Evidence.MEASURED, sample, values)


def _start_loss(study: Study, joined: Joined) -> float:
    """The validation loss with the untrained head (probe) and `joined` in front."""
    return study.task.evaluate("validation", study.task.objective(), joined).mean_loss


def geometry_of(prompt: Float[Tensor, "prompt hidden"], vocabulary: Float[Tensor, "vocab hidden"]) -> dict[str, float]:
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
