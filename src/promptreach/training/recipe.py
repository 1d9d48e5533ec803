"""The recipe of a run in words: all that carries its score, for whoever trains elsewhere.

A rate, a length and a number of steps alone do not carry it: the same prompt with another schedule, without clipping,
or under a head that reads another place or starts at random, scores otherwise.
"""

from promptreach.training.methods.initial import OWN
from promptreach.training.runs import Run
from promptreach.training.task.task import Task
from promptreach.training.trainer import WARM_UP

_STARTS = {
    ("prompt", "vocabulary"): "distinct rows of the vocabulary, of tokens that occur in the training rows",
    ("prompt", "text"): "the embeddings of training texts",
    ("prompt", "random"): "standard normal entries, PEFT's default",
    ("prefix", "text"): "the keys and values that training texts leave in the model",
    ("prefix", "random"): "standard normal entries, PEFT's default",
    ("prompt", OWN): "the embeddings of the text that was given",
    ("prefix", OWN): "the keys and values that the text that was given leaves in the model",
    ("lora", "zero"): "a first factor as PEFT draws it and a second one of zeros",
}
_PLACES = {
    "mean": "the mean over the content tokens",
    "first": "the first position",
    "last": "the last content token",
    "each": "each token",
}


def recipe(run: Run, task: Task, max_length: int) -> str:
    """The optimiser, schedule, clipping, batches, start, read-out and cut of a run, as sentences.

    Args:
        run: a full run.
        task: what it was trained on.
        max_length: tokens of an example that were read.
    """
    config = run.config
    cut = f"Rows were cut at {max_length:,} tokens."
    if task.class_weights is not None:
        weights = ", ".join(f"{weight:.3g}" for weight in task.class_weights.tolist())
        cut += f" The loss weighs the classes, in their sorted order, by {weights}."
    if task.encoded["train"].weights is not None:
        cut += " Each row counts as much as its weight says."
    if config.method == "head":
        if task.pooling is None:
            return f"Nothing is trained. {cut}"
        penalty = task.probes[task.pooling].penalty
        return (
            f"The head is {task.kind.probe} on {_PLACES[task.pooling]} of the last hidden states, standardised on "
            f"the training rows, with a ridge penalty of {penalty:g} an example. {cut}"
        )
    start = _STARTS.get((config.method, config.init), config.init) if config.start is None else "the trained one given"
    if config.own_text:
        size, own = config.tokens, len(config.own_text)
        start += f", {own:,} tokens long" + (", of which these are the first" if own > size else "")
        start += ", repeated" if own < size else ""
    sentences = [
        f"It starts from {start}.",
        f"AdamW without weight decay took {run.steps:,} steps of {config.batch_size} rows (a schedule of "
        f"{config.steps:,}; kept is the best of {config.evaluations} looks at {len(task.validation):,} validation "
        f"rows, that of step {run.best_step:,}), its rate rising over the first {WARM_UP:.0%} of the steps to "
        f"{config.learning_rate:.2g} and falling linearly to zero, all gradients together clipped to norm 1.",
        cut,
    ]
    if config.method == "lora":
        place = " and ".join(config.lora_targets) or "the query and value projections"
        sentences.insert(1, f"Its alpha is {2 * config.rank}, and it sits on {place}.")
    if task.pooling is not None:
        sentences.append(
            f"The head reads {_PLACES[task.pooling]}, starts as {task.kind.probe} on these features of the frozen "
            f"model, standardised on the training rows, and is trained along at rate {config.head_learning_rate:.2g}: "
            "a head that starts at random, as PEFT's classifiers do, was not tried."
        )
    return " ".join(sentences)
