"""Operators that move, split, join and index axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.model import Model
from onnxprune.values import Options
from tests.ops.cases import HIDDEN, OUT, Case, Net, flat, maps, normal_input, tokens

I64 = np.int64


def attention(options: Options | None = None, units: int = 4, computed: bool = False) -> Case:
    """Multi-head attention out of Reshape and Transpose: 12 = 4 heads x 3; ``computed``: targets made from Shape."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", "s", 6))
        q, k, v = (_split_heads(net, x, net.dense(x, 6, 12), computed) for _ in range(3))
        scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
        y = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
        y = net.op("Transpose", y, perm=[0, 2, 1, 3])
        y = net.op("Reshape", y, _target(net, x, [12], computed))
        return net.model(net.dense(y, 12, OUT))

    return Case(build, units=units, options=options or Options())


def _split_heads(net: Net, x: str, y: str, computed: bool) -> str:
    return net.op("Transpose", net.op("Reshape", y, _target(net, x, [4, 3], computed)), perm=[0, 2, 1, 3])


def _target(net: Net, x: str, rest: Sequence[int], computed: bool) -> str:
    if not computed:
        return net.const([0, 0, *rest], I64)
    shape = net.op("Shape", x)
    batch, length = (net.op("Gather", shape, net.const([i], I64)) for i in (0, 1))
    return net.op("Concat", batch, length, net.const(list(rest), I64), axis=0)


def inferred_target(net: Net, h: str) -> str:
    """(n, 8, 2, 2) -> (n, 32) with -1, then a dense layer on channels x space, and back."""
    h = net.op("Reshape", h, net.const([0, -1], I64))
    return net.op("Reshape", net.gemm(h, 32, HIDDEN), net.const([0, 0, 1, 1], I64))


def incommensurable(net: Net, h: str) -> str:
    """(n, 8, 3) -> (n, 6, 4) has no common factors."""
    h = net.op("Reshape", net.gemm(h, HIDDEN, 24), net.const([0, 8, 3], I64))
    return net.op("Reshape", net.op("Reshape", h, net.const([0, 6, 4], I64)), net.const([0, 24], I64))


def target_from_data() -> Case:
    def build() -> Model:
        net = Net()
        h = net.gemm(net.input((2, 6)), 6, HIDDEN)
        target = net.input((2,), np.int64, "target")
        return net.model(net.gemm(net.hint(net.op("Reshape", h, target), (2, HIDDEN)), HIDDEN, OUT))

    feeds = lambda model, seed: {**normal_input(model, seed, "x"), "target": np.array([-1, HIDDEN])}  # noqa: E731
    return Case(build, units=0, frozen="depends on data", feeds=feeds)


def flatten(net: Net, h: str) -> str:
    h = net.op("Flatten", h)
    return net.op("Unsqueeze", net.gemm(h, HIDDEN * 36, HIDDEN), net.const([2, 3], I64))


