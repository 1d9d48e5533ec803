"""The baselines: the head alone, prompts of several lengths, a prefix and LoRA, on the same rows with the same steps.

Each lifts a restriction of the one before: a prompt may only speak at the input, a prefix has keys and values of its
own at every layer, LoRA changes how content attends to content. Where the loss falls tells which restriction binds,
and the prompts among each other tell whether it is their number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures import in_context
from promptreach.diagnosis.measures.comparison import held_out, run_numbers, scores_of
from promptreach.diagnosis.measures.race import (
    BORNE_OUT,
    on_more_validation,
    on_validation,
    settling,
    shared,
    split,
    within_reach,
)
from promptreach.diagnosis.measures.user_run import score_user_run
from promptreach.diagnosis.numbers import BASELINES, USER, BareNumbers, Comparison, TrainingNumbers, UserNumbers
from promptreach.diagnosis.rules.measurements import LENGTH_HELPS, MARGIN
from promptreach.diagnosis.rules.rules import depends_on, judge
from promptreach.training.choices import ALL_LINEAR, WIDE, method_of
from promptreach.training.methods.budget import parameter_count
from promptreach.training.methods.methods import CONFIGURED, UNIPELT_SIZES, method_named
from promptreach.training.runs import Run, RunConfig
from promptreach.training.search.halving import has_left
from promptreach.training.search.sweep import Sweep, swept
from promptreach.training.search.together import Search, alone, together
from promptreach.training.task.metrics import score
from promptreach.training.task.objective import Outcomes


def measure_control(experiment: Experiment) -> Measured[BareNumbers]:
    """The control's scores on the rows judged, and what answers that ignore the input score there."""
    outcomes, task = held_out(train_control(experiment)), experiment.task
    train, judged = task.encoded["train"], task.encoded["held_out"]
    majority = constant = None
    if train.labels is not None and judged.labels is not None:
        majority = float((judged.labels == train.labels.mode().values).double().mean())
    if experiment.kind is not None:
        deaf = experiment.kind.constants(train, judged)
        constant = max(score(experiment.metric, found, experiment.positive) for found in deaf)
    numbers = BareNumbers(
        **scores_of(outcomes, experiment.beside, experiment.positive),
        pooling=task.pooling,
        majority_accuracy=majority,
        constant=constant,
    )
    return Measured(numbers, experiment.judged_rows)


def measure(experiment: Experiment) -> Measured[TrainingNumbers] | Skipped:
    """Train the control and the baselines, score the user's own, and compare all with LoRA, the control and that.

    What the race left out is trained after all where the rows judged do not bear out what validation rows said. Where
    the verdict hangs on the lengths tried, a prompt longer than those asked for is trained as well, and where it
    still does a longer prefix; where it hangs on runs that were not at their end, all are trained longer. A method that
    this architecture cannot have is named with its reason, and the others are compared.
    """
    methods = {method_of(choice) for choice in experiment.methods}
    if "lora" in methods and (reason := experiment.task.backbone.lacks("lora")):
        return Skipped(f"There is no LoRA on this architecture to compare with, because {reason}.")
    train_control(experiment)
    train_baselines(experiment)
    experiment.user_run = score_user_run(experiment)
    numbers = compared(experiment)
    if experiment.not_needed and judge([*experiment.numbers, numbers]).verdict not in BORNE_OUT:
        experiment.not_needed.clear()
        train_baselines(experiment, race=False)
        numbers = compared(experiment)
    while True:
        if numbers.longer_possible and depends_on("lengths", [*experiment.numbers, numbers]):
            _train(experiment, [_one_longer(experiment)[numbers.longer_possible[0]]])
        elif numbers.more_steps_possible and depends_on("steps", [*experiment.numbers, numbers]):
            _train_longer(experiment)
        else:
            break
        numbers = compared(experiment)
    numbers = replace(numbers, in_context=in_context.measure(experiment))
    return Measured(numbers, experiment.sample)


