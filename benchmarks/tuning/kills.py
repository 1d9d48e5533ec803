"""kill -9 at a random moment, many times: does every resume end as if nothing had happened, and repeat nothing?

    OMP_NUM_THREADS=1 PYTHONPATH=tests python benchmarks/tuning/kills.py
        [--what audit fit claims capacity imports interrupts ray] [--kills 50] [--seed 0] [--work FOLDER] [--out JSON]

``audit``: a quick audit of a tiny model is killed, then run again with resume; ``fit``: one method with its search;
``claims``: three claims at quick sizes; ``capacity``: four points. ``ray``: a sweep on a local Ray cluster that
outlives its callers (two workers) is killed, then run again on the same cluster. The moment is drawn: after how many
finished records, and how long after, up to the time between two of them; for claims, at any moment. ``imports``: an
audit in an interpreter of its own is killed at any moment of its first seconds, of which importing takes most.
``interrupts``: the audit gets Ctrl-C, and leaves a report that can be read, or none. A kill that comes too late is
drawn again, and counted apart. Compared are: the report without its times, every run bit for bit, every row; and the
records that were finished when the kill came, which nobody may write again.

The result is written after every kill, so that a second call goes on where the first was stopped. The tiny model and
its rows come from the tests.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import promptreach
from helpers.audit_cases import rows, strip
from helpers.models import tiny_model
from helpers.same_runs import assert_same_runs
from helpers.tasks import config_of, labelled
from promptreach import files
from promptreach.audit.settings import BUDGETS
from promptreach.claims import read_claim, run_claims
from promptreach.errors import PromptreachError
from promptreach.hf import open_model
from promptreach.progress import Progress
from promptreach.report import read_report
from promptreach.training.engines.engines import open_engine
from promptreach.training.search.sweep import sweep
from promptreach.tuning import Capacity, Limits, MemorySettings, Run, RunStore, capacity, fit, prepare

CLAIMS = ("B2", "A3", "N4")
"""Those that take seconds; what a claim trains is kept like any run."""
IMPORTS = 12.0
"""Seconds from the start of an interpreter to its first step, and somewhat more."""
RATES = (0.01, 0.03, 0.1, 0.3)
CLUSTER = """
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def audit_job(model: Path, folder: Path, address: str) -> None:
    BUDGETS["quick"] = BUDGETS["quick"].__class__("quick", 0, Limits(64, 24, 48, 16), (2, 4), 2, 40, 8, 4)
    promptreach.audit(model, rows(), budget="quick", out=folder, resume=True)


def ray_job(model: Path, folder: Path, address: str) -> None:
    ray_sweep(model, folder, "ray", address)


def ray_sweep(model: Path, folder: Path, engine: str, address: str | None):
    """A sweep with runs long enough to be hit."""
    task = prepare(open_model(model), labelled(), longest_prompt=4)
    config = config_of("prompt", steps=240, patience=99)
    with open_engine(RunStore(folder / "runs"), Progress(quiet=True), engine, ray_address=address) as executor_of:
        return sweep(executor_of(task), config, RATES)


def fit_job(model: Path, folder: Path, address: str) -> None:
    fitted(model, folder)


def fitted(model: Path, folder: Path) -> Run:
    """A prompt with its search, long enough to be hit."""
    return fit(model, rows(), tokens=4, steps=120, limits=Limits(64, 24, 48, 16), folder=folder / "runs", quiet=True)


def claims_job(model: Path, folder: Path, address: str) -> None:
    list(run_claims(CLAIMS, out=folder, quiet=True))


def capacity_job(model: Path, folder: Path, address: str) -> None:
    points(model, folder)


def points(model: Path, folder: Path) -> Capacity:
    """Four points of memory, long enough to be hit."""
    return capacity(
        model,
        methods=("prompt", "prefix"),
        tokens=(1, 2),
        kinds=("random",),
        sequences=2,
        longest=16,
        settings=MemorySettings(steps=60),
        folder=folder,
        quiet=True,
    )


def same_fit(model: Path, folder: Path, whole: Path) -> bool:
    """Whether two folders hold the same run, times aside: it is taken from there and nothing trained."""
    return equal_runs([fitted(model, folder)], [fitted(model, whole)])


def same_claims(model: Path, folder: Path, whole: Path) -> bool:
    """Whether two folders hold the same results, times aside."""
    found, expected = ([read_claim(at / f"{key}.json") for key in CLAIMS] for at in (folder, whole))
    return [one.model_copy(update={"seconds": 0.0}) for one in found] == [
        one.model_copy(update={"seconds": 0.0}) for one in expected
    ]


def same_points(model: Path, folder: Path, whole: Path) -> bool:
    """Whether two folders hold the same points: they are taken from there and nothing is measured."""
    return points(model, folder).rows == points(model, whole).rows


def same_audit(model: Path, folder: Path, whole: Path) -> bool:
    """Whether two folders hold the same report, times and their own names aside."""
    texts = [(at / "report.json").read_text().replace(str(at), "FOLDER") for at in (folder, whole)]
    found, expected = (strip(json.loads(text)) for text in texts)
    return {**found, "environment": None} == {**expected, "environment": None}


def same_sweep(model: Path, folder: Path, whole: Path) -> bool:
    """Whether two folders hold the same runs, times aside: everything is taken from there and nothing trained."""
    found, expected = (ray_sweep(model, at, "local", None) for at in (folder, whole))
    return equal_runs((*found.trials, found.best), (*expected.trials, expected.best))


