"""Metrics, each against its definition written out in NumPy; models that hand their input on make outputs at will."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxprune.data import open_dataset
from onnxprune.errors import DataError
from onnxprune.evaluate import Metric, evaluate
from onnxprune.model import Model, from_proto

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def passing(*sizes: int | str, op: str = "Identity", kind: int = TensorProto.FLOAT, **attributes: Any) -> Model:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *sizes])
    y = helper.make_tensor_value_info("y", kind, ["batch", *sizes])
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], **attributes)], "passing", [x], [y])
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return from_proto(proto)


def values(model: Model, x: Array, y: Array | None = None, **options: Any) -> dict[str, float]:
    data = open_dataset(x.astype(np.float32) if y is None else (x.astype(np.float32), y))
    return {m.name: m.value for m in evaluate(model, data, size=7, **options)}


def cross_entropy(logits: Array, labels: Array) -> float:
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return float(-np.take_along_axis(logs, labels[..., None], -1).mean())


class TestClassification:
    @pytest.mark.parametrize("op", ["Identity", "Softmax", "LogSoftmax"])
    def test_logits_and_probabilities_give_one_loss(self, op: str) -> None:
        logits, labels = RNG.standard_normal((30, 5)), np.arange(30) % 5
        found = values(passing(5, op=op), logits, labels)
        assert found["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
        assert found["loss"] == pytest.approx(cross_entropy(logits, labels), rel=1e-5)

    @pytest.mark.parametrize("op", ["Identity", "Sigmoid"])
    @pytest.mark.parametrize("shape", [(20, 1), (20,)])
    def test_one_score_for_two_classes(self, op: str, shape: tuple[int, ...]) -> None:
        scores, labels = RNG.standard_normal((20, 1)) * 2, RNG.integers(0, 2, shape)
        found = values(passing(1, op=op), scores, labels)
        flat = labels.reshape(-1)
        assert found["accuracy"] == pytest.approx(((scores[:, 0] > 0) == flat).mean())
        assert found["loss"] == pytest.approx(cross_entropy(np.hstack([np.zeros_like(scores), scores]), flat), rel=1e-4)

    def test_a_class_for_every_pixel(self) -> None:
        scores, labels = RNG.standard_normal((9, 4, 3, 2)), RNG.integers(0, 4, (9, 3, 2))
        found = values(passing(4, 3, 2), scores, labels)
        assert found["accuracy"] == pytest.approx((scores.argmax(1) == labels).mean())
        assert found["loss"] == pytest.approx(cross_entropy(np.moveaxis(scores, 1, -1), labels), rel=1e-5)

    def test_a_class_for_every_token(self) -> None:
        scores, labels = RNG.standard_normal((9, 6, 11)), RNG.integers(0, 11, (9, 6))
        found = values(passing("length", 11), scores, labels)
        assert found["accuracy"] == pytest.approx((scores.argmax(-1) == labels).mean())

    def test_ready_made_classes(self) -> None:
        labels = np.arange(12) % 3
        found = values(passing(op="Cast", kind=TensorProto.INT64, to=TensorProto.INT64), labels + (labels == 2), labels)
        assert found == {"accuracy": pytest.approx(8 / 12)}

    def test_a_fixed_batch_counts_every_sample_once(self) -> None:
        model = passing(5)
        proto = model.to_proto()
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        logits, labels = RNG.standard_normal((10, 5)), np.arange(10) % 5
        assert values(from_proto(proto), logits, labels) == pytest.approx(values(model, logits, labels))

    def test_labels_out_of_range(self) -> None:
        with pytest.raises(DataError, match="labels from 0 to 5, but the output `y` has 5 classes"):
            values(passing(5), np.zeros((6, 5)), np.arange(6))

    def test_labels_that_fit_nothing(self) -> None:
        with pytest.raises(DataError, match=r"labels `y` are int64 \(6, 4\) .* outputs are `y` float32 \(6, 5\)"):
            values(passing(5), np.zeros((6, 5)), np.zeros((6, 4), np.int64))


class TestRegression:
    @pytest.mark.parametrize("shape", [(20, 1), (20,)])
    def test_mean_squared_error(self, shape: tuple[int, ...]) -> None:
        x, y = RNG.standard_normal((20, 1)), RNG.standard_normal(shape)
        assert values(passing(1), x, y) == {
            "mean squared error": pytest.approx(((x[:, 0] - y.reshape(-1)) ** 2).mean(), rel=1e-5)
        }


class TestFidelity:
    def test_a_model_is_faithful_to_itself(self) -> None:
        model = passing(5)
        found = values(model, RNG.standard_normal((20, 5)), original=model)
        assert found["cosine to the original"] == pytest.approx(1)
        assert found["largest difference"] == 0
        assert found["KL to the original"] == pytest.approx(0, abs=1e-9)
        assert found["top-1 agreement"] == 1

    def test_against_the_definitions(self) -> None:
        x = RNG.standard_normal((20, 5))
        found = values(passing(5, op="Abs"), x, original=passing(5))
        ours = np.abs(x)
        cosine = (ours * x).sum(1) / np.linalg.norm(x, axis=1) ** 2
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        q = np.exp(ours) / np.exp(ours).sum(1, keepdims=True)
        assert found["cosine to the original"] == pytest.approx(cosine.mean(), rel=1e-5)
        assert found["largest difference"] == pytest.approx(np.abs(ours - x).max(), rel=1e-5)
        assert found["KL to the original"] == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-4)
        assert found["top-1 agreement"] == pytest.approx((ours.argmax(1) == x.argmax(1)).mean())

    def test_with_labels_both_are_told(self) -> None:
        found = values(passing(5), RNG.standard_normal((9, 5)), np.arange(9) % 5, original=passing(5))
        assert {"accuracy", "top-1 agreement"} <= found.keys()

    def test_neither_labels_nor_an_original(self) -> None:
        with pytest.raises(DataError, match="no labels"):
            values(passing(5), np.zeros((4, 5)))


def test_a_metric_shows_itself() -> None:
    assert str(Metric("accuracy", 0.51234, "", ".2%", "higher")) == "51.23%"
    assert str(Metric("loss", 0.5, "nats", ".4f", "lower")) == "0.5000 nats"


def test_progress_is_reported() -> None:
    seen: list[tuple[int, int]] = []
    data = open_dataset((np.zeros((10, 5), np.float32), np.zeros(10, np.int64)))
    evaluate(passing(5), data, size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]
