"""What a loss is called, its settings, and how it is written on a command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any

from onnxprune.errors import OptionError

__all__ = ["KINDS", "Loss", "parse_loss"]

KINDS = ("cross-entropy", "binary-cross-entropy", "mse", "huber", "distillation")

# Setting -> the kinds that have it
SETTINGS = {
    "output": KINDS,
    "class_weights": ("cross-entropy",),
    "label_smoothing": ("cross-entropy",),
    "delta": ("huber",),
    "temperature": ("distillation",),
}
TERM = re.compile(
    r"\s*(?:(?P<weight>[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*\*\s*)?(?P<kind>[A-Za-z][A-Za-z_-]*)\s*(?:\((?P<settings>[^()]*)\))?\s*"
)
SETTING = re.compile(r"\s*(?P<key>\w+)\s*=\s*(?P<value>\[[^\[\]]*\]|[^,\[\]]*?)\s*(?:,|$)")
EXAMPLE = "Write it like cross-entropy(label_smoothing=0.1) + 0.5*distillation(temperature=4)."


@dataclass(frozen=True)
class Loss:
    """One term of what training makes small.

    ``kind``: one of KINDS. ``weight``: factor in a sum of several. ``output``: of the model, None to take the one that
    the labels fit. ``class_weights`` (one for each class) and ``label_smoothing`` (0 to below 1) belong to
    cross-entropy, ``delta`` (where squares turn into absolute values) to huber, ``temperature`` to distillation.
    Raises OptionError.
    """

    kind: str
    weight: float = 1.0
    output: str | None = None
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    delta: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = get_close_matches(self.kind, KINDS, 1, 0.3) or KINDS
            raise OptionError(
                f"loss: got {self.kind!r}, expected one of {', '.join(KINDS)}", f"Did you mean {near[0]}?"
            )
        for field in fields(self):
            kinds = SETTINGS.get(field.name, KINDS)
            if self.kind not in kinds and getattr(self, field.name) != field.default:
                raise OptionError(f"loss: {self.kind} has no {field.name}", f"It belongs to {kinds[0]}.")
        self._check("weight", self.weight, self.weight > 0, "more than 0")
        self._check("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1")
        self._check("delta", self.delta, self.delta > 0, "more than 0")
        self._check("temperature", self.temperature, self.temperature > 0, "more than 0")
        for number in self.class_weights or ():
            self._check("class_weights", number, number >= 0, "at least 0")
        if self.class_weights is not None and not any(self.class_weights):
            raise OptionError(
                f"loss {self.kind}: all class_weights are 0", "Give one above 0 to the classes that count."
            )

    def _check(self, name: str, value: float, good: bool, expected: str) -> None:
        if not (good and isfinite(value)):
            raise OptionError(f"loss {self.kind}: {name} is {value}, expected a number {expected}", EXAMPLE)


def parse_loss(text: str) -> tuple[Loss, ...]:
    """The terms of a loss, as they are written on a command line.

    ``cross-entropy``, ``cross-entropy + 0.5*distillation(temperature=4)``, ``cross-entropy(class_weights=[1, 2])``.
    Raises OptionError, which says what was not understood.
    """
    losses: list[Loss] = []
    position = 0
    while True:
        found = TERM.match(text, position)
        if found is None:
            raise OptionError(f"loss: cannot read {text[position:]!r} in {text!r}", EXAMPLE)
        kind = found["kind"].lower().replace("_", "-").rstrip("-")
        losses.append(Loss(kind, _number("weight", found["weight"] or "1"), **_settings(found["settings"] or "")))
        position = found.end()
        if position == len(text):
            return tuple(losses)
        if text[position] != "+":
            raise OptionError(f"loss: cannot read {text[position:]!r} in {text!r}", EXAMPLE)
        position += 1


def _settings(text: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    position = 0
    while text[position:].strip():
        found = SETTING.match(text, position)
        if found is None or found["key"] not in SETTINGS:
            known = ", ".join(SETTINGS)
            raise OptionError(f"loss: cannot read the setting {text[position:].strip()!r}", f"Settings are {known}.")
        key, value = found["key"], found["value"]
        if key == "class_weights":
            settings[key] = tuple(_number(key, part) for part in value.strip("[] ").split(","))
        else:
            settings[key] = value if key == "output" else _number(key, value)
        position = found.end()
    return settings


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"loss: {name} is {text.strip()!r}, expected a number", EXAMPLE) from None
