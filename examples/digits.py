"""scikit-learn's handwritten digits, split once for all examples: 8 x 8 pixels in 0..1, ten classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["SEED", "Split", "load_split"]

SEED = 0
TEST_SHARE = 0.25


class Split(NamedTuple):
    """``x``: float32 (samples, 8, 8) in 0..1; ``y``: int64 (samples,)."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def load_split() -> Split:
    """A stratified quarter of the 1797 images is held out for the test."""
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 8, 8)
    y = labels.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=TEST_SHARE, stratify=y, random_state=SEED)
    return Split(x_train, y_train, x_test, y_test)
