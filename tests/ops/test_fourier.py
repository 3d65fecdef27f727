"""Fourier transforms over one axis of a hidden layer, and the windows and filter banks around them."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Middle, Net, tokens
from tests.oracle import Array

STEPS = 5
I64 = np.int64


def spectrum(axis: int = 1, opset: int = 21, **attrs: int) -> Middle:
    """The real part of the transform over time, of which every channel has its own."""

    def middle(net: Net, h: str) -> str:
        axes = net.const([3], I64) if opset >= 13 else ""
        x = net.op("Unsqueeze", h, axes)
        inputs = () if opset < 20 else ("", net.const(axis, I64))
        y = net.op("DFT", x, *inputs, **attrs, **({} if inputs else {"axis": axis}))
        return net.op("Squeeze", net.op("Slice", y, net.const([0]), net.const([1]), net.const([3])), axes)

    return middle


def zero_kept(net: Net, h: str) -> str:
    """A removed channel has a spectrum of zeros: the sum over channels is exact behind Relu."""
    y = spectrum()(net, net.op("Relu", h))
    return net.op("Add", y, net.op("ReduceSum", y, net.const([2])))


def across_channels(net: Net, h: str) -> str:
    return spectrum(axis=2)(net, h)


def axis_by_data() -> Case:
    """Which axis is transformed is an input of the network."""

    def build() -> Model:
        net = Net()
        h = net.dense(net.input((3, 8, 6)), 6, HIDDEN)
        x = net.op("Unsqueeze", h, net.const([3], I64))
        y = net.op("DFT", x, "", net.input((), I64, "axis"))
        y = net.op("ReduceMax", net.hint(y, (3, 8, HIDDEN, 2)), net.const([3]), keepdims=0)
        return net.model(net.dense(y, HIDDEN, OUT))

    return Case(build, units=0, frozen="axis of DFT .* depends on data", runs=False)


def short_time() -> Case:
    """Frames of the signal that a layer makes; the channels of the layer behind them are free."""

    def build() -> Model:
        net = Net()
        signal = net.gemm(net.op("Relu", net.gemm(net.input((3, 6)), 6, 16)), 16, HIDDEN)
        frames = net.op(
            "STFT", net.op("Unsqueeze", signal, net.const([2])), net.const(2, I64), net.param(4), net.const(4, I64)
        )
        bins = net.op("Reshape", frames, net.const([3, -1], I64))
        return net.model(net.op("MatMul", bins, net.param(3 * 3 * 2, OUT)))

    return Case(build, units=16, frozen="STFT node .* mixes positions")


def windowed(op: str) -> Middle:
    """A window over the channels."""
    return lambda net, h: net.op("Mul", h, net.op(op, net.const(HIDDEN, I64)))


def mel(net: Net, h: str) -> str:
    """A filter bank of 8 bins out of 5."""
    sizes = net.const(HIDDEN, I64), net.const(8, I64), net.const(16, I64)
    bank = net.op("MelWeightMatrix", *sizes, net.const(np.float32(1)), net.const(np.float32(7)))
    return net.op("Add", h, net.op("MatMul", net.op("Slice", h, net.const([0]), net.const([5]), net.const([2])), bank))


WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")
CASES = {
    ("", "DFT"): [
        tokens(spectrum(), length=STEPS),
        tokens(spectrum(inverse=1), length=STEPS),
        tokens(spectrum(opset=17, onesided=1), length=STEPS, opset=17),
        tokens(zero_kept, length=STEPS),
        tokens(across_channels, length=STEPS, units=0, frozen="mixes all positions"),
        axis_by_data(),
    ],
    ("", "STFT"): [short_time()],
    ("", "MelWeightMatrix"): [tokens(mel, units=0, frozen="values follow from its length")],
    **{("", op): [tokens(windowed(op), units=0, frozen="values follow from its length")] for op in WINDOWS},
}


def transformed(
    shape: tuple[int | str, ...], length: int | None = None, opset: int = 21, axis: int = 1, **attrs: int
) -> Case:
    """A transform of a graph input, with all settings."""

    def build() -> Model:
        net = Net(opset=opset)
        x = net.input(shape)
        inputs = [x, "" if length is None else net.const(length, I64)]
        if opset >= 20:
            inputs.append(net.const(axis, I64))
        return net.model(net.op("DFT", *inputs, **attrs, **({"axis": axis} if opset < 20 else {})))

    return Case(build)


def frames(shape: tuple[int | str, ...], window: bool, length: int | None, opset: int = 21, **attrs: int) -> Case:
    """Every 3 steps, of a graph input."""

    def build() -> Model:
        net = Net(opset=opset)
        tail = [net.param(4) if window else "", "" if length is None else net.const(length, I64)]
        return net.model(net.op("STFT", net.input(shape), net.const(3, I64), *tail, **attrs))

    def feeds(_: Model, seed: int) -> dict[str, Array]:
        sizes = (2, 11 if "s" in shape else shape[1], shape[2])
        return {"x": np.random.default_rng(seed).normal(size=sizes).astype(np.float32)}

    return Case(build, feeds=feeds)


GRADIENT_CASES = {
    ("", "DFT"): [
        transformed(("n", 5, 1)),
        transformed(("n", 6, 2)),
        transformed(("n", 6, 2), inverse=1),
        transformed(("n", 5, 1), inverse=1),
        transformed(("n", 5, 1), onesided=1),
        transformed(("n", 6, 3, 1), onesided=1),
        transformed(("n", 5, 1), length=8),
        transformed(("n", 5, 1), length=8, onesided=1),
        transformed(("n", 5, 2), length=3),
        transformed(("n", 5, 2), length=3, inverse=1),
        transformed(("n", "s", 1)),
        transformed(("n", "s", 2), length=4),
        transformed(("n", 4, 2), inverse=1, onesided=1),
        transformed(("n", 4, 2), length=7, inverse=1, onesided=1),
        transformed(("n", 4, 2), length=4, inverse=1, onesided=1),
        transformed(("n", 5, 1), opset=18, onesided=1),
        transformed((2, 3, 5, 2), opset=18, axis=2, inverse=1),
        transformed((2, 3, 5, 2), axis=-2),
    ],
    ("", "STFT"): [
        frames(("n", 10, 1), window=True, length=4),
        frames(("n", 10, 1), window=True, length=None),
        frames(("n", 10, 1), window=False, length=5, onesided=0),
        frames(("n", 10, 2), window=False, length=4, onesided=0),
        frames(("n", "s", 1), window=True, length=4),
        frames((2, 10, 1), window=True, length=4, opset=18),
    ],
}
