"""A compiled backbone as a transformers model, and its prompts as PEFT folders.

The backbone takes no words: its token embeddings are computed from points of [0,1]^(tokens x dim). So the model is one
for feature extraction, its `embeddings.word_embeddings` (where PEFT looks) turns points into token embeddings, and PEFT
puts the prompt in front of them as it does for any model:

    model = AutoModel.from_pretrained(folder / "model")            # after `import promptreach.hf`; no remote code
    tuned = PeftModel.from_pretrained(model, folder / "prompt")
    y = tuned(inputs_embeds=model.embed(x)).values                 # or tuned(x).values

PEFT keeps a prompt in torch's default dtype, float32 unless told otherwise, and rounds a float64 prompt to it without
a word. `load_compiled_prompt` is the same call with the prompt in the backbone's own dtype, the only one that
certificates speak of.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel, PromptTuningConfig, TaskType
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from promptreach.compiler import CompiledBackbone, build_backbone
from promptreach.compiler.backbone import CHUNK_BYTES
from promptreach.compiler.plan import MEMORY, Plan
from promptreach.errors import AdapterError, Fault, InputError, ModelError, raise_if_any
from promptreach.files import atomic_folder
from promptreach.hf.adapters.folders import write_adapter
from promptreach.hf.adapters.places import CONFIG, file_faults
from promptreach.hf.models.load import quietly
from promptreach.prompt import SoftPrompt

MODEL_TYPE = "promptreach-compiled"

_ROUNDED_VALUE = 2.0**-24  # how far float32 may move a value in [0, 1]; twice as far as it does


class CompiledConfig(PretrainedConfig):
    """The question that a backbone answers: its plan follows from these alone.

    Args:
        construction, dim, tokens, lipschitz, tol: as `promptreach.compiler.build_backbone` takes them.
        certified_dtype: "float64" or "float32".
        options: the construction's own.
        hidden_size, num_hidden_layers: of the stream, and how many passes; what PEFT asks a config for.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        construction: str = "programmable",
        dim: int = 1,
        tokens: int = 1,
        lipschitz: float = 1.0,
        tol: float = 0.5,
        certified_dtype: str = "float64",
        options: Mapping[str, Any] | None = None,
        hidden_size: int = 0,
        num_hidden_layers: int = 0,
        **others: Any,
    ) -> None:
        self.construction, self.dim, self.tokens = construction, dim, tokens
        self.lipschitz, self.tol = lipschitz, tol
        self.certified_dtype, self.options = certified_dtype, dict(options or {})
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, 1
        super().__init__(**others)

    @staticmethod
    def of(plan: Plan) -> "CompiledConfig":
        """The config of the backbone that `plan` describes."""
        return CompiledConfig(
            construction=plan.construction,
            dim=plan.dim,
            tokens=plan.tokens,
            lipschitz=plan.lipschitz,
            tol=plan.tol,
            certified_dtype=plan.dtype,
            options=plan.options,
            hidden_size=plan.hidden_size,
            num_hidden_layers=len(plan.passes),
        )

    def build(self, memory: int) -> CompiledBackbone:
        """The backbone, computed anew on the CPU, wherever transformers wants its tensors to be born."""
        with torch.device("cpu"):
            return build_backbone(
                self.dim,
                self.tokens,
                self.lipschitz,
                self.tol,
                self.construction,
                dtype=getattr(torch, self.certified_dtype),
                memory=memory,
                **self.options,
            )


@dataclass
class CompiledOutput(ModelOutput):
    """The answer of a compiled model.

    Attributes:
        values: the outputs at the content positions, (batch, tokens, dim).
    """

    values: Tensor | None = None


class TokenEmbedding(nn.Module):
    """Points of the cube -> token embeddings. It has no weights of its own; the backbone holds them."""

    def __init__(self, backbone: CompiledBackbone) -> None:
        super().__init__()
        self._backbone = (backbone,)  # in a tuple, so that torch does not register it twice

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens hidden"]:
        """The embeddings, in the backbone's dtype and on its device.

        Raises:
            InputError: for another shape, or entries outside [0, 1].
        """
        (backbone,) = self._backbone
        shape = (backbone.plan.tokens, backbone.plan.dim)
        if x.ndim != 3 or tuple(x.shape[1:]) != shape:
            raise InputError(Fault("x", f"shape {tuple(x.shape)}", f"(batch, {shape[0]}, {shape[1]})"))
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise InputError(Fault("x", "entries that are not in [0, 1]", "points of the cube"))
        return backbone.embed(x.to(backbone.readout))


