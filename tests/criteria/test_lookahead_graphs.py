"""Lookahead where ways part and meet: skips, gates, attention, recurrences, look-up tables, shared weights."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from onnxprune.coupling import couple
from onnxprune.criteria import score_weights
from onnxprune.model import from_proto
from tests.criteria.lookahead_reference import Net, lookahead, made, model_of, plus, read, scores_of, times
from tests.nets._spec import Input, ids, image

close = np.testing.assert_allclose
IMAGE = image(3, 6, 6)
ONES = [1.0] * 4
TOKENS = Input("x", ("batch", 5, 6))


def block(b: Net, x: str, name: str, *, behind: bool = True) -> str:
    """x + conv(relu(conv(x))), all of 4 channels."""
    y = b.conv(b.op("Relu", b.conv(x, 4, 4, 1, name=f"{name}1")), 4, 4, 1, name=f"{name}2")
    return b.op("Add", *((x, y) if behind else (y, x)))


@pytest.mark.parametrize("behind", [True, False])
def test_an_identity_skip_adds_one(behind: bool) -> None:
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 4, name="stem"))
    y = b.op("Relu", block(b, x, "a", behind=behind))
    y = b.op("Relu", block(b, y, "b", behind=behind))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    one, two = plus(made(b["a2"]), ONES), plus(made(b["b2"]), ONES)
    close(found["stem.weight"], lookahead(b["stem"], None, plus(read(b["a1"]), ONES)), rtol=1e-5)
    close(found["a1.weight"], lookahead(b["a1"], made(b["stem"]), read(b["a2"])), rtol=1e-5)
    close(found["a2.weight"], lookahead(b["a2"], made(b["a1"]), plus(read(b["b1"]), ONES)), rtol=1e-5)
    close(found["b1.weight"], lookahead(b["b1"], one, read(b["b2"])), rtol=1e-5)
    close(found["b2.weight"], lookahead(b["b2"], made(b["b1"]), read(b["c"])), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], two), rtol=1e-5)


def test_norms_in_front_of_the_branch_belong_to_the_branch() -> None:
    b = Net()
    x = b.conv("x", 3, 4, name="stem")
    y = b.conv(b.op("Relu", b.norm(x, "n", 4)), 4, 4, name="a")
    y = b.op("Relu", b.norm(b.op("Add", x, y), "m", 4))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    close(
        found["a.weight"],
        lookahead(b["a"], times(made(b["stem"]), b.gains("n")), times(read(b["c"]), b.gains("m"))),
        rtol=1e-5,
    )
    behind = plus(times(read(b["a"]), b.gains("n")), ONES)
    close(found["stem.weight"], lookahead(b["stem"], None, behind), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], times(plus(made(b["a"]), ONES), b.gains("m"))), rtol=1e-5)


def test_a_projected_skip_is_a_neighbour_like_any_other() -> None:
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 4, name="stem"))
    y = b.op("Add", b.conv(x, 4, 6, name="a"), b.conv(x, 4, 6, 1, name="p"))
    found = scores_of(model_of(b, b.conv(y, 6, 2, name="c"), IMAGE, 4))
    close(found["stem.weight"], lookahead(b["stem"], None, plus(read(b["a"]), read(b["p"]))), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], plus(made(b["a"]), made(b["p"]))), rtol=1e-5)
    close(found["p.weight"], lookahead(b["p"], made(b["stem"]), read(b["c"])), rtol=1e-5)


def test_a_skip_through_a_norm_is_as_large_as_the_norm_makes_it() -> None:
    """Three branches of one input: a convolution, a BatchNorm, the input itself."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 4, name="stem"))
    y = b.op("Sum", b.conv(x, 4, 4, name="a"), b.norm(x, "n", 4))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    close(found["c.weight"], lookahead(b["c"], plus(made(b["a"]), b.gains("n"))), rtol=1e-5)
    close(found["stem.weight"], lookahead(b["stem"], None, plus(read(b["a"]), b.gains("n"))), rtol=1e-5)


