"""The table of servers on the pages, from the one that the program shows."""

from promptreach.commands.serving import KINDS, READ_IN, SERVERS, takes

_WORDS = {"yes": "as it is", "converted": "after conversion", "no": "no"}


def servers(_: str) -> str:
    """One row a server: what it takes of each kind of adapter, and the month and place that say so."""
    lines = ["| server | prompt | prefix | LoRA | as of | where that is said (prompt) |", "|---|---|---|---|---|---|"]
    for key, name in SERVERS.items():
        rows = {kind: takes(key, kind) for kind in KINDS}
        cells = [_WORDS[row.served] if row is not None else "–" for row in rows.values()]
        prompt = rows["prompt"]
        assert prompt is not None
        known = f"{prompt.source}; RUN here: {prompt.tried}" if prompt.tried else prompt.source
        lines.append("| " + " | ".join([f"{name} (`{key}`)", *cells, prompt.dated, known]) + " |")
    tried = [name for key, name in SERVERS.items() if (row := takes(key, "prompt")) is not None and row.tried]
    run = f" {', '.join(tried)} was run here on the exported prompt." if tried else " No server was run here."
    return "\n".join([*lines, "", f"READ in {READ_IN}, for causal models.{run}"])
