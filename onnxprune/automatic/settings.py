"""The options of a run as one value, read from JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

from onnxprune.automatic.curve import METHODS
from onnxprune.errors import OptionError
from onnxprune.workspace.actions import options_of

__all__ = ["BISECT", "ESTIMATOR", "MANUAL", "STRATEGIES", "AutoSettings", "ratio_of", "settings_of"]

AUTO, MANUAL, ESTIMATOR, BISECT = "auto", "manual", "estimator", "bisect"
STRATEGIES = (AUTO, MANUAL, "auto+estimator", "manual+estimator", BISECT)
COMMON = ("data", "seed", "provider", "threads")
TUNING = ("epochs", "delta_loss", "patience", "target", "time_limit")
NOT_PRUNE = {
    "ratio", "group_ratios", "name", "mode", "granularity", "pattern", "min", "preset", "preset_step", "sensitivity",
    "target_params", "target_macs", "target_bytes", "target_memory", "target_latency", *COMMON, "criterion",
}  # fmt: skip
NOT_TUNE = {"name", *COMMON, *TUNING}
UNDECISIVE = {"run", "name", "pin", "provider", "threads"}  # what the models do not depend on
EPOCHS = 20  # all of them: a stop by the loss comes too early in small tries, whose rate still rises
TRIES = {ESTIMATOR: 3, BISECT: 8}


@dataclass(frozen=True)
class AutoSettings:
    """What a run does.

    ``strategy``: one of STRATEGIES. ``ratio``: share of the units left that each try removes. ``units``: the counts to
    be left of the manual tries, one after the other, or ``ratios``: the share of each. ``require``, ``max_loss``,
    ``budget``: see `requirement`. ``iterations``: at most so many tries of the ratio. ``criterion``; ``prune`` and
    ``finetune``: more options of `onnxprune ws prune` and `ws finetune`. ``recover``: a repair before fine-tuning.
    ``epochs`` (0: no fine-tuning), ``delta_loss``, ``patience``, ``target``, ``time_limit``: when fine-tuning stops.
    ``tries``: at most so many by the estimator or bisection; ``tolerance``: units between the smallest that holds and
    the largest that fails at which they end, by default one in fifty of the start's. ``method``: how the estimator
    interpolates. ``name``, ``pin``: of the result. ``run``: the key by which it is taken up again.
    """

    strategy: str = AUTO
    ratio: float = 1 / 3
    units: tuple[int, ...] = ()
    ratios: tuple[float, ...] = ()
    require: Mapping[str, float | str] = field(default_factory=dict, hash=False)
    max_loss: float | None = None
    budget: Mapping[str, float | int | str] = field(default_factory=dict, hash=False)
    iterations: int | None = None
    criterion: str = "l2"
    prune: Mapping[str, Any] = field(default_factory=dict, hash=False)
    finetune: Mapping[str, Any] = field(default_factory=dict, hash=False)
    recover: str | None = None
    epochs: int = EPOCHS
    delta_loss: float | None = None
    patience: int | None = None
    target: Any = None
    time_limit: float | None = None
    tries: int | None = None
    tolerance: int | None = None
    method: str = "auto"
    data: str | None = None
    seed: int = 0
    provider: str | None = None
    threads: int | None = None
    name: str = ""
    pin: bool = False
    run: str = ""

    @property
    def refinement(self) -> str:
        """What follows the first failure: "estimator", "bisect", or "" for nothing."""
        return ESTIMATOR if self.strategy.endswith(ESTIMATOR) else BISECT if self.strategy == BISECT else ""

    @property
    def most_tries(self) -> int:
        """Tries of the refinement."""
        return TRIES.get(self.refinement, 0) if self.tries is None else self.tries

    @property
    def digest(self) -> str:
        """A hash of all that decides what comes out."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in UNDECISIVE}
        text = json.dumps(values, sort_keys=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def common(self) -> dict[str, Any]:
        """Options that all steps share."""
        return {name: value for name in COMMON if (value := getattr(self, name)) is not None}

    def tuning(self) -> dict[str, Any]:
        """Options of the fine-tuning."""
        own = {name: value for name in TUNING if (value := getattr(self, name)) is not None}
        return {**self.common(), **self.finetune, **own}


def ratio_of(value: float | int | str) -> float:
    """A share that goes: 0.25, or "1/3". Raises OptionError unless it lies between 0 and 1."""
    try:
        ratio = float(Fraction(value.strip())) if isinstance(value, str) else float(value)
    except (ValueError, ZeroDivisionError, TypeError, AttributeError):
        ratio = -1.0
    if not 0 < ratio < 1:
        raise OptionError(
            f"ratio: got {value}, expected a share between 0 and 1", "1/3 removes a third of the units each time."
        )
    return ratio


def settings_of(options: Mapping[str, Any]) -> AutoSettings:
    """The settings that JSON values stand for. Raises OptionError for a name or value that makes no sense."""
    known = [f.name for f in fields(AutoSettings)]
    given = {name: value for name, value in options.items() if value is not None}
    _known("auto", given, known)
    if "ratio" in given:
        given["ratio"] = ratio_of(given["ratio"])
    if "ratios" in given:
        given["ratios"] = tuple(ratio_of(value) for value in _list("ratios", given["ratios"]))
    if "units" in given:
        given["units"] = tuple(_whole("units", value, 1) for value in _list("units", given["units"]))
    for name, least in (("epochs", 0), ("iterations", 1), ("tries", 1), ("tolerance", 1), ("seed", 0), ("patience", 1)):
        if name in given:
            given[name] = _whole(name, given[name], least)
    for name in ("require", "budget", "prune", "finetune"):
        if not isinstance(given.get(name, {}), Mapping):
            raise OptionError(
                f"{name}: got {given[name]!r}, expected names and values", 'For example {"accuracy": 0.98}.'
            )
    for name in ("max_loss", "delta_loss", "time_limit"):
        if name in given:
            given[name] = _number(name, given[name])
    _known("prune", given.get("prune", {}), sorted({*options_of("prune")} - NOT_PRUNE))
    _known("fine-tune", given.get("finetune", {}), sorted({*options_of("fine-tune")} - NOT_TUNE))
    found = AutoSettings(**given)
    _check(found)
    return found


def _check(found: AutoSettings) -> None:
    if found.strategy not in STRATEGIES:
        raise OptionError(
            f"strategy: got {found.strategy!r}, expected {', '.join(STRATEGIES)}", "The default is auto: a fixed ratio."
        )
    if found.method not in METHODS:
        raise OptionError(f"method: got {found.method!r}, expected {', '.join(METHODS)}", "The default is auto.")
    counted = bool(found.units) + bool(found.ratios)
    if found.strategy.startswith(MANUAL) != bool(counted) or counted > 1:
        raise OptionError(
            f"strategy {found.strategy}: {'counts are given' if counted else 'no counts are given'}",
            "Manual strategies take either units (left, such as 64,48,32) or a ratio for each try; the others none.",
        )
    if any(b >= a for a, b in zip(found.units, found.units[1:], strict=False)):
        raise OptionError(f"units: got {list(found.units)}, expected fewer each time", "They say how many are left.")
    required = bool(found.require) or found.max_loss is not None
    if not (required or found.budget or found.iterations or counted):
        raise OptionError(
            "nothing says when to stop",
            "Require something (accuracy=0.98), or give a budget or a number of iterations.",
        )
    if found.refinement and not required:
        raise OptionError(
            f"strategy {found.strategy}: nothing is required that a smaller model could fail",
            "Require something, for example accuracy=0.98.",
        )


def _known(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(name, known)
            hint = f"Nearest: {', '.join(near)}." if near else f"Options: {', '.join(known)}."
            raise OptionError(f"{what} has no option {name!r} here", hint)


def _list(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return [part for part in value.split(",") if part.strip()]
    if not isinstance(value, Sequence) or not value:
        raise OptionError(f"{name}: got {value!r}, expected a list", "For example 64,48,32.")
    return value


def _whole(name: str, value: Any, least: int) -> int:
    number = _number(name, value)
    if number != int(number) or number < least:
        raise OptionError(f"{name}: got {value}, expected a whole number of {least} or more", "Give another one.")
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
        if number - number != 0:
            raise ValueError
    except (TypeError, ValueError):
        raise OptionError(f"{name}: got {value!r}, expected a number", "Give another one.") from None
    return number
