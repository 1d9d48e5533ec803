"""A soft prompt watched in somebody else's training: transformers' Trainer, TRL's SFTTrainer, or a loop of one's own.

Hooks on the model and on the optimiser do the reading, so that a Trainer and a plain loop are watched alike. Nothing of
the training changes: no number, no random draw, no gradient.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch import Tensor
from transformers import TrainerCallback

from promptreach.errors import Fault, InputError
from promptreach.hf.running.capture import captured, share_of_prompt
from promptreach.hf.running.interface import AttentionFunction, through
from promptreach.monitoring.readings import (
    PromptReading,
    answer_reading,
    batch_reading,
    prompt_reading,
    vocabulary_rows,
)
from promptreach.monitoring.warnings import Warned, WatchedTraining, warnings_of

_LOGGER = logging.getLogger("promptreach")
_FIRST = (0, 1, 2)
"""The steps that are read whatever the interval: most causes show there."""
_EXPECTED = "a PEFT model with prompt tuning, P-tuning or prefix tuning, or a model and the argument prompt="


class SoftPromptMonitor(TrainerCallback):
    """What a soft prompt does while it is trained, and warnings where a known cause keeps it from learning.

    As a callback: ``Trainer(..., callbacks=[SoftPromptMonitor()])``; ``monitor.attach(trainer)`` puts it before the
    trackers instead, so that wandb, tensorboard and others receive its numbers with the Trainer's own. In a loop of
    one's own::

        monitor = SoftPromptMonitor()
        with monitor.watch(model, optimizer, total_steps=500):
            for batch in batches:
                model(**batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        print(monitor.summary())

    Warnings go to the logger ``promptreach``. Everything read is MEASURED, at the steps that were read alone.

    Args:
        interval: steps between readings; None takes a fortieth of the training, at least 20. The first three are read.
        prompt: the parameter that holds the virtual tokens, (m, hidden), where it is not PEFT's.
        report: called with the step's numbers by name at every reading.

    Attributes:
        readings: what was read, oldest first.
        warned: what was warned of, each cause once.
    """

    def __init__(
        self,
        interval: int | None = None,
        *,
        prompt: Tensor | None = None,
        report: Callable[[dict[str, float]], object] | None = None,
    ) -> None:
        if interval is not None and interval < 1:
            raise InputError(Fault("interval", str(interval), "at least 1"))
        self.interval = interval
        self.readings: list[PromptReading] = []
        self.warned: list[Warned] = []
        self._prompt = prompt
        self._report = report
        self._logs: dict[str, float] = {}
        self._training = ExitStack()

    @contextmanager
    def watch(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, total_steps: int) -> Iterator[None]:
        """A block of training whose optimiser steps are watched, `total_steps` in all.

        Raises:
            InputError: where the model has no soft prompt.
        """
        watched = _Watched(self, model, optimizer, total_steps)
        with watched.hooks():
            self.judge(watched.facts)
            yield

    def attach(self, trainer: Any) -> "SoftPromptMonitor":
        """This monitor as the Trainer's first callback, so that trackers receive its numbers too."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    def summary(self) -> str:
        """What was seen, in a few lines: the warnings, the last numbers, and what an audit would ask next."""
        lines = [f"Warned at step {warned.step}: {warned.text}" for warned in self.warned]
        if self.readings:
            last = self.readings[-1]
            named = ", ".join(f"{name.partition('/')[2]} {value:.3g}" for name, value in last.logs().items())
            lines.append(f"Step {last.step}: {named}.")
        lines.append(
            "What the readings cannot tell: whether LoRA or the head alone would do better, and whether any prompt of "
            "this length can. `promptreach audit MODEL DATA --adapter DIR` measures that."
        )
        return "\n".join(lines)

    def add(self, reading: PromptReading, facts: WatchedTraining) -> None:
        """Keep a reading, hand it on and warn of what it shows."""
        self.readings.append(reading)
        self._logs |= reading.logs()
        if self._report is not None:
            self._report(reading.logs())
        self.judge(facts)

    def judge(self, facts: WatchedTraining) -> None:
        """Warn of what the readings so far show and was not warned of before."""
        known = {warned.key for warned in self.warned}
        for key, text in warnings_of(facts, self.readings).items():
            if key not in known:
                step = self.readings[-1].step if self.readings else 0
                self.warned.append(Warned(key, step, text))
                _LOGGER.warning("step %d: %s", step, text)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Transformers' call before the first step."""
        optimizer = given["optimizer"]
        plain = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper has no hooks of its own
        self._training.enter_context(self.watch(given["model"], plain, state.max_steps))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **given: Any) -> None:
        """Transformers' call where numbers are logged: the newest readings join them."""
        if logs is not None:
            logs |= self._logs
        self._logs = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Transformers' call after the last step."""
        self._training.close()
        _LOGGER.info("%s", self.summary())


