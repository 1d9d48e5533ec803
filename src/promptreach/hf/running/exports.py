"""The prompt embeddings that vLLM takes, as a file.

vLLM accepts a request's input as embeddings: a tensor (tokens, hidden) written by ``torch.save``, sent as it is or in
base64 as ``prompt_embeds``, when the server runs with ``--enable-prompt-embeds``. It reads the tensor with
``weights_only=True``. For completions prompt and content have to be in one tensor; in chats the server joins a part
of that name with the text and the template, so that the prompt's tensor alone serves every request.

Reference: vLLM's documentation, "Prompt Embedding Inputs".
"""

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from promptreach.errors import AdapterError, Fault, raise_if_any
from promptreach.files import write_atomically
from promptreach.hf.adapters.folders import misfits
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import SoftPrompt

EMBEDS_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes that vLLM accepts; it wants the one that it runs the model in."""


def save_prompt_embeds(
    path: str | Path,
    model: OpenModel,
    prompt: SoftPrompt,
    token_ids: Sequence[int] = (),
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a prompt, and the content behind it if given, as the tensor (tokens, hidden) that vLLM reads.

    Args:
        token_ids: of the content; vLLM does not add any by itself.
        dtype: the one vLLM runs the model in; None means the model's own.

    Raises:
        AdapterError: when the prompt does not fit the model.
        InputError: for an encoder, a token that the model does not have, or a dtype that vLLM does not take.
        OutputError: when the file cannot be written.
    """
    raise_if_any(misfits(prompt, model, "prompt"), AdapterError)
    dtype = model.vocabulary.dtype if dtype is None else dtype
    raise_if_any(_embeds_faults(model, token_ids, dtype))
    content = model.vocabulary[torch.tensor(token_ids, dtype=torch.long, device=model.vocabulary.device)]
    embeddings = torch.cat([prompt.embeddings.detach().to(content), content]).to("cpu", dtype)
    buffer = io.BytesIO()
    torch.save(embeddings.contiguous(), buffer)
    write_atomically(path, buffer.getvalue())
    return Path(path)


def _embeds_faults(model: OpenModel, token_ids: Sequence[int], dtype: torch.dtype) -> list[Fault]:
    faults = []
    if model.both_ways:
        faults.append(Fault("model", f"{model.name}, an encoder", "a causal language model"))
    size = len(model.vocabulary)
    unknown = [token for token in token_ids if not 0 <= token < size]
    if unknown:
        faults.append(Fault("token_ids", f"{unknown[:5]}", f"0 to {size - 1}"))
    if dtype not in EMBEDS_DTYPES:
        faults.append(Fault("dtype", str(dtype), f"one of {', '.join(map(str, EMBEDS_DTYPES))}"))
    return faults
