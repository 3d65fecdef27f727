"""Groups that can lose more: the largest ratio of the sensitivity scan that stays within a loss, group by group.

What a group costs alone was measured. Together the losses add up at best; that sum is an estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from onnxprune.evaluate import measured
from onnxprune.guidance.preview import Preview
from onnxprune.guidance.subject import Subject
from onnxprune.guidance.suggestion import ESTIMATED, MEASURED, Effect, Suggestion, made
from onnxprune.sensitivity import Row
from onnxprune.values import Ints

__all__ = ["headroom"]


def headroom(about: Subject, known: Mapping[str, Preview], loss: float) -> Iterator[Suggestion]:
    """One for each group that has head-room, and one for all of them together."""
    scan = about.scan
    if scan is None:
        return
    scores = about.scores_for({"criterion": scan.criterion})
    rows: dict[str, Row] = {}
    for name, ratio in scan.headroom(loss).items():
        row = next((r for r in scan.of(name) if r.ratio == ratio), None)
        if row is not None and row.removed and row.group in about.sizes:
            rows[name] = row
    chosen: dict[str, Ints] = {
        name: np.sort(np.argsort(scores[name], kind="stable")[: row.removed]) for name, row in rows.items()
    }
    on = f"on {scan.samples} samples, this group alone, before any training"
    for name, row in rows.items():
        if len(about.drafted.get(name, ())) >= row.removed:
            continue
        group = about.coupling.groups[about.coupling.by_name[name]]
        title = f"Remove {row.removed} of {row.units} {group.kind} of {name}"
        cost = f"costs {row.loss:.2%}" if row.loss > 0 else "costs nothing"
        reason = (
            f"The sensitivity scan by {scan.criterion} has head-room here: {row.ratio:.0%} alone {cost} of "
            f"{scan.baseline.label} ({measured(scan.baseline.name, row.value)} {on}); the next ratio of the ladder "
            f"costs more than {loss:.2%}."
        )
        effect = Effect(scan.baseline.name, scan.baseline.value, row.value, MEASURED, on)
        one = made(
            about,
            Suggestion("headroom", title, reason, 0.85),
            {name: chosen[name]},
            known,
            loss=loss,
            expected=(effect,),
        )
        if one is not None:
            yield one
    if len(rows) > 1:
        yield from _together(about, rows, chosen, known, loss)


def _together(
    about: Subject, rows: Mapping[str, Row], chosen: Mapping[str, Ints], known: Mapping[str, Preview], loss: float
) -> Iterator[Suggestion]:
    scan = about.scan
    if scan is None or all(len(about.drafted.get(n, ())) >= row.removed for n, row in rows.items()):
        return
    total = sum(max(row.loss, 0.0) for row in rows.values())
    sign = 1.0 if scan.baseline.direction == "lower" else -1.0
    count = sum(row.removed for row in rows.values())
    reason = (
        f"Each of the {len(rows)} groups has head-room of its own; their losses add up to {total:.2%} of "
        f"{scan.baseline.label}. Together they may cost more than that."
    )
    effect = Effect(
        scan.baseline.name, scan.baseline.value, scan.baseline.value + sign * total, ESTIMATED, "sum of the losses"
    )
    start = Suggestion("headroom", f"Remove {count} units of {len(rows)} groups with head-room", reason, 0.4)
    one = made(about, start, chosen, known, loss=loss, expected=(effect,))
    if one is not None:
        yield one
