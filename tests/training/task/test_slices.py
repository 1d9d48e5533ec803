"""Steps in slices: the same gradients, and memory that runs out costs no run."""

from dataclasses import replace

import pytest
import torch

from helpers.models import WORDS, tiny_model
from helpers.single_run import train
from helpers.tasks import config_of, no_step, task_of
from helpers.tolerances import assert_close
from promptreach.errors import InputError
from promptreach.training.runs import Run, RunStore
from promptreach.training.side_by_side import train_side_by_side
from promptreach.training.task.slices import Slices, cut
from promptreach.training.task.task import Task
from promptreach.tuning import fit

SHORT = (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
SHORT += (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),)


class Tight:
    """A model of another size of memory: passes of more rows than fit, or positions, end in an error."""

    def __init__(self, model: object, rows: int, error: Exception, looks: int = 10**9) -> None:
        self._model, self._rows, self._error, self._looks = model, rows, error, looks
        self.refused = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def hidden(self, batch: object, joined: object = None) -> object:
        most = self._rows if torch.is_grad_enabled() else self._looks
        if len(batch.input_ids) > most:  # type: ignore[attr-defined]
            self.refused += 1
            raise self._error
        return self._model.hidden(batch, joined)  # type: ignore[attr-defined]


def tight(family: str, kind: str, rows: int, error: Exception = SHORT[0], looks: int = 10**9) -> Task:
    task = task_of(family, kind)
    return replace(task, backbone=Tight(task.backbone, rows, error, looks), slices=Slices())  # type: ignore[arg-type]


def same(one: Run, other: Run) -> None:
    assert (one.status, one.steps, len(one.curve)) == (other.status, other.steps, len(other.curve))
    for name, tensor in (one.state | one.head).items():
        assert_close(tensor, (other.state | other.head)[name], "side by side")


@pytest.mark.parametrize("error", SHORT)
@pytest.mark.parametrize(
    ("family", "kind", "method"),
    [("bert", "classification", "prompt"), ("llama", "completions", "prefix"), ("gpt2", "completions", "lora")],
)
def test_memory_that_runs_out_costs_no_run(family: str, kind: str, method: str, error: Exception) -> None:
    config = config_of(method, steps=6, evaluations=2)
    expected = train(task_of(family, kind), config, RunStore(None), no_step)
    task = tight(family, kind, config.batch_size // 2, error)
    same(train(task, config, RunStore(None), no_step), expected)
    assert task.slices.count == 2
    assert task.backbone.refused == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("slices", [2, 3, 64])
@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
def test_slices_that_are_asked_for(method: str, slices: int) -> None:
    config = config_of(method, steps=5, evaluations=1)
    expected = train(task_of("llama", "completions"), config, RunStore(None), no_step)
    task = replace(task_of("llama", "completions"), slices=Slices(slices))
    same(train(task, config, RunStore(None), no_step), expected)
    assert task.digest == task_of("llama", "completions").digest


def test_dropout_is_that_of_the_whole_batch() -> None:
    config = config_of("prefix", steps=5, evaluations=1, dropout=0.3, reparameterise=True)
    expected = train(task_of("llama", "classification"), config, RunStore(None), no_step)
    task = replace(task_of("llama", "classification"), slices=Slices(3))
    same(train(task, config, RunStore(None), no_step), expected)


def test_several_runs_share_the_slices() -> None:
    configs = [config_of("prompt", steps=5, evaluations=1, learning_rate=rate) for rate in (0.1, 0.3)]
    expected = train_side_by_side(task_of("bert", "classification"), configs, RunStore(None), no_step)
    task = tight("bert", "classification", configs[0].batch_size)
    for one, other in zip(train_side_by_side(task, configs, RunStore(None), no_step), expected, strict=True):
        same(one, other)


def test_scoring_is_cut_as_well() -> None:
    task, whole = tight("bert", "classification", 10**9, looks=5), task_of("bert", "classification")
    found, expected = (one.evaluate("validation", one.objective()) for one in (task, whole))
    assert_close(found.loss, expected.loss, "loss of a row")
    assert torch.equal(found.answers, expected.answers)
    assert task.slices.looks > 1
    assert task.slices.count == 1


def test_one_row_that_does_not_fit_ends_the_run() -> None:
    with pytest.raises(MemoryError):
        train(tight("bert", "classification", 0), config_of("prompt", steps=2), RunStore(None), no_step)


def test_other_errors_pass_at_once() -> None:
    task = tight("bert", "classification", 0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        train(task, config_of("prompt", steps=2), RunStore(None), no_step)
    assert task.slices.count == 1


def test_cut() -> None:
    assert cut(range(5), 2) == [[0, 1], [2, 3, 4]]
    assert cut([7], 4) == [[7]]
    assert cut(list(range(4)), 9) == [[0], [1], [2], [3]]
    given = list(range(13))
    for count in range(1, 20):
        parts = cut(given, count)
        assert [row for part in parts for row in part] == given
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_number_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="accumulate"):
        fit("nowhere", [], accumulate=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_that_is_full_costs_no_run() -> None:
    model = tiny_model("llama")
    model.release().to("cuda")
    free = torch.cuda.mem_get_info()[0]
    held = [torch.empty(int(0.97 * free), dtype=torch.uint8, device="cuda")]
    run = fit(model, [{"text": f"{a} {b}", "label": a < b} for a in WORDS for b in WORDS], steps=3, quiet=True)
    assert run.status == "finished"
    del held
