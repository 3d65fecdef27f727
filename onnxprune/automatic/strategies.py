"""Which counts a run tries.

auto                a fixed share of the units that are left goes, again and again, until a try fails
manual              a person's counts, one after the other, until one fails
... + estimator     then between the smallest that holds and the largest that fails: the fewest units that the estimator
                    expects to hold, until the two are close or the tries are used up
bisect              auto, then halfway between the two, until they are close

A refining try starts at the smallest step that holds. When one from there fails, the next starts at the step that held
before it, which has lost less on the way; they take turns.
"""

from __future__ import annotations

from onnxprune.automatic.amount import wanted_after
from onnxprune.automatic.estimator import suggest_count
from onnxprune.automatic.rows import path_points
from onnxprune.automatic.run import Run, Try
from onnxprune.automatic.settings import AUTO, BISECT, MANUAL

__all__ = ["carry_out"]

ONE_IN = 50  # of the units of the start: how close the two have to be by default


def carry_out(run: Run) -> Try:
    """Try what the run's settings say; returns the smallest that holds, which may be the start. Raises as `attempt`."""
    failed = _manual(run) if run.settings.strategy.startswith(MANUAL) else _auto(run)
    if failed is not None and run.settings.refinement:
        _refine(run, failed)
    return run.best


def _auto(run: Run) -> Try | None:
    """By a fixed ratio; returns the try that failed, None where another reason ended it."""
    current, settings = run.first, run.settings
    while settings.iterations is None or len(run.tries) < settings.iterations:
        wanted = max(wanted_after(settings.ratio, current.units), _least(run))
        found = run.attempt(current, wanted, AUTO)
        if found is None or (found.verdict.reached and found.verdict.holds):
            return None
        if not found.verdict.holds:
            return found
        current = found
    return None


def _least(run: Run) -> int:
    """A budget of units is not overshot."""
    return int(run.requirement.budget.get("units", 0)) if set(run.requirement.budget) == {"units"} else 0


def _manual(run: Run) -> Try | None:
    """By a person's counts or ratios; returns the try that failed."""
    current, settings = run.first, run.settings
    for number in range(max(len(settings.units), len(settings.ratios))):
        wanted = settings.units[number] if settings.units else wanted_after(settings.ratios[number], current.units)
        if wanted >= current.units:
            continue  # there are no more than that
        found = run.attempt(current, wanted, MANUAL)
        if found is None:
            return None
        if not found.verdict.holds:
            return found
        current = found
    return None


def _refine(run: Run, failed: Try) -> None:
    """Between what holds and what failed."""
    settings = run.settings
    close = settings.tolerance or max(run.first.units // ONE_IN, 1)
    failures = 0  # from the smallest that holds
    for _ in range(settings.most_tries):
        held = run.held
        if held[0].units - failed.units <= close:
            return
        middle = (held[0].units + failed.units) // 2
        wanted = middle if settings.refinement == BISECT else _suggested(run, held[0], failed, middle)
        parent = held[1] if failures % 2 and len(held) > 1 else held[0]
        found = run.attempt(parent, wanted, settings.refinement)
        if found is None:
            return
        if found.verdict.holds:
            failures = 0
        else:
            failures += 1
            if failed.units < found.units < held[0].units:
                failed = found


def _suggested(run: Run, held: Try, failed: Try, middle: int) -> int:
    """The fewest units that are expected to hold, strictly between the two."""
    rows = {row["step"]: row for row in path_points(run.workspace, held.step.number)}
    for one in run.tries:
        rows |= {row["step"]: row for row in path_points(run.workspace, one.step.number)}
    found = suggest_count(list(rows.values()), run.requirement.least, method=run.settings.method)
    wanted = middle if found is None else found.units
    return min(max(wanted, failed.units + 1), held.units - 1)
