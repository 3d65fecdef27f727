"""Fourier transforms over one axis of a hidden layer, and the windows and filter banks around them."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Middle, Net, tokens

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
