"""The forward pass of an LSTM that keeps its gates, in the place of the operator where gradients are wanted.

onnxruntime's kernel is faster than this loop, but does not say what its gates were; to compute them again costs more
than the difference. Only for layers without lengths, peepholes and the like: the others are left to the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx import helper

from onnxprune.graph import Node
from onnxprune.ops.cell_activation_gradients import SLOPES, Activation, activations
from onnxprune.ops.emitter import Emitter, Value
from onnxprune.ops.recurrence_gradients import C0, H0, LENGTHS, B, Kept, Loop, P, R, W, X, inside, product, scan
from onnxprune.ops.tape import Tape

Values = list[Value]


def kept_gates(node: Node, t: Tape) -> list[Kept] | None:
    """For each direction. None where the kernel does it: lengths, peepholes, clipping, coupled gates, batch first."""
    rare = any(t.has(node, k) for k in (LENGTHS, P)) or any(
        node.attrs.get(key, 0) for key in ("clip", "input_forget", "layout")
    )
    if node.op != "LSTM" or rare or any(f.name not in SLOPES for way in activations(node) for f in way):
        return None
    kept = t.instead(node, lambda e: _forward(node, t, e))
    return [Kept(*(replace(value, emitter=t) for value in vars(way).values())) for way in kept]


def _forward(node: Node, t: Tape, e: Emitter) -> list[Kept]:
    x, w, r = (replace(t.input(node, k), emitter=e) for k in (X, W, R))
    b, *states = (s and replace(s, emitter=e) for s in (t.optional(node, k) for k in (B, H0, C0)))
    rows, cells = w.known[1], r.known[2]
    dims = [e.dim(x, axis) for axis in range(3)]
    flat, zeros = e.reshape(x, [e.product(dims[:2]), dims[2]]), e.expand_to(e.const(0.0, x.dtype), [dims[1], cells])

    def of(values: Value, d: int) -> Value:
        return e.squeeze(e.slice(values, 0, d, d + 1), [0])

    loops = []
    for d, functions in enumerate(activations(node)):
        bias = None
        if b is not None:
            bias = e.op(
                "Add", *e.ops("Split", of(b, d), e.ints(rows, rows), sizes=[(rows,)] * 2, axis=0), sizes=(rows,)
            )
        outer = e.reshape(product(e, flat, of(w, d), bias, transposed=True), [*dims[:2], rows])
        start = [zeros if s is None else of(s, d) for s in states]
        backwards = d == 1 or node.attrs.get("direction", "forward") == "reverse"
        loops.append(Loop(start, [outer], _Step(functions, of(r, d)), backwards))
    results = scan(e, loops)
    kept = [Kept(*puts) for _, puts in results]
    made = [e.concat([e.unsqueeze(way.hidden, [1]) for way in kept], 1)]
    made += [e.concat([e.unsqueeze(final[k], [0]) for final, _ in results], 0) for k in range(2)]
    for name, value in zip(node.outputs, made, strict=False):
        if name:
            e.nodes.append(helper.make_node("Identity", [value.name], [name], name=e.fresh(f"{node.name}_{name}")))
    return kept


@dataclass(frozen=True)
class _Step:
    """One step of one direction: h, c and x W' + b -> the next h and c, and what is kept."""

    functions: tuple[Activation, ...]
    r: Value  # (4 * H, H)

    def __call__(self, states: Values, slices: Values) -> tuple[Values, Values]:
        (h, c), (outer,) = states, slices
        e, cells = h.emitter, h.known[1]
        inner = product(e, h, inside(self.r, h), outer, transposed=True)
        sizes = [(h.known[0], 3 * cells), (h.known[0], cells)]
        three, last = e.ops("Split", inner, e.ints(3 * cells, cells), sizes=sizes, axis=-1)
        three, g = self.functions[0](three)[0], self.functions[1](last)[0]
        i, o, f = e.ops("Split", three, e.ints(cells, cells, cells), sizes=[h.sizes] * 3, axis=-1)
        cell = f * c + i * g
        active = self.functions[2](cell)[0]
        hidden = o * active
        copies = (e.op("Identity", v, sizes=v.sizes) for v in (cell, hidden))
        put_cell, put_hidden = copies
        return [hidden, cell], [i, o, f, g, put_cell, active, put_hidden]
