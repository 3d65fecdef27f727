"""Lookahead the slow way: one loop over the entries of a weight, straight from the definition.

Weights are (outputs, inputs, kernel...). What is in front of and behind a layer is put together by the tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score_weights
from onnxprune.model import Model, from_proto
from tests.nets._spec import Input
from tests.nets.handmade._build import Build

__all__ = ["Net", "lookahead", "made", "model_of", "plus", "read", "scores_of", "times"]


class Net(Build):
    """A builder that remembers its weights as arrays."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.arrays: dict[str, np.ndarray] = {}

    def const(self, name: str, value: object, dtype: object = np.float32) -> str:
        self.arrays[name] = np.asarray(value, dtype)
        return super().const(name, value, dtype)

    def norm(self, x: str, name: str, channels: int) -> str:
        parts = [self.scale(f"{name}.0", channels), self.bias(f"{name}.1", channels), self.bias(f"{name}.2", channels)]
        return self.op("BatchNormalization", x, *parts, self.scale(f"{name}.3", channels))

    def gains(self, name: str) -> list[float]:
        return gain(tuple(self.arrays[f"{name}.{k}"] for k in range(4)))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[f"{name}.weight"]


def times(*vectors: list[float]) -> list[float]:
    return [float(x) for x in np.prod(np.array(vectors, np.float64), axis=0)]


def plus(*vectors: list[float]) -> list[float]:
    return [float(x) for x in np.sum(np.array(vectors, np.float64), axis=0)]


def made(weight: np.ndarray) -> list[float]:
    """Per output: the sum of the squares of all weights that produce it."""
    result = [0.0] * weight.shape[0]
    for place in np.ndindex(weight.shape):
        result[place[0]] += float(weight[place]) ** 2
    return result


def read(weight: np.ndarray) -> list[float]:
    """Per input: the sum of the squares of all weights that read it."""
    result = [0.0] * weight.shape[1]
    for place in np.ndindex(weight.shape):
        result[place[1]] += float(weight[place]) ** 2
    return result


def lookahead(weight: np.ndarray, front: Iterable[float] | None = None, behind: Iterable[float] | None = None) -> Any:
    """w^2 P_j N_k of every entry; 1 where there is no neighbour."""
    p = [1.0] * weight.shape[1] if front is None else list(front)
    n = [1.0] * weight.shape[0] if behind is None else list(behind)
    result = np.zeros(weight.shape)
    for place in np.ndindex(weight.shape):
        result[place] = float(weight[place]) ** 2 * p[place[1]] * n[place[0]]
    return result


def gain(norm: tuple[np.ndarray, ...], epsilon: float = 1e-5) -> list[float]:
    """gamma^2 / (var + epsilon) of a BatchNorm (scale, bias, mean, variance)."""
    return [float(g) ** 2 / (float(v) + epsilon) for g, v in zip(norm[0], norm[3], strict=True)]


def model_of(b: Build, y: str, x: Input, rank: int) -> Model:
    """The collected nodes as a model with one input and one output."""
    return from_proto(b.model([x], {y: ["batch", *(f"d{i}" for i in range(rank - 1))]}))


def scores_of(model: Model, criterion: str = "lap", **options: Any) -> dict[str, np.ndarray]:
    """The scores of all weights, and the check that all are there."""
    found = score_weights(model, couple(model), criterion, Settings(**options))
    return {name: found[name] for name in found}
