"""Optimisers as nodes: from a gradient to the new weight and the new moments, as torch does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt

from onnxprune.errors import OptionError
from onnxprune.ops.emitter import Emitter, Value

__all__ = ["KINDS", "Optimizer", "Updated"]

KINDS = ("sgd", "adam", "adamw")


@dataclass(frozen=True)
class Updated:
    """The new weight, and the new moments by name."""

    weight: Value
    moments: Mapping[str, Value]


@dataclass(frozen=True)
class Optimizer:
    """How a gradient g moves a weight w at the learning rate r.

    ``sgd``: b = momentum b + g; w -= r b, or r (g + momentum b) with ``nesterov``.
    ``adam``: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2; w -= r / (1 - b1^n) m / (sqrt(v / (1 - b2^n)) + eps) at
    step n (Kingma and Ba, arXiv:1412.6980).
    ``weight_decay`` adds weight_decay w to g; for ``adamw`` it makes w smaller by r weight_decay w instead (Loshchilov
    and Hutter, arXiv:1711.05101). Everything is as in torch.optim. Raises OptionError.
    """

    kind: str
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(
                f"optimizer: got {self.kind!r}, expected one of {', '.join(KINDS)}", "adam is the default."
            )
        _check("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1")
        for beta in self.betas:
            _check("betas", beta, 0 <= beta < 1, "from 0 to below 1")
        _check("eps", self.eps, self.eps > 0, "more than 0")
        _check("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        if self.nesterov and (self.kind != "sgd" or not self.momentum):
            raise OptionError("nesterov belongs to sgd with momentum", "Leave it out, or take sgd.")

    @property
    def moments(self) -> tuple[str, ...]:
        """Names of what is kept for each weight; all begin as zeros."""
        if self.kind == "sgd":
            return ("momentum",) if self.momentum else ()
        return ("first", "second")

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the numbers that change from step to step."""
        decays = ("keep",) if self.kind == "adamw" and self.weight_decay else ()
        return ("rate",) if self.kind == "sgd" else ("rate", "second_scale", *decays)

    def numbers(self, rate: float, step: int) -> dict[str, float]:
        """The ``scalars`` of step number ``step`` (from 1), rates corrected for the bias of the moments."""
        if self.kind == "sgd":
            return {"rate": rate}
        first, second = (1 - beta**step for beta in self.betas)
        found = {"rate": rate / first, "second_scale": 1 / sqrt(second), "keep": 1 - rate * self.weight_decay}
        return {name: found[name] for name in self.scalars}

    def update(
        self, t: Emitter, weight: Value, gradient: Value, moments: Mapping[str, Value], scalars: Mapping[str, Value]
    ) -> Updated:
        """Write the nodes. ``moments`` and ``scalars``: by the names above."""
        if self.weight_decay and self.kind != "adamw":
            gradient = gradient + weight * self.weight_decay
        if self.kind == "sgd":
            return self._sgd(weight, gradient, moments, scalars["rate"])
        b1, b2 = self.betas
        first = moments["first"] * b1 + gradient * (1 - b1)
        second = moments["second"] * b2 + gradient * gradient * (1 - b2)
        size = t.unary("Sqrt", second) * scalars["second_scale"] + self.eps
        kept = weight * scalars["keep"] if "keep" in scalars else weight
        return Updated(kept - first / size * scalars["rate"], {"first": first, "second": second})

    def _sgd(self, weight: Value, gradient: Value, moments: Mapping[str, Value], rate: Value) -> Updated:
        if not self.momentum:
            return Updated(weight - gradient * rate, {})
        buffer = moments["momentum"] * self.momentum + gradient
        direction = gradient + buffer * self.momentum if self.nesterov else buffer
        return Updated(weight - direction * rate, {"momentum": buffer})


def _check(name: str, value: float, good: bool, expected: str) -> None:
    if not (good and isfinite(value)):
        raise OptionError(
            f"optimizer: {name} is {value}, expected a number {expected}", "Leave it out for the default."
        )
