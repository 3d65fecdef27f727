"""Regression: squared and absolute error over all values, and the share of the labels' variance that is explained.

R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2 for each output of a sample, then the mean over outputs; outputs whose
labels are all equal have none. The variance is merged batch by batch around running means, so that large labels do
not cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate.layout import Asked, Layout
from onnxprune.evaluate.metric import measured
from onnxprune.evaluate.result import Evaluation
from onnxprune.evaluate.scores import check_numbers
from onnxprune.evaluate.tally import mean_of

__all__ = ["Regression"]

Array = NDArray[Any]


class Regression:
    """Mean squared error, its root, mean absolute error, R2."""

    def __init__(self, layout: Layout, asked: Asked) -> None:
        if asked.top_k is not None:
            raise OptionError(f"top-{asked.top_k} accuracy: a regression has no classes", "Leave it out.")
        self.layout = layout
        self.count = 0
        self.mean: Array = np.zeros(1)
        self.spread: Array = np.zeros(1)
        self.squares: Array = np.zeros(1)
        self.absolute = 0.0

    def add(self, outputs: Mapping[str, Array], labels: Array, start: int) -> None:
        """``start``: number of the first sample."""
        output = outputs[self.layout.output]
        check_numbers(output, f"output `{self.layout.output}`", start)
        wanted = labels.reshape(len(labels), -1).astype(np.float64)
        self._check(wanted, start)
        error = output.reshape(wanted.shape).astype(np.float64) - wanted
        self.squares = self.squares + (error**2).sum(axis=0)
        self.absolute += float(np.abs(error).sum())
        mean = wanted.mean(axis=0)
        self._join(len(wanted), mean, ((wanted - mean) ** 2).sum(axis=0))

    def merge(self, after: Regression) -> None:
        """Add what was summed up over the samples that follow."""
        self.squares = self.squares + after.squares
        self.absolute += after.absolute
        self._join(after.count, after.mean, after.spread)

    def _join(self, count: int, mean: Array, spread: Array) -> None:
        """The mean and the squared distances from it, of the samples so far and of ``count`` more."""
        total = self.count + count
        gap = mean - self.mean
        self.spread = self.spread + spread + gap**2 * (self.count * count / total)
        self.mean = self.mean + gap * (count / total)
        self.count = total

    def _check(self, wanted: Array, start: int) -> None:
        bad = ~np.isfinite(wanted)
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            raise DataError(
                f"{self.layout.name}: label {wanted[row][bad[row]][0]} in row {start + row}",
                "Leave out samples without a target, or give them one.",
            )

    def finish(self) -> Evaluation:
        values = self.count * self.squares.size
        mse = float(self.squares.sum()) / values
        varied = self.spread > 0
        r2 = mean_of((1 - self.squares[varied] / self.spread[varied]).tolist())
        metrics = (
            measured("mse", mse),
            measured("rmse", mse**0.5),
            measured("mae", self.absolute / values),
            measured("r2", r2),
        )
        notes = () if varied.all() else ("labels that are all equal have no R2",)
        return Evaluation("regression", self.count, metrics, notes=notes)