def compared(
    experiment: Experiment,
    outcomes_of: Callable[[Run], Outcomes] = held_out,
    as_told: Callable[[Comparison], Comparison] = lambda found: found,
) -> TrainingNumbers:
    """The numbers of all that was trained so far, and of the user's own once that is scored.

    Args:
        experiment: what was trained.
        outcomes_of: gives the outcomes of a run that are compared.
        as_told: what is made of every comparison.
    """
    runs = experiment.runs
    outcomes = {name: outcomes_of(run) for name, run in runs.items()}
    if experiment.user_run is not None:
        outcomes[USER] = experiment.user_run.outcomes

    def against(other: str) -> dict[str, Comparison]:
        if other not in outcomes:
            return {}
        return {
            name: as_told(experiment.compare(found, outcomes[other]))
            for name, found in outcomes.items()
            if name != other
        }

    rival = experiment.best("lora") or next((run for run in runs.values() if run.config.method == "lora"), None)
    lora = "" if rival is None else rival.config.label
    methods = dict.fromkeys(method_of(choice) for choice in experiment.methods)
    not_here = {method: reason for method in methods if (reason := experiment.task.backbone.lacks(method))}
    longer = _one_longer(experiment)
    return TrainingNumbers(
        metric=experiment.metric,
        goal=experiment.goal,
        rows_judged=experiment.judged_rows,
        train_rows=len(experiment.task.train),
        held_out_rows=len(experiment.task.held_out),
        methods={
            name: run_numbers(
                run,
                outcomes[name],
                _largest_rate(experiment.sweeps[name]),
                experiment.starts.get(name, ()),
                experiment.beside,
                experiment.positive,
            )
            for name, run in runs.items()
        },
        against_lora=against(lora),
        against_head=against("head"),
        against_user=against(USER),
        lora=lora,
        against_shorter={
            name: {
                shorter: as_told(experiment.compare(outcomes[name], outcomes[shorter]))
                for shorter, other in runs.items()
                if other.config.method == run.config.method and other.config.tokens < run.config.tokens
            }
            for name, run in runs.items()
            if run.config.method in ("prompt", "prefix")
        },
        layers=experiment.task.backbone.num_layers,
        most_tokens=_room(experiment),
        longer_possible=tuple(form for form, config in longer.items() if config.label not in runs),
        beyond=tuple(config.label for config in longer.values() if config.label in runs),
        lengths_left_out=tuple(
            tokens
            for tokens in experiment.tokens
            if "prompt" in experiment.methods
            and "prompt" not in not_here
            and experiment.config("prompt", tokens=tokens).label not in runs
        ),
        not_needed=dict(experiment.not_needed),
        steps_asked=experiment.steps_asked,
        more_steps_possible=experiment.steps * 2 <= experiment.longest_training * experiment.steps_asked,
        user=_user_numbers(experiment),
        not_here=not_here,
        beside=experiment.beside,
        left_out=tuple(method for method in BASELINES if method not in methods),
    )


def _room(experiment: Experiment) -> int:
    """The virtual tokens that fit beside the longest example."""
    longest = max(len(ids) for part in experiment.task.encoded.values() for ids in part.sequences)
    return experiment.task.backbone.max_positions - longest


def _forms(experiment: Experiment) -> tuple[str, ...]:
    """The forms whose length is in question: that of the user's own soft prompt, or both where none was brought."""
    own = experiment.user_settings
    forms = (own.method,) if own is not None and own.method in ("prompt", "prefix") else ("prompt", "prefix")
    return tuple(form for form in forms if form in experiment.methods and not experiment.task.backbone.lacks(form))


def _one_longer(experiment: Experiment) -> dict[str, RunConfig]:
    """By form, the run beyond the longest one asked for that is trained where lengths decide; none where none fits."""
    found, forms = {}, _forms(experiment)
    for form in forms:
        # Beside prompts, a prefix is trained at one length.
        longest = experiment.middle_length if form == "prefix" and len(forms) > 1 else max(experiment.tokens)
        tokens = longer_length(longest, _room(experiment))
        if tokens is not None:
            found[form] = experiment.config(form, tokens=tokens)
    return found


def longer_length(longest: int, room: int) -> int | None:
    """The virtual tokens beyond `longest` that are tried: four times as many, beyond 64 twice, as far as there is
    `room`; None where that is less than twice."""
    tokens = min(max(min(4 * longest, 64), 2 * longest), room)
    return tokens if tokens >= 2 * longest else None