def equal_runs(found: Sequence[Run], expected: Sequence[Run]) -> bool:
    try:
        assert_same_runs(found, expected)
    except AssertionError:
        return False
    return True


@dataclass(frozen=True)
class Job:
    """Work that is killed.

    Attributes:
        run: does it, with the model's folder, its own, and the address of a cluster.
        same: whether two folders hold the same result.
        records: the pattern of the files that say what is finished.
        by: the signal that ends it.
    """

    run: Callable[[Path, Path, str], None]
    same: Callable[[Path, Path, Path], bool]
    records: str = "runs/*/run.json"
    by: signal.Signals = signal.SIGKILL


JOBS = {
    "audit": Job(audit_job, same_audit),
    "fit": Job(fit_job, same_fit),
    "claims": Job(claims_job, same_claims),
    "capacity": Job(capacity_job, same_points, "*.json"),
    "imports": Job(audit_job, same_audit),
    "interrupts": Job(audit_job, same_audit, by=signal.SIGINT),
    "ray": Job(ray_job, same_sweep),
}


def from_the_command_line(folder: Path) -> int:
    """The same audit in an interpreter of its own, which has everything to import."""
    call = (sys.executable, __file__, "--only", str(folder))
    return subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid


def start(job: Callable[[Path, Path, str], None], model: Path, folder: Path, address: str) -> int:
    """The job in a fork of this process, which has loaded everything already."""
    pid = os.fork()
    if pid:
        return pid
    files.STARTED = time.time()  # a fork is a process of its own, though it imported nothing
    try:
        job(model, folder, address)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def finish(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"a job ended with status {status}")


def records(job: Job, folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob(job.records)}


def one_kill(
    what: str, model: Path, work: Path, whole: Path, seconds: float, draw: random.Random, address: str
) -> dict:
    """Kill a job, resume it, and look at what is there; `seconds` is what it took undisturbed."""
    job = JOBS[what]
    written = sorted(records(job, whole).values())
    runs = draw.randint(0, len(written))
    delay = draw.random() * ((written[-1] - written[0]) / len(written) / 1e9 if written else seconds)
    folder = work / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    if what == "imports":
        runs, delay = 0, draw.random() * IMPORTS
        pid = from_the_command_line(folder)
    else:
        pid = start(job.run, model, folder, address)
    ended, status = 0, 0
    while not ended and len(records(job, folder)) < runs:
        time.sleep(0.002)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        time.sleep(delay)
        os.kill(pid, job.by)
        _, status = os.waitpid(pid, 0)
    before, readable = records(job, folder), report_is_readable(folder)
    finish(start(job.run, model, folder, address))
    after = records(job, folder)
    names = [{path.relative_to(at) for path in records(job, at)} for at in (folder, whole)]
    return {
        "after_runs": runs,
        "and_seconds": delay,
        "was_running": status != 0,
        "finished_runs_then": len(before),
        "runs_in_all": len(after),
        "finished_runs_repeated": sum(after.get(path) != written for path, written in before.items()),
        "same_result": names[0] == names[1] and job.same(model, folder, whole),
        "half_files_left": len(list(folder.rglob("*.partial"))),
        "report_readable": readable,
    }


def report_is_readable(folder: Path) -> bool:
    """Whether a report that stands there can be read; True where there is none."""
    try:
        return not (folder / "report.json").exists() or bool(read_report(folder / "report.json"))
    except PromptreachError:
        return False


def run(what: str, kills: int, seed: int, work: Path, out: Path, address: str) -> None:
    """Add the kills that are missing to the result."""
    model, whole = work / "model", work / "whole"
    work.mkdir(parents=True, exist_ok=True)
    if not model.exists():
        tiny = tiny_model("gpt2")
        tiny.model.save_pretrained(model)
        tiny.tokenizer.save_pretrained(model)
    result = json.loads(out.read_text()) if out.exists() else {}
    entries = result.get(what, {}).get("each", [])
    shutil.rmtree(whole, ignore_errors=True)
    began = time.monotonic()
    finish(start(JOBS[what].run, model, whole, address))
    seconds = time.monotonic() - began
    while sum(entry["was_running"] for entry in entries) < kills:
        draw = random.Random(f"{seed} {what} {len(entries)}")
        entries.append(one_kill(what, model, work, whole, seconds, draw, address))
        result[what] = {
            "kills": sum(entry["was_running"] for entry in entries),
            "too_late": sum(not entry["was_running"] for entry in entries),
            "resumes_equal": sum(entry["same_result"] for entry in entries),
            "finished_runs_repeated": sum(entry["finished_runs_repeated"] for entry in entries),
            "half_files_left": sum(entry["half_files_left"] for entry in entries),
            "reports_unreadable": sum(not entry.get("report_readable", True) for entry in entries),
            "seed": seed,
            "each": entries,
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(what, len(entries), entries[-1], flush=True)


def main() -> None:
    """Kill what was asked for; with ``--only`` be what is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("out/kills"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kills.json"))
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the jobs are forks of this process, and threads do not survive a fork
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAY_AUTH_MODE": "token"}
    if args.only is not None:
        return audit_job(args.only.parent / "model", args.only, "")
    for what in args.what:
        if what != "ray":
            run(what, args.kills, args.seed, args.work / what, args.out, "")
            continue
        with subprocess.Popen(
            [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as cluster:
            assert cluster.stdout is not None
            run(what, args.kills, args.seed, args.work / what, args.out, cluster.stdout.readline().strip())


if __name__ == "__main__":
    main()
