"""``promptreach capacity``: how much text 1, 2, 4, ... virtual tokens hold."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import MOST_SEED, Json, NumLayers, Quiet, Revision, exit_status, within
from promptreach.preflight import look, output_faults
from promptreach.terminal import say
from promptreach.training.arguments import least_faults, rate_faults, size_faults


class _Method(StrEnum):
    prompt = "prompt"
    prefix = "prefix"
    one_pass = "one_pass"


def capacity(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder, or GGUF file; a causal model.")],
    tokens: Annotated[
        list[int] | None, typer.Option(show_default="1, 2, 4, 8", help="Virtual tokens; may be given again.")
    ] = None,
    method: Annotated[
        list[_Method] | None,
        typer.Option(
            show_default="prompt",
            metavar="METHOD",
            help="prompt, prefix or one_pass; may be given again.",
        ),
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(show_default="Python's language reference", help="Natural text; may be given again."),
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Random text only.")] = False,
    vocabulary: Annotated[int | None, typer.Option(help="Different tokens in random text; else all.")] = None,
    sequences: Annotated[int, typer.Option(help="Texts of each kind.")] = 3,
    longest: Annotated[int, typer.Option(help="Tokens of a text at most.")] = 1024,
    length: Annotated[int | None, typer.Option(help="Train on exactly so many tokens: no growing text.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of a run at most, two runs a text.")] = 5000,
    starts: Annotated[int, typer.Option(help="Best of so many, at 1, 3, 10 times the rate.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Of a prompt; a prefix's is scaled to its size.")] = 1e-2,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="The same seed gives the same result.")] = 0,
    out: Annotated[
        Path | None, typer.Option(show_default="nothing is kept", help="Where page and finished points go.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in an OUT that holds a finished result.")] = False,
    revision: Revision = None,
    num_layers: NumLayers = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """How much text virtual tokens hold: bits, and tokens that the model writes by heart.

    For each text one set of virtual tokens is trained until the model writes the text from them alone (one_pass: all
    of it at once). OUT receives capacity.html, capacity.json and, in the folder points, what is finished: a killed run
    goes on from there.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    with exit_status():
        counts = least_faults({"sequences": sequences, "steps": steps, "starts": starts}) + rate_faults(
            "learning_rate", learning_rate
        )
        counts += least_faults({"longest": longest, "length": length, "vocabulary": vocabulary}, 2)
        counts += size_faults("tokens", tokens or (1,))
        if out is not None:
            counts += output_faults(out, finished_marker="capacity.json", resume=resume)
        look(model, texts=text or (), num_layers=num_layers, revision=revision, known=counts)

    from promptreach.capacity.capacity import capacity as measure
    from promptreach.capacity.memorise import MemorySettings
    from promptreach.commands.capacity import capacity_finding, write_memorised
    from promptreach.hf import open_model
    from promptreach.hf.running.calibration import read_texts
    from promptreach.report.text import print_finding

    with exit_status(f"Finished points are kept: call it again to go on in {out}." if out else ""):
        texts = read_texts(text or [])
        found = measure(
            open_model(model, revision=revision, num_layers=num_layers),
            text="\n\n".join(texts) or None,
            methods=[one.value for one in method or [_Method.prompt]],
            tokens=tokens or (1, 2, 4, 8),
            kinds=("random",) if random else ("natural", "random"),
            sequences=sequences,
            longest=longest,
            vocabulary=vocabulary,
            settings=MemorySettings(steps=steps, learning_rate=learning_rate, length=length, starts=starts, seed=seed),
            folder=None if out is None else out / "points",
            quiet=quiet or json,
        )
        finding = capacity_finding(found)
        page = None if out is None else write_memorised(finding, found.model, out)
    print_finding(finding, as_json=json)
    if page is not None and not json:
        say(f"\nPage: {page}")
