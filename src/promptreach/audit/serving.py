"""The servers that take what is recommended, and the cost of those that do not take the best of it.

The numbers are those of the audit: the paired difference of two runs on the same held-out rows. What servers take was
READ, see `promptreach.commands.serving`.
"""

from collections.abc import Sequence
from dataclasses import replace

from promptreach.audit.context import AuditContext
from promptreach.commands.serving import SERVERS, served_kinds, takes
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.rules.measurements import sentence
from promptreach.diagnosis.verdict import Judgement
from promptreach.training.runs import Run

_RIVALS = ("prompt", "lora")
"""The kinds of adapter that some server takes, in the order in which they are named."""


def for_server(context: AuditContext, judgement: Judgement, server: str) -> Judgement:
    """The same judgement, whose advice builds on a run that `server` takes.

    Where it does not take the one chosen, the best run that it takes is advised, with what that loses. Verdict,
    headline and reasons stay: they are about soft prompts, and no server changes them.

    Args:
        server: a key of `SERVERS`; empty leaves everything as it is.
    """
    run = context.runs.get(judgement.chosen or "")
    if not server or run is None or _is_taken(server, run):
        return judgement
    name, other = SERVERS[server], context.best(*served_kinds(server))
    left_out = f"{run.config.label} is left out, since {name} takes no {run.config.method}"
    if other is None:
        advice = f"Nothing that {name} takes was trained: {left_out}. Train {' or '.join(served_kinds(server))}."
        return replace(judgement, chosen=None, advice=advice)
    advice = f"For {name}, train {_sized(other)}: {left_out}. It {_difference(context, other, run)}."
    return replace(judgement, chosen=other.config.label, advice=advice)


def serving_line(context: AuditContext, run: Run) -> str:
    """One sentence or two on the servers that take a run's adapter, and on the run for those that do not."""
    if context.model.task != "causal":
        return "transformers runs this; where an adapter of such a model can be served was not looked up."
    if context.task.pooling is not None:
        return "transformers runs this: none of the servers looked up knows the head that reads the labels."
    method = run.config.method
    if method == "head":
        return "Nothing has to be served but the bare model."
    taking = [server for server in SERVERS if _is_taken(server, run)]
    if not taking:
        line = f"No server takes this {method}, neither {_listed([*SERVERS], 'nor')}."
    elif len(taking) == len(SERVERS):
        line = f"Served by {_listed(taking, 'and')}."
    else:
        line = f"Served by {_listed(taking, 'and')}"
        line += " as embeddings (promptreach export)" if method == "prompt" else ""
        line += f"; not by {_listed([server for server in SERVERS if server not in taking], 'or')}."
    rivals = [(kind, _taking(kind, taking)) for kind in _RIVALS if kind != method]
    said = [_rival(context, run, kind, servers) for kind, servers in rivals if servers]
    return " ".join([line, *filter(None, said)])


def _rival(context: AuditContext, run: Run, kind: str, servers: Sequence[str]) -> str:
    """What the best run of another kind would cost, which servers take that do not take this one."""
    other = context.best(kind)
    if other is None:
        return ""
    taken = f"which {_listed(servers, 'and')} would take"
    return f"{sentence(_sized(other))}, {taken}, {_difference(context, other, run)}."


def _taking(kind: str, without: Sequence[str]) -> list[str]:
    return [server for server in SERVERS if kind in served_kinds(server) and server not in without]


def _is_taken(server: str, run: Run) -> bool:
    """Whether a server takes a run's adapter; the bare model is taken by all."""
    row = takes(server, run.config.method)
    return run.config.method == "head" or (row is not None and row.served != "no")


def _sized(run: Run) -> str:
    config = run.config
    return f"a {config.method} of {config.tokens} tokens" if config.tokens else f"LoRA of rank {config.rank}"


def _difference(context: AuditContext, other: Run, run: Run) -> str:
    """What one run gains or loses against another on the same held-out rows."""
    found = context.compare(held_out(other), held_out(run))
    word = "gains" if found.gain > 0 else "loses"
    if context.metric == "loss":
        size, span = f"{abs(found.gain):.3f} nats a token", f"{found.low:+.3f} to {found.high:+.3f}"
    else:
        size, span = f"{100 * abs(found.gain):.1f} points", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return f"{word} {size} against {run.config.label} (90 % interval {span})"


def _listed(servers: Sequence[str], last: str) -> str:
    names = [SERVERS[server] for server in servers]
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
