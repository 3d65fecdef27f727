"""What a removal is expected to do to the metric: measured, where that very plan was, or read off the curve.

The curve goes through the previews of one criterion at several ratios and the model as it is; it is that of the
estimator (`automatic.curve`): lines between two or three points, a monotone cubic from four on. Nothing is said about
more units than were ever tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxprune.automatic.curve import Curve, chosen_method
from onnxprune.errors import OptionError
from onnxprune.evaluate import kind_of
from onnxprune.guidance.preview import Preview, units_key
from onnxprune.guidance.speculate import previews
from onnxprune.plan import Plan
from onnxprune.workspace.workspace import Workspace

__all__ = ["EXTRAPOLATED", "MEASURED", "Foreseen", "effect_of"]

MEASURED, EXTRAPOLATED = "measured", "extrapolated"


@dataclass(frozen=True)
class Foreseen:
    """The ``value`` of ``metric`` on ``samples`` samples before any training, ``baseline`` with nothing removed.

    ``basis``: "measured" (that very plan was), or "extrapolated" from ``points`` that were.
    """

    metric: str
    value: float
    baseline: float
    basis: str
    samples: int
    points: int = 0


def effect_of(
    workspace: Workspace, step: int, what: Plan | float, criterion: str | None = None, **options: Any
) -> Foreseen | None:
    """What a ratio by ``criterion`` (l2), or a plan, does to the metric; None where too little is known.

    ``options``: those of `speculate.previews`. Raises as that does, and OptionError for a ratio that is none.
    """
    named = criterion or (str(what.recipe.get("criterion", "l2")) if isinstance(what, Plan) else "l2")
    if isinstance(what, Plan):
        if what.weights:
            return None
        key = units_key(what.units, str(what.recipe.get("recover", "")))
        exact = [p for p in previews(workspace, step, **options) if p.plan == key]
    elif not 0 <= what < 1:
        raise OptionError(f"ratio: got {what}, expected 0 to below 1", "It is the share of units that go.")
    else:
        exact = [p for p in previews(workspace, step, named, **options) if what in p.ratios_of(named)]
        exact = exact or ([p for p in previews(workspace, step, **options) if not p.removed] if what == 0 else [])
    if exact:
        found = exact[0]
        return Foreseen(found.metric, found.value, found.baseline, MEASURED, found.samples)
    return _read_off(previews(workspace, step, named, **options), what, named)


def _read_off(known: tuple[Preview, ...], what: Plan | float, criterion: str) -> Foreseen | None:
    """A place on the curve over ratios, or over shares of units for a plan."""
    by_plan = isinstance(what, Plan)
    points: dict[float, Preview] = {}
    for preview in known:
        for ratio in preview.ratios_of(criterion):
            points[preview.removed / max(preview.units, 1) if by_plan else ratio] = preview
    at = what.removed_units / max(sum(what.group_sizes.values()), 1) if isinstance(what, Plan) else what
    points = {x: p for x, p in points.items() if x > 0}
    if not points or at > max(points):
        return None
    first = next(iter(points.values()))
    x = np.array([0.0, *sorted(points)])
    y = np.array([first.baseline, *(points[k].value for k in sorted(points))])
    kind = kind_of(first.metric)
    rising = kind is not None and kind.direction == "lower"
    curve = Curve(x, y, np.zeros(x.size), chosen_method("auto", x.size), rising)
    return Foreseen(first.metric, float(curve(at)), first.baseline, EXTRAPOLATED, first.samples, x.size)
