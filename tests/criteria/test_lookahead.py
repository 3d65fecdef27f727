"""Lookahead in chains: what is in front, what is behind, and what norms, pooling, reshapes and joins do in between."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.model import from_proto
from tests.criteria.lookahead_reference import Net, lookahead, made, model_of, read, scores_of, times
from tests.nets._spec import Input, image

close = np.testing.assert_allclose
IMAGE = image(3, 6, 6)


def test_a_chain_of_convolutions() -> None:
    b = Net()
    y = b.op("Relu", b.conv("x", 3, 5, name="a"))
    y = b.op("MaxPool", b.op("Sigmoid", b.conv(y, 5, 4, 1, name="b")), kernel_shape=[2, 2])
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    close(found["a.weight"], lookahead(b["a"], None, read(b["b"])), rtol=1e-5)
    close(found["b.weight"], lookahead(b["b"], made(b["a"]), read(b["c"])), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], made(b["b"])), rtol=1e-5)
    close(found["b.bias"], b.arrays["b.bias"] ** 2 * np.array(read(b["c"])), rtol=1e-5)


def test_a_batchnorm_enters_squared_on_both_sides() -> None:
    b = Net()
    y = b.op("Relu", b.norm(b.conv("x", 3, 5, name="a"), "n", 5))
    y = b.norm(b.conv(y, 5, 4, 1, name="b"), "m", 4)
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    close(found["a.weight"], lookahead(b["a"], None, times(read(b["b"]), b.gains("n"))), rtol=1e-5)
    front, behind = times(made(b["a"]), b.gains("n")), times(read(b["c"]), b.gains("m"))
    close(found["b.weight"], lookahead(b["b"], front, behind), rtol=1e-5)
    close(found["n.0"], b.arrays["n.0"] ** 2 * np.array(read(b["b"])), rtol=1e-5)


def test_the_norm_of_the_input_counts_for_the_first_layer() -> None:
    b = Net()
    found = scores_of(model_of(b, b.conv(b.norm("x", "n", 3), 3, 5, name="a"), IMAGE, 4))
    close(found["a.weight"], lookahead(b["a"], b.gains("n")), rtol=1e-5)


def test_constants_per_channel_count_and_plain_numbers_do_not() -> None:
    b = Net()
    y = b.op("Mul", b.conv("x", 3, 5, name="a"), b.scale("s", 1, 5, 1, 1))
    y = b.op("Div", b.op("Mul", y, b.const("half", 0.5)), b.scale("d", 5, 1, 1))
    found = scores_of(model_of(b, b.conv(y, 5, 2, name="c"), IMAGE, 4))
    factor = (b.arrays["s"].reshape(-1) / b.arrays["d"].reshape(-1)) ** 2
    close(found["a.weight"], lookahead(b["a"], None, times(read(b["c"]), factor.tolist())), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], times(made(b["a"]), factor.tolist())), rtol=1e-5)


@pytest.mark.parametrize("trans", [0, 1])
def test_a_multilayer_perceptron(trans: int) -> None:
    b = Net()
    first = b.weight("a.weight", 6, 4) if trans else b.const("a.weight", b.rng.normal(size=(4, 6)))
    y = b.op("Tanh", b.op("Gemm", "x", first, b.bias("a.bias", 6), transB=trans))
    y = b.op("Relu", b.linear(y, 6, 5, name="b"))
    found = scores_of(model_of(b, b.linear(y, 5, 3, name="c"), Input("x", ("batch", 4)), 2))
    wide = [b["a"] if trans else b["a"].T, b["b"].T, b["c"].T]
    got = [found["a.weight"] if trans else found["a.weight"].T, found["b.weight"].T, found["c.weight"].T]
    close(got[0], lookahead(wide[0], None, read(wide[1])), rtol=1e-5)
    close(got[1], lookahead(wide[1], made(wide[0]), read(wide[2])), rtol=1e-5)
    close(got[2], lookahead(wide[2], made(wide[1])), rtol=1e-5)


def test_a_matrix_on_the_left() -> None:
    b = Net()
    y = b.op("Relu", b.op("MatMul", b.weight("a.weight", 6, 4), "x"))
    y = b.op("MatMul", b.weight("b.weight", 3, 6), y)
    found = scores_of(model_of(b, y, Input("x", ("batch", 4, 7)), 3))
    close(found["a.weight"], lookahead(b["a"], None, read(b["b"])), rtol=1e-5)
    close(found["b.weight"], lookahead(b["b"], made(b["a"])), rtol=1e-5)


@pytest.mark.parametrize("way", ["Flatten", "Reshape", "Transpose"])
def test_from_a_convolution_to_a_fully_connected_layer(way: str) -> None:
    b = Net()
    y = b.op("MaxPool", b.op("Relu", b.conv("x", 3, 5, name="a")), kernel_shape=[2, 2], strides=[2, 2])
    if way == "Transpose":  # channels last
        y = b.op("Flatten", b.op("Transpose", y, perm=[0, 2, 3, 1]))
        channel = [place % 5 for place in range(45)]
    else:
        y = b.op("Flatten", y) if way == "Flatten" else b.op("Reshape", y, b.const("to", [0, -1], np.int64))
        channel = [place // 9 for place in range(45)]
    y = b.op("Gemm", y, b.weight("f.weight", 4, 45), transB=1)
    found = scores_of(model_of(b, b.linear(b.op("Relu", y), 4, 2, name="g"), IMAGE, 2))
    columns, behind = read(b["f"]), [0.0] * 5
    for place in range(45):
        behind[channel[place]] += columns[place]
    close(found["a.weight"], lookahead(b["a"], None, behind), rtol=1e-5)
    front = [made(b["a"])[channel[place]] for place in range(45)]
    close(found["f.weight"], lookahead(b["f"], front, read(b["g"].T)), rtol=1e-5)


def test_from_a_fully_connected_layer_to_a_convolution() -> None:
    b = Net()
    y = b.op("Gemm", "x", b.weight("f.weight", 36, 4), transB=1)
    y = b.op("Relu", b.norm(b.op("Reshape", y, b.const("to", [-1, 4, 3, 3], np.int64)), "n", 4))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), Input("x", ("batch", 4)), 4))
    rows, front = made(b["f"]), [0.0] * 4
    for place in range(36):
        front[place // 9] += rows[place]
    close(found["c.weight"], lookahead(b["c"], times(front, b.gains("n"))), rtol=1e-5)
    behind = times(read(b["c"]), b.gains("n"))
    close(found["f.weight"], lookahead(b["f"], None, [behind[place // 9] for place in range(36)]), rtol=1e-5)


def test_positions_that_a_reshape_joins_to_the_channels_and_takes_off_again_count_once() -> None:
    """GroupNormalization as older exporters write it: the axis (channels, height, width) in groups and back."""
    b = Net()
    y = b.op("Reshape", b.conv("x", 3, 4, name="a"), b.const("in", [0, 2, -1], np.int64))
    y = b.op("InstanceNormalization", y, b.const("one", [1, 1]), b.const("zero", [0, 0]))
    y = b.op("Mul", b.op("Reshape", y, b.const("out", [0, 4, 6, 6], np.int64)), b.scale("s", 4, 1, 1))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    factor = (b.arrays["s"].reshape(-1) ** 2).tolist()
    close(found["a.weight"], lookahead(b["a"], None, times(read(b["c"]), factor)), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], times(made(b["a"]), factor)), rtol=1e-5)


def test_channels_that_are_joined_split_and_reordered() -> None:
    b = Net()
    one, two = b.conv("x", 3, 4, name="a"), b.conv("x", 3, 2, name="b")
    joined = b.op("Concat", one, "x", two, axis=1)
    taken = b.op("Gather", joined, b.const("order", [8, 0, 3, 5], np.int64), axis=1)
    left, right = b.ops("Split", joined, b.const("sizes", [3, 6], np.int64), out=(None, None), axis=1)
    y = b.op("Sum", b.conv(taken, 4, 2, name="t"), b.conv(left, 3, 2, name="l"), b.conv(right, 6, 2, name="r"))
    found = scores_of(model_of(b, y, IMAGE, 4))
    front = [*made(b["a"]), 1.0, 1.0, 1.0, *made(b["b"])]
    close(found["t.weight"], lookahead(b["t"], [front[k] for k in (8, 0, 3, 5)]), rtol=1e-5)
    close(found["l.weight"], lookahead(b["l"], front[:3]), rtol=1e-5)
    close(found["r.weight"], lookahead(b["r"], front[3:]), rtol=1e-5)
    behind = [*read(b["l"]), *read(b["r"])]
    for place, value in zip((8, 0, 3, 5), read(b["t"]), strict=True):
        behind[place] += value
    close(found["a.weight"], lookahead(b["a"], None, behind[:4]), rtol=1e-5)
    close(found["b.weight"], lookahead(b["b"], None, behind[7:]), rtol=1e-5)


def test_tokens_joined_along_positions_are_not_channels() -> None:
    """A class token in front of the patches, and the class token alone behind."""
    b = Net()
    token = b.const("token", b.rng.normal(size=(1, 1, 6)))
    y = b.op("Concat", token, b.linear("x", 4, 6, name="a"), axis=1)
    y = b.op("Gather", b.linear(y, 6, 5, name="b"), b.const("first", 0, np.int64), axis=1)
    found = scores_of(model_of(b, b.linear(y, 5, 3, name="c"), Input("x", (1, 7, 4)), 2))
    close(found["b.weight"].T, lookahead(b["b"].T, made(b["a"].T), read(b["c"].T)), rtol=1e-5)


def test_depthwise_and_grouped_convolutions() -> None:
    b = Net()
    y = b.op("Relu", b.conv("x", 3, 4, 1, name="a"))
    y = b.conv(y, 4, 8, group=4, name="d")  # two outputs for each input
    y = b.conv(b.op("Relu", y), 8, 6, 1, group=2, name="g")
    found = scores_of(model_of(b, b.conv(y, 6, 2, 1, name="c"), IMAGE, 4))
    depth = np.zeros((8, 4, 3, 3))
    for out in range(8):
        depth[out, out // 2] = b["d"][out, 0]
    wide = np.zeros((6, 8, 1, 1))
    for out in range(6):
        start = 4 * (out // 3)
        wide[out, start : start + 4] = b["g"][out]
    close(found["a.weight"], lookahead(b["a"], None, read(depth)), rtol=1e-5)
    full = lookahead(depth, made(b["a"]), read(wide))
    close(found["d.weight"][:, 0], [full[out, out // 2] for out in range(8)], rtol=1e-5)
    full = lookahead(wide, made(depth), read(b["c"]))
    close(found["g.weight"], [full[out, 4 * (out // 3) : 4 * (out // 3) + 4] for out in range(6)], rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(groups: int) -> None:
    b = Net()
    stored = b.const("t.weight", b.rng.normal(size=(4, 6 // groups, 2, 2)))
    y = b.op("ConvTranspose", b.op("Relu", b.conv("x", 3, 4, name="a")), stored, group=groups)
    found = scores_of(model_of(b, b.conv(y, 6, 2, name="c"), IMAGE, 4))
    full = np.zeros((6, 4, 2, 2))
    for i in range(4):
        for o in range(6 // groups):
            full[i // (4 // groups) * (6 // groups) + o, i] = b["t"][i, o]
    close(found["a.weight"], lookahead(b["a"], None, read(full)), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], made(full)), rtol=1e-5)
    scored = lookahead(full, made(b["a"]), read(b["c"]))
    for i in range(4):
        for o in range(6 // groups):
            out = i // (4 // groups) * (6 // groups) + o
            close(found["t.weight"][i, o], scored[out, i], rtol=1e-5)


def test_pixel_shuffle_gathers_the_weights_of_all_its_sources() -> None:
    b = Net()
    y = b.op("DepthToSpace", b.conv("x", 3, 8, name="a"), blocksize=2, mode="CRD")
    found = scores_of(model_of(b, b.conv(y, 2, 3, name="c"), IMAGE, 4))
    rows = made(b["a"])
    close(found["c.weight"], lookahead(b["c"], [sum(rows[:4]), sum(rows[4:])]), rtol=1e-5)
    columns = read(b["c"])
    close(found["a.weight"], lookahead(b["a"], None, [columns[k // 4] for k in range(8)]), rtol=1e-5)


def test_a_mean_over_channels_is_produced_by_all_of_them() -> None:
    b = Net()
    y = b.op("ReduceMean", b.conv("x", 3, 4, name="a"), b.const("axes", [1], np.int64), keepdims=1)
    found = scores_of(model_of(b, b.conv(y, 1, 2, name="c"), IMAGE, 4))
    close(found["c.weight"], lookahead(b["c"], [sum(made(b["a"]))]), rtol=1e-5)
    close(found["a.weight"], lookahead(b["a"], None, read(b["c"]) * 4), rtol=1e-5)


def test_channels_that_nobody_reads_score_nothing() -> None:
    b = Net()
    bounds = (b.const(name, [value], np.int64) for name, value in (("start", 1), ("end", 3), ("axis", 1)))
    y = b.op("Slice", b.conv("x", 3, 5, name="a"), *bounds)
    found = scores_of(model_of(b, b.conv(y, 2, 2, name="c"), IMAGE, 4))
    columns = read(b["c"])
    close(found["a.weight"], lookahead(b["a"], None, [0, columns[0], columns[1], 0, 0]), rtol=1e-5)


def test_an_output_of_the_model_that_is_read_as_well_adds_one() -> None:
    b = Net()
    y = b.op("Relu", b.conv("x", 3, 5, name="a"), out="features")
    z = b.conv(y, 5, 2, name="c")
    model = from_proto(b.model([IMAGE], {"features": ["batch", 5, 6, 6], z: ["batch", 2, 6, 6]}))
    found = scores_of(model)
    close(found["a.weight"], lookahead(b["a"], None, [n + 1 for n in read(b["c"])]), rtol=1e-5)