def test_a_sum_of_two_inputs_is_no_skip() -> None:
    b = Net()
    y = b.op("Add", b.conv("x", 3, 4, name="a"), b.op("Relu", b.conv("x", 3, 4, name="d")))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    close(found["c.weight"], lookahead(b["c"], plus(made(b["a"]), made(b["d"]))), rtol=1e-5)


@pytest.mark.parametrize("way", ["silu", "gelu", "square", "hardswish"])
def test_a_function_of_a_tensor_times_the_tensor_counts_once(way: str) -> None:
    b = Net()
    x = b.conv("x", 3, 4, name="a")
    if way == "silu":
        y = b.op("Mul", x, b.op("Sigmoid", x))
    elif way == "square":
        y = b.op("Mul", x, x)
    elif way == "hardswish":
        y = b.op("Clip", b.op("Add", x, b.const("three", 3.0)), b.const("low", 0.0), b.const("high", 6.0))
        y = b.op("Div", b.op("Mul", y, x), b.const("six", 6.0))
    else:
        y = b.op("Add", b.op("Erf", b.op("Div", x, b.const("root", 2**0.5))), b.const("one", 1.0))
        y = b.op("Mul", b.op("Mul", x, y), b.const("half", 0.5))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    close(found["a.weight"], lookahead(b["a"], None, read(b["c"])), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], made(b["a"])), rtol=1e-5)


