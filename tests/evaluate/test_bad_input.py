"""What cannot be measured is answered with where and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxprune.errors import DataError, ModelError, OnnxPruneError, OptionError
from onnxprune.evaluate import Asked, Meter, evaluate_generated
from onnxprune.model import from_proto
from tests.evaluate.models import Array, deciding, measure, passing

NAN = np.array([0, 0, 0, np.nan, 0])
FIVE = np.zeros((6, 5))


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        pytest.param(FIVE, None, {}, "no labels, and there is no model to compare with", id="no labels"),
        pytest.param(FIVE, None, {"task": "regression"}, "no labels", id="no labels for a task"),
        pytest.param(FIVE, [0] * 6, {"task": "fidelity"}, "task `fidelity`, and there is no model", id="no original"),
        pytest.param(FIVE, range(6), {}, r"label 5 in row 5, .* `y` has 5 classes \(0 to 4\)", id="too large"),
        pytest.param(FIVE, [0, 0, -1, 0, 0, 0], {}, "label -1 in row 2", id="negative"),
        pytest.param(FIVE, [0, 0.5, 0, 0, 0, 0], {"task": "classification"}, "label 0.5 in row 1", id="a fraction"),
        pytest.param(FIVE, np.zeros((6, 4), int), {}, r"int64 \(6, 4\) .* are `y` float32 \(6, 5\)", id="fits nothing"),
        pytest.param(FIVE, [0] * 6, {"task": "segmentation"}, "do not make a task `segmentation`", id="another task"),
        pytest.param(FIVE, np.full((6, 5), 2), {}, "label 2 in row 0, .* 0 or 1", id="multi-label of 2"),
        pytest.param(
            FIVE, np.eye(5, dtype=int)[[0, 1, 1, 2, 3, 4]] | np.eye(5, dtype=int)[[0, 1, 2, 2, 3, 4]],
            {"task": "classification"}, "row 2 has 2 ones", id="not one-hot"),
        pytest.param(FIVE, np.full(6, 3), {"ignore_label": 3}, "every label is 3, which does not", id="nothing"),
        pytest.param(FIVE, range(6), {"names": ("a", "b")}, "2 class names, but .* `y` has 5 classes", id="names"),
    ],
)  # fmt: skip
def test_labels(x: Array, y: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measure(passing(5), x, None if y is None else np.asarray(y), **options)


def test_a_row_is_counted_over_all_batches() -> None:
    labels = np.zeros(30, np.int64)
    labels[23] = 9
    with pytest.raises(DataError, match="label 9 in row 23"):
        measure(passing(5), np.zeros((30, 5)), labels, size=7)


def test_labels_of_another_size_than_the_model_decides_on() -> None:
    with pytest.raises(ModelError, match="class 7 in row 1 is no class number below 3"):
        measure(deciding(), np.array([0, 7, 1]), np.arange(3), ("a", "b", "c"))
    with pytest.raises(ModelError, match="class -1 in row 0"):
        measure(deciding(), np.array([-1, 2, 1]), np.arange(3))


def test_the_data_say_nothing_of_nan_in_labels() -> None:
    meter = Meter(samples=5, name="prices.npz")
    with pytest.raises(DataError, match=r"prices.npz: label nan in row 3"):
        meter.add({"y": np.zeros((5, 1))}, NAN, 5)


class TestOutputs:
    LOG = passing(2, op="Log")

    @pytest.mark.parametrize("labels", [np.zeros(9, int), np.zeros((9, 2)), np.zeros((9, 2), int)])
    def test_nan(self, labels: Array) -> None:
        x = np.ones((9, 2))
        x[8, 1] = -1
        with pytest.raises(ModelError, match="output `y` is NaN in row 8"):
            measure(self.LOG, x, labels, size=4)

    def test_infinite_numbers(self) -> None:
        with pytest.raises(ModelError, match="output `y` is -inf in row 1"):
            measure(self.LOG, np.array([[1.0, 1], [0, 1]]), np.ones((2, 2)))
        with pytest.raises(ModelError, match="output `y` is inf in row 0"):
            measure(passing(2, op="Reciprocal"), np.zeros((2, 2)), np.zeros(2, int))

    def test_nan_of_the_original(self) -> None:
        with pytest.raises(ModelError, match="the original's output `y` is NaN in row 0"):
            measure(passing(2), np.array([[-1.0, 1]]), original=self.LOG)

    def test_models_with_different_classes(self) -> None:
        meter = Meter(samples=1)
        with pytest.raises(DataError, match=r"no float output .* in common: `y` \(1, 3\); `y` \(1, 4\)"):
            meter.add({"y": np.zeros((1, 3))}, None, 1, {"y": np.zeros((1, 4))})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "guessing"}, "task: got 'guessing', expected one of classification, binary"),
        ({"curves": "some"}, "curves: got 'some', expected one of auto, exact"),
        ({"top_k": 0}, "top_k: got 0"),
        ({"top_k": 5}, "top-5 accuracy: the output `y` has 5 classes"),
        ({"limit": 0}, "limit of 0 samples"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        measure(passing(5), FIVE, np.arange(6) % 5, **options)


@pytest.mark.parametrize("labels", [np.zeros((6, 5)), np.zeros((6, 5), int)])
def test_top_k_of_what_has_no_such_thing(labels: Array) -> None:
    with pytest.raises(OptionError, match="top-2 accuracy"):
        measure(passing(5), FIVE, labels, top_k=2)
    with pytest.raises(OptionError, match="puts out classes and no scores"):
        measure(deciding(), np.zeros(3), np.zeros(3, int), top_k=2)


def test_empty() -> None:
    with pytest.raises(DataError, match="no samples to measure on"):
        Meter(Asked(), samples=0).finish()
    with pytest.raises(OptionError, match="0 samples"):
        evaluate_generated(passing(5), passing(5), samples=0)


def test_inputs_that_cannot_be_made_up() -> None:
    proto = passing(5).to_proto()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = 8
    model = from_proto(proto)
    with pytest.raises(OnnxPruneError, match="input `x` holds text"):
        evaluate_generated(model, model)