class _Watched:
    """One training under watch: its hooks, and the reading under way."""

    def __init__(
        self, monitor: SoftPromptMonitor, model: torch.nn.Module, optimizer: torch.optim.Optimizer, total_steps: int
    ) -> None:
        self.monitor, self.model, self.optimizer = monitor, model, optimizer
        self.parameters, self.virtual_tokens = _prompt_of(model, monitor._prompt)
        self.base = _base(model)
        self.every = monitor.interval or max(20, total_steps // 40)
        self.step = 0
        self.seen: dict[str, Any] = {}
        self.before: list[Tensor] | None = None
        self.looking: ExitStack | None = None
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        self.facts = WatchedTraining(
            total_steps=max(1, total_steps),
            virtual_tokens=self.virtual_tokens,
            trainable=any(parameter.requires_grad for parameter in self.parameters),
            optimised=any(id(parameter) in held for parameter in self.parameters),
            dtype=str(self.parameters[0].dtype).removeprefix("torch."),
        )
        self.words = vocabulary_rows(self.base.get_input_embeddings())

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """The hooks for the length of the block."""
        with ExitStack() as stack:
            for handle in (
                self.model.register_forward_pre_hook(self.forward_begins, with_kwargs=True),
                self.model.register_forward_hook(self.forward_ends, with_kwargs=True, always_call=True),
                self.optimizer.register_step_pre_hook(self.step_begins),
                self.optimizer.register_step_post_hook(self.step_ends),
            ):
                stack.callback(handle.remove)
            stack.callback(self._stop_looking)
            yield

    @property
    def reads(self) -> bool:
        """Whether the step under way is one that is read."""
        return self.step in _FIRST or self.step % self.every == 0

    def forward_begins(self, model: Any, args: Any, inputs: dict[str, Any]) -> None:
        """Look at the batch and, from here to the end of the pass, at attention."""
        if not self.reads or not model.training:
            return
        self.seen = dict(batch_reading(inputs, self.virtual_tokens))
        shares: list[float] = []

        def look(own: AttentionFunction, name: str, module: Any, arguments: dict[str, Any]) -> Any:
            result = own(module, **arguments)
            with torch.no_grad():
                layer = captured(len(shares), name, module, arguments, result[0], self.virtual_tokens)
                shares.append(share_of_prompt(layer, self.virtual_tokens))
            return result

        self.seen["layer_shares"] = shares
        self._stop_looking()
        self.looking = ExitStack()
        self.looking.enter_context(through(self.base, look))

    def forward_ends(self, model: Any, args: Any, inputs: dict[str, Any], outputs: Any) -> None:
        """Look at the answers."""
        self._stop_looking()
        if self.reads and model.training and outputs is not None:
            with torch.no_grad():
                self.seen |= answer_reading(outputs, inputs.get("labels"), _is_causal(self.base))

    def step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Look at gradients, and keep what will move."""
        if not self.reads:
            return
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if gradients:
            self.seen["gradient_norm"] = float(torch.stack([g.detach().float().norm() for g in gradients]).norm())
            self.seen["layer_gradients"] = _layer_gradients(self.model, gradients)
        self.before = [parameter.detach().clone() for parameter in self.parameters]

    def step_ends(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Look at what moved, and hand the reading on."""
        if self.reads and self.before is not None:
            self.monitor.add(self._reading(self.before), self.facts)
        self.before = None
        self.step += 1

    def _reading(self, before: Sequence[Tensor]) -> PromptReading:
        shares = tuple(self.seen.pop("layer_shares", ()))
        with torch.no_grad():
            moved, norm = _movement(before, self.parameters)
            virtual = _virtual(self.model, before[0])
            if virtual is not None and virtual.shape[-1] == self.words.shape[-1]:
                self.seen |= prompt_reading(virtual, self.words)
            share_of_rate = _share_of_rate(self.optimizer, self.parameters)
        seen, self.seen = self.seen, {}
        return PromptReading(
            step=self.step,
            moved=moved / norm / share_of_rate if norm and share_of_rate else None,
            entries_moved=_entries_moved(before, self.parameters),
            attention_share=sum(shares) / len(shares) if shares else None,
            layer_shares=shares,
            **seen,
        )

    def _stop_looking(self) -> None:
        if self.looking is not None:
            self.looking.close()
            self.looking = None


def _base(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _prompt_of(model: Any, prompt: Tensor | None) -> tuple[list[Tensor], int]:
    """The numbers that are trained as a soft prompt, and how many virtual tokens they stand for."""
    if prompt is not None:
        return [prompt], prompt.shape[0]
    config = model.active_peft_config if isinstance(model, PeftModel) else None
    if config is None or not config.is_prompt_learning:
        found = f"a {type(model).__name__}" + (f" with {config.peft_type.value}" if config is not None else "")
        raise InputError(Fault("model", found, _EXPECTED, "Give what holds the prompt as prompt=, or monitor another."))
    encoder = model.prompt_encoder[model.active_adapter]
    return list(encoder.parameters()), config.num_virtual_tokens


def _is_prefix(model: torch.nn.Module) -> bool:
    return isinstance(model, PeftModel) and model.active_peft_config.peft_type is PeftType.PREFIX_TUNING


def _virtual(model: torch.nn.Module, before: Tensor) -> Tensor | None:
    """(m, hidden) virtual tokens in the space of embeddings before the step; None for a prefix, which has none."""
    if _is_prefix(model):
        return None
    plain = not isinstance(model, PeftModel) or model.active_peft_config.peft_type is PeftType.PROMPT_TUNING
    return before if plain else None


def _layer_gradients(model: Any, gradients: Sequence[Tensor]) -> tuple[float, ...]:
    """The gradient's norm in each layer of a plain prefix."""
    if not _is_prefix(model) or len(gradients) > 1:
        return ()
    layers = model.active_peft_config.num_layers
    by_layer = gradients[0].detach().float().reshape(gradients[0].shape[0], layers, -1)
    return tuple(by_layer.norm(dim=(0, 2)).tolist())


def _movement(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[float, float]:
    """The length of the step, and the norm of where it began."""
    moved = torch.stack([(b.float() - a.detach().float()).norm() for b, a in zip(before, after, strict=True)]).norm()
    return float(moved), float(torch.stack([b.float().norm() for b in before]).norm())


def _entries_moved(before: Sequence[Tensor], after: Sequence[Tensor]) -> float | None:
    """The share of the numbers with a gradient that the step changed."""
    asked = changed = 0
    for old, new in zip(before, after, strict=True):
        if new.grad is not None:
            pulled = new.grad != 0
            asked += int(pulled.sum())
            changed += int((pulled & (old != new.detach())).sum())
    return changed / asked if asked else None


def _share_of_rate(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> float:
    """The rate of the step that was made over the schedule's highest; 1 where there is no schedule."""
    ours = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        if any(id(parameter) in ours for parameter in group["params"]):
            highest = group.get("initial_lr", group["lr"])
            return float(group["lr"] / highest) if highest else 0.0
    return 1.0


def _is_causal(model: Any) -> bool:
    """Whether labels of this model stand one position before the logits that answer them."""
    return type(model).__name__.endswith(("ForCausalLM", "LMHeadModel"))