def train_control(experiment: Experiment) -> Run:
    """The head-only control (for completions: the bare model), trained once."""
    if "head" not in experiment.sweeps:
        executor = experiment.executor_of(experiment.task)
        experiment.sweeps["head"] = alone(executor, swept(experiment.task, experiment.config("head"), rates=[0.0]))
    return experiment.sweeps["head"].best


def train_baselines(experiment: Experiment, *, race: bool = True) -> None:
    """One search for a learning rate a method and length: what suits one length need not suit another.

    Where not every run is asked for, those that decide come first: LoRA, the middle length of the form in question, the
    user's own size, and whatever was asked for beside the usual methods. The others follow unless the verdict rests on
    these; prompts longer than the middle one come last, and not at all where `longer_cannot_help`.
    """
    race = race and not experiment.every_run
    middle = experiment.middle_length
    configs, longer = _asked_for(experiment)
    user = experiment.user_settings
    own = None if user is None else experiment.config(user.method, tokens=user.tokens, rank=user.rank).label
    form = next((form for form in _forms(experiment)), "")

    def decides(config: RunConfig) -> bool:
        if config.label == own or config.method not in ("prompt", "prefix"):
            return True
        return config.method == form and config.tokens == middle

    first, others = split(configs, decides) if race else (configs, [])
    _train(experiment, first)
    if race and (name := _settled(experiment)):
        _leave_out(experiment, [*others, *longer], f"{name} is as good as LoRA on the validation rows")
        return
    _train(experiment, others)
    if race and longer and longer_cannot_help(experiment):
        _leave_out(experiment, longer, "a shorter one is as good as LoRA, and tokens do not bind it")
        return
    _train(experiment, longer)


def _settled(experiment: Experiment) -> str:
    """The run on which the verdict rests whatever else is trained; empty where validation rows leave that open."""
    numbers = compared(experiment, on_validation, shared)
    name, more = settling(experiment.numbers, numbers), on_more_validation(experiment.task)
    if name or more is None or not within_reach(numbers):
        return name
    return settling(experiment.numbers, compared(experiment, more, shared))


def _asked_for(experiment: Experiment) -> tuple[list[RunConfig], list[RunConfig]]:
    """The runs that belong to the experiment, and those of its prompts that are longer than the middle one."""
    middle, user = experiment.middle_length, experiment.user_settings
    shorter, longer = ([t for t in experiment.tokens if t < middle], [t for t in experiment.tokens if t > middle])
    # The form of the user's own is the one whose lengths are compared.
    compared = ("prompt", "prefix") if user is not None and user.method == "prefix" else ("prompt",)
    forms = [form for form in compared if form in experiment.methods]
    configs = [experiment.config(form, tokens=tokens) for form in forms for tokens in (middle, *shorter)]
    configs += [_sized(experiment, method) for method in experiment.methods if method != "prompt"]
    if experiment.method_config:
        configs.append(replace(experiment.config(CONFIGURED), peft=experiment.method_config))
    if user is not None:
        configs.append(experiment.config(user.method, tokens=user.tokens, rank=user.rank))
    return configs, [experiment.config(form, tokens=tokens) for form in forms for tokens in longer]


def _leave_out(experiment: Experiment, configs: Sequence[RunConfig], why: str) -> None:
    """Note which of `configs` are not trained, and why."""
    lacks = experiment.task.backbone.lacks
    left = [config.label for config in configs if config.label not in experiment.sweeps and not lacks(config.method)]
    experiment.not_needed |= dict.fromkeys(left, why)


def _sized(experiment: Experiment, method: str) -> RunConfig:
    """The run of a method that is trained at one size."""
    if method == "unipelt":
        size = UNIPELT_SIZES["published"]
        config = experiment.config(method, tokens=size["tokens"], rank=size["rank"])
        return replace(config, bottleneck=size["bottleneck"])
    tokens = experiment.middle_length if method == "prefix" else 0
    rank = experiment.rank or equal_rank(experiment)
    config = experiment.config(method_of(method), tokens=tokens, rank=rank if method_of(method) == "lora" else 0)
    return replace(config, lora_targets=ALL_LINEAR) if method == WIDE else config


