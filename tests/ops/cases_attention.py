"""Fused attention: whole heads, whole key/value groups, dims inside heads; caches, biases, masks and rotation."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from onnxprune.values import Options
from tests.ops.cases import HIDDEN, MS, OUT, Case, Net, tokens
from tests.ops.kernels import MultiHeadAttention
from tests.oracle import Array

HEADS, SIZE, WIDTH, LENGTH = 4, 6, 24, 5
DIMS = Options(attention="dims")
CACHE = Options(allow_io=("cache",))
CACHE_DIMS = Options(attention="dims", allow_io=("cache",))
I64, I32 = np.int64, np.int32


# -- com.microsoft.Attention ----------------------------------------------------------------------------------------


def fused(units: int, *, options: Options | None = None, values: int = WIDTH, mask: str = "", extra: int = 0,
          **attrs: object) -> Case:  # fmt: skip
    """x (n, 5, 8) -> one projection to q, k and v -> attention; ``extra``: heads of a bias of the scores."""

    def middle(net: Net, h: str) -> str:
        columns = 2 * WIDTH + values
        inputs = [h, net.param(HIDDEN, columns), net.param(columns)]
        inputs.append(net.input(("n", LENGTH), I32, mask) if mask else "")
        if extra:
            inputs += ["", net.param(1, extra, LENGTH, LENGTH)]
        sizes = {} if values == WIDTH else {"qkv_hidden_sizes": [WIDTH, WIDTH, values]}
        return net.op("Attention", *inputs, domain=MS, num_heads=HEADS, **sizes, **attrs)

    feeds = _with_mask if mask else None
    return tokens(middle, after=values, units=HIDDEN + units, options=options or Options(), feeds=feeds)


def _with_mask(_: Model, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    mask = np.ones((3, LENGTH), I32)
    mask[0, 3:] = 0
    return {"x": (rng.integers(-24, 25, (3, LENGTH, 6)) / 16).astype(np.float32), "mask": mask}


def fused_with_past(options: Options, units: int, frozen: str = "") -> Case:
    def build() -> Model:
        net = Net()
        h = net.dense(net.input((2, LENGTH, 6)), 6, HIDDEN)
        past = net.input((2, 2, HEADS, 3, SIZE), name="past")
        inputs = h, net.param(HIDDEN, 3 * WIDTH), net.param(3 * WIDTH), "", past
        y, present = net.ops("Attention", *inputs, count=2, domain=MS, num_heads=HEADS, unidirectional=1)
        net.rename(present, "present")
        return net.model(net.dense(y, WIDTH, OUT), "present")

    return Case(build, units=units, options=options, frozen=frozen)


def quantised(net: Net, h: str) -> str:
    stored, scale, zero = net.ops("DynamicQuantizeLinear", net.op("Relu", h), count=3)
    columns = 3 * WIDTH
    values = net.const(net.rng.integers(1, 30, (HIDDEN, columns)), np.int8)
    tables = scale, net.const(np.full(columns, 1 / 64), np.float32), "", zero, net.const(np.full(columns, 4), np.int8)
    return net.op("QAttention", stored, values, net.param(columns), *tables, domain=MS, num_heads=HEADS)


# -- com.microsoft.MultiHeadAttention ---------------------------------------------------------------------------------


def multi_head(units: int, *, options: Options | None = None, values: int = WIDTH, bias: bool = True, extra: int = 0,
               cross: bool = False, **attrs: object) -> Case:  # fmt: skip
    """q, k and v projected by layers of their own; ``cross``: k and v of another sequence."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", LENGTH, 6))
        other = net.input(("n", 7, 6), name="other") if cross else x
        q, k, v = net.dense(x, 6, WIDTH), net.dense(other, 6, WIDTH), net.dense(other, 6, values)
        inputs = [q, k, v, net.param(2 * WIDTH + values) if bias else ""]
        if extra:
            inputs += ["", net.param(1, extra, LENGTH, 7 if cross else LENGTH)]
        y = net.op("MultiHeadAttention", *inputs, domain=MS, num_heads=HEADS, **attrs)
        return net.model(net.dense(y, values, OUT))

    return Case(build, units=units, options=options or Options())


