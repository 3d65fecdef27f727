"""Finds criteria: the built-in ones and those of installed packages, by one hook (a module's ``CRITERIA`` tuple)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeVar

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.needs import lacking
from onnxprune.criteria.scale import rescaled
from onnxprune.errors import OptionError
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["ENTRY_POINTS", "built_in", "criteria", "find", "score", "score_weights", "table", "usable"]

AnyScores = TypeVar("AnyScores", UnitScores, WeightScores)

ENTRY_POINTS = "onnxprune.criteria"
NOT_CRITERIA = ("base", "files", "needs", "reference", "registry", "slices")
Kind = Literal["units", "weights"]


@cache
def criteria() -> Mapping[str, Criterion]:
    """All criteria by name, the built-in ones first. Raises OptionError where a plugin cannot be loaded."""
    return table([*_built_in(), *_plugins()])


def built_in() -> Mapping[str, Criterion]:
    """Those that come with the package."""
    return table(_built_in())


def table(modules: Iterable[ModuleType]) -> dict[str, Criterion]:
    """The criteria of these modules by name; a name that is there twice raises OptionError."""
    result: dict[str, Criterion] = {}
    origin: dict[str, str] = {}
    for module in modules:
        for criterion in getattr(module, "CRITERIA", ()):
            if criterion.name in result:
                raise OptionError(
                    f"two criteria are called {criterion.name!r}: in {origin[criterion.name]} and in {module.__name__}",
                    "Rename one, or uninstall the package that brings it.",
                )
            result[criterion.name] = criterion
            origin[criterion.name] = module.__name__
    return result


def _built_in() -> Iterator[ModuleType]:
    for name in sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])):
        if name not in NOT_CRITERIA:
            yield importlib.import_module(f"{__package__}.{name}")


def _plugins() -> Iterator[ModuleType]:
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        try:
            yield entry.load()
        except Exception as error:  # a plugin may fail in any way; the person must learn which
            raise OptionError(
                f"the criteria of plugin {entry.name!r} ({entry.value}) cannot be loaded: {error}",
                "Repair or uninstall the package that brings it.",
            ) from error


def find(name: str) -> Criterion:
    """The criterion of that name. Raises OptionError that offers the nearest names."""
    known = criteria()
    if name not in known:
        near = get_close_matches(name, known, cutoff=0.4)
        raise OptionError(f"no criterion {name!r}", f"Nearest: {', '.join(near)}." if near else _all(known))
    return known[name]


def score(model: Model, coupling: Coupling, criterion: str = "l2", settings: Settings | None = None) -> UnitScores:
    """Score every unit.

    Raises OptionError where the criterion is unknown, has no scores for units, or lacks what it needs.
    """
    found, settings = _checked(criterion, "units", coupling, settings)
    if found.units is None:
        raise OptionError(f"criterion {criterion!r} scores single weights only", "Use it with granularity weight.")
    scores = rescaled(found.units(model, coupling, settings), settings.normalise)
    return _stamped(scores, criterion, coupling)


def score_weights(
    model: Model, coupling: Coupling, criterion: str = "l1", settings: Settings | None = None
) -> WeightScores:
    """Score every linear weight.

    Raises OptionError where the criterion is unknown, has no scores for weights, or lacks what it needs.
    """
    found, settings = _checked(criterion, "weights", coupling, settings)
    if found.weights is None:
        raise OptionError(f"criterion {criterion!r} scores whole units only", "Use it with granularity unit.")
    return _stamped(found.weights(model, coupling, settings), criterion, coupling)


def usable(kind: Kind, coupling: Coupling, settings: Settings | None = None) -> tuple[str, ...]:
    """The criteria that have all that they need to score the "units" or the single "weights" of this model."""
    given = settings or Settings()
    return tuple(
        name for name, c in criteria().items() if getattr(c, kind) is not None and not lacking(c, coupling, given)
    )


def _checked(name: str, kind: Kind, coupling: Coupling, settings: Settings | None) -> tuple[Criterion, Settings]:
    """The criterion, and settings in which it has what it needs; where it scores such things at all."""
    found, settings = find(name), settings or Settings()
    missing = lacking(found, coupling, settings) if getattr(found, kind) is not None else None
    if missing is not None:
        others = ", ".join(usable(kind, coupling, settings))
        raise OptionError(
            f"criterion {name!r} needs {missing.words}", f"{missing.hint} These have what they need: {others}."
        )
    return found, settings


def _stamped(scores: AnyScores, criterion: str, coupling: Coupling) -> AnyScores:
    return replace(scores, criterion=criterion, model_hash=coupling.model_hash)


def _all(known: Iterable[str]) -> str:
    return f"There are: {', '.join(known)}."
