"""The baselines: the head alone, prompts of several lengths, a prefix and LoRA, on the same rows with the same steps.

Each lifts a restriction of the one before: a prompt may only speak at the input, a prefix has keys and values of its
own at every layer, LoRA changes how content attends to content. Where the loss falls tells which restriction binds,
and the prompts among each other tell whether it is their number.
"""

import math
from collections.abc import Sequence

from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures.comparison import held_out, run_numbers, scores_of
from promptreach.diagnosis.measures.user_run import score_user_run
from promptreach.diagnosis.numbers import USER, BareNumbers, Comparison, TrainingNumbers, UserNumbers
from promptreach.diagnosis.rules.measurements import LENGTH_HELPS, MARGIN
from promptreach.training.methods.budget import parameter_count
from promptreach.training.runs import Run, RunConfig
from promptreach.training.search.sweep import sweep

BASELINES = ("prompt", "prefix", "lora")
"""The methods that are compared."""


def measure_control(experiment: Experiment) -> Measured[BareNumbers]:
    """The control's scores on the rows judged, and what always giving the most frequent label scores there."""
    outcomes, task = held_out(train_control(experiment)), experiment.task
    train, judged = task.encoded["train"].labels, task.encoded["held_out"].labels
    majority = None
    if train is not None and judged is not None:
        majority = float((judged == train.mode().values).double().mean())
    numbers = BareNumbers(**scores_of(outcomes), pooling=task.pooling, majority_accuracy=majority)
    return Measured(numbers, experiment.judged_rows)


def measure(experiment: Experiment) -> Measured[TrainingNumbers] | Skipped:
    """Train the control and the baselines, score the user's own, and compare all with LoRA, the control and that.

    A method that this architecture cannot have is named with its reason, and the others are compared.
    """
    not_here = {method: reason for method in BASELINES if (reason := experiment.task.backbone.lacks(method))}
    if "lora" in not_here:
        return Skipped(f"There is no LoRA to compare with: {not_here['lora']}.")
    train_control(experiment)
    train_baselines(experiment)
    experiment.user_run = score_user_run(experiment)
    runs = experiment.runs
    outcomes = {name: held_out(run) for name, run in runs.items()}
    if experiment.user_run is not None:
        outcomes[USER] = experiment.user_run.outcomes

    def against(other: str) -> dict[str, Comparison]:
        if other not in outcomes:
            return {}
        return {name: experiment.compare(found, outcomes[other]) for name, found in outcomes.items() if name != other}

    lora = next(name for name, run in runs.items() if run.config.method == "lora")
    numbers = TrainingNumbers(
        metric=experiment.metric,
        goal=experiment.goal,
        rows_judged=experiment.judged_rows,
        train_rows=len(experiment.task.train),
        held_out_rows=len(experiment.task.held_out),
        methods={name: run_numbers(run, _largest_rate(experiment, run.config.method)) for name, run in runs.items()},
        against_lora=against(lora),
        against_head=against("head"),
        against_user=against(USER),
        lora=lora,
        lengths_left_out=tuple(
            tokens
            for tokens in experiment.tokens
            if "prompt" not in not_here and experiment.config("prompt", tokens=tokens).label not in runs
        ),
        user=_user_numbers(experiment),
        not_here=not_here,
    )
    return Measured(numbers, experiment.sample)


def train_control(experiment: Experiment) -> Run:
    """The head-only control (for completions: the bare model), trained once."""
    if "head" not in experiment.sweeps:
        executor = experiment.executor_of(experiment.task)
        experiment.sweeps["head"] = sweep(executor, experiment.config("head"), rates=[0.0])
    return experiment.sweeps["head"].best


def train_baselines(experiment: Experiment) -> None:
    """One sweep a method; prompts of other lengths take the learning rate that the middle length chose.

    Prompts longer than the middle one come last, and not at all where `longer_cannot_help`.
    """
    middle, user = experiment.middle_length, experiment.user_settings
    shorter, longer = ([t for t in experiment.tokens if t < middle], [t for t in experiment.tokens if t > middle])
    configs = [experiment.config("prompt", tokens=tokens) for tokens in (middle, *shorter)]
    configs.append(experiment.config("prefix", tokens=middle))
    configs.append(experiment.config("lora", rank=experiment.rank or equal_rank(experiment)))
    if user is not None:
        configs.append(experiment.config(user.method, tokens=user.tokens, rank=user.rank))
    _train(experiment, configs)
    if experiment.every_length or not longer_cannot_help(experiment):
        _train(experiment, [experiment.config("prompt", tokens=tokens) for tokens in longer])


def longer_cannot_help(experiment: Experiment) -> bool:
    """Whether the prompt of middle length is as good as LoRA, and no better than the next shorter one.

    Then tokens do not bind: longer prompts may still be a little better, but the middle one fits whatever they do.
    """
    runs = [run for run in experiment.runs.values() if run.status == "finished"]
    prompts = sorted((run for run in runs if run.config.method == "prompt"), key=lambda run: run.config.tokens)
    below = [run for run in prompts if run.config.tokens < experiment.middle_length]
    middle = next((run for run in prompts if run.config.tokens == experiment.middle_length), None)
    lora = next((run for run in runs if run.config.method == "lora"), None)
    if middle is None or lora is None or not below:
        return False
    against = experiment.compare(held_out(middle), held_out(lora))
    saved = below[-1].validation.mean_loss - middle.validation.mean_loss
    return against.low >= -MARGIN[experiment.metric] and saved < LENGTH_HELPS


def equal_rank(experiment: Experiment) -> int:
    """The LoRA rank whose parameters come closest to those of the longest prompt; at least 1."""
    backbone = experiment.task.backbone
    return max(1, round(max(experiment.tokens) * backbone.embedding_size / parameter_count(backbone, "lora", rank=1)))


def _train(experiment: Experiment, configs: Sequence[RunConfig]) -> None:
    """Add the sweep of each of `configs` that is not there yet and that this architecture can have."""
    executor = experiment.executor_of(experiment.task)
    for config in configs:
        if config.label in experiment.sweeps or experiment.task.backbone.lacks(config.method):
            continue
        known = [run.config for run in experiment.runs.values()]
        rates = [one.learning_rate for one in known if one.method == config.method][:1]
        experiment.sweeps[config.label] = sweep(executor, config, rates=rates or None)


def _user_numbers(experiment: Experiment) -> UserNumbers | None:
    run, settings = experiment.user_run, experiment.user_settings
    if run is None or settings is None:
        return None
    return UserNumbers(
        **scores_of(run.outcomes),
        status=run.status,
        kind="adapter" if experiment.user_adapter is not None else "attempt",
        method=settings.method,
        tokens=settings.tokens,
        rank=settings.rank,
    )


def _largest_rate(experiment: Experiment, method: str) -> float:
    """The largest rate tried for a method in more than one trial; infinite without trials.

    The smallest does not matter: where it is the best, training only did harm, and a smaller one would do less.
    """
    trials = [trial.config for entry in experiment.sweeps.values() for trial in entry.trials]
    rates = [config.learning_rate for config in trials if config.method == method]
    return max(rates) if len(rates) > 1 else math.inf