def test_a_gate_with_weights_of_its_own_is_a_neighbour() -> None:
    """Squeeze and excitation."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 4, name="a"))
    gate = b.op("Relu", b.conv(b.op("GlobalAveragePool", x), 4, 2, 1, name="s"))
    y = b.op("Mul", x, b.op("Sigmoid", b.conv(gate, 2, 4, 1, name="e")))
    found = scores_of(model_of(b, b.conv(y, 4, 2, name="c"), IMAGE, 4))
    close(found["a.weight"], lookahead(b["a"], None, plus(read(b["c"]), read(b["s"]))), rtol=1e-5)
    close(found["e.weight"], lookahead(b["e"], made(b["s"]), read(b["c"])), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], plus(made(b["a"]), made(b["e"]))), rtol=1e-5)


def written_out(b: Net, x: str) -> str:
    """LayerNormalization in primitive operators."""
    axes = b.const("axes", [-1], np.int64)
    away = b.op("Sub", x, b.op("ReduceMean", x, axes))
    two, epsilon = b.const("two", 2.0), b.const("epsilon", 1e-5)
    spread = b.op("Sqrt", b.op("Add", b.op("ReduceMean", b.op("Pow", away, two), axes), epsilon))
    return b.op("Mul", b.op("Div", away, spread), b.scale("g", 6))


def in_one(b: Net, x: str) -> str:
    return b.op("LayerNormalization", x, b.scale("g", 6), b.bias("h", 6))


@pytest.mark.parametrize("norm", [written_out, in_one])
def test_the_scale_of_a_layer_norm_enters_squared(norm: object) -> None:
    b = Net()
    x = b.linear("x", 6, 6, name="a")
    y = b.op("Add", x, b.linear(norm(b, x), 6, 6, name="d"))  # type: ignore[operator]
    found = scores_of(model_of(b, b.linear(y, 6, 3, name="c"), TOKENS, 3))
    factor = (b.arrays["g"] ** 2).tolist()
    a, c, d = (b[name].T for name in "acd")
    close(found["d.weight"].T, lookahead(d, times(made(a), factor), read(c)), rtol=1e-5)
    close(found["a.weight"].T, lookahead(a, None, plus(times(read(d), factor), [1.0] * 6)), rtol=1e-5)
    close(found["c.weight"].T, lookahead(c, plus(made(d), [1.0] * 6)), rtol=1e-5)


@pytest.mark.parametrize("fused", ["", "MultiHeadAttention"])
def test_in_attention_q_and_k_read_each_other_and_v_is_followed(fused: str) -> None:
    b = Net()
    q, k, v = (b.op("MatMul", "x", b.matrix(f"{name}.weight", 6, 8)) for name in "qkv")
    if fused:
        y = b.op(fused, q, k, v, domain="com.microsoft", num_heads=2)
    else:
        split = b.const("heads", [0, 0, 2, 4], np.int64)
        q, k, v = (
            b.op("Transpose", b.op("Reshape", t, split), perm=p)
            for t, p in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))
        )
        scores = b.op("Softmax", b.op("Mul", b.op("MatMul", q, k), b.const("root", 0.5)), axis=-1)
        y = b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3])
        y = b.op("Reshape", y, b.const("join", [0, 0, -1], np.int64))
    y = b.op("MatMul", y, b.matrix("o.weight", 8, 3))
    model = from_proto(b.model([TOKENS], {y: ["batch", 5, 3]}, domains=["com.microsoft"]))
    found = scores_of(model)
    wide = {name: b[name].T for name in "qkvo"}
    close(found["q.weight"].T, lookahead(wide["q"], None, made(wide["k"])), rtol=1e-5)
    close(found["k.weight"].T, lookahead(wide["k"], None, made(wide["q"])), rtol=1e-5)
    close(found["v.weight"].T, lookahead(wide["v"], None, read(wide["o"])), rtol=1e-5)
    close(found["o.weight"].T, lookahead(wide["o"], made(wide["v"])), rtol=1e-5)


@pytest.mark.parametrize("way", ["Gather", "Split", "Slice"])
def test_q_k_and_v_from_one_projection(way: str) -> None:
    b = Net()
    x = b.op("MatMul", "x", b.matrix("p.weight", 6, 24))
    x = b.op("Reshape", x, b.const("parts", [0, 0, 3, 2, 4], np.int64))
    x = b.op("Transpose", x, perm=[2, 0, 3, 1, 4])
    first = b.const("first", [0], np.int64)
    if way == "Gather":
        q, k, v = (b.op("Gather", x, b.const(f"i{i}", i, np.int64), axis=0) for i in range(3))
    elif way == "Split":
        parts = b.ops("Split", x, b.const("sizes", [1, 1, 1], np.int64), out=(None,) * 3, axis=0)
        q, k, v = (b.op("Squeeze", part, first) for part in parts)
    else:
        ends = [b.const(f"i{i}", [i], np.int64) for i in range(4)]
        q, k, v = (b.op("Squeeze", b.op("Slice", x, ends[i], ends[i + 1], first), first) for i in range(3))
    scores = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    y = b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    y = b.op("MatMul", b.op("Reshape", y, b.const("join", [0, 0, -1], np.int64)), b.matrix("o.weight", 8, 3))
    found = scores_of(model_of(b, y, TOKENS, 3))
    wide, out = b["p"].T, b["o"].T
    rows = made(wide)
    behind = [*rows[8:16], *rows[:8], *read(out)]
    close(found["p.weight"].T, lookahead(wide, None, behind), rtol=1e-5)
    close(found["o.weight"].T, lookahead(out, rows[16:]), rtol=1e-5)


def test_rows_that_are_stacked_and_picked_again() -> None:
    b = Net()
    new = b.const("new", [0], np.int64)
    parts = (b.op("Unsqueeze", b.linear("x", 6, 4, name=name), new) for name in "ad")
    y = b.op("Gather", b.op("Concat", *parts, axis=0), b.const("second", 1, np.int64), axis=0)
    found = scores_of(model_of(b, b.linear(y, 4, 3, name="c"), TOKENS, 3))
    close(found["c.weight"].T, lookahead(b["c"].T, made(b["d"].T)), rtol=1e-5)
    close(found["d.weight"].T, lookahead(b["d"].T, None, read(b["c"].T)), rtol=1e-5)
    assert not found["a.weight"].any()


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_recurrent_layer_reads_the_layer_before_and_itself(op: str, gates: int, directions: int) -> None:
    b, cells = Net(), 3
    x = b.op("Relu", b.linear("x", 6, 4, name="a"))
    w = b.const("w", b.rng.normal(size=(directions, gates * cells, 4)))
    r = b.const("r", b.rng.normal(size=(directions, gates * cells, cells)))
    way = "bidirectional" if directions == 2 else "forward"
    y = b.op(op, b.op("Transpose", x, perm=[1, 0, 2]), w, r, hidden_size=cells, direction=way)
    y = b.op("Reshape", b.op("Transpose", y, perm=[2, 0, 1, 3]), b.const("to", [0, 0, -1], np.int64))
    found = scores_of(model_of(b, b.linear(y, directions * cells, 2, name="c"), TOKENS, 3))
    c, columns = b["c"].T, [0.0] * 4
    for d in range(directions):
        mine = slice(d * cells, (d + 1) * cells)
        ins, back = b.arrays["w"][d], b.arrays["r"][d]
        columns = plus(columns, read(ins))
        cell = [row % cells for row in range(gates * cells)]
        rows, reads = [0.0] * cells, plus(read(c)[mine], read(back))
        for row, (first, second) in enumerate(zip(made(ins), made(back), strict=True)):
            rows[cell[row]] += first + second
        behind = [reads[k] for k in cell]
        close(found["w"][d], lookahead(ins, made(b["a"].T), behind), rtol=1e-5)
        close(found["r"][d], lookahead(back, rows, behind), rtol=1e-5)
        close(found["c.weight"].T[:, mine], lookahead(c[:, mine], rows), rtol=1e-5)
    close(found["a.weight"].T, lookahead(b["a"].T, None, columns), rtol=1e-5)


def test_a_table_of_tokens_that_is_the_output_layer_too() -> None:
    b = Net()
    table = b.weight("table", 7, 4)
    x = b.op("Add", b.op("Gather", table, "ids"), b.bias("position", 5, 4))
    y = b.op("MatMul", b.op("Relu", b.linear(x, 4, 4, name="a")), b.op("Transpose", table, perm=[1, 0]))
    model = from_proto(b.model([ids(7, 5)], {y: ["batch", 5, 7]}))
    found = scores_of(model)
    a, looked_up = b["a"].T, b.arrays["table"].T
    close(found["a.weight"].T, lookahead(a, made(looked_up), read(b.arrays["table"])), rtol=1e-5)
    uses = lookahead(looked_up, None, read(a)).T + lookahead(b.arrays["table"], made(a))
    close(found["table"], uses, rtol=1e-5)


def test_weights_that_two_branches_share_count_in_both() -> None:
    b = Net()
    w = b.weight("w", 4, 3, 1, 1)
    one, two = (b.op("Relu", b.op("Conv", x, w)) for x in ("x", b.op("Neg", "x")))
    y = b.op("Add", b.conv(one, 4, 2, name="c"), b.conv(two, 4, 2, name="d"))
    found = scores_of(model_of(b, y, IMAGE, 4))
    weight = b.arrays["w"]
    expected = lookahead(weight, None, read(b["c"])) + lookahead(weight, None, read(b["d"]))
    close(found["w"], expected, rtol=1e-5)


def test_a_fused_convolution_with_its_residual_sum() -> None:
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 4, name="stem"))
    y = b.op("FusedConv", x, b.weight("f.weight", 4, 4, 1, 1), b.bias("f.bias", 4), x, domain="com.microsoft",
             activation="Relu")  # fmt: skip
    y = b.conv(y, 4, 2, name="c")
    model = from_proto(b.model([IMAGE], {y: ["batch", 2, 6, 6]}, domains=["com.microsoft"]))
    found = scores_of(model)
    close(found["c.weight"], lookahead(b["c"], plus(made(b["f"]), ONES)), rtol=1e-5)
    close(found["stem.weight"], lookahead(b["stem"], None, plus(read(b["f"]), ONES)), rtol=1e-5)


def test_an_operator_that_cannot_be_followed_is_a_missing_neighbour() -> None:
    b = Net()
    y = b.op("Strange", b.conv("x", 3, 4, name="a"), domain="com.acme")
    model = from_proto(b.model([IMAGE], {b.conv(y, 4, 2, name="c"): ["batch", 2, 6, 6]}, domains=["com.acme"]))
    model.proto.graph.value_info.add(name=y).type.tensor_type.elem_type = TensorProto.FLOAT
    found = score_weights(model, couple(model), "lap")
    close(found["a.weight"], lookahead(b["a"]), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"]), rtol=1e-5)
