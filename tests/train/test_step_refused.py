"""What a step of training cannot be made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from onnxprune.errors import DataError, ModelError, OptionError, UnsupportedModel
from tests.train.step_nets import (
    CLASSES,
    FEATURES,
    fed,
    graph_of,
    mlp,
    samples,
    step_for,
    trained,
)

Array = NDArray[Any]


def test_quantised_weights() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["dw"]),
        helper.make_node("MatMul", ["x", "dw"], ["y"]),
    ]
    constants = {
        "w": np.ones((FEATURES, CLASSES), np.int8), "scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8),
    }  # fmt: skip
    x, y = samples(9)
    with pytest.raises(ModelError, match=r"weights are quantised(.|\n)*`w`(.|\n)*Train the float model"):
        step_for(graph_of(nodes, ["n", FEATURES], constants), x, y)


def test_nothing_to_train() -> None:
    x, y = samples(9)
    with pytest.raises(ModelError, match=r"nothing to train(.|\n)*All weights are frozen"):
        step_for(mlp(), x, y, freeze=["*"])
    empty = graph_of([helper.make_node("Neg", ["x"], ["y"])], ["n", FEATURES], {})
    with pytest.raises(ModelError, match=r"nothing to train(.|\n)*It has no floating-point weights"):
        step_for(empty, x, y)


def test_options_that_do_not_fit() -> None:
    x, y = samples(9)
    with pytest.raises(OptionError, match=r"no weight fits `w3`(.|\n)*Nearest: w"):
        step_for(mlp(), x, y, freeze=["w3"])
    with pytest.raises(OptionError, match=r"no weight `w_1`(.|\n)*Nearest: w1"):
        step_for(mlp(), x, y, masks={"w_1": np.ones(3, np.bool_)})
    with pytest.raises(OptionError, match=r"mask of `w1` has shape \[3\], the weight \[5, 8\]"):
        step_for(mlp(), x, y, masks={"w1": np.ones(3, np.bool_)})
    with pytest.raises(OptionError, match=r"batchnorm: got 'eval'"):
        step_for(mlp(), x, y, batchnorm="eval")
    step = step_for(mlp(), x, y)
    with pytest.raises(DataError, match=r"takes `targets_0`, which is not given"):
        step.run({"x": x}, 0.1)


def test_an_operator_without_gradients() -> None:
    """It is named, and so is what lies behind it."""
    support = {
        "kernel_type": "LINEAR",
        "kernel_params": [0.1, 0.0, 3.0],
        "coefficients": [0.5] * FEATURES,
        "rho": [0.1],
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("SVMRegressor", ["m"], ["s"], name="the machine", domain="ai.onnx.ml", **support),
        helper.make_node("MatMul", ["s", "v"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    constants = {"w": rng.standard_normal((FEATURES, FEATURES)), "v": rng.standard_normal((1, CLASSES))}
    weights = {name: value.astype(np.float32) for name, value in constants.items()}
    editor = graph_of(nodes, ["n", FEATURES], weights).edit()
    editor.proto.opset_import.add(domain="ai.onnx.ml", version=3)
    model = editor.build()
    x, y = samples(9)
    with pytest.raises(UnsupportedModel, match=r"'the machine' has no gradient rule(.|\n)*can: v"):
        step_for(model, x, y)
    step = step_for(model, x, y, freeze=["w"])
    losses = trained(step, fed(step, x, y), 20)
    assert losses[-1] < losses[0]
