"""The figures that were promised: the digits CNN from fresh weights, and back after 80% of its units are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Dataset, open_dataset
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse, prune
from onnxprune.model import Model, load
from onnxprune.surgery import remove
from onnxprune.train import initialise, train

ROOT = Path(__file__).parents[2]
NET = ROOT / "examples" / "digits_cnn.onnx"
DATA = ROOT / "onnxprune" / "demo_data" / "digits.npz"


@pytest.fixture(scope="module")
def parts() -> tuple[Dataset, Dataset]:
    return open_dataset(DATA, "train"), open_dataset(DATA, "test")


@pytest.fixture(scope="module")
def small() -> Model:
    return prune(load(NET), ratio=0.8, round_to=1, measure=False).model


def accuracy(model: Model, data: Dataset) -> float:
    return evaluate(model, data, curves="none").value("accuracy")


def test_from_fresh_weights(parts: tuple[Dataset, Dataset]) -> None:
    model, _ = initialise(load(NET))
    found = train(model, parts[0], validation=parts[1], target=("accuracy", 0.98), threads=1)
    assert found.stopped == "target accuracy"
    assert accuracy(found.model, parts[1]) >= 0.98


def test_back_by_fine_tuning(parts: tuple[Dataset, Dataset], small: Model) -> None:
    before = accuracy(load(NET), parts[1])
    assert accuracy(small, parts[1]) < 0.5
    found = train(small, parts[0], validation=parts[1], target=("accuracy", before - 0.01), threads=1)
    assert found.stopped == "target accuracy"
    assert accuracy(found.model, parts[1]) >= before - 0.01


def test_back_by_distillation_without_labels(parts: tuple[Dataset, Dataset], small: Model) -> None:
    original = load(NET)
    bare, held = (replace(part, labels=None) for part in parts)
    found = train(small, bare, validation=held, teacher=original, epochs=30, threads=1)
    assert accuracy(found.model, parts[1]) >= accuracy(original, parts[1]) - 0.015


def test_a_mask_that_was_trained_can_be_removed(parts: tuple[Dataset, Dataset]) -> None:
    """What is masked stays out of it, in convolutions, BatchNorm and behind them."""
    pruned = prune(load(NET), ratio=0.5, round_to=1, mode="mask", measure=False)
    found = train(pruned.model, parts[0], validation=parts[1], samples=256, epochs=2, threads=1)
    assert found.best_epoch > 0
    model, coupling = analyse(found.model)
    small = remove(model, coupling, replace(pruned.plan, model_hash=coupling.model_hash))
    assert np.array_equal(predictions(small, parts[1]), predictions(model, parts[1]))
    assert small.nbytes < 0.4 * model.nbytes


def predictions(model: Model, data: Dataset) -> Any:
    return evaluate(model, data, curves="none").predictions
