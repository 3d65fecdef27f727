"""Whether two plans differ by more than the seeds of their fine-tunings do.

``spread_rows``       mean, standard deviation, lowest, highest of every step that was repeated, and each value
``difference``        of two sets of values: a paired t-test where their seeds are the same, Welch's otherwise
``compare_spreads``   the same of two rows of ``spread_rows``
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from onnxprune.automatic.repeats import REPEAT
from onnxprune.automatic.rows import documents_named
from onnxprune.automatic.units import units_by_step
from onnxprune.errors import OptionError
from onnxprune.evaluate import kind_of
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Difference", "compare_spreads", "difference", "spread_rows"]

SURE = 0.05  # a smaller probability counts as a difference
Row = dict[str, Any]


def spread_rows(
    workspace: Workspace, root: int, metric: str | None = None, only: Collection[int] | None = None
) -> list[Row]:
    """A row for every step of a tree that was repeated: how far the seeds spread.

    ``of``: the step; ``runs``: how many; ``mean``, ``std`` (n - 1), ``low``, ``high``; ``values``, ``seeds`` and
    ``steps``: each of them. ``metric``: by default what the tree is judged by; "recall:7" is that of a class.
    ``only``: of these repeats.
    """
    steps = [step for step in workspace.steps.all() if step.root == root]
    by_number = {step.number: step for step in steps}
    units = units_by_step(workspace, steps)
    metric = metric or main_metric(steps)
    repeats: dict[int, list[tuple[int, Row, float]]] = {}
    for number, found in documents_named(workspace, root, REPEAT).items():
        wanted = only is None or number in only
        if wanted and found["of"] in by_number:
            value = _value(workspace, by_number[number], str(metric))
            if value is not None:
                repeats.setdefault(found["of"], []).append((number, found, value))
    rows = []
    for of, entries in repeats.items():
        values = [value for *_, value in entries]
        rows.append({
            "of": of, "name": by_number[of].name, "units": units[of], "metric": metric,
            **_spread(values),
            "values": values, "seeds": [found["seed"] for _, found, _ in entries], "steps": [n for n, *_ in entries],
        })  # fmt: skip
    return rows


def _value(workspace: Workspace, step: Step, metric: str) -> float | None:
    """A metric of a step, or of one of its classes; None where it was not measured."""
    name, colon, label = metric.partition(":")
    return workspace.steps.class_metrics(step.number).get((name, label)) if colon else step.metrics.get(metric)


def _spread(values: Sequence[float]) -> Row:
    array = np.array(values, np.float64)
    std = float(array.std(ddof=1)) if array.size > 1 else 0.0
    return {
        "runs": array.size, "mean": float(array.mean()), "std": std,
        "low": float(array.min()), "high": float(array.max()),
    }  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """How far a second set of values lies from a first one.

    ``mean``: of the second minus that of the first. ``low`` and ``high``: its 95% interval. ``p``: probability of one
    at least so large where there is none. ``test``: "paired t-test" or "Welch's t-test". ``effect``: ``mean`` in
    standard deviations (Cohen's d). ``words``: what that means. ``p`` and ``effect`` are NaN where nothing spreads.
    """

    metric: str
    mean: float
    low: float
    high: float
    p: float
    effect: float
    test: str
    words: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not defined is None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


def difference(first: Sequence[float], second: Sequence[float], metric: str, *, paired: bool) -> Difference:
    """Whether the second set is better. ``paired``: entry for entry of the same seed.

    Paired: ``t = mean(d) / (s(d) / sqrt(n))`` of the differences d. Otherwise Welch's t with its degrees of freedom.
    Raises OptionError for fewer than two values each.
    """
    a, b = np.array(first, np.float64), np.array(second, np.float64)
    if min(a.size, b.size) < 2:
        raise OptionError(
            f"{min(a.size, b.size)} fine-tuning tells nothing about its spread", "Repeat each with more seeds."
        )
    mean = float(b.mean() - a.mean())
    if paired:
        scale = float((b - a).std(ddof=1))
        error, freedom = scale / math.sqrt(a.size), float(a.size - 1)
    else:
        parts = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
        error = math.sqrt(sum(parts))
        weights = parts[0] ** 2 / (a.size - 1) + parts[1] ** 2 / (b.size - 1)
        freedom = float(sum(parts) ** 2 / weights) if weights else math.nan
        scale = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    test = "paired t-test" if paired else "Welch's t-test"
    if not error:
        p = effect = math.nan
        low = high = mean
    else:
        p = float(2 * stats.t.sf(abs(mean) / error, freedom))
        half = float(stats.t.ppf(0.975, freedom)) * error
        low, high, effect = mean - half, mean + half, mean / scale
    return Difference(
        metric, mean, low, high, p, effect, test, _in_words(metric, mean, low, high, p, test, a.size, b.size)
    )


def _in_words(metric: str, mean: float, low: float, high: float, p: float, test: str, first: int, second: int) -> str:
    kind = kind_of(metric.partition(":")[0])
    points = kind is not None and kind.format == ".2%"
    unit = " points" if points else ""
    by, least, most = (f"{100 * v:+.2f}" if points else f"{v:+.4g}" for v in (mean, low, high))
    runs = f"{first} and {second} fine-tunings"
    if not math.isfinite(p):
        if not mean:
            return f"No difference in {metric}: {runs} all gave the same value."
        return f"The second has {by}{unit} of {metric}; nothing of the {runs} spreads, so that nothing can be tested."
    higher = kind is None or kind.direction != "lower"
    better = f"The {'second' if (mean > 0) == higher else 'first'} is better"
    return (
        f"{better if p < SURE else 'No clear difference'} in {metric}: {by}{unit} (95% interval {least} to {most}), "
        f"{runs}. Where there is none, one so large comes up in {p:.1%} of such comparisons ({test})."
    )


def compare_spreads(first: Row, second: Row) -> Difference:
    """The difference of two rows of `spread_rows`, paired where both have the same seeds, each of them once."""
    seeds = [sorted(row["seeds"]) for row in (first, second)]
    paired = seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])
    sets = [[v for _, v in sorted(zip(row["seeds"], row["values"], strict=True))] for row in (first, second)]
    return difference(sets[0], sets[1], first["metric"], paired=paired)
