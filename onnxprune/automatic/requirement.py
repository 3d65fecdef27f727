"""What a pruned model has to hold, and the size at which it is small enough.

A **floor** is the least value of a metric, or for errors and losses the most: ``{"accuracy": 0.985}``; ``"recall:7"``
is of one class. ``"-0.5%"`` is relative to the original of the tree: its value less half a percent of it ("+5%" for a
loss). ``max_loss`` is absolute: the main metric may lose so much. A **budget** says when the model is small enough:
``{"parameters": 0.1}``, a share of the original between 0 and 1, or an amount ("20K"). All floors have to hold; the
budget is reached when all its parts are.

Floors are judged by the metrics of the recorded step, which are measured on the test part of its data; fine-tuning
never sees that part: it holds out a share of its own data to choose the epoch by. A requirement that was met by the
best of many tries on the same test part is nevertheless a little optimistic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxprune.allocate import Floor
from onnxprune.allocate.quantities import Number, target
from onnxprune.errors import OptionError
from onnxprune.evaluate import KINDS, kind_of

__all__ = ["BUDGETS", "Requirement", "Verdict", "check_start", "name_of", "requirement_of", "words_of"]

Values = Mapping[tuple[str, str], float]

BUDGETS = {"units": "units", "parameters": "parameters", "macs": "macs", "bytes": "file_bytes"}
PARSED_AS = {"bytes": "target_bytes"}  # the others are counts
IDEAL = {"higher": 1.0, "lower": 0.0}  # how alike the original is to itself


def name_of(floor: Floor) -> str:
    """``accuracy``, or ``recall:7`` for a class."""
    return f"{floor.metric}:{floor.label}" if floor.label else floor.metric


@dataclass(frozen=True)
class Verdict:
    """How a step stands. ``floors``: a row for each with name, value (None: not measured), least and holds.

    ``holds``: all of them do. ``reached``: the budget is, if there is one. ``budget``: name -> (value, most).
    """

    holds: bool
    reached: bool
    floors: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    budget: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        budget = {name: {"value": value, "most": most} for name, (value, most) in self.budget.items()}
        return {
            "holds": self.holds,
            "reached": self.reached,
            "floors": [dict(f) for f in self.floors],
            "budget": budget,
        }

    @property
    def words(self) -> str:
        """What does not hold, or that all does."""
        return words_of({"floors": self.floors, "reached": self.reached})


def words_of(verdict: Mapping[str, Any]) -> str:
    """A verdict in words, from the JSON of one that was recorded."""
    missed = [f for f in verdict["floors"] if not f["holds"]]
    if missed:
        return "; ".join(f"{f['name']} is {_shown(f['value'])}, required {_shown(f['least'])}" for f in missed)
    return "holds, and is small enough" if verdict["reached"] else "holds"


@dataclass(frozen=True)
class Requirement:
    """Floors with their values, and the most of every part of the budget, as amounts."""

    floors: tuple[Floor, ...] = ()
    budget: Mapping[str, float] = field(default_factory=dict, hash=False)

    def judge(self, values: Values, units: float) -> Verdict:
        """How a model with these metrics and so many units stands. A metric that was not measured does not hold."""
        floors = []
        for floor in self.floors:
            value = values.get((floor.metric, floor.label), math.nan)
            holds = floor.holds({(floor.metric, floor.label): value})
            known = None if math.isnan(value) else value
            floors.append({"name": name_of(floor), "value": known, "least": floor.least, "holds": holds})
        budget = {
            name: (float(units if name == "units" else values.get((BUDGETS[name], ""), math.nan)), most)
            for name, most in self.budget.items()
        }
        reached = bool(budget) and all(value <= most for value, most in budget.values())
        return Verdict(all(f["holds"] for f in floors), reached, tuple(floors), budget)

    @property
    def least(self) -> dict[str, float]:
        """Name -> value, as the estimator takes them."""
        return {name_of(floor): floor.least for floor in self.floors}

    @property
    def words(self) -> str:
        """All of it, for a person."""
        parts = [str(floor) for floor in self.floors]
        parts += [f"{name} <= {most:,.0f}" for name, most in self.budget.items()]
        return "; ".join(parts) or "nothing"


def requirement_of(
    least: Mapping[str, float | str],
    max_loss: float | None,
    budget: Mapping[str, Number],
    original: Values,
    units: int,
    main: str | None,
) -> Requirement:
    """A requirement from what a person writes. ``original``: metrics of the root, which has ``units``.

    ``main``: the metric that ``max_loss`` is about. Raises OptionError for a metric that nobody knows or that was not
    measured, and for a value that is no number.
    """
    floors = [_floor(name, value, original) for name, value in least.items()]
    if max_loss is not None:
        floors.append(_loses_at_most(max_loss, main, original))
    most = {name: _most(name, value, original, units) for name, value in budget.items()}
    return Requirement(tuple(floors), most)


def _floor(name: str, value: float | str, original: Values) -> Floor:
    metric, _, label = name.partition(":")
    kind = kind_of(metric)
    if kind is None or kind.direction not in IDEAL or kind.needs == "":
        usable = ", ".join(k.name for k in KINDS.values() if k.direction in IDEAL and k.needs)
        raise OptionError(
            f"there is no metric {metric!r} that a model could be required to hold", f"There are: {usable}."
        )
    higher = kind.direction == "higher"
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise OptionError(
            f"{name}: got {value!r}, expected a number, or a share of the original", "For example 0.985 or -0.5%."
        ) from None
    least = _own(metric, label, original) * (1 + number / 100) if text.endswith("%") else number
    if not math.isfinite(least):
        raise OptionError(f"{name}: got {value!r}, expected a finite number", "For example 0.985.")
    return Floor(metric, least, label, higher=higher)


def _loses_at_most(loss: float, main: str | None, original: Values) -> Floor:
    if main is None:
        raise OptionError("max_loss needs a metric, and the original has none", "Put data for it into data/.")
    if not 0 <= loss < math.inf:
        raise OptionError(f"max_loss: got {loss}, expected 0 or more", "0.005 is half a point of accuracy.")
    kind = kind_of(main)
    higher = kind is None or kind.direction != "lower"
    own = _own(main, "", original)
    return Floor(main, own - loss if higher else own + loss, higher=higher)


def _own(metric: str, label: str, original: Values) -> float:
    """The original's value. Of a comparison with the original it is what two equal models have."""
    kind = kind_of(metric)
    if (metric, label) in original:
        return original[metric, label]
    if kind is not None and kind.needs == "original":
        return IDEAL[kind.direction]
    raise _not_measured(metric, label, original)


