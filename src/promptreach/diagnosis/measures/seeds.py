"""The winners trained again with other seeds: what the luck of a start and of an order of examples is worth here."""

from dataclasses import replace

from promptreach.diagnosis.controls import SeedNumbers
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.rules.rules import judge
from promptreach.training.runs import Run
from promptreach.training.task.metrics import score


def measure(experiment: Experiment) -> Measured[SeedNumbers] | Skipped:
    """Train the best prompt or prefix, LoRA and what the verdict so far chooses with each further seed.

    Rows, settings and steps stay; the start and the order of the examples change.
    """
    if experiment.seeds < 2:
        return Skipped("One seed was asked for.")
    chosen = judge(experiment.numbers).chosen
    best = [run for run in (experiment.best("prompt", "prefix"), experiment.best("lora")) if run is not None]
    winners = {run.config.label: run for run in best}
    if chosen in experiment.runs and chosen != "head":
        winners[chosen] = experiment.runs[chosen]
    seeds = tuple(range(experiment.seed, experiment.seed + experiment.seeds))
    executor = experiment.executor_of(experiment.task)
    scores = {
        name: [
            _score(experiment, run)
            for run in [first, *executor.run([replace(first.config, seed=seed) for seed in seeds[1:]])]
        ]
        for name, first in winners.items()
    }
    worth = max((max(found) - min(found) for found in scores.values()), default=0.0)
    rows = f"{len(experiment.task.train):,} training and {experiment.judged_rows}"
    return Measured(SeedNumbers(seeds, scores, worth), f"{rows}, {len(seeds)} seeds")


def _score(experiment: Experiment, run: Run) -> float:
    return score(experiment.metric, held_out(run), experiment.positive)
