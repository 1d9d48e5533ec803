"""The backbone: one frozen transformer that every prompt of its construction programs.

    x  ->  embed  ->  [prompt; tokens]  ->  layers  ->  read out at the content positions

The weights are fixed by the plan before any function is seen. Prompt and content rows go through the same layers; a
compiled prompt is an ordinary `SoftPrompt`. Each construction is a subclass that says where a function is looked up,
how its values become prompt rows, and what is certain about the result.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from promptreach.certificate import Certificate
from promptreach.compiler.parts import fingerprint
from promptreach.compiler.parts.blocks import Attention, FeedForward, Stream
from promptreach.compiler.plan import Plan
from promptreach.compiler.target import Points, TargetFunction, as_target
from promptreach.errors import Fault, raise_if_any
from promptreach.files import write_atomically
from promptreach.prompt import SoftPrompt

CHUNK_BYTES = 2**26
"""Working memory that one block of inputs may take."""


REBUILT_BYTES = 2**33
"""Memory that a second path may take to build a backbone again: some minutes' worth."""

_Backbone = TypeVar("_Backbone", bound="CompiledBackbone")


class CompiledBackbone(nn.Module, ABC):
    """A frozen transformer and the compiler of its prompts. Build one with `build_backbone`.

    Args:
        plan: the sizes that everything was derived from.
        stream: the layout of the hidden state; needs the blocks "input" (dim), "position" (tokens) and "output" (dim).
        passes: the feed-forward and attention layers, in order.

    Float32 certificates speak of IEEE float32: on CUDA, TF32 products stay off, as torch has them by default.

    Subclasses implement `points`, `rows`, `edges`, `prompt_faults` and `_certificate`, and end their constructor with
    `freeze`.
    """

    def __init__(self, plan: Plan, stream: Stream, passes: Sequence[FeedForward | Attention]) -> None:
        super().__init__()
        self.plan, self.stream = plan, stream
        self.passes = nn.ModuleList(passes)
        self.order = tuple(passes)
        self.embed_weight = nn.Parameter(self._one_hot("input", plan.dim).T.contiguous(), requires_grad=False)
        self.position = nn.Parameter(self._one_hot("position", plan.tokens), requires_grad=False)
        self.readout = nn.Parameter(self._one_hot("output", plan.dim), requires_grad=False)

    def _one_hot(self, block: str, size: int) -> Tensor:
        """Each row picks one coordinate of the block."""
        rows = torch.zeros(size, self.stream.size, dtype=self.plan.torch_dtype)
        rows[:, self.stream.blocks[block]] = torch.eye(size, dtype=rows.dtype)
        return rows

    @abstractmethod
    def points(self) -> Points:
        """Where a function is looked up, in the order that `rows` expects, in float64."""

    @abstractmethod
    def rows(self, values: Points) -> Float[Tensor, "prompt hidden"]:
        """The prompt that holds these values."""

    @abstractmethod
    def prompt_faults(self, embeddings: Float[Tensor, "prompt hidden"]) -> list[Fault]:
        """What keeps the rows from being a prompt that `rows` made."""

    @abstractmethod
    def _certificate(
        self, embeddings: Float[Tensor, "prompt hidden"], lipschitz: float, everywhere: bool
    ) -> Certificate:
        """What `certify` says, or `sup_certificate` if `everywhere`, of weights and rows that were looked at."""

    @abstractmethod
    def edges(self) -> Float[Tensor, " edges"]:
        """Both ends of the quantiser's ramps on one axis, rising, and 0 and 1; in float64."""

    def freeze(self) -> None:
        """Remember the weights as they are now: those of the plan."""
        self.fingerprint = fingerprint.fingerprint_of(self.state_dict())

    def certify(self, embeddings: Float[Tensor, "prompt hidden"], lipschitz: float) -> Certificate:
        """The d_2 error of one prompt, for every function with this Lipschitz constant that its rows hold.

        Raises:
            InputError: for weights or rows that the construction did not make, and a constant that is negative or not
                finite.
        """
        self._refuse(embeddings, lipschitz)
        return self._certificate(embeddings, lipschitz, everywhere=False)

    def sup_certificate(self, prompt: SoftPrompt, lipschitz: float | None = None) -> Certificate:
        """The largest error at any input outside the ramps (`good`), in the 2-norm over all entries.

        Args:
            prompt: compiled for this backbone.
            lipschitz: of the functions; None means the constant that the backbone was built for.

        Raises:
            InputError: as `certify`.
        """
        constant = self.plan.lipschitz if lipschitz is None else lipschitz
        self._refuse(prompt.embeddings, constant)
        return self._certificate(prompt.embeddings, constant, everywhere=True)

    def witness(self, embeddings: Tensor, lipschitz: float, everywhere: bool) -> dict[str, Any]:
        """What a second path starts from that builds the backbone again from its plan."""
        return {
            "question": fingerprint.question_of(self.plan),
            "weights": self.fingerprint,
            "prompt": embeddings.detach(),
            "lipschitz": lipschitz,
            "everywhere": everywhere,
        }

    def _refuse(self, embeddings: Tensor, lipschitz: float) -> None:
        faults = self.prompt_faults(embeddings) + fingerprint.weight_faults(self.state_dict(), self.fingerprint)
        if not 0 <= lipschitz < math.inf:
            faults.append(Fault("lipschitz", repr(lipschitz), "a finite number, at least 0"))
        raise_if_any(faults)

    def good(self, x: Float[Tensor, "batch tokens dim"]) -> Bool[Tensor, " batch"]:
        """True for inputs with no coordinate inside a ramp, where sup certificates speak."""
        edges = self.edges().to(x.device)
        # Ramps lie between edges 1 and 2, 3 and 4, ...; 0 and 1 are not in any.
        cast = x.to(self.plan.torch_dtype).double()
        above = torch.searchsorted(edges, cast.contiguous(), right=True)
        inside = (above % 2 == 0) & (above < len(edges)) & (torch.searchsorted(edges, cast.contiguous()) == above)
        return ~inside.flatten(1).any(dim=1)

    def prompt_for(
        self, f: TargetFunction | Callable[..., Any], seed: int = 0, progress: Callable[[str], None] | None = None
    ) -> SoftPrompt:
        """The prompt that makes this backbone play `f`, with the certificate of its error.

        Args:
            f: array (tokens, dim) -> array (tokens, dim) on [0, 1]; a plain function declares the backbone's own
                Lipschitz constant, a `TargetFunction` may declare a smaller one and gets a smaller certificate.
            seed: of the points at which declarations are tried.
            progress: called with the name of each step.

        Raises:
            InputError: when calls refute what was declared: shape, NaN, range, determinism, Lipschitz constant.
        """
        say = progress or (lambda _: None)
        target = as_target(f, self.plan.dim, self.plan.tokens, self.plan.lipschitz)
        say("try declarations")
        target.check(seed=seed)
        say("look up")
        points = self.points()
        values = target.at(points)
        raise_if_any(self.refutations(target, points, values))
        say("write prompt")
        embeddings = self.rows(values)
        say("certify")
        return SoftPrompt(embeddings, self.certify(embeddings, target.lipschitz))

    def refutations(self, target: TargetFunction, points: Points, values: Points) -> list[Fault]:
        """What neighbouring lookups refute: consecutive points, which are near one another in a grid."""
        return target.slope_faults(points[1:], values[1:], points[:-1], values[:-1])

    def embed(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens hidden"]:
        """The token embeddings that stand behind the prompt."""
        return nn.functional.linear(x, self.embed_weight) + self.position

    def run(
        self, content: Float[Tensor, "batch tokens hidden"], prompt: Float[Tensor, "prompt hidden"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The states at the content positions after all passes. `content` is used up."""
        rows = prompt[None].clone()
        for item, needed in zip(self.order, self.needed_by_prompt(), strict=True):
            if isinstance(item, Attention):
                content, rows = item(content, rows, update_prompt=needed)
            else:
                content = item(content)
                rows = item(rows) if needed else rows
        return content

    def needed_by_prompt(self) -> list[bool]:
        """For each layer, whether what it writes into prompt rows is ever read again.

        Outputs are read at content positions alone, so most layers need not run over the prompt, and prompt rows need
        one copy for all inputs until they have seen content.
        """
        read: set[str] = set()
        needed = []
        for item in reversed(self.order):
            writes_live = bool(read & set(item.writes))
            needed.append(writes_live)
            if isinstance(item, Attention):
                read |= {*item.key_reads, *item.value_reads}
                read |= set(item.query_reads) if writes_live else set()
            elif writes_live:
                read |= set(item.reads)
        return needed[::-1]

    def forward(self, x: Float[Tensor, "batch tokens dim"], prompt: SoftPrompt) -> Float[Tensor, "batch tokens dim"]:
        """The outputs at the content positions, in the plan's dtype.

        Args:
            x: inputs in [0, 1].
            prompt: compiled for this backbone, or anything of the same hidden size.

        Raises:
            InputError: for inputs that are not finite or outside [0, 1], a prompt of another hidden size, and a
                backbone whose weights were converted to a dtype that its certificates do not cover.
        """
        self._check(x, prompt)
        dtype, device = self.plan.torch_dtype, self.readout.device
        embeddings = prompt.embeddings.to(device=device, dtype=dtype)
        outputs = []
        cast = x.to(device=device, dtype=dtype)
        for block in torch.split(cast, self.rows_at_once(prompt.length)):
            states = self.run(self.embed(block), embeddings)
            outputs.append(nn.functional.linear(states, self.readout))
        return torch.cat(outputs) if outputs else cast

    def rows_at_once(self, prompt_length: int) -> int:
        """How many inputs fit into `CHUNK_BYTES` of working memory."""
        width = max((item.width for item in self.passes if isinstance(item, FeedForward)), default=0)
        row = 3 * self.stream.size + 2 * width + 3 * (prompt_length + self.plan.tokens)
        return max(1, CHUNK_BYTES // (8 * self.plan.tokens * row))

    def _check(self, x: Tensor, prompt: SoftPrompt) -> None:
        faults = []
        shape = (self.plan.tokens, self.plan.dim)
        if x.ndim != 3 or tuple(x.shape[1:]) != shape:
            faults.append(Fault("x", f"shape {tuple(x.shape)}", f"(batch, {shape[0]}, {shape[1]})"))
        elif x.numel() and not bool(((x >= 0) & (x <= 1)).all()):
            worst = x[~((x >= 0) & (x <= 1))][0]
            faults.append(Fault("x", f"an entry {float(worst)}", "entries in [0, 1], the domain of the certificates"))
        if prompt.hidden_size != self.stream.size:
            expected = f"{self.stream.size}, that of this backbone"
            faults.append(
                Fault("prompt", f"hidden size {prompt.hidden_size}", expected, "Compile it for this backbone")
            )
        if self.readout.dtype != self.plan.torch_dtype:
            faults.append(
                Fault(
                    "backbone",
                    f"weights converted to {self.readout.dtype}",
                    f"{self.plan.dtype}, for which it was certified",
                    "Build it with dtype=, which says whether the certificate allows that",
                )
            )
        raise_if_any(faults)

    def save(self, path: str | Path) -> None:
        """Write weights and plan as one safetensors file; `build.load_backbone` reads it."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        question = {**self.plan.question._asdict(), "options": dict(self.plan.options)}
        write_atomically(path, safetensors.torch.save(tensors, metadata={"promptreach": json.dumps(question)}))


def rebuilt(
    build: Callable[[Plan], _Backbone], plan: Callable[..., Plan], certificate: Certificate
) -> _Backbone | None:
    """The backbone of a certificate's `CompiledBackbone.witness`, built again from its plan.

    None where its weights are not those of the witness, or the witness's prompt is none of its own; nothing is built
    for a question that does not lead to such a prompt, or to more than `REBUILT_BYTES`.
    """
    seen = certificate.witness
    made = plan(**seen["question"])
    if (made.slots, made.hidden_size) != tuple(seen["prompt"].shape) or made.bytes > REBUILT_BYTES or made.obstacle:
        return None
    backbone = _built(build, plan, **seen["question"])
    return None if backbone.fingerprint != seen["weights"] or backbone.prompt_faults(seen["prompt"]) else backbone


@lru_cache(maxsize=12)
def _built(build: Callable[[Plan], _Backbone], plan: Callable[..., Plan], **question: Any) -> _Backbone:
    return build(plan(**question))
