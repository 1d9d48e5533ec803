"""The runs of an audit, with the times that they took, spread over more workers than it had: simulated, not run."""

from collections.abc import Iterator
from typing import Any

WORKERS = (1, 2, 4, 64)


def scale(audit: dict[str, Any]) -> dict[str, Any]:
    """The runs of an audit on several workers: wall time, and the share of the workers' time that is work.

    A rung waits for the rung before it of its search, a full run for the last rung; what the race trained later waits
    for all that it looked at. Workers take the longest job that is ready. What the audit does beside training is left
    out.
    """
    jobs = list(jobs_of(audit["runs"]))
    work = sum(seconds for seconds, _ in jobs)
    found = {}
    for workers in WORKERS:
        wall = makespan(jobs, workers)
        found[str(workers)] = {"seconds": wall, "efficiency": work / (workers * wall), "faster": work / wall}
    return {"work_seconds": work, "jobs": len(jobs), "workers": found}


def jobs_of(runs: list[dict[str, Any]]) -> Iterator[tuple[float, frozenset[int]]]:
    """Each job's seconds, and the jobs that it waits for."""
    full = 1 << 30
    reached: dict[tuple[str, str], dict[int, list[int]]] = {}
    begins: dict[tuple[str, str], list[int]] = {}
    ended = False
    for index, run in enumerate(runs):
        rung, name = run["pause"] or full, (run["label"], run["init"])
        # What begins once a search has ended waits for the race's look at all that came before.
        begins.setdefault(name, list(range(index)) if ended else [])
        rungs = reached.setdefault(name, {})
        earlier = [job for below, jobs in rungs.items() if below < rung for job in jobs]
        if len(same := rungs.setdefault(rung, [])) > 2:
            earlier += same  # a rate that was added waits for those that were there
        yield run["seconds"], frozenset(begins[name] + earlier)
        same.append(index)
        ended = ended or (rung == full and run["label"] != "head")


def makespan(jobs: list[tuple[float, frozenset[int]]], workers: int) -> float:
    """The time at which the last job is done when each worker takes the longest job that is ready."""
    done: dict[int, float] = {}
    running: list[tuple[float, int]] = []
    waiting, now = set(range(len(jobs))), 0.0
    while waiting or running:
        ready = sorted((job for job in waiting if jobs[job][1] <= done.keys()), key=lambda job: -jobs[job][0])
        for job in ready[: workers - len(running)]:
            waiting.discard(job)
            running.append((now + jobs[job][0], job))
        running.sort()
        now, job = running.pop(0)
        done[job] = now
    return now
