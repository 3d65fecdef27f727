"""Picking and placing by index: constant indices, indices that depend on data, tables of embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Net, flat, normal_input, tokens
from tests.ops.cases_shape_gradients import bare

I64 = np.int64


def gather_permutes(net: Net, h: str) -> str:
    return net.op("Gather", h, net.const([6, 0, 3, 1, -1, 2], I64), axis=1)


def gather_table(net: Net, h: str) -> str:
    """A constant table of positions with two axes: the picked axis stays."""
    return net.op(
        "Reshape", net.op("Gather", h, net.const([[0, 1, 2], [5, 6, 7]], I64), axis=1), net.const([0, 6], I64)
    )


def gather_one(net: Net, h: str) -> str:
    """The class token: one position of the sequence."""
    return net.op("Unsqueeze", net.op("Gather", h, net.const(0, I64), axis=1), net.const([1], I64))


def embedding() -> Case:
    """A lookup by data: rows frozen, columns free."""

    def build() -> Model:
        net = Net()
        h = net.op("Gather", net.param(20, HIDDEN), net.input(("n", "s"), np.int64))
        return net.model(net.dense(net.op("Relu", h), HIDDEN, OUT))

    return Case(build)


def tied_embedding() -> Case:
    """The table is the output layer as well: its columns are the same units at both ends."""

    def build() -> Model:
        net = Net()
        table = net.param(20, HIDDEN)
        h = net.op("Gather", table, net.input(("n", "s"), np.int64))
        h = net.op("Add", h, net.dense(net.op("Relu", net.dense(h, HIDDEN, 16)), 16, HIDDEN))
        return net.model(net.op("MatMul", h, net.op("Transpose", table, perm=[1, 0])))

    return Case(build, units=HIDDEN + 16)


def gather_elements() -> Case:
    def build() -> Model:
        net = Net()
        h = net.dense(net.input((2, 5, 6)), 6, HIDDEN)
        y = net.op("GatherElements", h, net.input((2, 5, HIDDEN), np.int64, "where"), axis=1)
        return net.model(net.dense(net.op("Add", y, h), HIDDEN, OUT))

    return Case(build, units=0, frozen="graph input `where`")


def gather_nd() -> Case:
    """Coordinates (batch, position): the channels behind them stay free."""

    def build() -> Model:
        net = Net()
        h = net.dense(net.input((3, 5, 6)), 6, HIDDEN)
        y = net.op("GatherND", h, net.input((7, 2), np.int64, "where"))
        return net.model(net.dense(y, HIDDEN, OUT))

    feeds = lambda model, seed: {**normal_input(model, seed, "x"), "where": np.arange(14).reshape(7, 2) % 3}  # noqa: E731
    return Case(build, feeds=feeds)


def gather_nd_batched() -> Case:
    def build() -> Model:
        net = Net()
        h = net.dense(net.input((3, 5, 6)), 6, HIDDEN)
        y = net.op("GatherND", h, net.const([[[1], [0]], [[2], [2]], [[4], [1]]], I64), batch_dims=1)
        return net.model(net.dense(y, HIDDEN, OUT))

    return Case(build)


def scatter_nd() -> Case:
    def build() -> Model:
        net = Net()
        x = net.input((3, 5, 6))
        h, updates = net.dense(x, 6, HIDDEN), net.op("Gather", net.dense(x, 6, HIDDEN), net.const(0, I64))
        where = net.const([[0, 1], [1, 1], [2, 4], [2, 0], [0, 0]], I64)
        return net.model(net.dense(net.op("ScatterND", h, where, updates), HIDDEN, OUT))

    return Case(build)


def scatter_elements(op: str, opset: int) -> Case:
    def build() -> Model:
        net = Net(opset=opset)
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        where = net.input((3, HIDDEN), np.int64, "where")
        updates = net.gemm("x", 6, HIDDEN)
        return net.model(net.gemm(net.op(op, h, where, updates, axis=0), HIDDEN, OUT))

    return Case(build, units=0, frozen="element by element", feeds=_distinct_rows)


def _distinct_rows(model: Model, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    where = np.stack([rng.permutation(3) for _ in range(HIDDEN)], axis=1)
    return {**normal_input(model, seed, "x"), "where": where.astype(np.int64)}


def one_hot() -> Case:
    """Classes times a table: the classes stay, the columns of the table go."""

    def build() -> Model:
        net = Net()
        hot = net.op("OneHot", net.input(("n", "s"), np.int64), net.const(7, I64), net.const([0, 1], np.float32))
        return net.model(net.dense(net.op("Tanh", net.dense(hot, 7, HIDDEN)), HIDDEN, OUT))

    return Case(build, frozen="counts along it")


CASES = {
    ("", "Gather"): [
        flat(gather_permutes, after=6),
        tokens(gather_one),
        flat(gather_table, after=6, units=2, frozen="by an index"),
        embedding(),
        tied_embedding(),
    ],
    ("", "GatherElements"): [gather_elements()],
    ("", "GatherND"): [gather_nd(), gather_nd_batched()],
    ("", "ScatterND"): [scatter_nd()],
    ("", "ScatterElements"): [scatter_elements("ScatterElements", 21)],
    ("", "Scatter"): [scatter_elements("Scatter", 10)],
    ("", "OneHot"): [one_hot()],
}


def picked(indices: object, axis: int, *shape: int | str) -> Case:
    """Indices known beforehand."""
    return bare(lambda net, x: net.op("Gather", x, net.const(indices, I64), axis=axis), *shape)


def looked_up(indices: Sequence[object], axis: int, *shape: int | str, dtype: type[np.generic] = I64) -> Case:
    """Indices that are fed, repeated and negative ones among them."""
    array = np.array(indices, dtype)

    def middle(net: Net, x: str) -> str:
        return net.op("Gather", x, net.input([f"i{a}" for a in range(array.ndim)], dtype, "indices"), axis=axis)

    return bare(middle, *shape, feeds={"indices": array})


def by_elements(axis: int) -> Case:
    where = np.array([[0, -1, 1, 1], [0, 2, 0, 1]])

    def middle(net: Net, x: str) -> str:
        return net.op("GatherElements", x, net.const(where % 3, I64), axis=axis)

    return bare(middle, 3, 5 - axis)


def by_coordinates(where: object, *shape: int | str, **attrs: int) -> Case:
    array = np.array(where, I64)

    def middle(net: Net, x: str) -> str:
        return net.op("GatherND", x, net.input(array.shape, I64, "where"), **attrs)

    return bare(middle, *shape, feeds={"where": array})


def scattered(op: str, where: object, updates: Sequence[int], *shape: int, **attrs: object) -> Case:
    """Updates are a parameter; for sums and products places come up several times."""

    def middle(net: Net, x: str) -> str:
        return net.op(op, x, net.const(where, I64), net.param(*updates), **attrs)

    return bare(middle, *shape)


def hot(axis: int) -> Case:
    """The two values are a parameter."""

    def middle(net: Net, x: str) -> str:
        indices = net.input(("i", 3), I64, "indices")
        return net.op("Mul", x, net.op("OneHot", indices, net.const(4, I64), net.param(2), axis=axis))

    return bare(middle, 1, 1, 1, feeds={"indices": np.array([[0, 1, -1], [3, 2, -4]])})


REDUCTIONS = ("add", "mul", "max", "min")
ONCE, AGAIN = [[0, 1], [2, -1]], [[0, 1], [2, 0], [0, 1], [-1, 0]]
GRADIENT_CASES = {
    ("", "Gather"): [
        picked(-1, 0, "n", 4),
        picked(2, -1, 3, 4),
        picked([1, 2], 1, "n", 4, 3),
        picked([-2, -1], 0, "n", 4),
        picked([-1, 0], 0, "n", 4),
        picked([3, 0, -2], 1, 2, 4, 3),
        picked([3, 0, 3], 1, 2, 4, 3),
        picked([0, 2, 2], 0, "n", "m"),
        picked([[0, 2], [2, -1]], 1, "n", 4, "m"),
        looked_up([[0, 3], [3, -1], [2, 3]], 0, 5, 3),
        looked_up([[0, 300], [300, -1], [2, 3]], 0, 301, 3),
        looked_up([0, 300, -301, 300], 0, 301, 2, "m"),
        looked_up([0, 2, 2], 0, "n", "m"),
        looked_up([0, 199, -200], 0, 200),
        looked_up([3, 0, 3, -1], 1, "n", 4, "m"),
        looked_up([[3, 0], [3, -1]], 2, 2, 3, 4, dtype=np.int32),
    ],
    ("", "GatherElements"): [by_elements(0), by_elements(1)],
    ("", "GatherND"): [
        by_coordinates([[1, 0], [-1, 2], [1, 0]], 3, 4, 2),
        by_coordinates([[1, 0], [-1, 2], [1, 0]], 3, 4),
        by_coordinates([[[1], [-1]], [[1], [1]]], 3, 4, "m"),
        by_coordinates([[[1], [-1]], [[1], [1]]], 2, 4, 3, batch_dims=1),
        by_coordinates([[1], [3], [-1]], "n", 4, 3, batch_dims=1),
    ],
    ("", "ScatterND"): [
        scattered("ScatterND", ONCE, (2, 4), 3, 3, 4),
        *(scattered("ScatterND", AGAIN, (4, 2), 3, 3, 2, reduction=r) for r in REDUCTIONS),
        *(scattered("ScatterND", [[1], [1], [-3]], (3, 4), 3, 4, reduction=r) for r in REDUCTIONS),
    ],
    ("", "ScatterElements"): [
        scattered("ScatterElements", [[0, 1], [2, -3]], (2, 2), 3, 3, axis=1),
        *(scattered("ScatterElements", AGAIN, (4, 2), 4, 3, axis=1, reduction=r) for r in REDUCTIONS),
        *(scattered("ScatterElements", AGAIN, (4, 2), 5, 2, axis=0, reduction=r) for r in REDUCTIONS),
    ],
    ("", "OneHot"): [hot(-1), hot(0), hot(1)],
}
