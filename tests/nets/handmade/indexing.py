"""Operators that move elements: gathers, scatters, sequences, sorting, one-hot, Fourier."""

from __future__ import annotations

import numpy as np
import onnx

from tests.nets._spec import Input, image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["MODELS"]


def _end(b: Build, x: str, width: int) -> onnx.ModelProto:
    b.op("MatMul", x, b.matrix("last", width, 4), out="y")
    return b.model(_ROW, {"y": ("batch", 4)})


def _first(b: Build, width: int) -> str:
    return b.op("Relu", b.linear("x", 9, width, name="first"))


def _gathers() -> onnx.ModelProto:
    """Channels chosen by constants: a permutation, a subset, a repetition, a reversed Slice, Pad and Tile."""
    b = Build(1)
    x = _first(b, 14)
    order = b.const("order", b.rng.permutation(14), np.int64)
    some = b.const("some", [1, 3, 4, 8, -1], np.int64)
    twice = b.op("Gather", b.op("Gather", x, order, axis=1), some, axis=1)
    back = b.op("Slice", x, b.const("start", [-1], np.int64), b.const("stop", [-100], np.int64),
                b.const("axis", [1], np.int64), b.const("step", [-2], np.int64))  # fmt: skip
    padded = b.op("Pad", back, b.const("pads", [0, 1, 0, 2], np.int64))
    tiled = b.op("Tile", twice, b.const("repeats", [1, 2], np.int64))
    return _end(b, b.op("Relu", b.linear(b.op("Concat", tiled, padded, axis=1), 20, 15)), 15)


def _scatters() -> onnx.ModelProto:
    """ScatterND and ScatterElements into constant places, GatherND, GatherElements from constant ones."""
    b = Build(2)
    x = b.op("Transpose", _first(b, 12), perm=[1, 0])
    rows = b.op("GatherND", x, b.const("rows", [[7], [2], [5]], np.int64))
    x = b.op("ScatterND", x, b.const("places", [[0], [4], [9]], np.int64), rows)
    x = b.op("Transpose", x, perm=[1, 0])
    return _end(b, b.op("Relu", b.linear(x, 12, 10)), 10)


def _sequence() -> onnx.ModelProto:
    """SplitToSequence along the channels, two of the pieces by SequenceAt."""
    b = Build(3)
    pieces = b.op("SplitToSequence", _first(b, 15), b.const("sizes", [4, 6, 5], np.int64), axis=1)
    one = b.op("SequenceAt", pieces, b.const("zero", 0, np.int64))
    two = b.op("SequenceAt", pieces, b.const("last_index", -1, np.int64))
    x = b.op("Concat", b.op("Sigmoid", one), two, axis=1)
    return _end(b, b.op("Tanh", b.linear(x, 9, 11)), 11)


def _topk() -> onnx.ModelProto:
    """The three largest of 12 channels; the 12 are frozen, what feeds them is not."""
    b = Build(4)
    x = b.linear(_first(b, 16), 16, 12)
    values, _ = b.ops("TopK", x, b.const("k", [3], np.int64), out=(None, None), axis=1)
    return _end(b, values, 3)


def _cumsum() -> onnx.ModelProto:
    """CumSum over time, and ArgMax turned to OneHot."""
    b = Build(5)
    x = b.op("Unsqueeze", _first(b, 16), b.const("time", [1], np.int64))
    x = b.op("Expand", x, b.const("shape", [1, 3, 16], np.int64))
    x = b.op("CumSum", b.op("Mul", x, b.scale("steps", 3, 1)), b.const("axis1", 1, np.int64))
    x = b.linear(b.op("ReduceSum", x, "time", keepdims=0), 16, 12)
    hot = b.op("OneHot", b.op("ArgMax", x, axis=1, keepdims=0), b.const("depth", [12], np.int64),
               b.const("values", [0.0, 1.0]))  # fmt: skip
    return _end(b, b.op("Add", b.op("Tanh", x), hot), 12)


def _fourier() -> onnx.ModelProto:
    """DFT over the rows of each channel's map, its power classified."""
    b = Build(6)
    x = b.op("Relu", b.conv("x", 3, 10))
    x = b.op("DFT", b.op("Unsqueeze", x, b.const("last_axis", [4], np.int64)), "", b.const("rows", 2, np.int64))
    power = b.op("ReduceSumSquare", x, "last_axis", keepdims=0)
    x = b.op("Log", b.op("Add", power, b.const("one", 1.0)))
    b.classify(b.op("Relu", b.conv(x, 10, 8)), 8)
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _unknown() -> onnx.ModelProto:
    """An operator of a foreign domain between two linear layers."""
    b = Build(7)
    x = b.op("Foo", _first(b, 12), domain="com.acme")
    b.op("MatMul", b.op("Relu", b.linear(x, 12, 10)), b.matrix("last", 10, 4), out="y")
    return b.model(_ROW, {"y": ("batch", 4)}, domains=["com.acme"])


_ROW = (Input("x", ("batch", 9)),)
_IMAGE = (image(3, 8, 8),)

MODELS = (
    Handmade("gathers", _gathers, _ROW),
    Handmade("scatters", _scatters, _ROW),
    Handmade("sequence", _sequence, _ROW),
    Handmade("topk", _topk, _ROW),
    Handmade("cumsum_onehot", _cumsum, _ROW),
    Handmade("fourier", _fourier, _IMAGE),
    Handmade("unknown_operator", _unknown, _ROW, runs=False, notes="no runtime knows com.acme.Foo"),
)
