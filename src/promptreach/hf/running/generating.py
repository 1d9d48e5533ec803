"""Greedy generation by `transformers` itself, with a cache and in batches padded on the left.

Whether it gives what the model gives without a cache is for its caller to see: a slot in front may fall out of a window
that padding shifts, positions may be counted otherwise, a state may take padding in.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from promptreach.backbone import Prepended
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import join_mask


def generated(
    model: OpenModel,
    prompts: Sequence[Sequence[int]],
    most: int,
    stops: Collection[int],
    joined: Prepended | None,
) -> tuple[list[list[int]], Float[Tensor, "tokens rows vocab"]]:
    """The tokens behind each prompt, and the logits of every step.

    Args:
        prompts, most, stops, joined: as for `promptreach.training.task.writing.greedy`; what follows a stop is padding.

    Raises:
        Exception: whatever an architecture raises that cannot write so.
    """
    module = model.release()
    plain = GenerationConfig(
        max_new_tokens=most,
        do_sample=False,
        eos_token_id=sorted(stops) or None,
        pad_token_id=0,
        use_cache=True,
        decoder_start_token_id=getattr(module.generation_config, "decoder_start_token_id", None)
        or getattr(module.config, "decoder_start_token_id", None),
        output_logits=True,
        return_dict_in_generate=True,
    )
    inputs = _given(model, prompts, joined)
    found = _generated(module, plain, inputs)
    new: list[list[int]] = found.sequences[:, -len(found.logits) :].tolist()
    return new, torch.stack([logits.float() for logits in found.logits])


def _generated(module: PreTrainedModel, config: GenerationConfig, inputs: dict[str, Any]) -> Any:
    """`generate` under that config alone: what it leaves open would be filled with the model's own."""
    theirs = module.generation_config
    try:
        module.generation_config = config
        return module.generate(**inputs)
    finally:
        module.generation_config = theirs


def _given(model: OpenModel, prompts: Sequence[Sequence[int]], joined: Prepended | None) -> dict[str, Any]:
    """The arguments of `generate`; what stands in front of a text stands right in front of it, behind the padding.

    Raises:
        NotImplementedError: where `generate` has no way to take what is joined.
    """
    if model.task == "seq2seq":
        if joined is not None and joined.prefix_keys is not None:
            raise NotImplementedError
        read = model.inputs(model.batch(prompts), joined)
        return {name: read[name] for name in ("input_ids", "inputs_embeds", "attention_mask") if name in read}
    longest = max(map(len, prompts))
    device = model.vocabulary.device
    ids = torch.tensor([[0] * (longest - len(one)) + list(one) for one in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
    if joined is not None and joined.prompt is not None:
        content = model.release().get_input_embeddings()(ids)
        prompt, size = joined.prompt.to(content), joined.length
        rows = []
        for one, states in zip(prompts, content, strict=True):
            pad = longest - len(one)
            rows.append(torch.cat([states[:pad], prompt, states[pad:]]))
        front = torch.ones(len(prompts), size, dtype=mask.dtype, device=device)
        return {"inputs_embeds": torch.stack(rows), "attention_mask": torch.cat([mask, front], 1).sort(1).values}
    if joined is not None and joined.prefix_keys is not None and joined.prefix_values is not None:
        if model.traits.prefix_by != "cache":
            raise NotImplementedError
        pairs = zip(model.likenesses, joined.prefix_keys, joined.prefix_values, strict=True)
        cache = DynamicCache(
            [tuple(part.to(like).expand(len(ids), -1, -1, -1) for part in two) for like, *two in pairs]
        )
        return {"input_ids": ids, "attention_mask": join_mask(mask, joined.length), "past_key_values": cache}
    return {"input_ids": ids, "attention_mask": mask}
