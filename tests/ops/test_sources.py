"""Fills, ranges, unit matrices and random numbers; detectors and geometry; selections by value; text and losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune import surgery
from onnxprune.coupling import couple
from onnxprune.model import Model
from onnxprune.ops.sources import is_all_zero
from tests.ops.cases import HIDDEN, OUT, Case, Middle, Net, flat, maps, normal_input, tokens
from tests.oracle import assert_differs, assert_equal, feeds_for, run
from tests.plans import half

I64 = np.int64


def filled(value: float) -> dict[str, object]:
    return {"value": helper.make_tensor("value", TensorProto.FLOAT, [1], [value])}


# -- sources ----------------------------------------------------------------------------------------------------------


def ones_of_shape(net: Net, h: str) -> str:
    """Sizes read off the hidden layer follow by themselves."""
    return net.op("Add", h, net.op("ConstantOfShape", net.op("Shape", h), **filled(1.0)))


def ones_of_numbers(net: Net, h: str) -> str:
    """Sizes given as numbers are replaced."""
    sizes = net.op("Concat", net.op("Shape", h, end=1), net.const([HIDDEN]), axis=0)
    return net.op("Mul", h, net.op("ConstantOfShape", sizes, **filled(1.5)))


def sum_over(value: float) -> Middle:
    """h + the sum over relu(h) + fill: exact only for a fill of zeros."""

    def middle(net: Net, h: str) -> str:
        fill = net.op("ConstantOfShape", net.const([1, HIDDEN]), **filled(value))
        total = net.op("ReduceSum", net.op("Add", net.op("Relu", h), fill), net.const([1]))
        return net.op("Add", h, total)

    return middle


def fill_by_data() -> Case:
    """Sizes that depend on data: the fill stays, and so does what is added to it."""

    def build() -> Model:
        net = Net()
        sizes = net.input((2,), np.int64, "sizes")
        h = net.gemm(net.input(("n", 6)), 6, HIDDEN)
        fill = net.hint(net.op("ConstantOfShape", sizes, **filled(0.5)), ("n", HIDDEN))
        return net.model(net.gemm(net.op("Add", h, fill), HIDDEN, OUT))

    feeds = lambda model, seed: {**normal_input(model, seed, "x"), "sizes": np.array([1, 1])}  # noqa: E731
    return Case(build, units=0, frozen="depend on data", feeds=feeds)


def counted(net: Net, h: str) -> str:
    """Every channel plus its own number."""
    return net.op("Add", h, net.cast(net.op("Range", net.const(0, I64), net.const(HIDDEN, I64), net.const(1, I64))))


def unit_matrix(net: Net, h: str) -> str:
    return net.op("MatMul", h, net.op("EyeLike", net.param(HIDDEN, HIDDEN)))


def noise(op: str, **attrs: object) -> Middle:
    return lambda net, h: net.op("Add", h, net.op(op, shape=[1, HIDDEN], seed=3.0, **attrs))


def noise_like(op: str) -> Middle:
    return lambda net, h: net.op("Add", h, net.op(op, h, seed=3.0))


def bernoulli(net: Net, h: str) -> str:
    return net.op("Mul", h, net.op("Bernoulli", net.op("Sigmoid", h), seed=3.0))


def multinomial(net: Net, h: str) -> str:
    return net.cast(net.op("Multinomial", h, sample_size=HIDDEN, seed=3.0))


def strings() -> Case:
    """A table of names that nothing reads as numbers."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        names = net.op("Constant", value_strings=[b"a", b"b"])
        net.ops("StringConcat", names, names, count=1)
        return net.model(net.gemm(h, HIDDEN, OUT))

    return Case(build)


# -- detectors and geometry -------------------------------------------------------------------------------------------


def grid_sample(net: Net, h: str) -> str:
    return net.op("GridSample", h, net.input(("n", 6, 6, 2), name="grid"))


