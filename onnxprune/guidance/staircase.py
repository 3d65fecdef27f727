"""Milliseconds of a model when single groups lose some units: the staircase that kernels make of sizes, measured.

One figure for each group and number of units kept, the other groups whole, from as many as there are down to where two
blocks of channels have gone (see `latency_table` for how they are timed, `alignment` for blocks). Where a few units
save much more than usual, the whole model is timed with and without them, in turns: a single layer is timed in a
moment, and something else may have run in that moment. All of it belongs to the machine that it was measured on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.alignment import FALLBACK, STEPS, cache_file, default_step, machine
from onnxprune.cost import CostModel
from onnxprune.errors import DataError, OnnxPruneError
from onnxprune.latency_table import latency_table, measurer
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.values import Coupling, Group
from onnxprune.workspace.recording import Progress

__all__ = ["WORTH", "Staircase", "jump", "known_step", "load_staircase", "staircase"]

FORMAT = 1
MOST = 12  # groups, those with the most MACs
LEAST = 0.02  # share of the MACs from which on a group is looked at
LONGEST = 32  # channels that go at most
WORTH = 0.03  # of the latency of the model; timings are no better than that
TICKS = 0.002  # ms: what a profile, which counts whole microseconds, can tell
EXTRA = 1.5  # times what the same number of units saves on average over the staircase


@dataclass(frozen=True, eq=False)
class Staircase:
    """``whole``: milliseconds of the model. ``step``: channels in a block. ``groups``: name -> {units kept: ms}.

    ``timed``: name -> (units kept, milliseconds before, after) of the whole model, where few units seemed to save much.
    """

    whole: float
    step: int
    groups: Mapping[str, Mapping[int, float]]
    timed: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The result as text; `load_staircase` reads it."""
        groups = {name: sorted(steps.items(), reverse=True) for name, steps in self.groups.items()}
        head = {"onnxprune_staircase": FORMAT, "whole": self.whole, "step": self.step}
        return json.dumps({**head, "groups": groups, "timed": dict(self.timed)})


def staircase(model: Model, coupling: Coupling, progress: Progress, **running: Any) -> Staircase:
    """Measure it. ``running``: provider and threads. Raises OptionError where measuring is turned off."""
    table = latency_table(model, coupling, progress=progress, **running)
    step = default_step(running.get("threads"), running.get("provider", "auto"))
    names = _largest(coupling, table.model)
    found = {}
    for done, name in enumerate(names):
        progress(f"timing {name}", done, len(names))
        group = coupling.groups[coupling.by_name[name]]
        found[name] = dict(table.of_group(name, range(group.units, group.units - _span(group, step) - 1, -1)))
    time = measurer(model, coupling, progress=progress, **running)
    timed = {}
    for name, steps in found.items():
        units = coupling.groups[coupling.by_name[name]].units
        best = jump(steps, units)
        if best:
            plan = Plan(
                coupling.model_hash, {name: np.arange(units - best, units)}, {name: units}, options=coupling.options
            )
            try:
                timed[name] = (units - best, *time(plan))
            except OnnxPruneError:  # what must go along with them is not known here
                continue
    return Staircase(table.whole, step, found, timed)


def jump(steps: Mapping[int, float], left: int) -> int:
    """The number of units whose removal saves the most for each of them; 0 where that is nothing special."""
    now = steps[left]
    saved = {left - kept: now - ms for kept, ms in steps.items() if kept < left}
    if not saved:
        return 0
    best = max(saved, key=lambda count: saved[count] / count)
    usual = saved[max(saved)] / max(saved)
    enough = saved[best] >= max(WORTH * now, TICKS)
    return best if enough and saved[best] / best >= EXTRA * usual else 0


def _largest(coupling: Coupling, costs: CostModel) -> list[str]:
    """Groups that are worth timing."""
    whole = max(costs.before.macs, 1)
    worth = [g for g in costs.groups if g.macs >= LEAST * whole and coupling.groups[coupling.by_name[g.name]].units > 1]
    return [g.name for g in sorted(worth, key=lambda g: -g.macs)[:MOST]]


def _span(group: Group, step: int) -> int:
    """Units that go at most: down to a block below the next boundary."""
    channels = group.units * group.channels
    gone = min(LONGEST, step + channels % step)
    return min(group.units - 1, max(1, -(-gone // group.channels)))


def known_step(threads: int | None = None, provider: str = "auto") -> tuple[int, bool]:
    """Channels in a block, and whether that was measured on this machine; nothing is measured now."""
    if os.environ.get("ONNXPRUNE_NO_MEASURE", "") not in ("", "0"):
        return FALLBACK, False
    try:
        known = json.loads(cache_file().read_text(encoding="utf-8"))
        step = known.get(machine(threads, provider))
    except (OSError, ValueError, AttributeError):
        step = None
    return (int(step), True) if step in STEPS else (FALLBACK, False)


def load_staircase(path: str | Path) -> Staircase:
    """Read a result. Raises DataError for a file that is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["onnxprune_staircase"] != FORMAT:
            raise DataError(f"{path}: latencies of another version", "Measure them again.")
        groups = {name: {int(kept): float(ms) for kept, ms in steps} for name, steps in content["groups"].items()}
        timed = {name: (int(kept), float(old), float(new)) for name, (kept, old, new) in content["timed"].items()}
        return Staircase(float(content["whole"]), int(content["step"]), groups, timed)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}", "Measure them again.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no latencies: {error}", "Measure them again.") from error
