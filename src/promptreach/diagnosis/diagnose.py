"""The diagnosis of a soft prompt that does not learn: is it the prompt, the training, or the data?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from promptreach.backbone import Backbone
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped, longest_prompt
from promptreach.diagnosis.measures.memorise import prepare_same_rows
from promptreach.diagnosis.numbers import Goal
from promptreach.diagnosis.rules.measurements import unit_of
from promptreach.diagnosis.steps import measure_and_judge
from promptreach.diagnosis.verdict import Attempt
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.files import check_output
from promptreach.hf.adapters.brought import bring
from promptreach.hf.adapters.folders import as_adapter
from promptreach.hf.models.load import opened_for
from promptreach.progress import Progress
from promptreach.prompt import Adapter
from promptreach.report.glance import AtAGlance, View
from promptreach.report.verdict import Reason, TuningVerdict
from promptreach.tables import read_task
from promptreach.training.arguments import MIN_CONTENT, choice_faults, least_faults, rate_faults, size_faults
from promptreach.training.engines.engines import engine_faults, open_engine
from promptreach.training.methods.methods import METHODS, lacking_faults
from promptreach.training.recipe import recipe
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.task.limits import Limits
from promptreach.training.task.readout import POOLED, Pooling
from promptreach.training.task.task import prepare

ATTEMPTABLE = ("prompt", "prefix", "lora")
"""The methods whose failure can be diagnosed."""


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(AtAGlance):
    """A verdict between expressivity, optimisation and data, and its reasons.

    Attributes:
        verdict: see `TuningVerdict`.
        evidence: how sure the verdict is: PROVED, MEASURED, or UNKNOWN when it is UNDECIDED.
        headline: the verdict as one sentence that a person can act on.
        reasons: ranked, the weightiest first, each with its evidence and the finding it rests on.
        findings: by name, the numbers with their evidence and sample; what was not measured says why.
        advice: what to do, as a sentence.
        recommended: the settings of the run that the advice builds on, or None where nothing is to be trained.
    """

    verdict: TuningVerdict
    evidence: Evidence
    headline: str
    reasons: tuple[Reason, ...]
    findings: Mapping[str, Measured[object] | Skipped]
    advice: str
    recommended: Attempt | None

    def view(self) -> View:
        """The verdict, the advice, the reasons, and what was measured on which rows."""
        reasons = [f"{rank}. {reason.text} [{reason.evidence.value}]" for rank, reason in enumerate(self.reasons, 1)]
        found = [f"{name}: {one.sample or one.reason}" for name, one in self.findings.items()]
        heading = f"{self.verdict.value}: {self.headline} [{self.evidence.value}]"
        return View(heading, "", [self.advice, *reasons, *found])


def diagnose(
    model: Any,
    data: Any,
    *,
    attempt: Attempt | None = None,
    adapter: Adapter | str | Path | None = None,
    goal: Goal = "generalise",
    tokens: Sequence[int] = (4, 16, 64),
    rank: int | None = None,
    steps: int = 200,
    batch_size: int = 32,
    seed: int = 0,
    seeds: int = 1,
    every_run: bool = False,
    longest_training: int = 4,
    pooling: Pooling | None = None,
    limits: Limits | None = None,
    plain_text: Sequence[str] = (),
    folder: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    quiet: bool = False,
) -> Diagnosis:
    """Find out why a soft prompt does not learn a task: its form, its length, its training, or the data.

    What is measured: the floor that contradictions put under every method; the head alone; prompts of several lengths,
    a prefix and LoRA of about as many parameters as the longest prompt, on the same rows with the same steps; and,
    where prompts are short of LoRA, whether the same training finds a prompt that was planted. What the user did is
    trained again in the same way, and then one setting at a time is changed until it fits.

    Args:
        model: what `promptreach.hf.open_model` opens or has opened: a hub id, a folder, a GGUF file, a backbone.
        data: what `promptreach.tables.read_task` reads: a file, a record, a list of rows.
        attempt: the training that disappointed, if any; settings that are not known stay None.
        adapter: what came of it, if it was kept: a record or a PEFT folder. Not together with `attempt`.
        goal: ``"generalise"``: rows are held out and judged on; ``"memorise"``: the question is whether the training
            rows themselves can be fitted, so that all rows are trained and judged on.
        tokens: lengths of the prompts trained; those that leave no room in the context are left out. The prefix gets
            the middle one.
        rank: of the LoRA update; None takes the one that comes closest to the longest prompt in parameters.
        steps, batch_size: of each training; trials of a learning rate are shorter.
        seed: for the split, the starts and the order of the examples. The same seed gives the same diagnosis.
        seeds: 2 or more train the winners again with that many seeds; the margin is at least what a seed was worth.
        every_run: train also the lengths and forms that cannot change the verdict any more, once LoRA and a prompt are
            trained; otherwise the findings name what was left out, and why.
        longest_training: the most times over that `steps` are trained, where the verdict hangs on runs that were not at
            their end; 1 keeps to them.
        pooling: where a classifier's head reads; None chooses by cross-validation on training rows.
        limits: how much of the data is used; None takes `Limits()`.
        plain_text: texts on which an adapter should change nothing; none takes the inputs that are held out.
        folder: keeps finished runs there; a second call with the same arguments finds them, after a kill as well.
        engine, workers, ray_address: who trains, as for `fit`; they decide no number.
        quiet: no progress shown. With `folder`, progress.jsonl tells it to other programs there all the same.

    Returns:
        The verdict with its reasons. Its evidence is PROVED only where contradictions in these very rows decide; all
        verdicts about form, length and training are MEASURED on the sizes and rates tried, and too little of it is
        UNDECIDED.

    Raises:
        InputError: for arguments that make no sense, all at once; for prompts that leave no room in the context, or
            completions asked of an encoder.
        AdapterError: for an adapter of an unknown type, or made for another model.
        DataError: for fewer than 12 different inputs, two rows when they are to be memorised; and whatever else reading
            the model and the data raises.
        OutputError: when nothing can be written to `folder`.
    """
    faults = argument_faults(attempt, adapter, goal, tokens, rank, steps, batch_size, pooling)
    faults += least_faults({"seeds": seeds, "longest_training": longest_training})
    raise_if_any([*faults, *engine_faults(engine, workers, ray_address, model)])
    if attempt is not None:
        has_tokens = METHODS[attempt.method].uses_tokens
        attempt = replace(attempt, rank=0) if has_tokens else replace(attempt, tokens=0)
    if folder is not None:
        check_output(folder, resume=True)
    task_data = read_task(data)
    backbone = opened_for(task_data, model)
    if attempt is not None:
        raise_if_any(lacking_faults("attempt.method", backbone, attempt.method, attempt.init))
    lengths = _lengths(backbone, tokens, attempt)
    brought = bring(adapter, backbone) if isinstance(adapter, str | Path) else None
    backbone = brought.model if brought else backbone
    user_adapter = brought.adapter if brought else None if adapter is None else as_adapter(adapter, backbone)
    limits = limits or Limits()
    store = RunStore(None if folder is None else Path(folder))
    with (
        Progress(quiet, folder=None if folder is None else Path(folder)) as progress,
        open_engine(store, progress, engine, workers=workers, ray_address=ray_address) as executor_of,
    ):
        make, longest = prepare if goal == "generalise" else prepare_same_rows, longest_prompt(lengths, user_adapter)
        experiment = Experiment(
            data=task_data,
            task=make(backbone, task_data, limits=limits, seed=seed, longest_prompt=longest, pooling=pooling),
            executor_of=executor_of,
            tokens=lengths,
            rank=rank or 0,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            seeds=seeds,
            every_run=every_run,
            longest_training=longest_training,
            goal=goal,
            limits=limits,
            attempt=attempt,
            user_adapter=user_adapter,
            user_pooling=brought.pooling if brought else None,
            classifier=brought.classifier if brought else None,
            user_base=brought.other_base if brought else "",
            user_tokens=brought.added_tokens if brought else (),
            plain_text=tuple(plain_text),
        )
        judgement = measure_and_judge(experiment, progress.enter)
    chosen = experiment.runs.get(judgement.chosen or "")
    return Diagnosis(
        verdict=judgement.verdict,
        evidence=judgement.evidence,
        headline=judgement.headline,
        reasons=judgement.reasons,
        findings=dict(experiment.found),
        advice=_advice(judgement.advice, chosen, experiment),
        recommended=None if chosen is None else _recommended(chosen.config, experiment.task.pooling),
    )


def _lengths(backbone: Backbone, tokens: Sequence[int], attempt: Attempt | None) -> tuple[int, ...]:
    """The prompt lengths that leave room for content, the attempt's own among them."""
    longest = backbone.max_positions - MIN_CONTENT
    own = attempt.tokens if attempt is not None else 0
    fitting = {length for length in tokens if length <= longest} | ({own} if own else set())
    if own > longest or not fitting:
        unit = unit_of(attempt.method if attempt is not None and own else "prompt")
        seen = f"{own or min(tokens)} {unit} in a context of {backbone.max_positions}"
        raise InputError(Fault("attempt.tokens" if own > longest else "tokens", seen, f"at most {longest}"))
    return tuple(sorted(fitting))