def longer_cannot_help(experiment: Experiment) -> bool:
    """Whether the prompt of middle length is as good as LoRA, and no better than the next shorter one.

    Then tokens do not bind: longer prompts may still be a little better, but the middle one fits whatever they do. Both
    are told by the validation rows, see `race`.
    """
    runs = [run for run in experiment.runs.values() if run.status == "finished"]
    prompts = sorted((run for run in runs if run.config.method == "prompt"), key=lambda run: run.config.tokens)
    below = [run for run in prompts if run.config.tokens < experiment.middle_length]
    middle = next((run for run in prompts if run.config.tokens == experiment.middle_length), None)
    lora = experiment.best("lora")
    if middle is None or lora is None or not below:
        return False
    against = shared(experiment.compare(middle.validation, lora.validation))
    saved = below[-1].validation.mean_loss - middle.validation.mean_loss
    return against.low >= -MARGIN[experiment.metric] and saved < LENGTH_HELPS


def equal_rank(experiment: Experiment) -> int:
    """The LoRA rank whose parameters come closest to those of the longest prompt; at least 1."""
    backbone = experiment.task.backbone
    return max(1, round(max(experiment.tokens) * backbone.embedding_size / parameter_count(backbone, "lora", rank=1)))


def _train(experiment: Experiment, configs: Sequence[RunConfig]) -> None:
    """Add the sweep of each of `configs` that is not there yet and that this architecture can have; all of them search
    together, so that workers have every first rung to choose from."""
    lacks, control = experiment.task.backbone.lacks, train_control(experiment)
    wanted = {config.label: config for config in configs if not lacks(config.method, "")}
    wanted = {label: config for label, config in wanted.items() if label not in experiment.sweeps}
    searches = [_searched(experiment, config, control) for config in wanted.values()]
    for label, (found, tried) in zip(wanted, together(experiment.executor_of(experiment.task), searches), strict=True):
        experiment.sweeps[label] = found
        experiment.starts[label] = tried


def _searched(experiment: Experiment, config: RunConfig, control: Run) -> Search[tuple[Sweep, tuple[str, ...]]]:
    """The search for the best rate of `config`, and from its other starts where its own did harm; the starts tried."""
    task, lacks = experiment.task, experiment.task.backbone.lacks
    wide = config.lora_targets == ALL_LINEAR and WIDE in experiment.methods
    rates = experiment.learning_rates.get(WIDE if wide else config.method)
    found = yield from swept(task, config, rates, experiment.preference)
    tried = [config.init]
    # A prompt that ends below the control was harmed by its start, and is no measure of what prompts can do.
    others = [
        init for init in method_named(config.method).inits if init != config.init and not lacks(config.method, init)
    ]
    for init in others if config.method in ("prompt", "prefix") else ():
        if not has_left(control.validation, found.best.validation):
            break
        tried.append(init)
        other = yield from swept(task, replace(config, init=init, own_text=()), rates, experiment.preference)
        found = min(found, other, key=lambda entry: experiment.preference(entry.best))
    return found, tuple(tried)


def _train_longer(experiment: Experiment) -> None:
    """Train all methods over twice the steps, each at the rate that its search found; a run that does no better for it
    stays as it was."""
    experiment.steps *= 2
    task, tuned = experiment.task, {name: one for name, one in experiment.sweeps.items() if name != "head"}
    configs = [replace(one.best.config, steps=experiment.steps) for one in tuned.values()]
    searches = [swept(task, config, [config.learning_rate]) for config in configs]
    for (name, before), found in zip(tuned.items(), together(experiment.executor_of(task), searches), strict=True):
        best = min(before.best, found.best, key=experiment.preference)
        experiment.sweeps[name] = replace(before, best=best)


def _user_numbers(experiment: Experiment) -> UserNumbers | None:
    run, settings = experiment.user_run, experiment.user_settings
    if run is None or settings is None:
        return None
    return UserNumbers(
        **scores_of(run.outcomes, experiment.beside, experiment.positive),
        status=run.status,
        kind="adapter" if experiment.user_adapter is not None else "attempt",
        method=settings.method,
        tokens=settings.tokens,
        rank=settings.rank,
    )


def _largest_rate(entry: Sweep) -> float:
    """The largest rate tried, of several; infinite without trials.

    The smallest does not matter: where it is the best, training only did harm, and a smaller one would do less.
    """
    rates = [trial.config.learning_rate for trial in entry.trials]
    return max(rates) if len(rates) > 1 else math.inf