def _most(name: str, value: Number, original: Values, units: int) -> float:
    if name not in BUDGETS:
        raise OptionError(f"there is no budget {name!r}", f"There are: {', '.join(BUDGETS)}.")
    share, amount = target(PARSED_AS.get(name, "target_params"), value)
    if share is None:
        return float(amount or 0.0)
    whole = float(units) if name == "units" else original.get((BUDGETS[name], ""))
    if whole is None:
        raise OptionError(f"the {name} of the original are not known", "Give an amount, or another budget.")
    return share * whole


def check_start(required: Requirement, values: Values, units: int, what: str, *, original: bool) -> Verdict:
    """The verdict on the step that a run begins with. ``what``: it in words. ``original``: it is the root.

    Raises OptionError where it does not hold, or is small enough already.
    """
    known = dict(values)
    for floor in required.floors if original else ():
        known.setdefault((floor.metric, floor.label), _own(floor.metric, floor.label, values))
    verdict = required.judge(known, units)
    if not verdict.holds:
        hint = "Require less" if original else "Fine-tune it, start from a step above it, or require less"
        raise OptionError(f"{what} does not hold what is required: {verdict.words}", f"{hint}.")
    if verdict.reached:
        raise OptionError(f"{what} is within the budget already: {required.words}", "Ask for a smaller one.")
    return verdict


def _not_measured(metric: str, label: str, original: Values) -> OptionError:
    known: Sequence[str] = sorted({f"{m}:{c}" if c else m for m, c in original if m not in BUDGETS.values()})
    labels = sorted({c for m, c in original if m == metric and c})
    if label and labels:
        hint = f"It has the classes {', '.join(labels[:20])}."
    else:
        hint = f"There are: {', '.join(known[:12])}." if known else "Put data for it into data/."
    return OptionError(f"{metric}{f' of class {label!r}' if label else ''} was not measured on the original", hint)


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"
