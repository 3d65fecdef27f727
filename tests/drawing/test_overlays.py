"""A number for each layer."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnxprune.cost import example_graph
from onnxprune.drawing import Overlay, counted, of_scores, of_sparsity, ramp, sketch
from onnxprune.drawing.overlays import of_rates
from onnxprune.errors import OptionError
from onnxprune.experiment import analyse
from onnxprune.model import from_proto
from tests.cli.conftest import cnn
from tests.drawing.conftest import analysed


def test_counted() -> None:
    _, _, found = analysed(cnn())
    assert counted(found, "parameters").values == {1: 80.0, 2: 16 * 8 * 9 + 16, 4: 51.0}
    assert set(counted(found, "macs").values) == {1, 2, 4}
    with pytest.raises(OptionError, match="'beauty' is not counted"):
        counted(found, "beauty")


def test_zeros_in_weights() -> None:
    proto = cnn()
    array = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    array[:2] = 0
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "conv1.weight"))
    model, coupling = analyse(from_proto(proto))
    found = sketch(model, coupling)
    assert of_sparsity(found, model, example_graph(model)).values == {1: 0.25, 2: 0.0, 4: 0.0}


def test_scores_are_means_of_units() -> None:
    _, _, found = analysed(cnn())
    overlay = of_scores(found, {"conv1": np.arange(8.0), "conv2": np.full(16, np.nan)}, "l2")
    assert overlay.values == {1: 3.5}
    assert overlay.text(1) == "mean l2 3.5"
    assert overlay.text(2) == ""


def test_milliseconds() -> None:
    _, _, found = analysed(cnn())
    numbers = {box.id: box.numbers[0] for box in found.boxes if box.heavy}
    overlay = of_rates(found, {numbers[1]: 100, numbers[2]: 50}, {numbers[1]: 0.01, numbers[4]: 3.0}, "estimated")
    assert overlay.values == {1: 1.0}


def test_colours_are_in_the_order_of_values() -> None:
    values = {1: 0.0, 2: 5.0, 3: 10.0}
    colours = ramp(Overlay("x", "x", values, "{}"), ("#ffffff", "#000000"))
    assert colours == {1: "#ffffff", 2: "#808080", 3: "#000000"}
    assert ramp(Overlay("x", "x", {1: -1.0, 2: 1.0}, "{}"), ("#ffffff", "#000000"))[1] == "#ffffff"
    assert ramp(Overlay("x", "x", {}, "{}")) == {}
