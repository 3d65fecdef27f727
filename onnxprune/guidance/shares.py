"""Where the parameters and the MACs are: the group with the largest share of each, and what is known of its loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from onnxprune.guidance.preview import Preview
from onnxprune.guidance.subject import Subject
from onnxprune.guidance.suggestion import Suggestion, made

__all__ = ["shares"]

TAKEN = 0.25  # of the group
LARGE = 0.15  # share of the model from which on it is worth a word


def shares(about: Subject, known: Mapping[str, Preview], loss: float) -> Iterator[Suggestion]:
    """One for parameters, one for MACs, where one group holds much of them."""
    told: set[str] = set()
    for what, whole in (("parameters", about.before.parameters), ("macs", about.before.macs)):
        costs = {g.name: getattr(g, what) for g in about.costs.groups if about.sizes[g.name] > 1}
        name = max(costs, key=costs.__getitem__, default=None)
        if name is None or name in told or not whole or costs[name] < LARGE * whole:
            continue
        told.add(name)
        one = _of(about, name, what, costs[name] / whole, known, loss)
        if one is not None:
            yield one


def _of(
    about: Subject, name: str, what: str, share: float, known: Mapping[str, Preview], loss: float
) -> Suggestion | None:
    group = about.coupling.groups[about.coupling.by_name[name]]
    count = min(int(TAKEN * group.units), about.left(name) - 1)
    criterion, scores = about.order
    if count < 1 or name not in scores or len(about.drafted.get(name, ())) >= count:
        return None
    word = {"macs": "MACs"}.get(what, what)
    reason = f"{share:.0%} of the {word} belong to the {group.kind} of this group, more than to any other. "
    rows = () if about.scan is None else about.scan.of(name)
    near = min(rows, key=lambda row: abs(row.removed - count), default=None)
    if near is None:
        reason += "What it costs was not measured: a sensitivity scan would tell."
        sure = 0.25
    else:
        reason += f"Without {near.removed} of {near.units} the scan lost {max(near.loss, 0.0):.2%}."
        sure = 0.5 if near.within(loss) else 0.15
    gone = np.sort(np.argsort(scores[name], kind="stable")[:count])
    title = f"Remove the {count} of {group.units} {group.kind} of {name} with the lowest {criterion}"
    return made(about, Suggestion("share", title, reason, sure), {name: gone}, known, loss=loss)
