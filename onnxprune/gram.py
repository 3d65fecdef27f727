"""Second moments of what layers read, summed up batch by batch: all that least squares needs to know of a dataset.

For a layer ``Y = X W'`` with ``X`` (groups, samples, columns) and ``Y`` (groups, samples, rows), summed over samples::

    h = X'X  (groups, columns, columns)    xy = X'Y  (groups, columns, rows)    yy = sum y^2  (groups, rows)

The squared error that weights ``V`` make against outputs ``Y``, row by row, is ``yy - 2 v xy + v h v'``; its minimum
solves ``h v' = xy``. A sample is one example at one output position; of these as many are taken as the number of
columns asks for, drawn anew in every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from math import ceil
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import stream
from onnxprune.data import Dataset
from onnxprune.errors import UnsupportedModel
from onnxprune.model import Model
from onnxprune.values import Ints

__all__ = ["Gram", "Matrix", "enough", "fits", "gram_bytes", "grams", "in_passes"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
T = TypeVar("T")

LARGEST = 1 << 29  # bytes of h of one layer: 8192 columns
TOGETHER = 1 << 30  # bytes of all h that are held at once
PIECE = 1 << 26  # bytes of columns that are multiplied at once
PER_COLUMN = 20  # samples per column
WORK = 2e11  # multiplications of one layer from which on fewer samples per column must do
CHEAP = 1 << 13  # samples that are taken in any case, where there are so many: many positions make a fair draw
FEWEST, MOST = 256, 2048  # examples that are run, where nothing else is said


class Matrix(Protocol):
    """What a layer must know of itself: `linear.LinearLayer` is one."""

    @property
    def input(self) -> str: ...
    @property
    def groups(self) -> int: ...
    @property
    def convolves(self) -> bool: ...
    @property
    def reads(self) -> Hashable: ...
    def width(self, weight: Sequence[int]) -> int: ...
    def positions(self, shape: Sequence[int]) -> int: ...
    def columns(self, x: Array, take: Ints | None = None) -> Array: ...
    def outputs(self, y: Array, take: Ints | None = None) -> Array: ...


class Gram:
    """The second moments of one layer, float64, as sums over ``count`` samples; empty before the first batch.

    ``share``: part of each example's output positions that is looked at, at least one, drawn from ``seed`` anew in
    every batch. ``diagonal``: only the diagonal of ``h``, (groups, columns), for layers with too many columns.
    ``x`` and ``y`` may come from different models, as long as they speak of the same examples.
    """

    def __init__(self, layer: Matrix, *, share: float = 1.0, seed: int = 0, diagonal: bool = False) -> None:
        self.layer, self.share, self.diagonal = layer, share, diagonal
        self.count = 0
        self.h: Floats = np.zeros(0)
        self.xy: Floats = np.zeros(0)
        self.yy: Floats = np.zeros(0)
        self.sum_x: Floats = np.zeros(0)
        self.sum_y: Floats = np.zeros(0)
        self._rng = np.random.default_rng(seed)

    @np.errstate(invalid="ignore", over="ignore")  # what is not finite is found in the sums
    def add(self, x: Array, y: Array | None = None) -> None:
        """Take in one batch of the layer's input, and of its output (or what the output should be) where wanted.

        Raises UnsupportedModel where ``h`` would be too large.
        """
        take = self._take(x.shape)
        for inputs, outputs in self._pieces(x, y, take):
            self._add(inputs.astype(np.float64), None if outputs is None else outputs.astype(np.float64))

    @property
    def mean_x(self) -> Floats:
        """Mean of each column, (groups, columns)."""
        return self.sum_x / max(self.count, 1)

    @property
    def mean_y(self) -> Floats:
        """Mean of each row, (groups, rows)."""
        return self.sum_y / max(self.count, 1)

    @property
    def second(self) -> Floats:
        """Mean square of each column, (groups, columns)."""
        squares = self.h if self.diagonal else np.diagonal(self.h, axis1=1, axis2=2)
        return squares / max(self.count, 1)

    @property
    def finite(self) -> bool:
        """Whether no NaN and no Inf came in."""
        return bool(np.isfinite(self.h).all() and np.isfinite(self.xy).all())

    def centred(self) -> tuple[Floats, Floats]:
        """``h`` and ``xy`` of ``x`` and ``y`` less their means: for least squares with a free bias."""
        h = self.h - self.mean_x[:, :, None] * self.sum_x[:, None, :]
        xy = self.xy - self.mean_x[:, :, None] * self.sum_y[:, None, :] if self.xy.size else self.xy
        return h, xy

    def _take(self, shape: Sequence[int]) -> Ints | None:
        positions = self.layer.positions(shape)
        count = max(round(positions * self.share), 1)
        if count >= positions:
            return None
        return np.sort(self._rng.choice(positions, count, replace=False)).astype(np.int64)

    def _pieces(self, x: Array, y: Array | None, take: Ints | None) -> Iterator[tuple[Array, Array | None]]:
        """Columns and outputs, a stretch of samples at a time: unfolded kernels are many times their input."""
        if not self.layer.convolves:
            columns = self.layer.columns(x, take)
            outputs = None if y is None else self.layer.outputs(y, take)
            step = max(PIECE // (8 * columns.shape[0] * columns.shape[2]), 1)
            for i in range(0, columns.shape[1], step):
                yield columns[:, i : i + step], None if outputs is None else outputs[:, i : i + step]
            return
        single = self.layer.columns(x[:1], take).size
        step = max(PIECE // (8 * max(single, 1)), 1)
        for i in range(0, len(x), step):
            part = None if y is None else self.layer.outputs(y[i : i + step], take)
            yield self.layer.columns(x[i : i + step], take), part

    def _add(self, x: Floats, y: Floats | None) -> None:
        if not self.count:
            self._check(x.shape)
            shape = x.shape[::2]
            self.h, self.sum_x = np.zeros(shape if self.diagonal else (*shape, shape[1])), np.zeros(shape)
            if y is not None:
                self.sum_y, self.yy = np.zeros(y.shape[::2]), np.zeros(y.shape[::2])
                self.xy = np.zeros((*shape, y.shape[2]))
        self.count += x.shape[1]
        self.sum_x += x.sum(1)
        if self.diagonal:
            self.h += np.square(x).sum(1)
        else:
            for g, part in enumerate(x):  # one by one: a product with itself is half the work
                self.h[g] += part.T @ part
        if y is not None:
            self.sum_y += y.sum(1)
            self.yy += np.square(y).sum(1)
            self.xy += x.swapaxes(1, 2) @ y

    def _check(self, shape: Sequence[int]) -> None:
        size = 8 * shape[0] * shape[2] ** 2
        if size > LARGEST and not self.diagonal:
            raise UnsupportedModel(
                f"the second moments of `{self.layer.input}` ({shape[2]} columns) would take {size / 1e9:.1f} GB",
                "Leave the layer out, or measure the diagonal only.",
            )


def gram_bytes(layer: Matrix, weight: Sequence[int]) -> int:
    """Memory of ``h`` of a layer with a weight of this shape."""
    return 8 * layer.groups * layer.width(weight) ** 2


def fits(layer: Matrix, weight: Sequence[int]) -> bool:
    """Whether the layer's columns are few enough for all of ``h``."""
    return gram_bytes(layer, weight) <= LARGEST


