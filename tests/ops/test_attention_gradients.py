"""Attention operators against torch's scaled dot product in float64, for other sizes than those of the analysis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.errors import UnsupportedModel
from onnxprune.model import Model
from tests.doubles import Runner
from tests.ops.cases import MS, Net
from tests.oracle import Array

HEADS, DIMS = 4, 8
WIDTH = HEADS * DIMS
ALLOWED = 5e-6


def standard(*, causal: bool, groups: int = HEADS) -> Model:
    net = Net(opset=24)
    x = net.input(("n", "s", WIDTH), name="q")
    k, v = (net.input(("n", "t", groups * DIMS), name=name) for name in ("k", "v"))
    return net.model(net.op("Attention", x, k, v, q_num_heads=HEADS, kv_num_heads=groups, is_causal=int(causal)))


def multi_head(*, causal: bool) -> Model:
    net = Net()
    q, k, v = (net.input(("n", "t" if name != "q" else "s", WIDTH), name=name) for name in "qkv")
    y = net.op("MultiHeadAttention", q, k, v, domain=MS, num_heads=HEADS, unidirectional=int(causal))
    return net.model(net.hint(y, ("n", "s", WIDTH)))


def grouped() -> Model:
    """A prompt: no cache, causal."""
    net = Net()
    q = net.input(("n", "s", WIDTH), name="q")
    k, v = (net.input(("n", "s", 2 * DIMS), name=name) for name in ("k", "v"))
    lengths, total = net.input(("n",), np.int32, "lengths"), net.input((), np.int32, "total")
    y = net.op("GroupQueryAttention", q, k, v, "", "", lengths, total, domain=MS, num_heads=HEADS, kv_num_heads=2)
    return net.model(net.hint(y, ("n", "s", WIDTH)))


def expected(feeds: dict[str, Array], seed: Array, *, causal: bool) -> dict[str, Array]:
    given = {name: torch.from_numpy(feeds[name]).double().requires_grad_() for name in "qkv"}
    heads = [x.reshape(*x.shape[:2], -1, DIMS).transpose(1, 2) for x in given.values()]
    q, k, v = (x.repeat_interleave(HEADS // x.shape[1], 1) for x in heads)
    rows, columns = q.shape[2], k.shape[2]
    mask = torch.ones(rows, columns, dtype=torch.bool).tril() if causal else None
    y = scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    found = torch.autograd.grad((y * torch.from_numpy(seed).double()).sum(), list(given.values()))
    return {name: value.numpy() for name, value in zip(given, found, strict=True)}


MODELS = {
    "standard": (standard(causal=False), False, HEADS),
    "standard causal": (standard(causal=True), True, HEADS),
    "standard grouped": (standard(causal=True, groups=2), True, 2),
    "multi head": (multi_head(causal=False), False, HEADS),
    "multi head causal": (multi_head(causal=True), True, HEADS),
    "grouped": (grouped(), True, 2),
}


@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 4, 4), (3, 6, 6), (2, 5, 9)])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_torch(name: str, batch: int, rows: int, columns: int) -> None:
    """One graph for any batch size and sequence length."""
    model, causal, groups = MODELS[name]
    if name == "grouped":
        columns = rows
    rng = np.random.default_rng(0)
    shapes = {"q": (batch, rows, WIDTH), **dict.fromkeys("kv", (batch, columns, groups * DIMS))}
    feeds = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    seed = rng.standard_normal(shapes["q"]).astype(np.float32)
    tape = open_tape(model)
    output = tape.tensor(tape.graph.outputs[0])
    cotangent = declared_input(tape, "seed", output.dtype, output.known)
    found = backward(tape, {output.name: cotangent}, list("qkv"))
    built = build(tape, found.values())
    extra = {"lengths": np.full(batch, rows - 1, np.int32), "total": np.array(rows, np.int32)}
    taken = {value.name for value in built.proto.graph.input}
    results = Runner(built)({n: a for n, a in {**feeds, **extra, cotangent.name: seed}.items() if n in taken})
    for key, exact in expected(feeds, seed, causal=causal).items():
        error = np.abs(results[found[key].name] - exact).max() / np.abs(exact).max()
        assert error < ALLOWED, key


def test_a_cache_in_place_is_named() -> None:
    net = Net()
    q, k, v = (net.input((2, 3, WIDTH), name=name) for name in "qkv")
    past = [net.input((2, HEADS, 5, DIMS), name=name) for name in ("past_key", "past_value")]
    length = net.const(np.array([3], np.int32))
    y = net.op("MultiHeadAttention", q, k, v, "", "", "", *past, length, domain=MS, num_heads=HEADS)
    with pytest.raises(UnsupportedModel, match=r"MultiHeadAttention node .* has a cache in place"):
        open_tape(net.model(net.hint(y, (2, 3, WIDTH))))
