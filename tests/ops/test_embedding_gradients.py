"""Sums over repeated indices are the same whatever the number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune import runtime
from onnxprune.model import Model
from onnxprune.ops.indexing_gradients import FEW_ROWS
from tests.gradients import differentiated
from tests.ops.cases import Net

WIDTH, INDICES = 24, 4000


def table(op: str, rows: int) -> Model:
    """What is read of a parameter (rows, 24) by indices that are fed."""
    net = Net()
    weights = net.const(net.numbers(rows, WIDTH), name="table")
    if op == "Gather":
        return net.model(net.op("Gather", weights, net.input(("n",), np.int64, "indices")))
    return net.model(net.op("GatherND", weights, net.input(("n", 1), np.int64, "indices")))


@pytest.mark.parametrize("rows", [FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("op", ["Gather", "GatherND"])
def test_repeated_indices_add_up_on_any_number_of_threads(op: str, rows: int) -> None:
    made = differentiated(table(op, rows))
    rng = np.random.default_rng(0)
    indices = rng.integers(-7, 7, INDICES)
    seed = rng.integers(-8, 9, (INDICES, WIDTH)).astype(np.float32)  # whole numbers: their sums are exact
    expected = np.zeros((rows, WIDTH), np.float32)
    np.add.at(expected, indices, seed)
    shaped = indices if op == "Gather" else indices[:, None]
    feeds = {"indices": shaped, **made.parameters, next(iter(made.seeds.values())): seed}
    for threads in (1, 2, 4):
        session = runtime.session(made.model, provider="cpu", threads=threads)
        for _ in range(5):
            assert np.array_equal(session.run(feeds)[made.names["table"]], expected)


def test_scatter_nd_does_not_reduce() -> None:
    """With repeated indices its threads overwrite each other's sums."""
    for op in ("Gather", "GatherND"):
        for node in differentiated(table(op, FEW_ROWS + 1)).model.proto.graph.node:
            assert node.op_type != "ScatterND" or not node.attribute
