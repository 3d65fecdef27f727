"""Attention and rotation on their own, for gradients: masks, caches, windows, sinks, and sizes known when they run."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import MS, Case, Net
from tests.oracle import Array

LENGTH = 5
I64, I32 = np.int64, np.int32


def plain(op: str, *parts: tuple[int | str, ...] | Array | str, domain: str = "", opset: int = 24, outputs: int = 1,
          shown: tuple[int, ...] = (0,), runs: bool = True, **attrs: object) -> Case:  # fmt: skip
    """Nothing but the operator. Shapes are inputs of float32 (the first ones) or parameters, arrays constants."""

    def build() -> Model:
        net = Net(opset=opset)
        names = []
        for k, part in enumerate(parts):
            if isinstance(part, str):
                names.append(part)
            elif isinstance(part, np.ndarray):
                names.append(net.const(part))
            elif k < 3:
                names.append(net.input(part, name=f"x{k}"))
            else:
                names.append(net.param(*(int(size) for size in part)))
        found = net.ops(op, *names, count=outputs, domain=domain, **attrs)
        return net.model(*(found[k] for k in shown))

    return Case(build, runs=runs)


def rows(*values: int, dtype: type[np.generic] = I32) -> Array:
    return np.array(values, dtype)


Q, K, V = (2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 4)
SOME = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
PLAIN_Q, PLAIN_KV = (2, LENGTH, 12), (2, 7, 12)


def projected(mask: Array | str = "", *rest: tuple[int, ...], **attrs: object) -> Case:
    """com.microsoft.Attention with 3 heads."""

    def build() -> Model:
        net = Net()
        x = net.input((2, LENGTH, 12))
        given = net.const(mask) if isinstance(mask, np.ndarray) else mask
        inputs = [x, net.param(12, 36), net.param(36), given, *("" if not r else net.param(*r) for r in rest)]
        y = net.op("Attention", *inputs, domain=MS, num_heads=3, **attrs)
        return net.model(net.hint(y, (2, LENGTH, 12)))

    return Case(build)


def multi(*rest: tuple[int, ...] | Array | str, dynamic: bool = False, outputs: int = 1, **attrs: object) -> Case:
    """com.microsoft.MultiHeadAttention with 3 heads on 5 rows and 7 keys, or as many of both as there are."""

    def build() -> Model:
        net = Net()
        q = net.input(("n", "s", 12) if dynamic else PLAIN_Q)
        k, v = (net.op("Tanh", q) if dynamic else net.input(PLAIN_KV, name=name) for name in ("k", "v"))
        inputs = [q, k, v]
        for part in rest:
            if isinstance(part, str):
                inputs.append(part)
            else:
                inputs.append(net.const(part) if isinstance(part, np.ndarray) else net.param(*part))
        y, *_ = net.ops("MultiHeadAttention", *inputs, count=outputs, domain=MS, num_heads=3, **attrs)
        return net.model(net.hint(y, ("n", "s", 12) if dynamic else (2, LENGTH, 12)))

    return Case(build)


def cached(past: int, *rest: tuple[int, ...] | str, batch: int = 1, rows: int = 2, size: int = 8, room: int = 0,
           rotary: bool = False, **attrs: object) -> Case:  # fmt: skip
    """com.microsoft.GroupQueryAttention: rows behind so many of a cache, which has ``room`` for more."""

    def build() -> Model:
        net = Net()
        q, k, v = (net.input((batch, rows, n * size), name=name) for n, name in ((4, "q"), (2, "k"), (2, "v")))
        before = [net.input((batch, 2, room or past, size), name=name) for name in ("past_key", "past_value")]
        lengths = net.const(np.full(batch, past + rows - 1, I32)), net.const(np.int32(past + rows))
        tables = [net.param(8, size // 2), net.param(8, size // 2)] if rotary else ["", ""]
        others = ["" if isinstance(part, str) else net.param(*part) for part in rest]
        y, *present = net.ops("GroupQueryAttention", q, k, v, *before, *lengths, *tables, "", *others, count=3,
                              domain=MS, num_heads=4, kv_num_heads=2, do_rotary=int(rotary), **attrs)  # fmt: skip
        shown = [net.hint(name, (batch, 2, max(room, past + rows), size)) for name in present]
        return net.model(net.hint(y, (batch, rows, 4 * size)), *shown)

    return Case(build)


def turned(where: Array, **attrs: object) -> Case:
    """com.microsoft.RotaryEmbedding with positions that are constants."""

    def build() -> Model:
        net = Net()
        x = net.input((2, LENGTH, 12))
        y = net.op("RotaryEmbedding", x, net.const(where), net.param(9, 2), net.param(9, 2), domain=MS, **attrs)
        return net.model(net.hint(y, (2, LENGTH, 12)))

    return Case(build)


PADDED = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], I32)
GRADIENT_CASES = {
    (MS, "Attention"): [
        projected(PADDED),
        projected(PADDED[:, None].repeat(LENGTH, 1), mask_filter_value=-3.0),
        projected(rows(3, 5)),
        projected(rows(4, 5, 1, 0)),
        projected(PADDED, (), (2, 3, LENGTH, LENGTH), unidirectional=1),
    ],
    (MS, "MultiHeadAttention"): [
        multi(dynamic=True, unidirectional=1),
        multi((36,), np.array([[1] * 6 + [0], [1] * 4 + [0] * 3], I32), mask_filter_value=-2.0),
        multi("", "", (2, 1, LENGTH, 7), scale=0.5),
    ],
    (MS, "GroupQueryAttention"): [
        cached(3),
        cached(3, rotary=True, size=16),
        cached(5, batch=2, rows=1, room=6, local_window_size=3),
        cached(3, smooth_softmax=1),
        cached(3, "", (4,), softcap=2.0),
    ],
    ("", "Attention"): [
        plain("Attention", Q, K, V),
        plain("Attention", ("n", 4, "s", 8), ("n", 4, "s", 8), ("n", 4, "s", 8), is_causal=1),
        plain("Attention", ("n", "s", 32), ("n", "t", 16), ("n", "t", 16), q_num_heads=4, kv_num_heads=2),
        plain("Attention", Q, K, V, SOME, is_causal=1),
        plain("Attention", Q, K, V, (1, 4, 3, 5), "", "", rows(5, 2, dtype=I64)),
        plain("Attention", Q, K, V, (3, 4), runs=False),
        plain("Attention", Q, K, V, SOME[:, :4], runs=False),
        *(
            plain("Attention", Q, K, V, (3, 5), outputs=4, shown=(0, 3), softcap=2.0, qk_matmul_output_mode=mode)
            for mode in range(4)
        ),
    ],
    (MS, "RotaryEmbedding"): [
        turned(rows(2, dtype=I64)),
        turned(np.arange(10).reshape(2, LENGTH) % 7, interleaved=1),
    ],
}
