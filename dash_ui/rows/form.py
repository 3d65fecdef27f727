"""What was typed into the settings, as options of an action: those that ``onnxprune ws VERB --set`` takes as well.

A form is name -> text (or a flag); what cannot be read, or makes no sense together, comes back as problems by field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dash_ui.rows.fields import ACTIONS
from onnxprune.allocate import Budget
from onnxprune.automatic import settings_of
from onnxprune.errors import OptionError
from onnxprune.experiment import Request
from onnxprune.train import Optimizer, Stops, parse_schedule

__all__ = ["Options", "options_of_form"]

Form = Mapping[str, Any]
TRAINED = {"momentum", "weight_decay"}
TARGETS = ("target_params", "target_macs", "target_bytes", "target_latency")


@dataclass(frozen=True)
class Options:
    """``given``: the options; ``problems``: field name ("" for the whole form) -> what is wrong and what to do."""

    given: Mapping[str, Any]
    problems: Mapping[str, str]


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _whole(text: str) -> int:
    if int(text) < 0:
        raise ValueError
    return int(text)


def _share(text: str) -> float:
    """``50``, ``50%``, ``0.5`` or ``1/2`` as 0.5; a bare number above 1 counts as per cent."""
    word = text.removesuffix("%").strip()
    value = float(Fraction(word)) if "/" in word else _number(word)
    return value / 100 if text.endswith("%") or value > 1 else value


def _amount(text: str) -> float | str:
    """A share that is kept, or an amount with its unit, such as ``2.5M`` or ``5ms``."""
    try:
        return _share(text)
    except ValueError:
        if not text[:1].isdigit():
            raise
        return text


def _floors(text: str) -> dict[str, float]:
    """``accuracy=0.98, recall:7=0.9``."""
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.rpartition("=")
        if not name:
            raise ValueError
        found[name.strip()] = _share(value.strip())
    return found


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


READERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "share": (_share, "a share such as 50%, 0.5 or 1/2"),
    "amount": (_amount, "a share that is kept, such as 50%, or an amount such as 2.5M, 300KB or 5ms"),
    "number": (_number, "a number"),
    "whole": (_whole, "a whole number from 0 up"),
    "floors": (_floors, "metrics with values, such as accuracy=0.98, recall:7=0.9"),
    "names": (_names, "names, separated by commas"),
    "text": (str, "text"),
}


def options_of_form(action: str, form: Form, groups: Sequence[Mapping[str, Any]] = ()) -> Options:
    """What was typed as options of an action, and what is wrong with it.

    ``groups``: rows of the table of groups: ``group``, ``ratio`` (text or None) and ``locked``.
    """
    given: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in ACTIONS[action]:
        value = form.get(field.name)
        if value is None or value == "" or value is False or value == []:
            continue
        if field.kind in ("choice", "flag"):
            given[field.name] = value
            continue
        read, expected = READERS[field.kind]
        try:
            given[field.name] = read(str(value).strip())
        except (ValueError, ZeroDivisionError):
            problems[field.name] = f"{value} is not {expected}."
    if action == "prune":
        _add_groups(given, groups, problems)
        if any(name in given for name in TARGETS):
            given.pop("ratio", None)
            if given.get("distribution") == "uniform":
                given.pop("distribution")
        if given.get("granularity") == "weight" and given.get("mode") == "remove":
            given.pop("mode")
    if not problems:
        problem = _checked(action, given)
        if problem is not None:
            problems[_blamed(action, problem)] = f"{problem.message}. {problem.hint}"
    return Options(given, problems)


def _add_groups(given: dict[str, Any], groups: Sequence[Mapping[str, Any]], problems: dict[str, str]) -> None:
    ratios = {}
    for row in groups:
        if row.get("locked") or row.get("ratio") in (None, ""):
            continue
        try:
            ratios[str(row["group"])] = _share(str(row["ratio"]).strip())
        except (ValueError, ZeroDivisionError):
            problems["groups"] = f"{row['group']}: {row['ratio']} is not {READERS['share'][1]}."
    locked = [str(row["group"]) for row in groups if row.get("locked")]
    if ratios:
        given["group_ratios"] = ratios
    if locked:
        given["skip"] = locked


def _checked(action: str, given: Mapping[str, Any]) -> OptionError | None:
    """What the values themselves say is wrong, before any model is looked at."""
    try:
        if action == "auto":
            settings_of(given)
        elif action == "prune":
            budget = {k: v for k, v in given.items() if k in Budget.__dataclass_fields__}
            Budget(**budget)
            kind = given.get("granularity", "weight" if given.get("pattern") else "unit")
            Request(given.get("criterion", "l2"), given.get("mode"), kind, recover=given.get("recover"))
        elif action == "fine-tune":
            Optimizer(str(given.get("optimizer", "adamw")), **{k: given[k] for k in TRAINED if k in given})
            parse_schedule(str(given.get("schedule", "one-cycle")))
            Stops(
                given.get("epochs", 1), given.get("delta_loss"), given.get("patience", 3), None, given.get("time_limit")
            )
            if "target" in given and "=" not in given["target"]:
                raise OptionError(f"target: got {given['target']}", "Write it as accuracy=0.98")
    except OptionError as error:
        return error
    return None


def _blamed(action: str, problem: OptionError) -> str:
    """The field that a message speaks of; "" where it speaks of several."""
    word = problem.message.partition(":")[0].replace(" ", "_")
    return word if word in {field.name for field in ACTIONS[action]} else ""
