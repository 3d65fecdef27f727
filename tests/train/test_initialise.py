"""Fresh weights: the right distribution for each layer, the same for the same seed, nothing else touched."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.model import Model, from_proto, load
from onnxprune.train import initialise

ROOT = Path(__file__).parents[2]


def model_of(nodes: list[Any], weights: dict[str, Any], shape: list[Any], inputs: str = "x") -> Model:
    """``nodes``: (op, inputs, output, attributes); the last output is the graph's."""
    protos = [
        helper.make_node(op, names, [out] if isinstance(out, str) else out, **attributes)
        for op, names, out, attributes in nodes
    ]
    last = protos[-1].output[0]
    graph = helper.make_graph(
        protos, "g", [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a, np.float32 if np.asarray(a).dtype.kind == "f" else np.int64), name)
         for name, a in weights.items()],
    )  # fmt: skip
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def fresh(model: Model, name: str, seed: int = 0) -> Any:
    return initialise(model, seed)[0].array(name)


def spread(array: Any, deviation: float, mean: float = 0.0) -> None:
    """Mean and standard deviation within four standard errors."""
    error = deviation / math.sqrt(array.size)
    assert abs(array.mean() - mean) < 4 * error
    assert abs(array.std() - deviation) < 4 * error


class TestLayers:
    @pytest.mark.parametrize("group", [1, 4])
    def test_convolution_before_a_relu(self, group: int) -> None:
        weights = {"w": np.full((64, 32 // group, 3, 3), 7.0), "b": np.full(64, 7.0)}
        nodes = [("Conv", ["x", "w", "b"], "a", {"group": group}), ("Relu", ["a"], "y", {})]
        model = model_of(nodes, weights, [1, 32, 8, 8])
        spread(fresh(model, "w"), math.sqrt(2 / (32 // group * 9)))
        assert not fresh(model, "b").any()

    def test_the_relu_may_come_after_a_norm(self) -> None:
        weights = {"w": np.ones((64, 16, 3, 3)), **{name: np.full(64, 3.0) for name in "smbv"}}
        nodes = [
            ("Conv", ["x", "w"], "a", {}), ("BatchNormalization", ["a", "s", "b", "m", "v"], "n", {}),
            ("Relu", ["n"], "y", {}),
        ]  # fmt: skip
        model = model_of(nodes, weights, [1, 16, 8, 8])
        spread(fresh(model, "w"), math.sqrt(2 / 144))
        assert [set(fresh(model, name)) for name in "sbmv"] == [{1.0}, {0.0}, {0.0}, {1.0}]

    @pytest.mark.parametrize(("turned", "shape"), [(0, (40, 90)), (1, (90, 40))])
    def test_gemm_without_a_relu(self, turned: int, shape: tuple[int, int]) -> None:
        nodes = [("Gemm", ["x", "w", "b"], "y", {"transB": turned})]
        model = model_of(nodes, {"w": np.ones(shape), "b": np.ones(90)}, [1, 40])
        found = fresh(model, "w")
        spread(found, math.sqrt(2 / 130))
        assert np.abs(found).max() <= math.sqrt(6 / 130)
        assert not fresh(model, "b").any()

    @pytest.mark.parametrize(("turned", "shape"), [(0, (40, 90)), (1, (90, 40))])
    def test_gemm_before_a_relu_goes_by_its_inputs(self, turned: int, shape: tuple[int, int]) -> None:
        nodes = [("Gemm", ["x", "w"], "a", {"transB": turned}), ("Relu", ["a"], "y", {})]
        spread(fresh(model_of(nodes, {"w": np.ones(shape)}, [1, 40]), "w"), math.sqrt(2 / 40))

    def test_a_matrix_that_is_transposed_on_the_way(self) -> None:
        nodes = [
            ("Transpose", ["w"], "t", {"perm": [1, 0]}), ("MatMul", ["x", "t"], "a", {}), ("Add", ["a", "b"], "c", {}),
            ("Relu", ["c"], "y", {}),
        ]  # fmt: skip
        model = model_of(nodes, {"w": np.ones((90, 40)), "b": np.ones(90)}, [1, 40])
        spread(fresh(model, "w"), math.sqrt(2 / 40))
        assert not fresh(model, "b").any()

    def test_lstm(self) -> None:
        hidden, size = 16, 24
        weights = {"w": np.ones((2, 64, size)), "r": np.ones((2, 64, hidden)), "b": np.ones((2, 128))}
        nodes = [("LSTM", ["x", "w", "r", "b"], ["y"], {"hidden_size": hidden, "direction": "bidirectional"})]
        model = model_of(nodes, weights, [5, 1, size])
        assert np.abs(fresh(model, "w")).max() <= math.sqrt(6 / (size + hidden))
        for gate in fresh(model, "r").reshape(8, hidden, hidden):
            assert gate @ gate.T == pytest.approx(np.eye(hidden), abs=1e-5)
        bias = fresh(model, "b").reshape(2, 8, hidden)
        assert (bias[:, 2] == 1).all()
        assert not np.delete(bias, 2, axis=1).any()

    def test_embedding_and_positions(self) -> None:
        rng = np.random.default_rng(0)
        weights = {"e": np.ones((500, 64)), "i": np.arange(6), "p": rng.standard_normal((1, 6, 64))}
        nodes = [("Gather", ["e", "i"], "a", {}), ("Add", ["a", "p"], "b", {}), ("Add", ["b", "x"], "y", {})]
        model = model_of(nodes, weights, [1, 6, 64])
        spread(fresh(model, "e"), 1 / 8)
        spread(fresh(model, "p"), 0.02)
        assert np.array_equal(fresh(model, "i"), weights["i"])


class TestWhatStays:
    def test_masks_tables_scalars_and_the_preparation_of_inputs(self) -> None:
        mask = np.triu(np.full((4, 4), -1e9), 1)
        rng = np.random.default_rng(0)
        weights = {
            "mean": np.array([[0.4, 0.5, 0.6, 0.7]]), "mask": mask, "table": rng.random((4, 4)), "half": np.array(0.5),
        }  # fmt: skip
        nodes = [
            ("Sub", ["x", "mean"], "a", {}), ("Mul", ["a", "half"], "b", {}), ("Mul", ["b", "table"], "c", {}),
            ("Add", ["c", "mask"], "y", {}),
        ]  # fmt: skip
        model = model_of(nodes, weights, [4, 4])
        again, left = initialise(model)
        assert all(np.array_equal(again.array(name), model.array(name)) for name in weights)
        assert set(left) == {"mask", "table"}

    def test_names_and_graph(self) -> None:
        model = load(ROOT / "examples" / "digits_cnn.onnx")
        again, left = initialise(model)
        assert left == ()
        assert again.weights.keys() == model.weights.keys()
        assert [n.op_type for n in again.proto.graph.node] == [n.op_type for n in model.proto.graph.node]


def test_seeds() -> None:
    model = load(ROOT / "examples" / "nets" / "vit.onnx")
    (one, _), (same, _), (other, _) = (initialise(model, seed) for seed in (0, 0, 1))
    assert one.hash == same.hash != other.hash != model.hash
