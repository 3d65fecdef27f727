"""The digits CNN, its data and its scores, analysed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxprune.criteria import score
from onnxprune.data import Dataset, open_dataset
from onnxprune.experiment import analyse
from onnxprune.model import load

DEMO = Path(__file__).parents[2] / "onnxprune" / "demo_data"
MODEL, COUPLING = analyse(load(DEMO / "digits_cnn.onnx"))
DATA = open_dataset(DEMO / "digits.npz")
SCORES = score(MODEL, COUPLING)
RATIOS = (0.25, 0.5)


def few(count: int = 100, *, labels: bool = True) -> Dataset:
    """The first samples."""
    inputs = {name: np.asarray(rows)[:count] for name, rows in DATA.inputs.items()}
    return Dataset(inputs, np.asarray(DATA.labels)[:count] if labels else None)
