"""``promptreach export``: an adapter as the files that a server takes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import Json, Quiet, Revision, Server, exit_status
from promptreach.preflight import look


class _Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def export(
    folder: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT folder.")],
    server: Annotated[Server, typer.Option("--for", metavar="SERVER", help=f"{', '.join(Server)}.")],
    out: Annotated[Path, typer.Option(help="A new folder, or one of an earlier export.")],
    model: Annotated[
        str | None, typer.Option(show_default="as ADAPTER says, if it is here", help="Hub id, folder, or GGUF file.")
    ] = None,
    revision: Revision = None,
    text: Annotated[str, typer.Option(help="The content of the example request.")] = "Hello",
    dtype: Annotated[
        _Dtype, typer.Option(help="Of tensors for vLLM and TensorRT-LLM; give the one the model is served in.")
    ] = _Dtype.float32,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """An adapter as the files that a server takes, with the request that uses them.

    Prompts become embeddings; a LoRA folder stays as it is, and what a server makes of it is named; a prefix is
    refused, since no server takes one.
    The page in OUT says how to start the server and what was tried.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    with exit_status():
        look(model, adapter=folder, revision=revision)

    from promptreach.commands.export import export_adapter
    from promptreach.report.text import print_finding

    with exit_status():
        finding = export_adapter(
            folder, server.value, out, model=model, revision=revision, text=text, dtype=dtype.value
        )
    print_finding(finding, as_json=json)
