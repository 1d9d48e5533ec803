"""The start of virtual tokens: its distance from anything the model has seen, and its cost before any step.

A vocabulary row is the model's own idea of an input. Virtual tokens many times longer than any of them saturate the
first norm, hardly turn under an optimiser's steps, and raise the loss before training starts.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.backbone import Prepended
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.numbers import Geometry, StartNumbers
from promptreach.prompt import SoftPrompt
from promptreach.training.methods.initial import PREFIX_INITS, PROMPT_INITS, initial_prompt
from promptreach.training.search.sweep import start_outcomes
from promptreach.training.task.task import Task

FAR = 3.0
"""Virtual tokens longer than this many median vocabulary rows are called far out."""


def measure(experiment: Experiment) -> Measured[StartNumbers] | Skipped:
    """Compare starts, and what training made of the best one, with the vocabulary."""
    task, tokens, seed = experiment.task, experiment.middle_length, experiment.seed
    backbone, sequences = task.backbone, task.encoded["train"].sequences
    if reason := backbone.lacks("prompt"):
        return Skipped(f"There is no prompt on this architecture, because {reason}.")
    prompts = {f"{init} (start)": initial_prompt(backbone, tokens, init, sequences, seed) for init in PROMPT_INITS}
    starts = {f"{init} (start)": _run_start(experiment, "prompt", init) for init in PROMPT_INITS}
    trained = experiment.best("prompt")
    if trained is not None and isinstance(trained.adapter, SoftPrompt):
        prompts["after training"] = trained.adapter
    if isinstance(experiment.user_adapter, SoftPrompt):
        prompts["your prompt"] = experiment.user_adapter
        starts["your prompt"] = _start_loss(task, Prepended(prompt=experiment.user_adapter.embeddings))
    known = (init for init in PREFIX_INITS if not backbone.lacks("prefix", init))
    prefixes = {init: _run_start(experiment, "prefix", init) for init in known}
    geometry = {name: geometry_of(prompt.embeddings, backbone.vocabulary) for name, prompt in prompts.items()}
    numbers = StartNumbers(
        bare_loss=task.evaluate_bare("validation", task.objective()).mean_loss,
        prompt_start_loss=starts,
        prefix_start_loss=prefixes,
        geometry=geometry,
        far_out=tuple(name for name, found in geometry.items() if found.norm_ratio > FAR),
    )
    return Measured(numbers, f"{len(task.validation):,} validation rows, {tokens} virtual tokens, 1 seed")


def _run_start(experiment: Experiment, method: str, init: str) -> float:
    """The validation loss at the start of a run of middle length, which training may have looked at already."""
    config = experiment.config(method, tokens=experiment.middle_length, init=init)
    return start_outcomes(experiment.task, config).mean_loss


def _start_loss(task: Task, joined: Prepended) -> float:
    """The validation loss with the untrained head (probe) and `joined` in front."""
    return task.evaluate("validation", task.objective(), joined).mean_loss


def geometry_of(prompt: Float[Tensor, "prompt hidden"], vocabulary: Float[Tensor, "vocab hidden"]) -> Geometry:
    """Norm and direction of virtual tokens against the vocabulary."""
    rows = vocabulary.float()
    lengths = rows.norm(dim=1)
    own = prompt.float().to(rows.device)
    median = own.norm(dim=1).median()
    # A row of zeros (some padding rows) has no direction and is nearest to nothing.
    cosines = (own @ rows.T) / own.norm(dim=1, keepdim=True) / torch.where(lengths > 0, lengths, torch.inf)
    return Geometry(
        norm_ratio=float(median / lengths.median()),
        longer_than=float((lengths < median).float().mean()),
        nearest_cosine=float(cosines.max(dim=1).values.median()),
    )
