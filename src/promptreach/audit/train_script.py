"""The program that trains a run again with torch, transformers and PEFT alone, and the files that it reads.

It stands beside the report, so that the number can be had without this library: the rows of the three parts as tokens,
the start as a PEFT folder, and the head as it starts. What the program does step by step is what the run did.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from promptreach.audit.context import AuditContext
from promptreach.commands.opening import auto_class, config_lines, opened_at, opening_call
from promptreach.files import atomic_folder, write_atomically
from promptreach.hf import save_adapter
from promptreach.prompt import Adapter
from promptreach.training.methods.methods import CONFIGURED, METHODS
from promptreach.training.runs import Run
from promptreach.training.task.encoding import SORTED_POOL
from promptreach.training.trainer import WARM_UP

SCRIPT, FILES = "train.py", "train"
_READING = {
    "mean": "(hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)",
    "first": "hidden[:, 0]",
    "last": "hidden[torch.arange(len(ids)), mask.sum(1) - 1]",
}


def why_no_script(context: AuditContext, run: Run) -> str:
    """The reason why PEFT alone cannot train a run; empty where it can."""
    config = run.config
    if context.kind is not None and not context.is_classification:
        return "it knows one label a row and completions alone"
    if context.task.class_weights is not None or context.task.encoded["train"].weights is not None:
        return "it counts every row alike, and here rows or classes have weights"
    if context.model.task == "seq2seq":
        return "it would have to read a row's two ends with two stacks, which the program does not do yet"
    if config.method == "head" and context.task.pooling is None:
        return "nothing is trained, the bare model is the advice"
    if context.task.encoded["train"].options is not None:
        return "it would have to score every option of a row, which the program does not do yet"
    if config.method == CONFIGURED:
        return "PEFT trains it from its config, which get_peft_model takes"
    if config.method not in ("prompt", "prefix", "lora", "head"):
        return f"PEFT has no adapter of the kind {config.method!r}"
    if config.reparameterise or config.dropout:
        return "PEFT has no reparameterised or dropped-out prefix of this kind"
    if config.start is not None:
        return "it starts from an adapter of another run"
    return ""


def write_training(context: AuditContext, run: Run, folder: Path) -> str:
    """Write train.py and the files that it reads into a report's folder, and return its text.

    Guarantees: the program uses neither this library nor anything that is not beside it but the model itself, and has
    at most 60 lines. On the same machine it reaches the run's score on the held-out rows up to float rounding, which
    training may amplify.

    Raises:
        OutputError: when they cannot be written.
    """
    text = script(context, run)
    with atomic_folder(folder / FILES, replace=(folder / FILES / "rows.jsonl").is_file()) as files:
        (files / "rows.jsonl").write_text("".join(_rows(context)), "utf-8")
        adapter = start_of(context, run)
        if adapter is not None:
            save_adapter(files / "start", context.model, adapter)
            if context.task.pooling is not None:
                probe = context.task.probes[context.task.pooling]
                head = {name: getattr(probe, name) for name in ("centre", "spread", "weight", "bias")}
                save_file({name: tensor.contiguous() for name, tensor in head.items()}, files / "head.safetensors")
    write_atomically(folder / SCRIPT, text.encode())
    return text


def start_of(context: AuditContext, run: Run) -> Adapter | None:
    """The adapter that a run started from; None for a method without one."""
    spec = METHODS[run.config.method]
    config = replace(run.config, pause=0)
    with spec.attach(context.task.backbone, config, context.task.encoded["train"].sequences) as trainable:
        return spec.adapter(trainable.state(), config)


def _rows(context: AuditContext) -> Iterator[str]:
    """The rows of all parts as JSON lines: the tokens, and the label or the number of tokens to answer."""
    for part, encoded in context.task.encoded.items():
        answers = encoded.answer_lengths if encoded.labels is None else encoded.labels.tolist()
        assert answers is not None
        for ids, answer in zip(encoded.sequences, answers, strict=True):
            yield json.dumps({"part": part, "ids": list(ids), "answer": answer}) + "\n"


def script(context: AuditContext, run: Run) -> str:
    """The text of train.py."""
    held_out = run.held_out
    assert held_out is not None
    found = f"{held_out.accuracy:.4f} of the answers right, {held_out.mean_loss:.4f} nats an answer"
    config, is_head = run.config, run.config.method == "head"
    model, place = context.model, opened_at(context.model)
    imports = ["AutoConfig"] if config_lines(model, place) else []
    lines = [
        f'"""{config.label}, trained again. The audit found: {found} (held-out rows)."""',
        "import json, pathlib, torch",
        *([] if is_head else _PEFT_LINES),
        "from torch.nn.functional import cross_entropy",
        f"from transformers import {', '.join([*imports, auto_class(model)])}",
        'DEVICE = "cuda" if torch.cuda.is_available() else "cpu"',
        f"HERE = pathlib.Path(__file__).resolve().parent / {FILES!r}",
        'ROWS = [json.loads(line) for line in (HERE / "rows.jsonl").open()]',
        'PARTS = {name: [row for row in ROWS if row["part"] == name] for name in ("train", "validation", "held_out")}',
        *config_lines(model, place),
        f"model = {opening_call(model, place, reads=bool(context.task.pooling))}",
        "def states(rows):",
        '    width = max(len(row["ids"]) for row in rows)',
        '    ids = torch.tensor([row["ids"] + [0] * (width - len(row["ids"])) for row in rows], device=DEVICE)',
        '    mask = torch.tensor([[i < len(row["ids"]) for i in range(width)] for row in rows], device=DEVICE)',
        *_states(context),
    ]
    return "\n".join([*lines, *(_head(context, run) if is_head else _training(context, run))]) + "\n"


def _states(context: AuditContext) -> list[str]:
    """The lines that give pooled features, or the logits of every position; virtual tokens are cut off in front."""
    if context.task.pooling is None:
        return [
            "    logits = model(input_ids=ids, attention_mask=mask.long()).logits[:, -width:].float()",
            "    return logits, ids",
        ]
    causal = context.model.task == "causal"
    call = "output_hidden_states=True).hidden_states[-1]" if causal else "return_dict=True).last_hidden_state"
    return [
        f"    hidden = model(input_ids=ids, attention_mask=mask.long(), {call}[:, -width:]",
        f"    return ({_READING[context.task.pooling]}).float()",
    ]


def _head(context: AuditContext, run: Run) -> list[str]:
    """The lines that fit the head alone: a convex problem with one solution."""
    assert context.task.pooling is not None
    probe = context.task.probes[context.task.pooling]
    classes = len(probe.bias)
    # scikit-learn penalises one row for two classes; two rows of half of it are worth half as much.
    penalty = probe.penalty * (1.0 if classes == 2 else 0.5)
    return [
        "model = model.to(DEVICE).eval()",
        "@torch.no_grad()",
        "def read(part):",
        "    rows = PARTS[part]",
        "    features = torch.cat([states(rows[at : at + 64]).double() for at in range(0, len(rows), 64)])",
        '    return features, torch.tensor([row["answer"] for row in rows], device=DEVICE)',
        'x, y = read("train")',
        "spread = x.std(0, correction=0)",
        "centre, spread = x.mean(0), spread.maximum(1e-3 * spread.max())",
        "x = (x - centre) / spread",
        f"weight = torch.zeros({classes}, x.shape[1], dtype=torch.double, device=DEVICE, requires_grad=True)",
        f"bias = torch.zeros({classes}, dtype=torch.double, device=DEVICE, requires_grad=True)",
        'solver = torch.optim.LBFGS([weight, bias], max_iter=1000, line_search_fn="strong_wolfe")',
        "def closure():",
        "    solver.zero_grad()",
        f"    loss = cross_entropy(x @ weight.T + bias, y) + {penalty!r} * weight.square().sum()",
        "    loss.backward()",
        "    return loss",
        "solver.step(closure)",
        'x, y = read("held_out")',
        "logits = (x - centre) / spread @ weight.T + bias",
        "right, nats = (logits.argmax(1) == y).double().mean(), cross_entropy(logits, y)",
        'print(f"{right:.4f} of the answers right, {nats:.4f} nats an answer")',
    ]


def _training(context: AuditContext, run: Run) -> list[str]:
    """The lines of the loop: batches of similar length, warm-up and linear decay, clipping, the best state kept."""
    config: Any = run.config
    stops = sorted({max(1, round(config.steps * (i + 1) / config.evaluations)) for i in range(config.evaluations)})
    classify = context.task.pooling is not None
    groups = f"{{'params': own, 'lr': {config.learning_rate!r}}}"
    if classify:
        groups += f", {{'params': list(head.parameters()), 'lr': {config.head_learning_rate!r}}}"
    return [
        'start = PeftConfig.from_pretrained(str(HERE / "start"))',
        "start.inference_mode = False",
        "model = get_peft_model(model, start).to(DEVICE).eval()",
        'set_peft_model_state_dict(model, load_file(HERE / "start" / "adapter_model.safetensors", device=DEVICE))',
        "own = [tensor for tensor in model.parameters() if tensor.requires_grad]",
        *(_HEAD_LINES if classify else _COMPLETION_LINES),
        f"optimiser = torch.optim.AdamW([{groups}], weight_decay=0.0)",
        f"share = lambda at: min(1.0, (at + 1) / max(1.0, {WARM_UP} * {config.steps})) * (1.0 - at / {config.steps})",
        "schedule, trained = torch.optim.lr_scheduler.LambdaLR(optimiser, share), [*own, *head.parameters()]",
        *BATCH_LINES,
        "@torch.no_grad()",
        "def score(part):",
        "    found = [outcomes(PARTS[part][at : at + 64]) for at in range(0, len(PARTS[part]), 64)]",
        "    nats, right, count = (sum(float(one[i]) for one in found) for i in range(3))",
        "    return nats / count, right / count",
        'looks, kept = [score("validation")[0]], [tensor.detach().clone() for tensor in trained]',
        'lengths = [len(row["ids"]) for row in PARTS["train"]]',
        f"drawn = batches(lengths, {config.batch_size}, torch.Generator().manual_seed({config.seed}))",
        f"for step in range(1, {config.steps + 1}):",
        '    nats, _, count = outcomes([PARTS["train"][row] for row in next(drawn)])',
        "    (nats / count).backward()",
        "    torch.nn.utils.clip_grad_norm_(trained, 1.0)",
        "    optimiser.step(), schedule.step(), optimiser.zero_grad()",
        f"    if step in {stops!r} and len(looks) - looks.index(min(looks)) <= {config.patience}:",
        '        looks.append(score("validation")[0])',
        "        if looks[-1] < min(looks[:-1]): kept = [tensor.detach().clone() for tensor in trained]",
        "for tensor, best in zip(trained, kept): tensor.data.copy_(best)",
        'print("{1:.4f} of the answers right, {0:.4f} nats an answer".format(*score("held_out")))',
    ]


BATCH_LINES = [
    "def batches(lengths, size, order):  # rows of similar length together",
    "    steps = -(-len(lengths) // size)",
    f"    ends, pools = [len(lengths) * i // steps for i in range(steps + 1)], max(1, round(steps / {SORTED_POOL}))",
    "    edges = [ends[steps * i // pools] for i in range(pools + 1)]",
    "    while True:",
    "        drawn = torch.randperm(len(lengths), generator=order).tolist()",
    "        for a, b in zip(edges, edges[1:]): drawn[a:b] = sorted(drawn[a:b], key=lengths.__getitem__)",
    "        yield from (drawn[ends[i] : ends[i + 1]] for i in torch.randperm(steps, generator=order).tolist())",
]
"""The lines that draw what `training_batches` draws."""
_PEFT_LINES = [
    "from peft import PeftConfig, get_peft_model, set_peft_model_state_dict",
    "from safetensors.torch import load_file",
]
_HEAD_LINES = [
    'start = load_file(HERE / "head.safetensors", device=DEVICE)',
    'head = torch.nn.Linear(*start["weight"].shape[::-1]).to(DEVICE)',
    'head.weight.data, head.bias.data = start["weight"], start["bias"]',
    "def outcomes(rows):",
    '    answers = torch.tensor([row["answer"] for row in rows], device=DEVICE)',
    '    logits = head((states(rows) - start["centre"]) / start["spread"])',
    '    return cross_entropy(logits, answers, reduction="sum"), (logits.argmax(1) == answers).sum(), len(rows)',
]
_COMPLETION_LINES = [
    "head = torch.nn.Module()",
    "def outcomes(rows):",
    "    logits, ids = states(rows)",
    '    spans = [(len(row["ids"]) - row["answer"], len(row["ids"])) for row in rows]',
    "    logits = torch.cat([logits[i, a - 1 : b - 1] for i, (a, b) in enumerate(spans)])",
    "    answers = torch.cat([ids[i, a:b] for i, (a, b) in enumerate(spans)])",
    '    return cross_entropy(logits, answers, reduction="sum"), (logits.argmax(1) == answers).sum(), len(answers)',
]