def boxes(op: str, **attrs: object) -> Case:
    """Rows of boxes out of feature maps; every box becomes an image."""

    def build() -> Model:
        net = Net()
        h = net.conv(net.input((2, 3, 6, 6)), 3, HIDDEN)
        rois = np.array([[0, 0, 4, 4], [1, 1, 5, 3], [0, 2, 3, 5]], np.float32)
        if op == "MaxRoiPool":
            inputs = [net.const(np.insert(rois, 0, [0, 1, 1], axis=1))]
        else:
            inputs = [net.const(rois), net.const([0, 1, 1], I64)]
        return net.model(net.conv(net.op(op, h, *inputs, **attrs), HIDDEN, OUT))

    return Case(build)


def deformed(**attrs: int) -> Middle:
    """A 3x3 convolution whose taps are moved by another one, with a mask on top."""

    def middle(net: Net, h: str) -> str:
        groups = attrs.get("offset_group", 1)
        offsets = net.op("Mul", net.conv(h, HIDDEN, 18 * groups, (3, 3), pads=[1] * 4), net.const(np.float32(0.05)))
        mask = net.op("Sigmoid", net.conv(h, HIDDEN, 9 * groups, (3, 3), pads=[1] * 4))
        weights = net.param(HIDDEN, HIDDEN // attrs.get("group", 1), 3, 3), offsets, net.param(HIDDEN), mask
        return net.op("DeformConv", h, *weights, pads=[1] * 4, **attrs)

    return middle


def col2im(net: Net, h: str) -> str:
    """Patches of 2x2 for each of 8 channels, put together to a map of 4x4."""
    patches = net.conv(h, HIDDEN, 4 * HIDDEN)
    patches = net.op("Reshape", patches, net.const([0, 0, -1]))
    shape = net.const([4, 4], I64), net.const([2, 2], I64)
    return net.op(
        "Col2Im", net.op("Slice", patches, net.const([0]), net.const([4]), net.const([2])), *shape, strides=[2, 2]
    )


def cropped(axes: Sequence[int] | None, *sizes: int) -> Middle:
    attrs = {} if axes is None else {"axes": list(axes)}
    return lambda net, h: net.op("CenterCropPad", h, net.const(sizes, I64), **attrs)


def unpooled(net: Net, h: str) -> str:
    y, where = net.ops("MaxPool", h, count=2, kernel_shape=[2, 2], strides=[2, 2])
    return net.op("MaxUnpool", y, where, kernel_shape=[2, 2], strides=[2, 2])


def suppressed() -> Case:
    """Boxes and scores come straight out of a layer."""

    def build() -> Model:
        net = Net()
        h = net.dense(net.input((2, 5, 6)), 6, HIDDEN)
        scores = net.op("Transpose", net.dense(h, HIDDEN, 3), perm=[0, 2, 1])
        picked = net.op("NonMaxSuppression", net.dense(h, HIDDEN, 4), scores, net.const(2, I64))
        return net.model(net.op("Cast", picked, to=TensorProto.FLOAT))

    return Case(build)


def affine() -> Case:
    """A spatial transformer: the picture is turned by what a layer makes of it."""

    def build() -> Model:
        net = Net()
        h = net.conv(net.input((3, 3, 6, 6)), 3, HIDDEN)
        mean = net.op("ReduceMean", h, net.const([2, 3]), keepdims=0)
        theta = net.op("Reshape", net.gemm(mean, HIDDEN, 6), net.const([3, 2, 3]))
        turned = net.op("GridSample", h, net.op("AffineGrid", theta, net.const([3, HIDDEN, 6, 6])))
        return net.model(net.conv(turned, HIDDEN, OUT))

    return Case(build)


# -- selections by value ----------------------------------------------------------------------------------------------


def compressed(axis: int | None) -> Case:
    """By a mask over time."""

    def build() -> Model:
        net = Net()
        h = net.dense(net.input((3, 5, 6)), 6, HIDDEN)
        keep = net.input((5,), np.bool_, "keep")
        y = net.op("Compress", h, keep, **({} if axis is None else {"axis": axis}))
        if axis is None:
            return net.model(net.op("Add", net.op("ReduceSum", y, keepdims=0), net.dense(h, HIDDEN, OUT)))
        return net.model(net.op("ReduceMax", net.dense(y, HIDDEN, OUT), net.const([axis])))

    def feeds(model: Model, seed: int) -> dict[str, np.ndarray]:
        return {**normal_input(model, seed, "x"), "keep": np.array([True, False, True, True, False])}

    if axis is None:
        return Case(build, units=0, frozen="flattened tensor", feeds=feeds)
    return Case(build, feeds=feeds)


def reversed_steps(net: Net, h: str) -> str:
    return net.op("ReverseSequence", h, net.const([2, 5, 3], I64), time_axis=1, batch_axis=0)


def non_zero(net: Net, h: str) -> str:
    """The positions of what is not 0, by row: which is all of them, if nothing was removed."""
    rows = net.cast(net.op("NonZero", h))
    return net.op("Add", h, net.op("ReduceMax", rows, keepdims=0))


def triangle(net: Net, h: str) -> str:
    """Causal: a square over time; the channels lie in front of it."""
    y = net.op("Transpose", h, perm=[0, 2, 1])
    y = net.op(
        "Trilu", net.op("Mul", net.op("Unsqueeze", y, net.const([3])), net.op("Unsqueeze", y, net.const([2]))), upper=0
    )
    return net.op("Transpose", net.op("ReduceSum", y, net.const([3]), keepdims=0), perm=[0, 2, 1])


def determinant(net: Net, h: str) -> str:
    y = net.op("Det", net.op("Softplus", h))
    return net.op("Unsqueeze", y, net.const([2, 3]))


def unique(net: Net, h: str) -> str:
    return net.op("Add", h, net.op("ReduceMax", net.op("Unique", h), keepdims=0))


# -- text and losses --------------------------------------------------------------------------------------------------


def beside_text(op: str, inputs: int = 1, count: int = 1, **attrs: object) -> Case:
    """Text beside a network: the network is pruned as if it were not there."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        words = [net.op("Constant", value_strings=[b"a b", b"c"]) for _ in range(inputs)]
        net.ops(op, *words, count=count, **attrs)
        return net.model(net.gemm(h, HIDDEN, OUT))

    return Case(build)


def loss(op: str) -> Case:
    """Classes are compared with each other; the layer in front of them is free."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.op("Relu", net.gemm(net.input((3, 6)), 6, 16)), 16, HIDDEN)
        if op == "NegativeLogLikelihoodLoss":
            h = net.op("LogSoftmax", h)
        return net.model(net.op(op, h, net.input((3,), np.int64, "labels"), reduction="none"))

    return Case(build, units=16, frozen="compares all classes|LogSoftmax")


TF_IDF = {
    "max_gram_length": 1, "max_skip_count": 0, "min_gram_length": 1, "mode": "TF", "ngram_counts": [0],
    "ngram_indexes": [0, 1], "pool_strings": [b"a", b"c"],
}  # fmt: skip
CASES = {
    ("", "ConstantOfShape"): [
        flat(ones_of_shape),
        flat(ones_of_numbers),
        flat(sum_over(0.0)),
        flat(sum_over(0.5), units=0, frozen="not zero"),
        fill_by_data(),
    ],
    ("", "Constant"): [strings()],
    ("", "Range"): [flat(counted, units=0, frozen="a value of its own")],
    ("", "EyeLike"): [flat(unit_matrix, units=0, frozen="a value of its own")],
    **{
        ("", f"Random{kind}"): [flat(noise(f"Random{kind}"), units=0, frozen="random numbers")]
        for kind in ("Normal", "Uniform")
    },
    **{
        ("", f"Random{kind}Like"): [flat(noise_like(f"Random{kind}Like"), units=0, frozen="random numbers")]
        for kind in ("Normal", "Uniform")
    },
    ("", "Bernoulli"): [flat(bernoulli, units=0, frozen="random numbers")],
    ("", "Multinomial"): [flat(multinomial, units=0, frozen="random numbers")],
    ("", "GridSample"): [maps(grid_sample)],
    ("", "RoiAlign"): [
        boxes("RoiAlign", output_height=2, output_width=2),
        boxes("RoiAlign", spatial_scale=0.5, sampling_ratio=2),
    ],
    ("", "MaxRoiPool"): [boxes("MaxRoiPool", pooled_shape=[2, 2])],
    ("", "DeformConv"): [
        maps(deformed(), units=2 * HIDDEN),
        maps(deformed(group=2), units=0, frozen="offsets of their own"),
        maps(deformed(offset_group=2), units=0, frozen="offsets of their own"),
    ],
    ("", "Col2Im"): [maps(col2im, units=2 * HIDDEN)],
    ("", "CenterCropPad"): [
        maps(cropped((2, 3), 4, 8)),
        maps(cropped(None, 3, HIDDEN, 4, 4), units=0, frozen="to a given size"),
    ],
    ("", "MaxUnpool"): [maps(unpooled, units=0, frozen="through the whole tensor")],
    ("", "NonMaxSuppression"): [suppressed()],
    ("", "AffineGrid"): [affine()],
    ("", "Compress"): [compressed(1), compressed(None)],
    ("", "ReverseSequence"): [tokens(reversed_steps)],
    ("", "NonZero"): [flat(non_zero, units=0, frozen="positions of what is not 0")],
    ("", "Trilu"): [tokens(triangle)],
    ("", "Det"): [maps(determinant, size=(3, 3))],
    ("", "Unique"): [flat(unique, units=0, frozen="compares slices")],
    ("", "StringConcat"): [beside_text("StringConcat", 2)],
    ("", "StringNormalizer"): [beside_text("StringNormalizer")],
    ("", "StringSplit"): [beside_text("StringSplit", count=2)],
    ("", "RegexFullMatch"): [beside_text("RegexFullMatch", pattern="a.*")],
    ("", "TfIdfVectorizer"): [beside_text("TfIdfVectorizer", **TF_IDF)],
    **{("", op): [loss(op)] for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")},
}
WITHOUT = {
    ("", "MaxRoiPool"): "detectors that are trained today read regions by RoiAlign",
    ("", "NonMaxSuppression"): "it gives the numbers of boxes",
    **{("", op): "what it draws has no derivative" for op in ("Bernoulli", "Multinomial")},
    **{("", op): "it works on text" for op in ("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch")},
    ("", "TfIdfVectorizer"): "it works on text",
}


def test_a_range_over_a_cut_axis_keeps_its_length() -> None:
    """``arange(width)`` of a pruned width: a number, which stays what it was."""
    net = Net()
    h = net.gemm(net.input(("n", 6)), 6, HIDDEN)
    width = net.op("Squeeze", net.op("Shape", h, start=1, end=2))
    numbers = net.cast(net.op("Range", net.const(0, I64), width, net.const(1, I64)))
    y = net.op(
        "Add", net.gemm(h, HIDDEN, OUT), net.op("ReduceSum", net.op("Mul", numbers, net.param(HIDDEN)), keepdims=0)
    )
    model = net.model(y)
    coupling = couple(model)
    assert [g.units for g in coupling.groups] == [HIDDEN]
    plan = half(coupling, 2)
    masked, removed = surgery.mask(model, coupling, plan), surgery.remove(model, coupling, plan)
    feeds = feeds_for(model, 1)
    assert_equal(run(masked, feeds), run(removed, feeds))
    assert_differs(run(model, feeds), run(masked, feeds))


@pytest.mark.parametrize(
    ("make", "zero"),
    [
        (lambda net: net.op("ConstantOfShape", net.const([2, 3])), True),
        (lambda net: net.op("ConstantOfShape", net.const([2, 3]), **filled(0.5)), False),
        (lambda net: net.op("Expand", net.const(np.zeros((1, 3), np.float32)), net.const([2, 3])), True),
        (lambda net: net.op("Concat", net.const(np.zeros(2)), net.op("Cast", net.const([0, 0]), to=11), axis=0), True),
        (lambda net: net.op("Concat", net.const(np.zeros(2)), net.const([0.0, 1.0]), axis=0), False),
        (lambda net: net.op("Slice", net.const(np.eye(3)), net.const([0]), net.const([1])), False),
        (lambda net: net.op("Cos", net.const(np.zeros(2))), False),
        (lambda net: net.input((2, 3)), False),
    ],
)
def test_zeros_are_told_by_what_fills_them(make: object, zero: bool) -> None:
    net = Net()
    tensor = make(net)
    graph = couple(net.model(net.op("Identity", tensor))).graph
    assert is_all_zero(graph, tensor) == zero
