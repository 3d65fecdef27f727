"""The trained nets of ``examples/nets``: small, as good as their README says, and prunable with a proof."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from onnxprune.data import Dataset, open_dataset
from onnxprune.evaluate import evaluate
from onnxprune.experiment import prune
from onnxprune.model import Model, load
from onnxprune.runtime import session

ROOT = Path(__file__).resolve().parents[1]
NETS = ROOT / "examples" / "nets"
DATA = {"digits": ROOT / "onnxprune" / "demo_data" / "digits.npz", "breast cancer": NETS / "breast_cancer.npz"}
REQUIRED = {"digits": 97.0, "breast cancer": 95.0}  # percent of the test part
LARGEST = 1_000_000  # bytes


class Row(NamedTuple):
    """One net, as the README has it; ``accuracy`` in percent."""

    data: str
    parameters: int
    kilobytes: int
    accuracy: float


def documented() -> dict[str, Row]:
    """The rows of the README's table, by file name."""
    found = {}
    for line in (NETS / "README.md").read_text().splitlines():
        if line.startswith("| `"):
            name, data, _, parameters, size, accuracy = (cell.strip() for cell in line.strip("|").split("|"))
            numbers = int(parameters.replace(",", "")), int(size.removesuffix(" kB")), float(accuracy.removesuffix("%"))
            found[name.strip("`")] = Row(data, *numbers)
    return found


ROWS = documented()
each_net = pytest.mark.parametrize("name", ROWS)


@cache
def net(name: str) -> Model:
    return load(NETS / name)


def held_out(name: str) -> Dataset:
    return open_dataset(DATA[ROWS[name].data], "test")


def test_the_readme_lists_every_net() -> None:
    assert len(ROWS) >= 6
    assert sorted(ROWS) == sorted(path.name for path in NETS.glob("*.onnx"))


@each_net
def test_size(name: str) -> None:
    size = (NETS / name).stat().st_size
    assert size < LARGEST
    assert round(size / 1000) == ROWS[name].kilobytes


@each_net
def test_accuracy_is_what_the_readme_says(name: str) -> None:
    percent = 100 * evaluate(net(name), held_out(name)).value("accuracy")
    assert percent == pytest.approx(ROWS[name].accuracy, abs=0.0501)  # the README rounds to 0.1
    assert percent >= REQUIRED[ROWS[name].data]


@each_net
def test_half_of_it_goes_and_that_is_proven(name: str) -> None:
    found = prune(net(name), ratio=0.5, round_to=1)
    assert found.coupling.groups
    assert found.plan.removed_units == found.coupling.units // 2
    assert found.proof is not None
    assert found.proof.ok
    assert not found.proof.vacuous
    assert found.before.parameters == ROWS[name].parameters
    assert found.after.parameters < found.before.parameters
    assert not found.signature


@each_net
def test_a_batch_is_its_samples(name: str) -> None:
    with np.load(DATA[ROWS[name].data]) as arrays:
        x = arrays["x_test"][:5]
    run = session(net(name)).run
    together = np.asarray(run({"x": x})["output"])
    alone = [np.asarray(run({"x": x[i : i + 1]})["output"]) for i in range(5)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-5 * np.abs(together).max())


def test_families() -> None:
    """What each net is there for: the operators that the others do not have."""
    operators = {name: {node.op_type for node in net(name).proto.graph.node} for name in ROWS}
    assert {"BatchNormalization", "Add"} <= operators["residual.onnx"]
    assert {"MaxPool", "Flatten"} <= operators["vgg.onnx"]
    assert "BatchNormalization" not in operators["vgg.onnx"]
    assert "LSTM" in operators["lstm.onnx"]
    assert {"LayerNormalization", "Softmax", "Erf"} <= operators["vit.onnx"]
    assert {"Gemm", "Relu"} <= operators["mlp.onnx"] & operators["tabular_mlp.onnx"]
    assert "Conv" not in operators["mlp.onnx"] | operators["tabular_mlp.onnx"] | operators["lstm.onnx"]


@pytest.mark.parametrize("data", DATA)
def test_no_held_out_sample_was_trained_on(data: str) -> None:
    with np.load(DATA[data]) as arrays:
        train, test = ({row.tobytes() for row in arrays[key]} for key in ("x_train", "x_test"))
        assert len(arrays["class_names"]) == arrays["y_train"].max() + 1
    assert not train & test


def test_the_table_is_standardised_by_its_training_rows() -> None:
    with np.load(DATA["breast cancer"]) as arrays:
        x, held = arrays["x_train"].astype(np.float64), arrays["x_test"].astype(np.float64)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0), 1, rtol=1e-6)
    assert np.abs(held.mean(0)).max() > 0.01  # the held-out rows had no part in it