class CompiledModel(PreTrainedModel):
    """A backbone for transformers and PEFT. `wrap_backbone` makes one; `AutoModel.from_pretrained` loads one.

    Args:
        config: says which backbone.
        backbone: the one to wrap; None builds it.
        memory: bytes granted to a backbone that is built; `from_pretrained` passes it on.

    Raises:
        InputError: for a config that describes no backbone.
        PlanTooLargeError: for one that takes more than `memory`.
    """

    config_class = CompiledConfig
    main_input_name = "inputs_embeds"

    def __init__(self, config: CompiledConfig, backbone: CompiledBackbone | None = None, memory: int = MEMORY) -> None:
        super().__init__(config)
        self.backbone = backbone or config.build(memory)
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = TokenEmbedding(self.backbone)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *arguments: Any, memory: int = MEMORY, **options: Any) -> Any:
        """The model in a folder, loaded as transformers does.

        Raises:
            ModelError: when the weights in the file are not those that the config leads to, exactly.
        """
        loaded = super().from_pretrained(*arguments, memory=memory, **options)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.requires_grad_(False)
        built = model.config.build(memory).state_dict()
        wrong = [name for name, tensor in model.backbone.state_dict().items() if not _same(tensor, built[name])]
        if wrong:
            seen = f"weights that its config does not lead to: {', '.join(wrong[:3])}"
            expected = f"the file as it was saved, loaded in {model.config.certified_dtype}"
            raise ModelError(Fault(str(model.name_or_path), seen, expected))
        return loaded

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: every weight follows from the config."""

    def get_input_embeddings(self) -> TokenEmbedding:
        return self.embeddings.word_embeddings  # type: ignore[return-value]

    def embed(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens hidden"]:
        """Token embeddings for `inputs_embeds`. Raises InputError for points outside the cube."""
        return self.get_input_embeddings()(x)  # type: ignore[no-any-return]

    def forward(
        self,
        inputs_embeds: Float[Tensor, "batch joined hidden"],
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> CompiledOutput | tuple[Tensor, ...]:
        """The outputs at the last `tokens` positions; whatever stands before them is the prompt.

        Args:
            inputs_embeds: [prompt; token embeddings], as PEFT joins them.
            attention_mask: None or all ones; a compiled model has no padding.
            output_attentions, output_hidden_states: neither is kept.
            return_dict: False for a plain tuple.

        Raises:
            InputError: listing what is wrong: too few positions, another hidden size, a mask with zeros, states asked
                for, or weights converted to a dtype that no certificate covers.
        """
        self._check(inputs_embeds, attention_mask, bool(output_attentions or output_hidden_states))
        joined = inputs_embeds.to(self.backbone.readout)
        length = joined.shape[1] - self.config.tokens
        prompts, content = joined[:, :length], joined[:, length:]
        if torch.equal(prompts, prompts[:1].expand_as(prompts)):
            prompt = prompts[0] if len(prompts) else prompts.new_zeros(prompts.shape[1:])
            blocks = content.split(self.backbone.rows_at_once(length)) if len(content) else (content,)
            states = [self.backbone.run(block.clone(), prompt) for block in blocks]
        else:
            states = [
                self.backbone.run(row[None].clone(), prompt) for row, prompt in zip(content, prompts, strict=True)
            ]
        output = CompiledOutput(values=nn.functional.linear(torch.cat(states), self.backbone.readout))
        return output.to_tuple() if return_dict is False else output

    def _check(self, joined: Tensor, mask: Tensor | None, wants_states: bool) -> None:
        faults = []
        if joined.shape[1] < self.config.tokens or joined.shape[2] != self.backbone.stream.size:
            expected = f"(batch, prompt + {self.config.tokens}, {self.backbone.stream.size})"
            faults.append(Fault("inputs_embeds", f"shape {tuple(joined.shape)}", expected))
        if mask is not None and not bool((mask == 1).all()):
            faults.append(Fault("attention_mask", "zeros", "ones: a compiled model takes no padding"))
        if wants_states:
            faults.append(Fault("output_attentions, output_hidden_states", "True", "False: they are not kept"))
        if self.dtype != self.backbone.plan.torch_dtype:
            expected = f"{self.backbone.plan.dtype}, for which it was certified"
            faults.append(Fault("model", f"weights converted to {self.dtype}", expected))
        raise_if_any(faults)


AutoConfig.register(MODEL_TYPE, CompiledConfig)
AutoModel.register(CompiledConfig, CompiledModel)


def wrap_backbone(backbone: CompiledBackbone) -> CompiledModel:
    """The backbone as a transformers model; it is not copied."""
    return CompiledModel(CompiledConfig.of(backbone.plan), backbone).eval()  # type: ignore[no-any-return]


def save_backbone(folder: str | Path, backbone: CompiledBackbone) -> Path:
    """Write the backbone as a transformers folder, which `AutoModel.from_pretrained` loads, and return its path.

    Raises:
        OutputError: when `folder` cannot be written or is not empty.
    """
    with atomic_folder(folder) as partial, quietly():
        wrap_backbone(backbone).save_pretrained(partial)
    return Path(folder)


def save_compiled_prompt(folder: str | Path, backbone: CompiledBackbone, prompt: SoftPrompt, model: str = "") -> Path:
    """Write a compiled prompt as a PEFT prompt-tuning folder, in the backbone's dtype, and return its path.

    Args:
        folder: appears whole or not at all; an adapter folder that stands there is replaced.
        model: where the wrapped backbone is, for the folder's config.

    Raises:
        AdapterError: for a prompt of another hidden size.
        OutputError: when `folder` cannot be written or holds something else.

    Warns:
        UserWarning: when PEFT's float32 would not only round values but change numbers that select.
    """
    folder = Path(folder)
    if prompt.hidden_size != backbone.stream.size:
        seen = f"virtual tokens of size {prompt.hidden_size}"
        raise AdapterError(Fault("prompt", seen, f"{backbone.stream.size}, that of the backbone"))
    moved = float((prompt.embeddings - prompt.embeddings.float().to(prompt.embeddings)).abs().max())
    if moved > _ROUNDED_VALUE:
        text = (
            f"float32, in which PeftModel.from_pretrained keeps prompts, moves numbers of this prompt by {moved:.2g}, "
            "which may change what it does; load it with promptreach.hf.load_compiled_prompt"
        )
        warnings.warn(text, stacklevel=2)
    config = PromptTuningConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        num_virtual_tokens=prompt.length,
        token_dim=prompt.hidden_size,
        num_layers=len(backbone.plan.passes),
        num_attention_heads=1,
        num_transformer_submodules=1,
        base_model_name_or_path=model,
        inference_mode=True,
    )
    with atomic_folder(folder, replace=(folder / CONFIG).is_file()) as partial:
        write_adapter(partial, config, {"prompt_embeddings": prompt.embeddings.to(backbone.plan.torch_dtype)})
    return folder


def load_compiled_prompt(model: CompiledModel, folder: str | Path) -> PeftModel:
    """`PeftModel.from_pretrained(model, folder)` with the prompt in the backbone's dtype instead of PEFT's float32.

    Raises:
        AdapterError: for files that are missing, damaged or pickled, or a prompt for another model.
    """
    folder = Path(folder)
    raise_if_any(file_faults(folder), AdapterError)
    record = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    seen, expected = (
        (record.get("peft_type"), record.get("token_dim")),
        ("PROMPT_TUNING", model.backbone.stream.size),
    )
    if seen != expected:
        raise AdapterError(Fault(str(folder), f"peft_type, token_dim = {seen}", f"{expected}, those of this model"))
    with _default_dtype(model.backbone.plan.torch_dtype):
        return PeftModel.from_pretrained(model, str(folder))


def reload_differences(
    model_folder: Path, prompt_folder: Path, backbone: CompiledBackbone, prompt: SoftPrompt, seed: int = 0
) -> tuple[float, float]:
    """The largest differences between outputs of the two folders and of what was saved there, at random points.

    The first number is with the prompt in the backbone's dtype (`load_compiled_prompt`), the second with float32.
    """
    # PEFT repeats the prompt for every input of a batch.
    points = max(1, min(256, CHUNK_BYTES // (8 * prompt.embeddings.numel())))
    shape = (points, backbone.plan.tokens, backbone.plan.dim)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with quietly(), torch.no_grad():
        model = AutoModel.from_pretrained(model_folder, memory=backbone.plan.bytes)
        expected = backbone(x, prompt).cpu()
        exact = load_compiled_prompt(model, prompt_folder)
        rounded = PeftModel.from_pretrained(model, str(prompt_folder))
        differences = [float((tuned(x).values.cpu() - expected).abs().max()) for tuned in (exact, rounded)]
    return differences[0], differences[1]


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _same(loaded: Tensor, built: Tensor) -> bool:
    return loaded.dtype == built.dtype and torch.equal(loaded.cpu(), built)
