"""Layers as matrices: every convolution and matrix product with a constant weight seen as ``Y = X W' + b``.

``W`` is (groups, rows, columns): one row per output, one column per input (and per position of the kernel, in C order
of (input, kernel)), both inside their group. ``X`` is (groups, samples, columns), one sample per example and output
position: what the kernel sees there, padding included. ``Y`` is (groups, samples, rows), before the bias. A transposed
convolution is the ordinary one of its zero-stuffed input with the kernel turned round.

Nothing here runs a model; ``columns`` and ``outputs`` rearrange activations that were measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onnxprune.graph import Graph
from onnxprune.nodes import Node
from onnxprune.stored import is_float
from onnxprune.values import Ints

__all__ = ["LinearLayer", "linear_layers"]

Array = NDArray[Any]

CONVOLUTIONS = frozenset(("Conv", "FusedConv"))
PRODUCTS = frozenset(("MatMul", "FusedMatMul", "Gemm"))
GEOMETRY = ("strides", "pads", "dilations", "auto_pad", "output_padding", "output_shape")
MOVES = frozenset(("Identity", "Transpose", "Cast"))  # what may stand between a constant and its layer


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """One node that multiplies its input by a constant.

    ``weight``: the constant as stored; its axis ``out_axis`` counts outputs (inside a group, for a grouped transposed
    convolution), ``in_axis`` inputs (inside a group, for a grouped convolution). ``input`` and ``output``: tensors of
    the data; ``output`` is that of the node itself. ``bias``: the constant added to it, by the node or by the Add
    right behind it, "" where there is none; ``biased``: the tensor with the bias in it. ``left``: the weight is the
    first factor, so that the inputs lie on the last axis but one.
    """

    node: Node
    weight: str
    input: str
    output: str
    biased: str
    bias: str
    out_axis: int
    in_axis: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    left: bool = False

    @property
    def convolves(self) -> bool:
        return self.node.op in CONVOLUTIONS or self.transposed

    @property
    def transposed(self) -> bool:
        """Whether this is a transposed convolution."""
        return self.node.op == "ConvTranspose"

    @property
    def in_main_graph(self) -> bool:
        """Whether the activations can be measured: the node is not inside the body of control flow."""
        return len(self.node.where) == 1

    @property
    def depthwise(self) -> bool:
        """Whether every group reads one channel."""
        return self.groups > 1 and self.node.attrs.get("group", 1) == self.groups

    @property
    def reads(self) -> Hashable:
        """Equal for layers of one model whose columns are the same."""
        geometry = tuple((k, repr(self.node.attrs.get(k))) for k in GEOMETRY) if self.convolves else ()
        flipped = bool(self.node.attrs.get("transA", 0))
        return self.input, self.convolves, self.transposed, self.groups, self.kernel, self.left, flipped, geometry

    def width(self, weight: Sequence[int]) -> int:
        """Number of columns, from the shape of the stored weight."""
        inputs = weight[self.in_axis] // (self.groups if self.transposed else 1)
        return inputs * prod(self.kernel)

    def matrix(self, weight: Array) -> Array:
        """The stored weight as (groups, rows, columns); a view where possible."""
        if self.transposed:  # (I, O/g, kernel): turn the kernel round
            ins, outs = weight.shape[:2]
            turned = weight[(slice(None), slice(None), *(slice(None, None, -1) for _ in self.kernel))]
            split = turned.reshape(self.groups, ins // self.groups, outs, *self.kernel)
            return split.swapaxes(1, 2).reshape(self.groups, outs, -1)
        if self.convolves:
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        return (weight if self.out_axis < self.in_axis else weight.T)[None]

    def stored(self, matrix: Array, shape: Sequence[int]) -> Array:
        """The inverse of ``matrix``, for a weight of this shape."""
        if self.transposed:
            ins, outs = shape[:2]
            split = matrix.reshape(self.groups, outs, ins // self.groups, *self.kernel).swapaxes(1, 2)
            turned = split.reshape(shape)
            return np.ascontiguousarray(
                turned[(slice(None), slice(None), *(slice(None, None, -1) for _ in self.kernel))]
            )
        if self.convolves:
            return matrix.reshape(shape)
        return np.ascontiguousarray(matrix[0] if self.out_axis < self.in_axis else matrix[0].T)

    def positions(self, shape: Sequence[int]) -> int:
        """Samples that one example of this input shape (batch included) gives: output positions, or vectors."""
        if not self.convolves:
            return prod(shape) // max(shape[0] * self._features(shape), 1) if len(shape) > 1 else 1
        return prod(windows for windows in self._windows(shape[2:]))

    def columns(self, x: Array, take: Ints | None = None) -> Array:
        """The input of the layer as (groups, samples, columns), samples by example, then by position.

        ``take``: the positions wanted, of those that ``positions`` counts (the same in every example).
        """
        if not self.convolves:
            return self._vectors(x, take)[None]
        windows = self._unfold(x)  # (n, channels, *positions, *kernel)
        n, channels, rank = windows.shape[0], windows.shape[1], len(self.kernel)
        order = (0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
        moved = windows.transpose(order)
        if take is not None:
            where: tuple[Any, ...] = (slice(None), *np.unravel_index(take, windows.shape[2 : 2 + rank]))
            moved = moved[where]
        picked = moved.reshape(n, -1, channels, prod(self.kernel))
        samples = picked.reshape(-1, self.groups, channels // self.groups * prod(self.kernel))
        return samples.swapaxes(0, 1)

    def outputs(self, y: Array, take: Ints | None = None) -> Array:
        """What the layer puts out, arranged as (groups, samples, rows), samples in the order of ``columns``."""
        if not self.convolves:
            return self._vectors(y, take)[None]
        flat = y.reshape(y.shape[0], y.shape[1], -1)
        flat = flat if take is None else flat[:, :, take]
        samples = flat.swapaxes(1, 2).reshape(-1, self.groups, y.shape[1] // self.groups)
        return samples.swapaxes(0, 1)

    def _features(self, shape: Sequence[int]) -> int:
        return shape[-2] if self.left else shape[-1]

    def _vectors(self, x: Array, take: Ints | None) -> Array:
        if self.left:
            x = x.swapaxes(-1, -2)
        elif self.node.attrs.get("transA", 0):
            x = x.T
        if take is not None and x.ndim > 1:
            x = x.reshape(x.shape[0], -1, x.shape[-1])[:, take]
        return x.reshape(-1, x.shape[-1])

    def _windows(self, spatial: Sequence[int]) -> list[int]:
        """Number of output positions along each spatial axis."""
        strides, dilations, pads = self._geometry(spatial)
        if self.transposed:
            spatial = [(s - 1) * stride + 1 for s, stride in zip(spatial, strides, strict=True)]
            strides = [1] * len(strides)
        return [
            (s + a + b - (k - 1) * d - 1) // stride + 1
            for s, (a, b), k, d, stride in zip(spatial, pads, self.kernel, dilations, strides, strict=True)
        ]

    def _geometry(self, spatial: Sequence[int]) -> tuple[list[int], list[int], list[tuple[int, int]]]:
        """Strides, dilations, and the padding at both ends (of the zero-stuffed input, where transposed)."""
        attrs, rank = self.node.attrs, len(self.kernel)
        strides, dilations = (list(attrs.get(k) or [1] * rank) for k in ("strides", "dilations"))
        flat = list(attrs.get("pads") or [0] * 2 * rank)
        pads = list(zip(flat[:rank], flat[rank:], strict=True))
        mode = attrs.get("auto_pad", "NOTSET")
        mode = mode.decode() if isinstance(mode, bytes) else mode
        reach = [(k - 1) * d for k, d in zip(self.kernel, dilations, strict=True)]
        if mode.startswith("SAME") and not self.transposed:
            needed = [max((-(-s // t) - 1) * t + r + 1 - s, 0) for s, t, r in zip(spatial, strides, reach, strict=True)]
            pads = [_halves(total, upper=mode == "SAME_UPPER") for total in needed]
        elif mode == "VALID" and not self.transposed:
            pads = [(0, 0)] * rank
        if self.transposed:
            pads = self._transposed_pads(spatial, strides, reach, pads, mode)
        return strides, dilations, pads

    def _transposed_pads(
        self,
        spatial: Sequence[int],
        strides: Sequence[int],
        reach: Sequence[int],
        pads: Sequence[tuple[int, int]],
        mode: str,
    ) -> list[tuple[int, int]]:
        """ONNX: output = stride (input - 1) + output_padding + reach + 1 - begin - end."""
        extra = list(self.node.attrs.get("output_padding") or [0] * len(strides))
        wanted = self.node.attrs.get("output_shape")
        same = mode.startswith("SAME")
        if wanted or same:
            sizes = list(wanted) if wanted else [s * t for s, t in zip(spatial, strides, strict=True)]
            total = [
                t * (s - 1) + e + r + 1 - size
                for s, t, e, r, size in zip(spatial, strides, extra, reach, sizes[-len(strides) :], strict=True)
            ]
            pads = [_halves(max(n, 0), upper=mode == "SAME_UPPER") for n in total]
        return [(r - a, r - b + e) for (a, b), r, e in zip(pads, reach, extra, strict=True)]

    def _unfold(self, x: Array) -> Array:
        """A view (n, channels, *positions, *kernel) of the padded input."""
        rank = len(self.kernel)
        strides, dilations, pads = self._geometry(x.shape[2:])
        if self.transposed:
            stuffed = np.zeros(
                (*x.shape[:2], *((s - 1) * t + 1 for s, t in zip(x.shape[2:], strides, strict=True))), x.dtype
            )
            stuffed[(slice(None), slice(None), *(slice(None, None, t) for t in strides))] = x
            x, strides = stuffed, [1] * rank
        crop = tuple(slice(max(-a, 0), s - max(-b, 0)) for s, (a, b) in zip(x.shape[2:], pads, strict=True))
        x = x[(slice(None), slice(None), *crop)]
        x = np.pad(x, ((0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in pads)))
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, dilations, strict=True))
        windows = sliding_window_view(x, reach, axis=tuple(range(2, 2 + rank)))
        every = (slice(None), slice(None), *(slice(None, None, t) for t in strides))
        return windows[(*every, *(slice(None, None, d) for d in dilations))]


def _halves(total: int, *, upper: bool) -> tuple[int, int]:
    """An odd one goes to the end with SAME_UPPER, to the beginning with SAME_LOWER."""
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def linear_layers(graph: Graph) -> tuple[LinearLayer, ...]:
    """The layers of a model in execution order: Conv, ConvTranspose, and MatMul or Gemm with a constant factor."""
    return tuple(layer for node in graph.nodes for layer in _layer(graph, node))


def _layer(graph: Graph, node: Node) -> Iterator[LinearLayer]:
    if node.op in CONVOLUTIONS or (node.op == "ConvTranspose" and not node.domain):
        yield from _convolution(graph, node)
    elif node.op in PRODUCTS:
        yield from _product(graph, node)


def _convolution(graph: Graph, node: Node) -> Iterator[LinearLayer]:
    weight, axes = _constant(graph, node.input(1))
    shape = graph.shapes.get(weight, ())
    if not weight or len(shape) < 3 or axes != tuple(range(len(shape))):
        return
    transposed = node.op == "ConvTranspose"
    bias = node.input(2) if node.input(2) in graph.weights else ""
    yield LinearLayer(
        node, weight, node.input(0), node.output(0), node.output(0), bias, int(transposed), int(not transposed),
        node.attrs.get("group", 1), tuple(shape[2:]),
    )  # fmt: skip


def _product(graph: Graph, node: Node) -> Iterator[LinearLayer]:
    gemm = node.op == "Gemm"
    for k in (1,) if gemm else (1, 0):
        weight, axes = _constant(graph, node.input(k))
        other = node.input(1 - k)
        if not weight or len(axes) != 2 or other in graph.weights or other not in graph.shapes:
            continue
        flipped = bool(node.attrs.get("transB" if k else "transA", 0))
        rows, columns = (axes[1], axes[0]) if (k == 1) != flipped else (axes[0], axes[1])
        bias, biased = _bias(graph, node)
        yield LinearLayer(node, weight, other, node.output(0), biased, bias, rows, columns, left=k == 0)
        return


def _bias(graph: Graph, node: Node) -> tuple[str, str]:
    """The constant that is added, and the tensor that has it: by Gemm itself, or by the one Add behind a MatMul."""
    y = node.output(0)
    if node.op == "Gemm":
        return (node.input(2) if node.input(2) in graph.weights else ""), y
    readers = graph.consumers.get(y, ())
    if len(readers) == 1 and readers[0][0].op == "Add" and y not in graph.outputs:
        add, k = readers[0]
        other = add.input(1 - k)
        if other in graph.weights and len(graph.shapes[other]) == 1:
            return other, add.output(0)
    return "", y


def _constant(graph: Graph, tensor: str) -> tuple[str, tuple[int, ...]]:
    """The floating-point constant behind a tensor, and which of its axes each axis of the tensor is; "" for none."""
    axes = tuple(range(len(graph.shapes.get(tensor, ()))))
    while tensor not in graph.weights:
        node = graph.producer.get(tensor)
        if node is None or node.op not in MOVES or node.domain:
            return "", ()
        if node.op == "Transpose":
            perm = node.attrs.get("perm") or tuple(reversed(range(len(axes))))
            axes = tuple(perm[a] for a in axes)
        tensor = node.input(0)
    return (tensor, axes) if is_float(graph.weights[tensor]) else ("", ())
