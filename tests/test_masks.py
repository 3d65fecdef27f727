"""Constants as matrices: what is a row, what a column, which unit is where."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune import Coupling, Model
from onnxprune.experiment import analyse
from onnxprune.masks import Matrix, matrices
from onnxprune.model import from_proto


def model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int], kind: int = 1) -> Model:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def numbers(*shape: int) -> np.ndarray:
    """Different ones, none of them 0."""
    return (1 + np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)


def found(made: Model) -> tuple[dict[str, Matrix], Coupling]:
    _, coupling = analyse(made)
    return matrices(coupling), coupling


@pytest.fixture(scope="module")
def net() -> Model:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["c"], group=2),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "fc"], ["y"]),
    ]
    weights = {"a": numbers(4, 2, 3, 3), "b": numbers(6, 2, 1, 3), "fc": numbers(6, 5)}
    return model(nodes, weights, [1, 2, 8, 8])


def test_cells_and_places_agree_for_every_kind(net: Model) -> None:
    every, _ = found(net)
    assert set(every) == {"a", "b", "fc"}
    for matrix in every.values():
        stored = net.weights[matrix.name].array()
        places = matrix.row_place[:, None] + matrix.column_place
        assert np.array_equal(stored.reshape(-1)[places], matrix.view(stored))
        assert sorted(places.reshape(-1).tolist()) == list(range(stored.size))


def test_a_kernel_is_a_rectangle(net: Model) -> None:
    conv = found(net)[0]["a"]
    stored = net.weights["a"].array()
    assert (conv.rows.size, conv.columns.size, conv.rows.kernel, conv.columns.kernel) == (12, 6, 3, 3)
    assert np.array_equal(conv.view(stored)[3:6, 3:6], stored[1, 1])
    assert conv.rows.words(5) == "output 1, ky 2"
    assert conv.columns.words(4) == "input 1, kx 1"
    assert conv.rows.tick(5) == "1"


def test_a_matrix_product_has_outputs_as_rows_however_it_is_stored(net: Model) -> None:
    product = found(net)[0]["fc"]
    stored = net.weights["fc"].array()
    assert np.array_equal(product.view(stored), stored.T)
    assert np.shares_memory(product.view(stored), stored)


def test_one_input_per_filter_puts_the_kernel_into_one_row() -> None:
    weights = {"w": numbers(4, 1, 3, 3)}
    every, _ = found(model([helper.make_node("Conv", ["x", "w"], ["y"])], weights, [1, 1, 8, 8]))
    assert (every["w"].rows.size, every["w"].columns.size) == (4, 9)
    assert every["w"].columns.words(5) == "ky 1, kx 2"


def test_units_of_a_group_are_rows_of_one_weight_and_columns_of_the_next(net: Model) -> None:
    every, coupling = found(net)
    group = coupling.groups[0]
    made = every["a"]
    unit = 1
    cells = made.cells_of(0, [unit])
    positions = np.flatnonzero(made.rows.unit[0] == unit)
    assert cells.any(axis=1).tolist() == [row in positions for row in range(12)]
    read = every["b"].cells_of(0, range(group.units))
    assert read.all()  # each of its columns belongs to a unit, another one in each half of the rows
    assert len(every["b"].columns.unit) == 2
    assert every["b"].columns.block.tolist() == [0, 0, 0, 1, 1, 1]
    one = every["b"].cells_of(0, [unit])
    expected = {(m.block[k], m.index[k]) for m in group.weights if m.tensor == "b" and m.axis == 1
                for k in range(m.index.size) if m.unit[k] == unit and m.block is not None}  # fmt: skip
    for block, index in expected:
        assert one[3 * block : 3 * block + 3, 3 * index : 3 * index + 3].all()
    assert one.sum() == 9 * len(expected)


def test_gates_of_a_recurrence() -> None:
    hidden = 3
    weights = {"w": numbers(2, 4 * hidden, 2), "r": numbers(2, 4 * hidden, hidden), "b": numbers(2, 8 * hidden)}
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=hidden, direction="bidirectional")
    every, _ = found(model([node], weights, [5, 1, 2]))
    assert every["w"].rows.words(12 + 7) == "direction reverse, gate f, cell 1"
    assert every["w"].rows.tick(7) == "forward f 1"
    assert every["w"].rows.bounds.tolist() == [3, 6, 9, 12, 15, 18, 21]
    assert every["r"].columns.words(2) == "state 2"
    bias = every["b"]
    stored = weights["b"]
    assert np.array_equal(bias.view(stored)[4], [stored[0, 4], stored[0, 12 + 4]])
    assert bias.columns.words(1) == "bias of state"


def test_an_embedding_has_tokens_as_rows() -> None:
    weights = {"e": numbers(7, 4), "fc": numbers(4, 2)}
    nodes = [helper.make_node("Gather", ["e", "x"], ["h"]), helper.make_node("MatMul", ["h", "fc"], ["y"])]
    every, _ = found(model(nodes, weights, [1, 3], TensorProto.INT64))
    assert every["e"].rows.words(6) == "token 6"
    assert every["e"].columns.words(3) == "dimension 3"


def test_a_vector_is_one_column_and_constants_of_shapes_are_left_out() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "bias"], ["h"]),
        helper.make_node("Reshape", ["h", "s"], ["y"]),
    ]
    weights = {"w": numbers(4, 3), "bias": numbers(3), "s": np.array([1, 3], np.int64)}
    every, _ = found(model(nodes, weights, [1, 4]))
    assert set(every) == {"w", "bias"}
    assert (every["bias"].rows.size, every["bias"].columns.size) == (3, 1)
    assert every["bias"].columns.words(0) == ""
