"""Small models made by hand, the files around them, and the command line called as a program would be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.cli import main


@dataclass(frozen=True)
class Result:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels are rounded to 8, whatever suits this machine."""
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    monkeypatch.delenv("ONNXPRUNE_DEBUG", raising=False)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process; file descriptors are captured, so native libraries are heard too."""

    def run(*arguments: str | Path) -> Result:
        capfd.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Result(code, out, err)

    return run


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    rng = np.random.default_rng([seed, *shape, *name.encode()])
    return numpy_helper.from_array((rng.standard_normal(shape) / 2).astype(np.float32), name)


def cnn(batch: int | str = "batch") -> onnx.ModelProto:
    """Two convolutions, global pooling, a classifier of 3; inputs (batch, 1, 8, 8)."""
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "conv2.weight", "conv2.bias"], ["c"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["scores"], name="fc", transB=1),
    ]
    weights = [
        weight("conv1.weight", 8, 1, 3, 3),
        weight("conv1.bias", 8),
        weight("conv2.weight", 16, 8, 3, 3),
        weight("conv2.bias", 16),
        weight("fc.weight", 3, 16),
        weight("fc.bias", 3),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 8, 8])
    y = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])
    return model_of(helper.make_graph(nodes, "cnn", [x], [y], weights))


def mlp(inputs: int = 6, hidden: int = 12, outputs: int = 4) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="dense1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="dense2"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])
    weights = [weight("w1", inputs, hidden), weight("w2", hidden, outputs)]
    return model_of(helper.make_graph(nodes, "mlp", [x], [y], weights))


def one_layer() -> onnx.ModelProto:
    """Nothing in it can be removed: both axes of its only weight end at the graph's input and output."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="dense")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    return model_of(helper.make_graph([node], "line", [x], [y], [weight("w", 6, 4)]))


def model_of(graph: onnx.GraphProto, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def save(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def cnn_file(tmp_path: Path) -> Path:
    return save(cnn(), tmp_path / "cnn.onnx")


@pytest.fixture
def mlp_file(tmp_path: Path) -> Path:
    return save(mlp(), tmp_path / "mlp.onnx")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a result would be written; nothing is there yet."""
    return tmp_path / "out.onnx"


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """24 samples for ``cnn``, with labels."""
    rng = np.random.default_rng(0)
    path = tmp_path / "data.npz"
    x = rng.standard_normal((24, 1, 8, 8)).astype(np.float32)
    np.savez(path, x_train=x, y_train=np.arange(24) % 3, x_test=x[:10], y_test=np.arange(10) % 3)
    return path