def fused_qkv(net: Net, h: str) -> str:
    """(n, s, 24) -> (n, s, 3, 4, 2): the q/k/v axis ends in pieces of size 1, so the heads are what goes."""
    h = net.op("Reshape", net.dense(h, HIDDEN, 24), net.const([0, 0, 3, 4, 2], I64))
    h = net.op("Transpose", h, perm=[2, 0, 3, 1, 4])
    parts = net.ops("Split", h, count=3, axis=0, num_outputs=3)
    q, k, v = (net.op("Squeeze", p, net.const([0], I64)) for p in parts)
    scores = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    y = net.op("Transpose", net.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    return net.op("Reshape", y, net.const([0, 0, 8], I64))


def shuffle(net: Net, h: str) -> str:
    """A channel shuffle in front of a dense convolution: every channel stays free."""
    h = net.op("Reshape", h, net.const([0, 2, 4, 6, 6], I64))
    h = net.op("Transpose", h, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", h, net.const([0, HIDDEN, 6, 6], I64))


def squeezed(net: Net, h: str) -> str:
    h = net.op("Unsqueeze", h, net.const([0, 2], I64))
    return net.op("Squeeze", net.op("Relu", h), net.const([0, 2], I64))


def squeeze_all(net: Net, h: str) -> str:
    """No axes: every axis of size 1 goes."""
    return net.op("Squeeze", net.op("Unsqueeze", h, net.const([1], I64)))


def expanded(net: Net, h: str) -> str:
    """A gate (n, 8, 1, 1) stretched over space, and a constant stretched over the batch."""
    gate = net.op("Sigmoid", net.op("GlobalAveragePool", h))
    return net.op("Mul", h, net.op("Expand", gate, net.op("Shape", h)))


def expanded_constant(net: Net, h: str) -> str:
    return net.op("Mul", h, net.op("Expand", net.param(HIDDEN, 1, 1), net.const([1, HIDDEN, 6, 6], I64)))


def tiled(net: Net, h: str) -> str:
    return net.op("Tile", h, net.const([1, 3], I64))


def tiled_rows(net: Net, h: str) -> str:
    return net.op("ReduceSum", net.op("Tile", h, net.const([1, 2, 1], I64)), net.const([1], I64))


def tiled_by_shape(net: Net, h: str) -> str:
    """Repeats come out of shape arithmetic."""
    one = net.op("Div", net.op("Shape", h), net.op("Shape", h))
    return net.op("Tile", h, net.op("Mul", one, net.const([1, 2], I64)))


def expanded_new_axis(net: Net, h: str) -> str:
    """A number per row, stretched over the units: the target follows the cut."""
    row = net.gemm(h, HIDDEN, 1)
    return net.op("Mul", h, net.op("Expand", row, net.const([1, HIDDEN], I64)))


def squeeze_attribute(net: Net, h: str) -> str:
    return net.op("Squeeze", net.op("Unsqueeze", h, axes=[0, 3]), axes=[-1, 0])


def flatten_at(axis: int) -> Case:
    """(n, 5, 8) -> two axes at another place, and back."""

    def middle(net: Net, h: str) -> str:
        return net.op("Reshape", net.op("Relu", net.op("Flatten", h, axis=axis)), net.const([-1, 5, HIDDEN], I64))

    return tokens(middle)


def zero_means_zero(net: Net, h: str) -> str:
    """With allowzero there is no copying: the sizes are written out."""
    return net.op("Reshape", h, net.const([-1, HIDDEN, 1, 1], I64), allowzero=1)


def windows(net: Net, h: str) -> str:
    """(n, 8, 6, 6) -> windows of 3 x 3 -> attention-like product -> back: space moves, channels are free."""
    h = net.op("Reshape", h, net.const([-1, HIDDEN, 2, 3, 2, 3], I64))
    h = net.op("Reshape", net.op("Transpose", h, perm=[0, 2, 4, 3, 5, 1]), net.const([-1, 9, HIDDEN], I64))
    h = net.op("MatMul", net.op("Softmax", net.op("MatMul", h, net.op("Transpose", h, perm=[0, 2, 1])), axis=-1), h)
    h = net.op("Reshape", h, net.const([-1, 2, 2, 3, 3, HIDDEN], I64))
    return net.op("Reshape", net.op("Transpose", h, perm=[0, 5, 1, 3, 2, 4]), net.const([-1, HIDDEN, 6, 6], I64))


def depth_to_space(mode: str) -> Case:
    """16 channels, blocks of 2: 4 channels come out; units are the whole blocks."""

    def middle(net: Net, h: str) -> str:
        return net.op("DepthToSpace", net.op("Relu", h), blocksize=2, mode=mode)

    return maps(middle, hidden=16, after=4, units=4)


def space_to_depth(net: Net, h: str) -> str:
    return net.op("SpaceToDepth", h, blocksize=2)


def shape_arithmetic(net: Net, h: str) -> str:
    """Zeros of the map's own shape, plus its size as a number of its own that does not follow the cut."""
    zeros = net.op("ConstantOfShape", net.op("Shape", h))
    return net.op("Add", h, zeros)


def size_arithmetic(net: Net, h: str) -> str:
    """(n, 8) -> (n * 8,) with the length from Size, and back."""
    size = net.op("Unsqueeze", net.op("Size", h), net.const([0], I64))
    return net.op("Reshape", net.op("Reshape", h, size), net.const([-1, HIDDEN], I64))


def root_of_size(net: Net, h: str) -> str:
    """The width as a number, as in attention: the scale keeps its value."""
    width = net.cast(net.op("Gather", net.op("Shape", h), net.const(1, I64)))
    return net.op("Div", h, net.op("Sqrt", width))


def concat(net: Net, h: str) -> str:
    """Two branches and the input itself end to end."""
    a, b = net.gemm(h, HIDDEN, 6), net.op("Relu", net.gemm(h, HIDDEN, 10))
    return net.op("Concat", a, h, b, axis=1)


def split_even(net: Net, h: str) -> str:
    """GLU: one half gates the other, so both lose the same."""
    a, b = net.ops("Split", h, count=2, axis=-1, num_outputs=2)
    return net.op("Mul", a, net.op("Sigmoid", b))


def split_uneven(net: Net, h: str) -> str:
    a, b = net.ops("Split", h, net.const([3, 5], I64), count=2, axis=1)
    return net.op("Concat", net.op("Relu", b), net.op("Tanh", a), axis=1)


def split_apart(net: Net, h: str) -> str:
    """Equal halves that go their own ways: afterwards they are no longer equal."""
    a, b = net.ops("Split", h, count=2, axis=1, num_outputs=2)
    return net.op("Concat", net.op("Relu", b), a, net.op("Tanh", b), axis=1)


def split_plain(net: Net, h: str) -> str:
    """Equal halves without a word about it, as before opset 18."""
    a, b = net.ops("Split", h, count=2, axis=1)
    return net.op("Concat", net.op("Relu", b), a, axis=1)


def split_attribute(net: Net, h: str) -> str:
    a, b = net.ops("Split", h, count=2, axis=1, split=[3, 5])
    return net.op("Concat", b, a, axis=1)


def sliced(starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Case:
    def middle(net: Net, h: str) -> str:
        return net.op("Slice", h, *(net.const(list(v), I64) for v in (starts, ends, axes, steps)))

    after = len(range(HIDDEN)[slice(starts[-1] if starts[-1] > -HIDDEN else None, ends[-1], steps[-1])])
    return flat(middle, after=after)


def slice_attribute(net: Net, h: str) -> str:
    return net.op("Slice", h, starts=[2], ends=[7], axes=[1])


def table_rows(net: Net, h: str) -> str:
    """Position embeddings, of which a short sequence reads the first rows only: the others are no units."""
    table = net.param(1, 16, HIDDEN)
    return net.op("Add", h, net.op("Slice", table, *(net.const([v], I64) for v in (0, 5, 1))))


def slice_over_data() -> Case:
    def build() -> Model:
        net = Net()
        h = net.dense(net.input((2, 5, 6)), 6, HIDDEN)
        end = net.input((1,), np.int64, "end")
        h = net.op("Slice", h, net.const([0], I64), end, net.const([1], I64))
        return net.model(net.dense(net.op("Relu", h), HIDDEN, OUT))

    return Case(build, feeds=lambda model, seed: {**normal_input(model, seed, "x"), "end": np.array([3])})


def pad_channels(net: Net, h: str) -> str:
    """Option A shortcuts pad channels with zeros."""
    return net.op("Pad", h, net.const([0, 2, 0, 0, 0, 3, 0, 0], I64))


def pad_space(mode: str, fill: float | None = None) -> Case:
    def middle(net: Net, h: str) -> str:
        value = [] if fill is None else [net.const(np.float32(fill))]
        return net.op("Pad", h, net.const([0, 0, 1, 1, 0, 0, 1, 1], I64), *value, mode=mode)

    return maps(middle)


def pad_some(net: Net, h: str) -> str:
    return net.op("Pad", h, net.const([1, 2], I64), "", net.const([1], I64))


def pad_attribute(net: Net, h: str) -> str:
    return net.op("Pad", h, pads=[0, 1, 0, 0, 0, 2, 0, 0], value=0.0, mode="constant")


def pad_and_sum() -> Case:
    """Padding with something else than 0 leaks into a sum over channels... of what was padded, not of the units."""

    def middle(net: Net, h: str) -> str:
        padded = net.op("Pad", net.op("Relu", h), net.const([0, 0, 0, 2], I64), net.const(np.float32(0.5)))
        return net.op("Mul", h, net.op("ReduceSum", padded, net.const([1], I64)))

    return flat(middle)


def transposed(net: Net, h: str) -> str:
    h = net.op("Transpose", h, perm=[2, 0, 3, 1])
    return net.op("Transpose", net.op("Relu", h), perm=[1, 3, 0, 2])


def reversed_axes(net: Net, h: str) -> str:
    return net.op("Transpose", net.op("Relu", net.op("Transpose", h)))


DIMS = Options(attention="dims")
CASES = {
    ("", "Reshape"): [
        attention(),
        attention(computed=True),
        attention(DIMS, units=6),
        maps(inferred_target, size=(2, 2), units=2 * HIDDEN),
        flat(incommensurable, after=24, units=HIDDEN, frozen="no common factors"),
        target_from_data(),
        tokens(fused_qkv, units=HIDDEN + 4),
        maps(shuffle),
        maps(windows),
        flat(lambda net, h: net.op("Flatten", net.op("Relu", zero_means_zero(net, h)))),
    ],
    ("", "Flatten"): [maps(flatten, units=2 * HIDDEN), flatten_at(2), flatten_at(-1)],
    ("", "Squeeze"): [flat(squeezed), flat(squeeze_all), flat(squeeze_attribute, opset=11)],
    ("", "Unsqueeze"): [flat(squeezed), flat(squeeze_attribute, opset=11)],
    ("", "Transpose"): [maps(transposed), maps(reversed_axes)],
    ("", "Expand"): [maps(expanded), maps(expanded_constant), flat(expanded_new_axis)],
    ("", "Tile"): [flat(tiled, after=3 * HIDDEN), tokens(tiled_rows), flat(tiled_by_shape, after=2 * HIDDEN)],
    ("", "DepthToSpace"): [depth_to_space("DCR"), depth_to_space("CRD")],
    ("", "SpaceToDepth"): [maps(space_to_depth, after=4 * HIDDEN)],
    ("", "Shape"): [maps(expanded), flat(root_of_size), maps(shape_arithmetic)],
    ("", "Size"): [flat(size_arithmetic)],
    ("", "Concat"): [flat(concat, after=24, units=24)],
    ("", "Split"): [
        flat(split_even, after=4, units=4),
        flat(split_uneven),
        flat(split_attribute, opset=11),
        flat(split_apart, after=12),
        flat(split_plain, opset=13),
        tokens(fused_qkv, units=HIDDEN + 4),
    ],
    ("", "Slice"): [
        sliced([2], [7], [1], [1]),
        sliced([-6], [1000], [-1], [2]),
        sliced([-1], [-1000], [1], [-1]),
        flat(slice_attribute, after=5, opset=9),
        slice_over_data(),
        tokens(table_rows),
    ],
    ("", "Pad"): [
        maps(pad_channels, after=13, units=13),
        pad_space("constant", 0.5),
        pad_space("reflect"),
        flat(pad_some, after=11, units=11),
        maps(pad_attribute, after=11, units=11, opset=10),
        pad_and_sum(),
    ],
}
