"""What a few units more or less do to the latency, because kernels work on blocks of channels.

With a staircase measured on this machine (`staircase`): the number of units whose removal saves the most for each of
them. Without one, blocks of ``step`` channels are assumed, so that a layer takes as long as its channels rounded up::

    saved of the layer = 1 / ceil(channels / step)      once the channels above a multiple of step have gone

and nothing is saved by removing fewer than those. Units that a draft removes for nothing may come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from onnxprune.guidance.preview import Preview
from onnxprune.guidance.staircase import WORTH, Staircase, jump, known_step
from onnxprune.guidance.subject import Subject
from onnxprune.guidance.suggestion import ESTIMATED, MEASURED, Effect, Suggestion, made, singular
from onnxprune.values import Group, Ints

__all__ = ["rounding"]

FEW = 2.0  # times what the same units save where there are no blocks, for an estimate
SMALL = 0.005  # share of the latency that counts as none


def rounding(about: Subject, known: Mapping[str, Preview], loss: float) -> Iterator[Suggestion]:
    """For each group what reaches the next block, and what of a draft saves nothing."""
    measured = about.latency
    step, sure = known_step(about.running.get("threads"), about.running.get("provider", "auto"))
    for group in about.coupling.groups:
        stairs = None if measured is None else measured.groups.get(group.name)
        if measured is not None and stairs and about.left(group.name) in stairs:
            one = _measured(about, group, measured, known, loss)
        else:
            one = _estimated(about, group, step, sure, known, loss)
        if one is not None:
            yield one
        back = _back(about, group, step, sure, stairs)
        if back is not None:
            yield back


def _measured(
    about: Subject, group: Group, found: Staircase, known: Mapping[str, Preview], loss: float
) -> Suggestion | None:
    """The number of units whose removal saves the most for each of them, if that is more than usual."""
    left, stairs = about.left(group.name), found.groups[group.name]
    best = jump(stairs, left)
    if not best:
        return None
    before, after, how = stairs[left], stairs[left - best], "ms; each layer timed alone on this machine"
    timed = found.timed.get(group.name)
    if timed is not None and left == group.units and timed[0] == left - best:
        before, after, how = timed[1], timed[2], "ms; the whole model timed on this machine"
    if before - after < WORTH * before:
        return None
    kept = (left - best) * group.channels
    reason = (
        f"{_counted(group, best)} fewer here {'saves' if best == 1 else 'save'} {1 - after / before:.0%} of the "
        f"latency on this machine; {kept} channels are left{_multiple(kept, found.step)}."
    )
    if best > 1:
        reason += f" One fewer of them saves {max(1 - stairs[left - best + 1] / stairs[left], 0.0):.0%}."
    effect = Effect("latency", before, after, MEASURED, how)
    return _removal(about, group, best, reason, 0.5, effect, known, loss)


def _estimated(
    about: Subject, group: Group, step: int, sure: bool, known: Mapping[str, Preview], loss: float
) -> Suggestion | None:
    """Down to the next multiple."""
    left = about.left(group.name)
    channels = left * group.channels
    above = channels % step
    if step == 1 or not above or channels < step or above % group.channels:
        return None
    count = above // group.channels
    blocks = -(-channels // step)
    if count >= left or 1 / blocks < FEW * count / left:
        return None
    share = _share(about, group.name)
    block = f"blocks of {step} ({'measured on this machine' if sure else 'a common size, not measured here'})"
    reason = (
        f"Kernels work on {block}: {channels} channels take as long as {blocks * step}. {_counted(group, count)} "
        f"fewer {'leaves' if count == 1 else 'leave'} {channels - above}, which saves about {1 / blocks:.0%} of this "
        "layer's time."
    )
    effect = Effect("latency", 1.0, 1 - share / blocks, ESTIMATED, "share of the model's, by MACs and blocks")
    return _removal(about, group, count, reason, 0.35 if sure else 0.25, effect, known, loss)


def _removal(
    about: Subject, group: Group, count: int, reason: str, confidence: float, effect: Effect,
    known: Mapping[str, Preview], loss: float,
) -> Suggestion | None:  # fmt: skip
    criterion, scores = about.order
    if group.name not in scores:
        return None
    gone = np.asarray(about.drafted.get(group.name, ()), np.int64)
    chosen = _lowest(scores[group.name], gone, count)
    more = " more" if gone.size else ""
    those = "the one" if count == 1 else "those"
    title = f"Remove {count}{more} {singular(group, count)} of {group.name}, {those} with the lowest {criterion}"
    start = Suggestion("rounding", title, reason, confidence)
    return made(about, start, {group.name: chosen}, known, loss=loss, expected=(effect,))


def _back(about: Subject, group: Group, step: int, sure: bool, stairs: Mapping[int, float] | None) -> Suggestion | None:
    """Units of the draft whose removal saves nothing."""
    gone = np.asarray(about.drafted.get(group.name, ()), np.int64)
    left, criterion, scores = about.left(group.name), *about.order
    if not gone.size or group.name not in scores:
        return None
    if stairs and left in stairs:
        free = [kept - left for kept, ms in stairs.items() if kept > left and ms <= stairs[left] * (1 + SMALL)]
        count, basis = max(free, default=0), MEASURED
    else:
        short = -(left * group.channels) % step
        count, basis = (short // group.channels if short % group.channels == 0 else 0), ESTIMATED
    if step == 1 or not 0 < count <= gone.size:
        return None
    until = max(1, -(-((left * group.channels) % step) // group.channels))
    order = gone[np.argsort(-scores[group.name][gone], kind="stable")][:count]
    how = "on this machine" if basis == MEASURED or sure else f"with blocks of {step}, which were not measured here"
    reason = (
        f"The last {_counted(group, count)} that the draft removes here save nothing {how} until {until} more go: "
        f"{left * group.channels} channels take as long as {(left + count) * group.channels}. Those with the highest "
        f"{criterion} come back."
    )
    title = f"Bring {_counted(group, count)} of {group.name} back"
    edit = {"group": group.name, "restore": [int(n) for n in np.sort(order)]}
    now = 1.0 if not stairs or left not in stairs else stairs[left]
    after = now if not stairs or left + count not in stairs else stairs[left + count]
    effect = Effect("latency", now, after, basis, how)
    return Suggestion("rounding", title, reason, 0.6, effects=(effect,), edits=(edit,))


def _lowest(scores: np.ndarray[tuple[int], np.dtype[np.float64]], gone: Ints, count: int) -> Ints:
    rest = np.setdiff1d(np.arange(scores.size), gone)
    return np.sort(rest[np.argsort(scores[rest], kind="stable")[:count]])


def _share(about: Subject, name: str) -> float:
    """Of the MACs, those that belong to a group."""
    macs = next(g.macs for g in about.costs.groups if g.name == name)
    return macs / max(about.before.macs, 1)


def _multiple(channels: int, step: int) -> str:
    return f", a multiple of {step}" if step > 1 and channels % step == 0 else ""


def _counted(group: Group, count: int) -> str:
    return f"{count} {singular(group, count)}"