def _advice(text: str, chosen: Run | None, experiment: Experiment) -> str:
    """The advice with all that carries the score of the run that it builds on."""
    return text if chosen is None else f"{text} {recipe(chosen, experiment.task, experiment.content_length)}"


def _recommended(config: RunConfig, pooling: Pooling | None) -> Attempt:
    return Attempt(
        method=config.method,
        tokens=config.tokens,
        rank=config.rank,
        learning_rate=config.learning_rate or None,
        init=config.init,
        steps=config.steps or None,
        pooling=pooling,
    )


def argument_faults(
    attempt: Attempt | None,
    adapter: object,
    goal: str,
    tokens: Sequence[int],
    rank: int | None,
    steps: int,
    batch_size: int,
    pooling: str | None,
) -> list[Fault]:
    """Everything wrong with the arguments of `diagnose`, all at once."""
    faults = choice_faults("goal", goal, get_args(Goal)) + size_faults("tokens", tokens)
    faults += least_faults({"steps": steps, "batch_size": batch_size, "rank": rank})
    faults += choice_faults("pooling", pooling, POOLED)
    if attempt is not None:
        if adapter is not None:
            faults.append(Fault("adapter", "given beside an attempt", "one of the two"))
        faults += _attempt_faults(attempt)
    return faults


def _attempt_faults(attempt: Attempt) -> list[Fault]:
    if attempt.method not in ATTEMPTABLE:
        return choice_faults("attempt.method", attempt.method, ATTEMPTABLE)
    spec = METHODS[attempt.method]
    size = {"attempt.tokens": attempt.tokens} if spec.uses_tokens else {"attempt.rank": attempt.rank}
    return [
        *least_faults({**size, "attempt.steps": attempt.steps}),
        *choice_faults("attempt.init", attempt.init, spec.inits),
        *rate_faults("attempt.learning_rate", attempt.learning_rate),
        *choice_faults("attempt.pooling", attempt.pooling, POOLED),
    ]
