"""The trained models that come with the project: small, right, and usable without the framework that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune import runtime
from onnxprune.model import load

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGED = Path(onnxprune.__file__).parent / "demo_data"


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    with np.load(PACKAGED / "digits.npz") as file:
        return dict(file)


def accuracy(path: Path, x: np.ndarray, y: np.ndarray) -> float:
    session = runtime.session(load(path))
    (scores,) = session.run({session.inputs[0].name: x}).values()
    return float((scores.argmax(1) == y).mean())


def test_the_split_is_whole_balanced_and_without_overlap(data: dict[str, np.ndarray]) -> None:
    assert data["x_train"].shape == (1347, 1, 8, 8)
    assert data["x_test"].shape == (450, 1, 8, 8)
    assert data["x_test"].dtype == np.float32
    assert data["class_names"].tolist() == list("0123456789")
    assert np.bincount(data["y_test"]).min() >= 40
    train, test = ({row.tobytes() for row in data[name]} for name in ("x_train", "x_test"))
    assert len(train & test) <= 1  # one image of the collection is in it twice


def test_the_demo_model_is_right_and_keeps_its_batchnorm(data: dict[str, np.ndarray]) -> None:
    path = PACKAGED / "digits_cnn.onnx"
    assert accuracy(path, data["x_test"], data["y_test"]) >= 0.98
    kinds = [node.op_type for node in load(path).proto.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") == 4
    assert path.read_bytes() == (EXAMPLES / "digits_cnn.onnx").read_bytes()


def test_the_keras_model_is_right_and_channels_last(data: dict[str, np.ndarray]) -> None:
    path = EXAMPLES / "keras_digits.onnx"
    assert accuracy(path, np.moveaxis(data["x_test"], 1, -1), data["y_test"]) >= 0.98
    assert path.stat().st_size < 300_000
    assert "Transpose" in {node.op_type for node in load(path).proto.graph.node}


def test_all_that_the_package_ships_is_small() -> None:
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) < 1_000_000