def packed(units: int, *, options: Options | None = None) -> Case:
    """q, k and v in one tensor (n, s, heads, 3, dims)."""

    def build() -> Model:
        net = Net()
        h = net.dense(net.input(("n", LENGTH, 6)), 6, 3 * WIDTH)
        h = net.op("Reshape", h, net.const([0, 0, HEADS, 3, SIZE], I64))
        y = net.hint(net.op("MultiHeadAttention", h, domain=MS, num_heads=HEADS), ("n", LENGTH, WIDTH))
        return net.model(net.dense(y, WIDTH, OUT))

    return Case(build, units=units, options=options or Options(), kernels=(MultiHeadAttention,))


def packed_keys(units: int) -> Case:
    """k and v in one tensor (n, s, heads, 2, dims)."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", LENGTH, 6))
        h = net.op("Reshape", net.dense(x, 6, 2 * WIDTH), net.const([0, 0, HEADS, 2, SIZE], I64))
        y = net.op("MultiHeadAttention", net.dense(x, 6, WIDTH), h, domain=MS, num_heads=HEADS)
        return net.model(net.dense(net.hint(y, ("n", LENGTH, WIDTH)), WIDTH, OUT))

    return Case(build, units=units, kernels=(MultiHeadAttention,))


def split_keys(units: int, *, options: Options | None = None) -> Case:
    """k and v as (n, heads, s, dims)."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", LENGTH, 6))
        k, v = (_to_heads(net, net.dense(x, 6, WIDTH), HEADS) for _ in range(2))
        y = net.op("MultiHeadAttention", net.dense(x, 6, WIDTH), k, v, domain=MS, num_heads=HEADS)
        return net.model(net.dense(y, WIDTH, OUT))

    return Case(build, units=units, options=options or Options())


def _to_heads(net: Net, x: str, heads: int, size: int = SIZE) -> str:
    return net.op("Transpose", net.op("Reshape", x, net.const([0, 0, heads, size], I64)), perm=[0, 2, 1, 3])


def multi_head_with_past(options: Options, units: int, frozen: str = "") -> Case:
    def build() -> Model:
        net = Net()
        x = net.input((2, LENGTH, 6))
        parts = [net.dense(x, 6, WIDTH) for _ in range(3)]
        past = [net.input((2, HEADS, 3, SIZE), name=name) for name in ("past_key", "past_value")]
        y, *present = net.ops("MultiHeadAttention", *parts, "", "", "", *past, count=3, domain=MS, num_heads=HEADS)
        names = [net.rename(old, new) for old, new in zip(present, ("present_key", "present_value"), strict=True)]
        return net.model(net.dense(y, WIDTH, OUT), *names)

    return Case(build, units=units, options=options, frozen=frozen)


# -- com.microsoft.GroupQueryAttention --------------------------------------------------------------------------------


def grouped(units: int, *, options: Options | None = None, rotary: bool = False, packed: bool = False, frozen: str = "",
            heads: tuple[int, int] = (4, 2), size: int = 16, extra: int = 0, **attrs: object) -> Case:  # fmt: skip
    """4 query heads on 2 key heads; ``rotary``: with tables of its own; ``extra``: heads of a bias of the scores."""
    queries, groups = heads

    def build() -> Model:
        net = Net()
        x = net.input((2, LENGTH, 6))
        widths = queries * size, groups * size, groups * size
        parts = [net.dense(x, 6, width) for width in ((sum(widths),) if packed else widths)]
        parts += [""] * (3 - len(parts))
        past = [net.input((2, groups, LENGTH, size), name=name) for name in ("past_key", "past_value")]
        lengths = net.const([LENGTH - 1] * 2, I32), net.const(LENGTH, I32)
        tables = [net.param(8, size // 2), net.param(8, size // 2)] if rotary else ["", ""]
        if extra:
            tables += ["", net.param(1, extra, LENGTH, LENGTH), net.param(queries)]
        y, *present = net.ops(
            "GroupQueryAttention", *parts, *past, *lengths, *tables, count=3, domain=MS, num_heads=queries,
            kv_num_heads=groups, do_rotary=int(rotary), **attrs,
        )  # fmt: skip
        names = [net.rename(old, new) for old, new in zip(present, ("present_key", "present_value"), strict=True)]
        return net.model(net.dense(y, queries * size, OUT), *names)

    return Case(build, units=units, options=options or CACHE, frozen=frozen)


def rotated_multi_head(units: int, options: Options | None = None) -> Case:
    """q and k are rotated in front of MultiHeadAttention: both operators choose the same factor."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", LENGTH, 6))
        where = net.input(("n", LENGTH), I64, "positions")
        cos, sin = net.param(8, SIZE // 2), net.param(8, SIZE // 2)
        q, k = (net.op("RotaryEmbedding", net.dense(x, 6, WIDTH), where, cos, sin, domain=MS) for _ in range(2))
        y = net.op("MultiHeadAttention", q, k, net.dense(x, 6, WIDTH), domain=MS, num_heads=HEADS)
        return net.model(net.dense(y, WIDTH, OUT))

    return Case(build, units=units, options=options or Options(), feeds=_with_positions)


def one_head() -> Case:
    """With a single head there are only its dims to remove."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", LENGTH, 6))
        parts = [net.dense(x, 6, HIDDEN) for _ in range(3)]
        y = net.op("MultiHeadAttention", *parts, domain=MS, num_heads=1)
        return net.model(net.dense(y, HIDDEN, OUT))

    return Case(build, units=2 * HIDDEN)


