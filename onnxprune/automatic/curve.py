"""A monotone curve through measured points, and how far from it a new measurement may lie.

Two ways. ``linear``: straight lines between adjacent points, as CNNPruner draws them. ``pchip``: the points are first
made monotone (isotonic regression: neighbours that contradict the direction are replaced by their mean), then joined by
a monotone cubic (Fritsch and Carlson 1980). Both keep the axis of points as it is: nothing is said outside of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

__all__ = ["LINEAR", "METHODS", "PCHIP", "Curve", "chosen_method"]

Floats = NDArray[np.float64]

LINEAR, PCHIP = "linear", "pchip"
METHODS = ("auto", LINEAR, PCHIP)
ENOUGH = 4  # points from which on a cubic has two that can be left out to see how well it predicts


def chosen_method(method: str, points: int) -> str:
    """``auto``: a cubic from four points on, lines below that."""
    if method != "auto":
        return method
    return PCHIP if points >= ENOUGH else LINEAR


@dataclass(frozen=True, eq=False)
class Curve:
    """``y`` over ``x`` (strictly increasing). ``noise``: standard error of each ``y``. ``rising``: whether y rises."""

    x: Floats
    y: Floats
    noise: Floats
    method: str = LINEAR
    rising: bool = True

    @cached_property
    def _fitted(self) -> Floats:
        if self.method == LINEAR:
            return self.y
        return np.asarray(isotonic_regression(self.y, increasing=self.rising).x, np.float64)

    def __call__(self, at: float | Floats) -> Floats:
        """The curve at some places inside of its ends."""
        if self.method == LINEAR:
            return np.asarray(np.interp(at, self.x, self.y), np.float64)
        return np.asarray(self._cubic(at), np.float64)

    @cached_property
    def _cubic(self) -> PchipInterpolator:
        return PchipInterpolator(self.x, self._fitted)

    def spread(self, at: float | Floats) -> Floats:
        """Standard deviation of a measurement around the curve.

        linear: ``s^2 = t (1 - t) (y_b - y_a)^2 + e^2`` at the share t of the way from point a to point b: that of a
        curve that makes its whole change in one jump at an unknown place between them, whose mean is the line.
        pchip: ``s^2 = max(r^2, e^2)`` with r^2 the squared errors made when each inner point in turn is predicted from
        the others, the mean of three neighbours, interpolated. In both, e is the sampling error of the measured values,
        interpolated.
        """
        places = np.asarray(at, np.float64)
        error = np.interp(places, self.x, self.noise)
        if self.method == PCHIP:
            return np.asarray(np.sqrt(np.maximum(self._left_out(places), error**2)), np.float64)
        right = np.clip(np.searchsorted(self.x, places), 1, self.x.size - 1)
        x, y = self.x, self.y
        share = (places - x[right - 1]) / (x[right] - x[right - 1])
        jump = share * (1 - share) * (y[right] - y[right - 1]) ** 2
        return np.asarray(np.sqrt(jump + error**2), np.float64)

    def _left_out(self, at: Floats) -> Floats:
        """Squared error of predicting what was left out, near some places; 0 without inner points."""
        squares = self._squares
        if not squares.size:
            return np.zeros_like(at)
        window = np.ones(3)
        near = (np.convolve(each, window)[1:-1] for each in (squares, np.ones_like(squares)))
        return np.asarray(np.interp(at, self.x[1:-1], np.divide(*near)), np.float64)

    @cached_property
    def _squares(self) -> Floats:
        errors = []
        for k in range(1, self.x.size - 1):
            rest = np.arange(self.x.size) != k
            others = Curve(self.x[rest], self.y[rest], self.noise[rest], self.method, self.rising)
            errors.append(float(others(self.x[k]) - self.y[k]))
        return np.square(np.array(errors, np.float64))
