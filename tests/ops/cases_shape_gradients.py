"""Gradients of operators that move, split and join axes: dynamic sizes, and targets that only data say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import Case, Net, normal_input

__all__ = ["GRADIENT_CASES", "bare"]

I64 = np.int64


def bare(
    middle: Callable[[Net, str], str | list[str]], *shape: int | str, feeds: dict[str, object] | None = None
) -> Case:
    """x of this shape -> the operator -> out: for gradients only."""

    def build() -> Model:
        net = Net()
        made = middle(net, net.input(shape))
        return net.model(*([made] if isinstance(made, str) else made))

    given = {name: np.asarray(value) for name, value in (feeds or {}).items()}
    return Case(build, feeds=(lambda model, seed: {**normal_input(model, seed, "x"), **given}) if given else None)


def ints(net: Net, *values: int) -> str:
    return net.const(list(values), I64)


def fed(op: str, feeds: dict[str, Sequence[int]], shape: Sequence[int], out: Sequence[int], **attrs: object) -> Case:
    """All further inputs are fed, so that only the shape that comes ``out`` is known; one without values is absent."""

    def middle(net: Net, x: str) -> str:
        names = [net.input((len(v),), I64, k) if len(v) else "" for k, v in feeds.items()]
        return net.hint(net.op(op, x, *names, **attrs), out)

    return bare(middle, *shape, feeds={k: np.array(v, I64) for k, v in feeds.items() if len(v)})


def padded(mode: str, pads: Sequence[int], *shape: int | str, axes: Sequence[int] = ()) -> Case:
    """Pads of any sign; a border of another value is a parameter."""

    def middle(net: Net, x: str) -> str:
        value = net.param() if mode == "constant" else ""
        rest = [value, ints(net, *axes)] if axes else [value]
        return net.op("Pad", x, ints(net, *pads), *rest, mode=mode)

    return bare(middle, *shape)


def cut_out(starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Case:
    """Of a tensor with two dynamic axes."""

    def middle(net: Net, x: str) -> str:
        return net.op("Slice", x, *(ints(net, *v) for v in (starts, ends, axes, steps)))

    return bare(middle, "n", "m", 6)


def backwards() -> Case:
    """Known steps, fed bounds."""

    def middle(net: Net, x: str) -> str:
        bounds = [net.input((2,), I64, k) for k in ("starts", "ends")]
        return net.hint(net.op("Slice", x, *bounds, ints(net, -1, 0), ints(net, -2, 3)), (2, 3))

    return bare(middle, 5, 6, feeds={"starts": np.array([-1, 1]), "ends": np.array([-EVERY, EVERY])})


def joined(net: Net, x: str) -> str:
    """A constant, x twice, and a part of dynamic size."""
    return net.op("Concat", net.param(3, 6), x, x, net.op("Relu", x), axis=0)


def one_wanted(net: Net, x: str) -> str:
    return net.op("Concat", net.const(np.ones((3, 4, 2), I64)), net.cast(x, 7), axis=1)


def split_in_part(net: Net, x: str) -> list[str]:
    """Nothing reads the middle part."""
    a, _, c = net.ops("Split", x, ints(net, 2, 3, 1), count=3, axis=-1)
    return [a, c]


MODES = ("constant", "reflect", "edge", "wrap")
EVERY = 2**62
GRADIENT_CASES = {
    ("", "Transpose"): [
        bare(lambda net, x: net.op("Transpose", x, perm=[2, 0, 3, 1]), 2, 3, "n", 4),
        bare(lambda net, x: net.op("Transpose", x), "n", 3, "m"),
    ],
    ("", "Reshape"): [
        bare(lambda net, x: net.op("Reshape", x, ints(net, 0, -1)), "n", "m", 4),
        bare(lambda net, x: net.op("Reshape", x, ints(net, -1)), "n", "m", 4),
        fed("Reshape", {"target": [4, -1]}, (3, 4, 2), (4, 6)),
    ],
    ("", "Expand"): [
        bare(lambda net, x: net.op("Expand", x, ints(net, 2, 1, 5, 3)), "n", 1, 3),
        fed("Expand", {"target": [4, 1, 5, 3]}, (2, 1, 3), (4, 2, 5, 3)),
        fed("Expand", {"target": [3]}, (2, 3), (2, 3)),
    ],
    ("", "Tile"): [
        bare(lambda net, x: net.op("Tile", x, ints(net, 1, 3, 2)), "n", 2, "m"),
        fed("Tile", {"repeats": [2, 1, 3]}, (2, 2, 3), (4, 2, 9)),
    ],
    ("", "DepthToSpace"): [
        bare(lambda net, x: net.op("DepthToSpace", x, blocksize=2, mode="DCR"), "n", 8, "h", "w"),
        bare(lambda net, x: net.op("DepthToSpace", x, blocksize=2, mode="CRD"), "n", 8, "h", "w"),
    ],
    ("", "SpaceToDepth"): [bare(lambda net, x: net.op("SpaceToDepth", x, blocksize=3), "n", 2, 6, 3)],
    ("", "Concat"): [bare(joined, "n", 6), bare(lambda net, x: net.op("Concat", net.param(2, 3), x, axis=-1), 2, 5)],
    ("", "Split"): [bare(split_in_part, "n", 6)],
    ("", "Slice"): [
        cut_out([1], [3], [1], [1]),
        cut_out([-1], [EVERY], [-2], [1]),
        cut_out([-2, 0], [-1, 1], [0, 1], [1, 1]),
        cut_out([-EVERY, 1], [EVERY, -1], [0, 2], [1, 1]),
        cut_out([0, -1], [EVERY, -EVERY], [0, 1], [2, -1]),
        cut_out([1, -1], [5, -EVERY], [2, 1], [3, -2]),
        cut_out([0], [0], [2], [1]),
        fed("Slice", {"starts": [1], "ends": [EVERY], "axes": [], "steps": []}, (3, 4), (2, 4)),
        fed("Slice", {"starts": [-1, 2], "ends": [-EVERY, 9]}, (3, 4), (0, 2)),
        fed("Slice", {"starts": [1, -3], "ends": [EVERY, -1]}, (3, 5), (2, 2)),
        backwards(),
    ],
    ("", "Pad"): [
        *(padded(mode, [0, 1, 2, 0, 2, 1], "n", 3, 4) for mode in MODES),
        *(padded(mode, [1, -1, -2, 2], 5, 6) for mode in MODES),
        *(padded(mode, [2, 1, 1, 3], "n", 3, 6, axes=[-1, 1]) for mode in MODES if mode != "reflect"),
        *(padded(mode, [2, 1, 2, 0], "n", "h", "w", axes=[1, 2]) for mode in MODES if mode != "reflect"),
        *(padded(mode, [7, 11, 9, 3], 4, 3) for mode in ("edge", "wrap")),
        padded("reflect", [1, 1, 1, 1], "n", 4, "w", axes=[2, 1]),
        padded("reflect", [2, 3, 2, 3], "n", 3, 4, axes=[1, 2]),
        *(fed("Pad", {"pads": [1, 2, 1, -1]}, (4, 4), (6, 5), mode=mode) for mode in MODES),
    ],
}