# -- the standard operator --------------------------------------------------------------------------------------------


def standard(units: int, *, options: Options | None = None, heads: tuple[int, int] = (4, 4), rank: int = 3,
             mask: tuple[int, ...] = (), values: int = SIZE, **attrs: object) -> Case:  # fmt: skip
    queries, groups = heads

    def build() -> Model:
        net = Net(opset=24)
        x = net.input(("n", LENGTH, 6))
        q = net.dense(x, 6, queries * SIZE)
        k, v = net.dense(x, 6, groups * SIZE), net.dense(x, 6, groups * values)
        counts = {"q_num_heads": queries, "kv_num_heads": groups}
        if rank == 4:
            q, k, v = _to_heads(net, q, queries), _to_heads(net, k, groups), _to_heads(net, v, groups, values)
            counts = {}
        y = net.op("Attention", q, k, v, *([net.param(*mask)] if mask else []), **counts, **attrs)
        if rank == 4:
            y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.const([0, 0, queries * values], I64))
        return net.model(net.dense(y, queries * values, OUT))

    return Case(build, units=units, options=options or Options())


def standard_with_past(options: Options, units: int, frozen: str = "") -> Case:
    def build() -> Model:
        net = Net(opset=24)
        x = net.input((2, LENGTH, 6))
        parts = [net.dense(x, 6, WIDTH) for _ in range(3)]
        past = [net.input((2, HEADS, 3, SIZE), name=name) for name in ("past_key", "past_value")]
        y, *present = net.ops("Attention", *parts, "", *past, count=3, q_num_heads=HEADS, kv_num_heads=HEADS)
        names = [net.rename(old, new) for old, new in zip(present, ("present_key", "present_value"), strict=True)]
        return net.model(net.dense(y, WIDTH, OUT), *names)

    return Case(build, units=units, options=options, frozen=frozen)


# -- rotation ---------------------------------------------------------------------------------------------------------


