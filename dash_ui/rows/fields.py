"""The settings of each action as fields of a form: what they are called, what may be typed, and what comes of it.

A form is name -> text (or a flag, or a list); ``options_of_form`` makes the options of an action of it, those that
``onnxprune ws prune --set NAME=VALUE`` takes as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from onnxprune.allocate import DISTRIBUTIONS, Budget
from onnxprune.allocate.presets import FAMILIES
from onnxprune.criteria import criteria
from onnxprune.errors import OptionError
from onnxprune.experiment import Request
from onnxprune.recover import METHODS
from onnxprune.train import OPTIMIZERS, Optimizer, Stops, parse_schedule

__all__ = ["ACTIONS", "Field", "Options", "fields_of", "options_of_form"]

Form = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """One field. ``kind``: how its text is read (`READERS`); ``choices``: value and words, for a kind "choice".

    ``unit`` stands behind it, ``hint`` explains it, ``example`` is shown while it is empty. ``more``: it stands with the
    rarer ones. ``value``: what it begins with.
    """

    name: str
    label: str
    kind: str
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    unit: str = ""
    example: str = ""
    more: bool = False
    value: Any = None


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


def _choices(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return pairs


def _criteria() -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name, criterion in criteria().items() if criterion.units or criterion.weights)


SHARING = {
    "uniform": "the same share of every group",
    "global": "lowest scores of the whole model",
    "erk": "more from wide layers (ERK)",
    "lamp": "least distortion (LAMP)",
    "normalised-global": "lowest scores, layers made comparable",
    "preset": "ratios of Park et al. by kind of layer",
    "knapsack": "lowest score for what a unit costs",
}

PRUNE: tuple[Field, ...] = (
    Field("criterion", "Criterion", "choice", "How the importance of a unit is scored.", value="l2"),
    Field(
        "ratio",
        "Remove",
        "share",
        "Share of the units that go. Leave it empty under a target.",
        unit="of the units",
        value="50%",
    ),
    Field(
        "distribution",
        "Shared out",
        "choice",
        "Which groups give how much.",
        tuple((n, SHARING[n]) for n in DISTRIBUTIONS if n in SHARING),
        value="uniform",
    ),
    Field(
        "recover",
        "Repair",
        "choice",
        "Without training, on calibration data.",
        _choices(("none", "none"), *((m, m) for m in METHODS)),
    ),
    Field(
        "min",
        "Must hold",
        "floors",
        "The largest removal that keeps these is taken.",
        example="accuracy=0.98, recall:7=0.9",
    ),
    Field(
        "target_params",
        "Keep parameters",
        "amount",
        "Instead of a share: what is to be left.",
        example="50% or 2.5M",
        more=True,
    ),
    Field(
        "target_macs",
        "Keep MACs",
        "amount",
        "Instead of a share: what is to be left.",
        example="50% or 300M",
        more=True,
    ),
    Field("target_bytes", "Keep file size", "amount", example="50% or 300KB", more=True),
    Field(
        "target_latency",
        "Latency at most",
        "amount",
        "Measured on this machine while pruning.",
        example="5ms or 60%",
        more=True,
    ),
    Field(
        "granularity",
        "What goes",
        "choice",
        "Single weights are set to zero; the file stays as large.",
        _choices(("unit", "whole units"), ("weight", "single weights")),
        more=True,
    ),
    Field(
        "mode",
        "How",
        "choice",
        "Removing makes the model smaller, masking sets zeros.",
        _choices(("remove", "remove"), ("mask", "set to zero")),
        more=True,
    ),
    Field("pattern", "Pattern", "text", "For single weights: N of every M are kept.", example="2:4", more=True),
    Field(
        "round_to",
        "Multiples of",
        "whole",
        "Each group keeps a multiple of so many channels.",
        unit="channels",
        example="1",
        more=True,
    ),
    Field(
        "preset",
        "Family",
        "choice",
        "For the ratios of Park et al.; empty: chosen by the graph.",
        tuple((n, n) for n in FAMILIES),
        more=True,
    ),
    Field("preset_step", "Iteration", "whole", "Which iteration of the ratios of Park et al.", more=True),
    Field(
        "include_inexact",
        "Also groups under a norm",
        "flag",
        "Removal changes what the survivors see; proven against a corrected model.",
        more=True,
    ),
    Field("samples", "Calibration", "whole", unit="samples", example="all", more=True),
    Field("seed", "Seed", "whole", example="0", more=True),
)
FINE_TUNE: tuple[Field, ...] = (
    Field("epochs", "Epochs", "whole", "At most so many.", example="by the data"),
    Field("rate", "Learning rate", "number", "The highest one.", example="0.005"),
    Field("optimizer", "Optimizer", "choice", "", tuple((k, k) for k in OPTIMIZERS)),
    Field("batch", "Batch", "whole", unit="samples", example="32"),
    Field("target", "Stop at", "text", "A metric and the value that is enough.", example="accuracy=0.98"),
    Field("delta_loss", "Stop when settled", "share", "When the loss falls by less than this share.", example="1%"),
    Field(
        "teacher", "Learn from step", "text", "Distillation from the outputs of another step.", example="1", more=True
    ),
    Field(
        "patience",
        "Patience",
        "whole",
        "Epochs without progress before it counts as settled.",
        unit="epochs",
        example="3",
        more=True,
    ),
    Field("time_limit", "Stop after", "number", unit="seconds", more=True),
    Field("schedule", "Schedule", "text", "Of the learning rate.", example="one-cycle", more=True),
    Field("weight_decay", "Weight decay", "number", example="0.01", more=True),
    Field("momentum", "Momentum", "number", "For sgd.", example="0.9", more=True),
    Field("clip", "Clip gradients", "number", "The largest norm of all of them together.", more=True),
    Field(
        "batchnorm", "BatchNorm", "choice", "", _choices(("batch", "of each batch"), ("frozen", "as it is")), more=True
    ),
    Field("freeze", "Frozen weights", "names", "By name or pattern.", example="fc.*", more=True),
    Field("keep_zeros", "Zeros stay zero", "flag", "All of them, not only those that a plan masked.", more=True),
    Field(
        "deterministic",
        "Reproducible bit by bit",
        "flag",
        "One thread; the same command gives the same model.",
        more=True,
    ),
    Field("seed", "Seed", "whole", example="0", more=True),
)
ACTIONS: Mapping[str, tuple[Field, ...]] = {"prune": PRUNE, "fine-tune": FINE_TUNE}
TRAINED = {"optimizer", "momentum", "weight_decay"}
TARGETS = ("target_params", "target_macs", "target_bytes", "target_latency")


def fields_of(action: str) -> tuple[Field, ...]:
    """The fields of an action; criteria are asked for now, because plug-ins bring some."""
    return tuple(
        field if field.name != "criterion" else Field(**{**vars(field), "choices": _criteria()})
        for field in ACTIONS[action]
    )


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
        if action == "prune":
            budget = {k: v for k, v in given.items() if k in Budget.__dataclass_fields__}
            Budget(**budget)
            kind = given.get("granularity", "weight" if given.get("pattern") else "unit")
            Request(given.get("criterion", "l2"), given.get("mode"), kind, recover=given.get("recover"))
        else:
            Optimizer(
                str(given.get("optimizer", "adamw")), **{k: given[k] for k in TRAINED - {"optimizer"} if k in given}
            )
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
