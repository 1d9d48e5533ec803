"""What A5's and R1's sentences came to where tuning matters, made from benchmarks/results/rivals.json."""

import json
from pathlib import Path
from typing import Any

from promptreach.report.findings import Curve, Series
from promptreach.report.picture import picture_svg

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "rivals.json"
MODELS = {"long_gpt": "the GPT trained here", "minilm": "MiniLM"}
METRICS = {"accuracy": "right", "entity_f1": "entity F1", "token_f1": "token F1"}
SENTENCES = {
    "saturates": "The loss stops falling as the prompt gets longer (256 tokens gain less than 0.02 nats over 64).",
    "lora_lower_with_fewer": "LoRA on queries and values, with fewer parameters than the longest prompt, ends lower "
    "than the best prompt.",
    "all_linear_lora_lower_with_fewer": "LoRA on all linear layers, with fewer, ends lower than the best prompt.",
}
RIVALS = {
    "prefix": "A prefix",
    "lora": "LoRA on queries and values",
    "all-linear": "LoRA on all linear layers",
    "unipelt": "UniPELT",
}
EQUAL_TO = (64, 256)


def tasks() -> dict[str, Any]:
    """The benchmark's tasks by name, those that were run whole."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))["tasks"]
    return {name: task for name, task in found.items() if "rivals" in task}


def sentences() -> str:
    """One row a sentence and a column a task: what was seen, and the nats that it hangs on."""
    found = tasks()
    lines = [f"| | {' | '.join(map(_titled, found))} |", f"|---|{'---|' * len(found)}"]
    ahead = [
        f"{_ahead(task['lora_ahead_of_head'])}{'' if task['matters'] else ' (less than asked for)'}"
        for task in found.values()
    ]
    lines.append(f"| *Best LoRA against the head alone (the bare model)* | {' | '.join(ahead)} |")
    for key, sentence in SENTENCES.items():
        lines.append(f"| {sentence} | {' | '.join(_said(task[key]) for task in found.values())} |")
    for method, name in RIVALS.items():
        for tokens in EQUAL_TO:
            cells = [_said(_rival(task, method, tokens), f"prompt {tokens}") for task in found.values()]
            sentence = f"{name} ends lower than a prompt of {tokens} tokens with as many parameters."
            lines.append(f"| {sentence} | {' | '.join(cells)} |")
    return "\n".join(lines)


def in_short(claim: str) -> str:
    """What the tasks say of a claim's sentences, in one line for its section; empty for claims without any."""
    found = tasks()
    if claim == "A5":
        said = {
            sentence.partition(" (")[0].rstrip("."): {
                name: one["answer"] for name, task in found.items() if (one := task[key])
            }
            for key, sentence in SENTENCES.items()
        }
    elif claim == "R1":
        said = {
            f"{rival} ends lower than a prompt of {tokens} tokens with as many parameters": {
                name: one["answer"] for name, task in found.items() if (one := _rival(task, method, tokens))
            }
            for method, rival in RIVALS.items()
            for tokens in EQUAL_TO
        }
    else:
        return ""
    parts = [
        f"{sentence}: {', '.join(f'{one} on {name}' for name, one in told.items())}" for sentence, told in said.items()
    ]
    return f"Run where tuning matters, three seeds each ([length and rivals](theory/rivals.md)). {'. '.join(parts)}."


def runs() -> str:
    """What every method and size reached: means of three seeds, with half of their 90 % interval."""
    found = tasks()
    names = list(dict.fromkeys(name for task in found.values() for name in task["means"]))
    heads = [f"{_titled(name)}: {METRICS[task['metric']]} | nats" for name, task in found.items()]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * (2 * len(found))}"]
    for name in names:
        cells = []
        for task in found.values():
            mean = task["means"].get(name)
            cells += _mean(mean) if mean else ["", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pictures() -> dict[str, str]:
    """One picture a task by its file's name: held-out loss against trainable parameters."""
    return {f"rivals_{name.replace(' ', '_')}.svg": _picture(name, task) for name, task in tasks().items()}


def _picture(name: str, task: dict[str, Any]) -> str:
    kinds: dict[str, list[tuple[float, float]]] = {}
    for size, mean in task["means"].items():
        if mean["parameters"] and size != "head":
            kinds.setdefault(size.split()[0], []).append((float(mean["parameters"]), mean["loss"]))
    named = {
        "prompt": "prompts of 4 to 256 tokens",
        "lora": "LoRA on queries and values",
        "all-linear": "LoRA on all linear layers",
        "prefix": "prefix",
        "unipelt": "UniPELT",
    }
    head = task["means"]["head"]
    series = [
        Series(name=named[kind], x=[x for x, _ in sorted(points)], y=[y for _, y in sorted(points)])
        for kind, points in kinds.items()
    ]
    return str(
        picture_svg(
            Curve(
                title=f"{name.capitalize()}: held-out loss against trainable numbers",
                x_label="trainable numbers",
                y_label="nats",
                log_x=True,
                series=series,
                note=f"Means of three seeds on {MODELS[task['model']]}; without any, {head['loss']:.2f} nats.",
            )
        )
    )


def _rival(task: dict[str, Any], method: str, tokens: int) -> dict[str, Any] | None:
    named = (said for name, said in task["rivals"].items() if name.startswith(method) and f" {tokens} tokens" in name)
    return next(named, None)


def _said(found: dict[str, Any] | None, other: str = "") -> str:
    if not found:
        return "no such size"
    instead = f" (against {found['other']}, which ended lower)" if other and found["other"] != other else ""
    return f"**{found['answer']}**: {_ahead(found)}{instead}"


def _titled(name: str) -> str:
    return f"{name}, {MODELS[tasks()[name]['model']]}"


def _ahead(found: dict[str, Any]) -> str:
    return (
        f"{found['nats']:+.3f} nats ({found['least']:+.3f} to {found['most']:+.3f}), {100 * found['value']:+.1f} ± "
        f"{100 * found['value_half_width']:.1f} points"
    )


def _mean(mean: dict[str, Any]) -> list[str]:
    moved = "" if mean["flat"] else f", fell on by {mean['moved']:.2f}"
    return [
        f"{100 * mean['value']:.1f} ± {100 * mean['value_half_width']:.1f}",
        f"{mean['loss']:.3f} ± {mean['loss_half_width']:.3f}{moved}",
    ]
