"""Patterns of zeros that a sparse kernel can use: N of M weights in a row, and blocks of a matrix.

``"N:M"``: of every M weights in a row along the inputs of a layer, the N with the highest scores are kept and the other
M - N become zero. Along the inputs means: at one output and one position of the kernel, M input channels that follow
each other. That is what sparse tensor cores read (for a convolution, kernel positions are not mixed); for 1x1
convolutions and fully connected layers it is M columns of the (outputs, inputs) matrix in a row. The inputs of a
grouped convolution are those of one group.

``"RxC"``: the matrix of a layer, (outputs, inputs x kernel) in C order, is cut into blocks of R rows and C columns, and
whole blocks go. A block's score is the sum of the scores in it. Where R or C does not divide the matrix, the blocks at
the far border are smaller; their sum is scaled up to that of a whole block, so that being small is no reason to go.

arXiv:2104.08378 describes 2:4 and its hardware, arXiv:1911.09723 blocks for sparse convolutions on phones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import OptionError
from onnxprune.graph import Graph
from onnxprune.linear import LinearLayer, linear_layers

__all__ = ["Blocks", "KeepOf", "Pattern", "layers_of", "parse_pattern", "pattern_note"]

Array = NDArray[Any]
Bools = NDArray[np.bool_]

WRITTEN = re.compile(r"(?P<a>\d+)(?P<kind>[:x])(?P<b>\d+)")
CHUNK = 1 << 20  # elements that are ranked in one go
EXAMPLES = "For example 2:4 (two of four are kept), 1x4 or 16x1 (rows x columns of a block)."


@dataclass(frozen=True)
class KeepOf:
    """N:M. ``keep`` of every ``of`` weights in a row along the inputs stay."""

    keep: int
    of: int

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}"

    @property
    def ratio(self) -> float:
        """Share of the weights that go."""
        return 1 - self.keep / self.of

    def divides(self, layer: LinearLayer, shape: Sequence[int]) -> bool:
        """Whether the inputs of the layer can be cut into rows of ``of``."""
        return self.inputs(layer, shape) % self.of == 0

    @staticmethod
    def inputs(layer: LinearLayer, shape: Sequence[int]) -> int:
        """Length of the contracted axis inside a group, kernel positions apart."""
        return shape[layer.in_axis] // (layer.groups if layer.transposed else 1)

    def mask(self, layer: LinearLayer, scores: Array) -> Bools:
        """What goes, in the shape of the weight: in each row the lowest, ties by position."""
        matrix = layer.matrix(scores)
        rows = matrix.reshape(*matrix.shape[:2], -1, prod(layer.kernel)).swapaxes(2, 3)
        flat = rows.reshape(-1, self.of)
        gone = np.empty(flat.shape, np.bool_)
        step = max(CHUNK // self.of, 1)
        for start in range(0, len(flat), step):
            piece = slice(start, start + step)
            order = np.argsort(flat[piece], axis=1, kind="stable")
            np.put_along_axis(gone[piece], order, np.arange(self.of) < self.of - self.keep, axis=1)
        back = gone.reshape(rows.shape).swapaxes(2, 3).reshape(matrix.shape)
        return np.asarray(layer.stored(back, scores.shape))


@dataclass(frozen=True)
class Blocks:
    """RxC: whole blocks of ``rows`` x ``columns`` of the layer's matrix stay or go."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    def count(self, layer: LinearLayer, shape: Sequence[int]) -> int:
        """Number of blocks of a weight of this shape."""
        return prod(self._grid(layer, shape))

    def scores(self, layer: LinearLayer, scores: Array) -> Array:
        """One score per block, groups first, then by rows and columns."""
        matrix = layer.matrix(scores)
        sums = np.add.reduceat(matrix, self._starts(matrix.shape[1], self.rows), axis=1, dtype=np.float64)
        sums = np.add.reduceat(sums, self._starts(matrix.shape[2], self.columns), axis=2)
        high, wide = (self._sizes(n, of) for n, of in zip(matrix.shape[1:], (self.rows, self.columns), strict=True))
        whole = self.rows * self.columns
        return np.asarray((sums * (whole / np.outer(high, wide))).reshape(-1))

    def mask(self, layer: LinearLayer, blocks: Bools, shape: Sequence[int]) -> Bools:
        """What goes, in the shape of the weight, given which blocks go."""
        groups, rows, columns = self._matrix(layer, shape)
        table = blocks.reshape(self._grid(layer, shape))
        table = table[:, np.arange(rows) // self.rows][:, :, np.arange(columns) // self.columns]
        return np.asarray(layer.stored(table.reshape(groups, rows, columns), shape))

    def _grid(self, layer: LinearLayer, shape: Sequence[int]) -> tuple[int, int, int]:
        groups, rows, columns = self._matrix(layer, shape)
        return groups, -(-rows // self.rows), -(-columns // self.columns)

    @staticmethod
    def _matrix(layer: LinearLayer, shape: Sequence[int]) -> tuple[int, int, int]:
        """Groups, rows and columns of the layer's matrix."""
        ins = KeepOf.inputs(layer, shape)
        outs = shape[layer.out_axis] // (1 if layer.transposed else layer.groups)
        return layer.groups, outs, ins * prod(layer.kernel)

    @staticmethod
    def _starts(size: int, of: int) -> NDArray[np.int64]:
        return np.arange(0, size, of, dtype=np.int64)

    @classmethod
    def _sizes(cls, size: int, of: int) -> NDArray[np.int64]:
        return np.diff(np.append(cls._starts(size, of), size))


Pattern = KeepOf | Blocks


def parse_pattern(text: str) -> Pattern:
    """``"2:4"`` or ``"16x1"`` as a value. Raises OptionError."""
    found = WRITTEN.fullmatch(str(text).strip().lower())
    if found is None:
        raise OptionError(f"pattern: got {text!r}, expected N:M or a block of rows x columns", EXAMPLES)
    a, b = int(found["a"]), int(found["b"])
    if found["kind"] == ":":
        if not 0 < a < b:
            raise OptionError(f"pattern {text}: {a} of {b} weights cannot be kept while others go", EXAMPLES)
        return KeepOf(a, b)
    if a * b < 2:
        raise OptionError(f"pattern {text}: a block needs two weights at least", "For single weights leave it out.")
    return Blocks(a, b)


def pattern_note(pattern: str | Pattern | None) -> str:
    """Which runtimes make use of zeros in this pattern, in one or two sentences; None stands for single weights."""
    parsed = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    cpu = "onnxruntime on a CPU computes zeros like any other number: it gains nothing."
    if parsed is None:
        return f"Scattered zeros compress well in an archive, but few runtimes skip them. {cpu}"
    if isinstance(parsed, Blocks):
        return (
            "Blocks are for the sparse kernels of phones: TensorFlow Lite's fully connected layers (1x4), XNNPACK's 1x1"
            f" convolutions (blocks of outputs), worth it from about 70% zeros on. {cpu}"
        )
    if (parsed.keep, parsed.of) in ((2, 4), (1, 4)):
        more = "" if parsed.keep == 2 else " 1:4 satisfies 2:4 as well, and runs as fast."
        return f"2:4 is what NVIDIA's sparse tensor cores (Ampere and later) skip, through TensorRT.{more} {cpu}"
    return f"No common runtime has kernels for {parsed}; 2:4 is the one that NVIDIA's tensor cores know. {cpu}"


def layers_of(graph: Graph, names: Sequence[str], pattern: Pattern) -> dict[str, LinearLayer]:
    """The layer of each weight, by which its rows and columns are known.

    Raises OptionError naming all weights that the pattern does not fit: those that no convolution or matrix product
    reads as a plain matrix, and for N:M those whose inputs M does not divide.
    """
    layers: dict[str, LinearLayer] = {}
    for layer in linear_layers(graph):
        layers.setdefault(layer.weight, layer)
    bad = {name: "is not the matrix of a convolution or matrix product" for name in names if name not in layers}
    for name in names:
        if isinstance(pattern, KeepOf) and name in layers:
            shape = graph.weights[name].shape
            if not pattern.divides(layers[name], shape):
                length = pattern.inputs(layers[name], shape)
                bad[name] = (
                    f"axis {layers[name].in_axis} has {length} inputs, and {pattern.of} does not divide {length}"
                )
    if bad:
        listed = "".join(f"\n  `{name}` {list(graph.weights[name].shape)}: {why}" for name, why in bad.items())
        raise OptionError(
            f"pattern {pattern} does not fit {len(bad)} of {len(names)} weights:{listed}",
            f"Leave them whole: skip {', '.join(bad)}.",
        )
    return {name: layers[name] for name in names}