def rotated(units: int, *, domain: str, rank: int, options: Options | None = None, part: int = 0,
            **attrs: object) -> Case:  # fmt: skip
    """q and k are rotated, multiplied, and normalised; v stays as it is. ``part``: rotated dims, all by default."""
    size = 6 if part else 4

    def build() -> Model:
        net = Net(opset=24)
        x = net.input(("n", LENGTH, 6))
        where = net.input(("n", LENGTH), I64, "positions")
        cos, sin = (net.param(8, (part or size) // 2) for _ in range(2))
        counts = {"rotary_embedding_dim": part, "num_heads": 3} if part else {}
        if not domain and rank == 3:
            counts["num_heads"] = 3
        turned = []
        for _ in range(2):
            h = net.dense(x, 6, 3 * size)
            h = _to_heads(net, h, 3, size) if rank == 4 else h
            rest = (where, cos, sin) if domain else (cos, sin, where)
            h = net.op("RotaryEmbedding", h, *rest, domain=domain, **counts, **attrs)
            turned.append(h if rank == 4 else _to_heads(net, h, 3, size))
        q, k = turned
        scores = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
        y = net.op("MatMul", scores, _to_heads(net, net.dense(x, 6, 3 * size), 3, size))
        y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.const([0, 0, 3 * size], I64))
        return net.model(net.dense(y, 3 * size, OUT))

    return Case(build, units=units, options=options or Options(), feeds=_with_positions)


def _with_positions(_: Model, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    x = (rng.integers(-24, 25, (3, LENGTH, 6)) / 16).astype(np.float32)
    return {"x": x, "positions": np.arange(LENGTH)[None].repeat(3, 0).astype(I64)}


WITHOUT = {(MS, "QAttention"): "it projects with an integer product inside"}
CASES = {
    (MS, "Attention"): [
        fused(HEADS),
        fused(2 * SIZE, options=DIMS),
        fused(HEADS, mask="mask"),
        fused(HEADS, values=16, unidirectional=1),
        fused(SIZE + 4, values=16, options=DIMS),
        fused(HEADS, extra=HEADS),
        fused(2 * SIZE, extra=HEADS, options=DIMS),
        fused(HEADS, extra=1, scale=0.5),
        fused_with_past(CACHE, HIDDEN + HEADS),
        fused_with_past(Options(), HIDDEN, frozen="graph"),
    ],
    (MS, "QAttention"): [tokens(quantised, after=WIDTH, units=HIDDEN + HEADS)],
    (MS, "MultiHeadAttention"): [
        multi_head(HEADS),
        multi_head(HEADS, values=16, cross=True),
        multi_head(2 * SIZE, options=DIMS),
        multi_head(SIZE + 4, values=16, options=DIMS, bias=False, scale=0.5),
        multi_head(HEADS, extra=HEADS, cross=True),
        packed(HEADS),
        packed(SIZE, options=DIMS),
        packed_keys(HEADS),
        split_keys(HEADS),
        split_keys(2 * SIZE, options=DIMS),
        multi_head_with_past(CACHE, HEADS),
        rotated_multi_head(HEADS),
        rotated_multi_head(SIZE // 2 + SIZE, DIMS),
        one_head(),
        multi_head_with_past(Options(), 0, frozen="graph"),
    ],
    (MS, "GroupQueryAttention"): [
        grouped(2),
        grouped(2, rotary=True),
        grouped(2, packed=True, rotary=True, rotary_interleaved=1),
        grouped(4, heads=(4, 4)),
        grouped(2, extra=4),
        grouped(2, extra=1, packed=True, scale=0.5, softcap=5.0),
        grouped(0, options=Options(), frozen="graph"),
        grouped(4, options=CACHE_DIMS, size=32),
        grouped(2, options=CACHE_DIMS, size=32, rotary=True),
        grouped(2, options=CACHE_DIMS, size=32, rotary=True, packed=True, rotary_interleaved=1),
    ],
    ("", "Attention"): [
        standard(4),
        standard(4, rank=4),
        standard(2, heads=(4, 2)),
        standard(2, heads=(4, 2), rank=4, is_causal=1),
        standard(2 * SIZE, options=DIMS),
        standard(SIZE + 4, options=DIMS, values=4, rank=4),
        standard(4, mask=(1, 4, LENGTH, LENGTH)),
        standard(2, heads=(4, 2), mask=(1, 4, LENGTH, LENGTH)),
        standard(4, mask=(LENGTH, LENGTH)),
        standard(4, softcap=3.0, scale=0.25),
        standard_with_past(CACHE, HEADS),
        standard_with_past(CACHE_DIMS, 2 * SIZE),
        standard_with_past(Options(), 0, frozen="graph"),
    ],
    (MS, "RotaryEmbedding"): [
        rotated(3, domain=MS, rank=3),
        rotated(3, domain=MS, rank=4, interleaved=1),
        rotated(3, domain=MS, rank=3, part=4),
        rotated(2 + 4, domain=MS, rank=3, options=DIMS),
        rotated(2 + 4, domain=MS, rank=4, options=DIMS, interleaved=1),
        rotated(2 + 2 + 6, domain=MS, rank=4, options=DIMS, part=4),
    ],
    ("", "RotaryEmbedding"): [
        rotated(3, domain="", rank=3),
        rotated(3, domain="", rank=4, interleaved=1),
        rotated(2 + 4, domain="", rank=3, options=DIMS),
        rotated(2 + 2 + 6, domain="", rank=3, options=DIMS, part=4),
    ],
}
