"""Precision: on which device and in which floats networks are trained; measured, unless the configuration says it.

Half precision is for the networks alone: entropy mathematics stays in float32.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .config import ConfigError
from .divergence import expect_finite

Precision = Literal["float32", "bfloat16", "float16"]
#: What a configuration may ask for; yes and no stand for the half precision of the device, and for float32.
PrecisionWish = bool | Literal["auto"] | Precision
DeviceWish = Literal["auto", "cpu", "cuda"]

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ROUNDS = 3
#: Half precision must save so much of a step's time to be worth its rounding.
_WORTH = 0.9
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """How a run computes.

    Attributes:
        device: `cpu` or `cuda`.
        precision: of the networks.
        reason: why, for a person.
        step_s: seconds of a step in each precision that was measured.
    """

    device: str
    precision: Precision
    reason: str
    step_s: Mapping[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Plain values for the record, and for the checkpoint."""
        times = {name: round(value, 4) for name, value in self.step_s.items()}
        return {"device": self.device, "precision": self.precision, "reason": self.reason, "step_s": times}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Choice:
        """The choice of a record.

        Raises:
            ConfigError: this machine lacks the device.
        """
        return cls(device_of(record["device"]), record["precision"], record["reason"], dict(record["step_s"]))


def device_of(wish: str) -> str:
    """The device that is meant.

    Raises:
        ConfigError: it is not there.
    """
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wish == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "training.device: cuda is not available: no NVIDIA GPU, or torch is a build without CUDA; use cpu or auto"
        )
    return wish


def candidates(device: str) -> tuple[Precision, ...]:
    """Precisions that a device has instructions for, or at least emulates; float32 first."""
    if device != "cuda":
        return ("float32", "bfloat16")
    return ("float32", "bfloat16", "float16") if torch.cuda.is_bf16_supported() else ("float32", "float16")


def choose(
    wish: PrecisionWish,
    device: str,
    attempt: Callable[[Precision], object],
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Decide on a precision.

    Args:
        wish: of the configuration.
        device: on which it is trained.
        attempt: computes a step, forward and backward, in a precision, and changes nothing.
        clock: seconds.

    Raises:
        ConfigError: the device has not what is wished for.
    """
    known = candidates(device)
    if wish != "auto":
        found: Precision = wish if isinstance(wish, str) else known[-1] if wish else "float32"
        if found not in known:
            raise ConfigError(f"training.mixed_precision: {device} trains in {', '.join(known)}, got {found}")
        return Choice(device, found, "the configuration says so")
    best: dict[str, float] = {}
    for round_number in range(_ROUNDS + 1):
        for precision in known:  # in turns, so that a busy moment meets all of them
            started = clock()
            attempt(precision)
            _finish(device)
            if round_number:  # the first warms up
                best[precision] = min(best.get(precision, float("inf")), clock() - started)
    fastest = min(known, key=lambda one: best[one])
    picked = fastest if best[fastest] < _WORTH * best["float32"] else "float32"
    times = ", ".join(f"{name} {best[name]:.3g} s" for name in known)
    return Choice(device, picked, f"measured, a step: {times}", best)


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class Mixed:
    """Computes steps as a choice says.

    Args:
        choice: device and precision.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        # Gradients of half floats vanish below 6e-8: losses are scaled up, and gradients down again.
        self._scaler = torch.amp.GradScaler(choice.device, enabled=choice.precision == "float16")

    @classmethod
    def plain(cls, device: str = "cpu") -> Mixed:
        """In float32."""
        return cls(Choice(device, "float32", "the only precision of this stage"))

    def autocast(self) -> AbstractContextManager[Any]:
        """Within it, networks compute in the precision."""
        precision = self.choice.precision
        return torch.autocast(self.choice.device, _TYPES[precision], enabled=precision != "float32")

    def descend(
        self, stage: str, step: int, loss: Tensor, optimiser: torch.optim.Optimizer, parameters: Iterable[Tensor]
    ) -> None:
        """One step down the gradient, whose norm is cut to 1.

        Raises:
            DivergedError: loss or gradient is not finite.
        """
        expect_finite(stage, step, loss=loss)
        optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(list(parameters), 1.0)
        if not self._scaler.is_enabled():  # a scaler leaves such a step out, and scales less from then on
            expect_finite(stage, step, norm_of_the_gradient=norm)
        self._scaler.step(optimiser)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"choice": self.choice.record(), "scaler": self._scaler.state_dict()}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Mixed:
        """As `state` gave it: a run that is resumed keeps its precision."""
        mixed = cls(Choice.from_record(state["choice"]))
        mixed._scaler.load_state_dict(dict(state["scaler"]))
        return mixed


def measured(
    stage: str, wish: PrecisionWish, device: str, model: nn.Module, attempt: Callable[[Mixed], Tensor]
) -> Mixed:
    """Choose, and say what was chosen; the model is afterwards as it was before.

    Args:
        stage: of the training, for the log.
        wish: of the configuration.
        device: on which the model is.
        model: in training.
        attempt: the loss of a step, computed so.
    """
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def trial(precision: Precision) -> None:
        loss = attempt(Mixed(Choice(device, precision, "")))
        loss.backward()
        model.zero_grad(set_to_none=True)

    choice = choose(wish, device, trial)
    model.load_state_dict(before)
    _logger.info("%s: trains in %s on %s (%s)", stage, choice.precision, choice.device, choice.reason)
    return Mixed(choice)