def in_passes(items: Sequence[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Stretches of the items that together take no more memory than is held at once, or single ones."""
    part: list[T] = []
    total = 0
    for item in items:
        if part and total + size(item) > TOGETHER:
            yield part
            part, total = [], 0
        part.append(item)
        total += size(item)
    if part:
        yield part


def enough(columns: int) -> int:
    """Samples that a layer needs: 20 per column, fewer (4 at least) where that would be a great deal of work."""
    return min(PER_COLUMN * columns, max(4 * columns, int(WORK / columns**2)))


def grams(  # noqa: PLR0913 - one argument for each way of running a model
    model: Model,
    dataset: Dataset,
    layers: Sequence[Matrix],
    *,
    outputs: Sequence[str] | None = None,
    diagonal: bool = False,
    limit: int | None = None,
    seed: int = 0,
    size: int = 64,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Gram]:
    """The second moments of these layers of the main graph, in their order, from one pass over the dataset.

    ``outputs``: the tensor with the output of each layer, where ``xy`` is wanted. Layers that read the same columns
    share one object otherwise. ``limit``: examples that are looked at, drawn from the seed, each class in its share;
    by default as many as give `enough` samples, 256 to 2048. Raises as ``stream`` does, and UnsupportedModel.
    """
    if not layers:
        return []
    running: dict[str, Any] = {"provider": provider, "threads": threads}
    inputs = [layer.input for layer in layers]
    _, first = next(stream(model, dataset, inputs, limit=1, **running))
    needs = [_need(layer, first[layer.input]) for layer in layers]
    data = dataset.subset(limit or min(max(FEWEST, *(ceil(wanted / each) for wanted, each in needs)), MOST), seed)
    found: dict[Hashable, tuple[Gram, str | None]] = {}
    result = []
    for k, (layer, (wanted, each)) in enumerate(zip(layers, needs, strict=True)):
        share = min(max(wanted, CHEAP) / (each * len(data)), 1.0)
        mine = Gram(layer, share=share, seed=seed, diagonal=diagonal), outputs[k] if outputs else None
        result.append(found.setdefault(k if outputs else layer.reads, mine)[0])
    for _, values in stream(model, data, [*inputs, *(outputs or ())], size=size, progress=progress, **running):
        for gram, output in found.values():
            gram.add(values[gram.layer.input], None if output is None else values[output])
    return result


def _need(layer: Matrix, x: Array) -> tuple[int, int]:
    """Samples that the layer needs, and how many one example gives; ``x``: its input for one example."""
    columns = layer.columns(x, np.zeros(1, np.int64)).shape[2]
    each = max(layer.positions(x.shape), 1) * (1 if layer.convolves or not x.ndim else x.shape[0])
    return enough(columns), each
