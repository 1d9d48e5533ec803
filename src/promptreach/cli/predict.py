"""``promptreach predict``: what an adapter answers."""

from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._answers import options_of
from promptreach.cli._command import Json, Model, Quiet, Revision, exit_status
from promptreach.preflight import look


def predict(
    model: Model,
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder of an adapter, or of a head alone.")],
    text: Annotated[list[str], typer.Argument(metavar="TEXT|FILE...", help="Texts, or files with a text a line.")],
    pair: Annotated[
        str | None, typer.Option(help="The second text to each, for a head that judges two; or a file of them.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="The text that holds the answer to each question; or a file of them.")
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens of a text that are read.")] = 128,
    max_new_tokens: Annotated[int, typer.Option(help="Of a completion.")] = 32,
    options: Annotated[list[str] | None, typer.Option(help="Texts to choose from, with commas.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Each text is a user's turn, written by the template.")] = False,
    chat_template: Annotated[str | None, typer.Option(help="Jinja, or its file; else the model's.")] = None,
    device: Annotated[str, typer.Option(help="Where the model goes.")] = "cpu",
    revision: Revision = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """What a trained adapter answers: what its head tells of each text, or its completion.

    A folder with a head answers with a label and its softmax probability, which nobody has calibrated; with several
    labels, a number, a tag for each word (told apart by blanks), or, to a question, with a stretch of its CONTEXT.
    One without answers with text: the likeliest token after each, until the end token; or the likeliest of OPTIONS.

    A FILE is plain UTF-8 text, an input a line; blank lines are left out. A table is refused, since its other
    columns would be read as text: promptreach evaluate takes those. A file of PAIR or CONTEXT likewise: a line for each
    text, or one line for all of them; beside a single text the whole file is one.

    This runs an adapter that is there. What a method would score before it is trained is another question, which
    promptreach.tuning.predict answers with a forecast.

    Texts longer than MAX_LENGTH are cut as in training: a text to label at its end, a prompt at its beginning.
    How many were cut is said.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    named = options_of(options)
    named = [f"{key}={word}" for key, word in named.items()] if isinstance(named, dict) else named or []
    with exit_status():
        look(model, adapter=adapter, device=device, revision=revision)

    from promptreach.commands.predict import predict_texts, seconds_of, texts_of
    from promptreach.hf import open_model
    from promptreach.report.text import print_finding
    from promptreach.rows.chats import template_of

    with exit_status():
        texts = [one for given in text for one in texts_of(given)]
        pairs = seconds_of(pair, len(texts), "pair") if pair is not None else ()
        contexts = seconds_of(context, len(texts), "context") if context is not None else ()
        template = template_of(chat_template)
        opened = open_model(model, revision=revision, device=device)
        finding = predict_texts(
            opened,
            adapter,
            texts,
            pairs=pairs,
            contexts=contexts,
            max_length=max_length,
            max_new_tokens=max_new_tokens,
            options=named,
            chat=chat,
            chat_template=template,
        )
    print_finding(finding, as_json=json)
