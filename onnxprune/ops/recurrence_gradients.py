"""What the gradients of LSTM, GRU and RNN have in common: loops over time, and one direction of a layer.

The hidden states of all steps are an output of the operator. So the inputs of all gates at all steps are two products
of matrices, and only what cannot be had otherwise is computed step after step, in a Scan.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx
from onnx import helper

from onnxprune.graph import Node
from onnxprune.ops.cell_activation_gradients import Activation, Applied, activations
from onnxprune.ops.emitter import INT64, Emitter, Sizes, Value
from onnxprune.ops.tape import Tape

X, W, R, B, LENGTHS, H0, C0, P = range(8)
END = 2**31 - 1  # behind the last step
Step = Callable[[list[Value], list[Value]], tuple[list[Value], list[Value]]]
Results = tuple[list[Value], list[Value]]


@dataclass(frozen=True)
class Loop:
    """A loop over axis 0 of ``inputs``, one slice of each at a time. ``backwards``: from the last to the first.

    ``step``: states and slices -> new states and outputs; it may read values from outside through ``inside``.
    """

    states: Sequence[Value]
    inputs: Sequence[Value]
    step: Step
    backwards: bool


def side_by_side(t: Tape, works: Sequence[Generator[Loop, Results, Found]]) -> list[Found]:
    """Run what needs loops now and then, the loops of all of them in one Scan each time: a round costs its time."""
    waiting = [next(work) for work in works]
    while True:
        done = scan(t, waiting)
        waiting, ready = [], []
        for work, results in zip(works, done, strict=True):
            try:
                waiting.append(work.send(results))
            except StopIteration as end:
                ready.append(end.value)
        if not waiting:
            return ready


def scan(t: Emitter, loops: Sequence[Loop]) -> list[Results]:
    """For each loop its last states, and what its steps put out, in the order of the inputs. All are equally long."""
    body = t.inner()
    before = [[Value(body, body.fresh("state"), s.sizes, s.dtype) for s in loop.states] for loop in loops]
    slices = [[Value(body, body.fresh("slice"), s.known[1:], s.dtype) for s in loop.inputs] for loop in loops]
    made = [loop.step(*given) for loop, given in zip(loops, zip(before, slices, strict=True), strict=True)]
    after, outputs = [states for states, _ in made], [put for _, put in made]
    graph = helper.make_graph(
        body.nodes,
        body.fresh("steps"),
        [_declared(value) for values in (*before, *slices) for value in values],
        [_declared(value) for values in (*after, *outputs) for value in values],
        [onnx.numpy_helper.from_array(array, name) for name, array in body.constants.items()],
    )
    length = loops[0].inputs[0].known[0]
    stacked = [(length, *value.known) for put in outputs for value in put]
    found = iter(t.ops(
        "Scan",
        *(value for loop in loops for value in loop.states),
        *(value for loop in loops for value in loop.inputs),
        sizes=[*(s.sizes for loop in loops for s in loop.states), *stacked],
        body=graph,
        num_scan_inputs=sum(len(loop.inputs) for loop in loops),
        scan_input_directions=[int(loop.backwards) for loop in loops for _ in loop.inputs],
        scan_output_directions=[int(loop.backwards) for loop, put in zip(loops, outputs, strict=True) for _ in put],
    ))  # fmt: skip
    states, puts = ([[next(found) for _ in values] for values in part] for part in (after, outputs))
    return list(zip(states, puts, strict=True))


def inside(value: Value, like: Value) -> Value:
    """A value of the graph around a body, as it is read in there by what belongs to ``like``."""
    return replace(value, emitter=like.emitter)


def _declared(value: Value) -> onnx.ValueInfoProto:
    sizes = [size if size >= 0 else None for size in value.known]
    return helper.make_tensor_value_info(value.name, value.dtype, sizes)


@dataclass(frozen=True)
class Found:
    """Cotangents of one direction. ``by_x``, ``by_h``: of the products with W and R, (T, B, gates * H).

    ``right``: rows of R, and what they were multiplied with, (T, B, H).
    """

    by_x: Value
    by_h: Value
    right: Sequence[tuple[slice, Value]]
    h0: Value
    c0: Value | None = None
    peepholes: Value | None = None


@dataclass(frozen=True)
class Kept:
    """Of all steps of one direction, (T, B, H) each: gates, the cell state, its activation, and the hidden state."""

    i: Value
    o: Value
    f: Value
    g: Value
    cell: Value
    active: Value
    hidden: Value


@dataclass(frozen=True)
class Direction:
    """One direction of a layer, in the order in which it goes through time. T steps, B samples, I inputs, H cells.

    ``backwards``: that order is from the end to the beginning. ``turned``: so was it, but as the sequences differ in
    length, each of them is held in reverse order here. Cotangents that are None are zero.
    """

    t: Tape
    node: Node
    backwards: bool
    turned: Value | None  # the lengths
    functions: tuple[Activation, ...]
    x: Value  # (T * B, I)
    w: Value  # (gates * H, I)
    r: Value  # (gates * H, H)
    bias: tuple[Value, Value] | None  # (gates * H) each: of the product with w, and of that with r
    peepholes: Value | None  # (3 * H)
    hidden: Value  # (T, B, H): the state that each step ends with
    previous: Value  # the same that it starts from
    c0: Value | None  # (B, H)
    dy: Value | None  # (T, B, H)
    dh: Value | None  # (B, H): of the last hidden state, where dy does not hold it
    dc: Value | None  # the same of the cell state; (T, B, H) where sequences differ in length
    kept: Kept | None = None

    @property
    def cells(self) -> int:
        return self.r.known[1]

    @property
    def zeros(self) -> Value:
        """(B, H)."""
        sizes = [self.t.dim(self.previous, 1), self.cells]
        return self.t.expand_to(self.t.const(0.0, self.r.dtype), sizes)

    def rows(self, gates: int, first: int = 0) -> slice:
        """Those of some gates in w and r."""
        return slice(first * self.cells, (first + gates) * self.cells)

    def matrix(self, values: Value) -> Value:
        """(T, B, n) as (T * B, n)."""
        dims = [self.t.dim(values, axis) for axis in range(3)]
        return self.t.reshape(values, [self.t.product(dims[:2]), dims[2]])

    def steps(self, matrix: Value) -> Value:
        """(T * B, n) as (T, B, n)."""
        dims = [self.t.dim(self.previous, axis) for axis in range(2)]
        return self.t.reshape(matrix, [*dims, self.t.dim(matrix, 1)])

    def forwards(self, values: Value) -> Value:
        """(T, B, n) in the order of time."""
        return values if self.turned is None else _turned(self.t, values, self.turned)

    def after(self, first: Value, values: Value) -> Value:
        """What each step starts from, where ``values`` (T, B, H) is what it ends with."""
        return shifted(self.t, first, values, backwards=self.backwards)

    @cached_property
    def both(self) -> Value:
        """What comes in beside the state that the step starts from, (T * B, I + H)."""
        return self.t.concat([self.x, self.matrix(self.previous)], 1)

    def gates(self) -> Value:
        """x W' + h R' + b in one product, (T, B, gates * H)."""
        bias = None if self.bias is None else self.bias[0] + self.bias[1]
        return self.steps(product(self.t, self.both, self.t.concat([self.w, self.r], 1), bias, transposed=True))

    def of_x(self, rows: slice, bias: Value | None) -> Value:
        """x W' + bias for some rows of w: (T * B, rows)."""
        return product(self.t, self.x, self._part(self.w, rows), bias, transposed=True)

    def of_h(self, hidden: Value, rows: slice, more: Value | None) -> Value:
        """hidden R' + more for some rows of r: (T * B, rows)."""
        return product(self.t, self.matrix(hidden), self._part(self.r, rows), more, transposed=True)

    def _part(self, x: Value, rows: slice) -> Value:
        return self.t.slice(x, 0, rows.start, rows.stop)

    def split(self, values: Value, count: int) -> list[Value]:
        """Equal parts of the last axis."""
        size = values.known[-1] // count
        sizes = [(*values.known[:-1], size)] * count
        return list(self.t.ops("Split", values, self.t.ints(*[size] * count), sizes=sizes, axis=-1))

    def applied(self, k: int, values: Value) -> Applied:
        """Activation ``k`` of the values, which are limited first where the layer says so, and its slope."""
        limit, e = self.node.attrs.get("clip", 0.0), values.emitter
        if not limit:
            return self.functions[k](values)
        inner = e.op("Clip", values, *(e.const(b, values.dtype) for b in (-limit, limit)), sizes=values.sizes)
        y, slope = self.functions[k](inner)
        return y, lambda v: slope(v) * e.cast(values.equals(inner), values.dtype)


def product(t: Emitter, a: Value, b: Value, c: Value | None, *, transposed: bool = False) -> Value:
    """a b + c, with b transposed first where asked."""
    return t.op("Gemm", a, b, c, sizes=(a.known[0], b.known[0 if transposed else 1]), transB=int(transposed))


def shifted(t: Emitter, first: Value, values: Value, *, backwards: bool) -> Value:
    """``first`` and all values but the last one, in this order of time."""
    bounds = (1, END) if backwards else (0, -1)
    kept = t.op("Slice", values, *(t.ints(n) for n in (*bounds, 0)))
    both = (kept, t.unsqueeze(first, [0]))
    return t.op("Concat", *(both if backwards else both[::-1]), sizes=values.sizes, axis=0)


def _turned(t: Emitter, values: Value, lengths: Value) -> Value:
    """(T, B, n) with each sequence in reverse order."""
    return t.op("ReverseSequence", values, lengths, sizes=values.sizes, time_axis=0, batch_axis=1)


def directions(node: Node, t: Tape, kept: Sequence[Kept] | None) -> list[Direction]:
    """The directions of a layer: from the inputs of its node, its states of all steps, and its cotangents."""
    layer = _Layer(node, t)
    if kept is not None:
        return [layer.direction(d, way.hidden, way) for d, way in enumerate(kept)]
    y = layer.hidden()
    return [layer.direction(d, layer.of(y, 1, d), None) for d in range(len(layer.functions))]


class _Layer:
    """The tensors of a node with time first, whatever its layout."""

    def __init__(self, node: Node, t: Tape) -> None:
        self.node, self.t = node, t
        self.x = self.arranged(t.input(node, X), (1, 0, 2))
        self.cells = t.input(node, R).known[2]
        self.functions = activations(node)
        lengths = t.optional(node, LENGTHS)
        self.lengths = None if lengths is None else t.cast(lengths, INT64)
        self.marks = None if self.lengths is None else self._marks(self.lengths)

    def arranged(self, values: Value, perm: Sequence[int]) -> Value:
        """From the layout of the node to time, direction, batch, cells, or some of these."""
        return self.t.transpose(values, perm) if self.node.attrs.get("layout", 0) else values

    def _marks(self, lengths: Value) -> tuple[Value, Value]:
        """(T, B, 1): 1 where a sequence is, and where its last step is."""
        t, zero, one = self.t, self.t.const(np.int64(0)), self.t.const(np.int64(1))
        end = t.op("Squeeze", t.length(self.x, 0), sizes=())
        numbers = t.unsqueeze(t.op("Range", zero, end, one, sizes=(self.x.known[0],), dtype=INT64), [1])
        marks = (t.cast(mark, self.x.dtype) for mark in (numbers < lengths, numbers.equals(lengths - 1)))
        live, last = (t.unsqueeze(mark, [2]) for mark in marks)
        return live, last

    def hidden(self) -> Value:
        """Y with time first; the node gets it where it has none."""
        found = self.t.ask(self.node, 0, dtype=self.x.dtype)
        steps, batch = self.x.known[:2]
        sizes: Sizes = (steps, len(self.functions), batch, self.cells)
        if self.node.attrs.get("layout", 0):
            sizes = (batch, steps, len(self.functions), self.cells)
        return self.arranged(replace(found, sizes=sizes), (1, 2, 0, 3))

    def direction(self, d: int, hidden: Value, kept: Kept | None) -> Direction:
        """Number ``d``. ``hidden``: its states of all steps in the order of time, (T, B, H)."""
        t, node = self.t, self.node
        reverse = d == 1 or node.attrs.get("direction", "forward") == "reverse"
        turned = self.lengths if reverse else None
        backwards = reverse and turned is None
        dy, *final = (t.known_dy(node, k) for k in range(3))
        given = [s and self.arranged(s, (1, 0, 2)) for s in (t.optional(node, H0), t.optional(node, C0), *final)]
        h0, c0, dh, dc = (None if s is None else self.of(s, 0, d) for s in given)

        def ordered(values: Value) -> Value:
            return values if turned is None else _turned(t, values, turned)

        x, hidden = ordered(self.x), ordered(hidden)
        mine = None if dy is None else ordered(self.of(self.arranged(dy, (1, 2, 0, 3)), 1, d))
        if self.marks is not None:
            live, last = self.marks
            mine = None if mine is None else mine * live
            if dh is not None:
                mine = last * dh if mine is None else mine + last * dh
            dh, dc = None, None if dc is None else last * dc
        start = h0 if h0 is not None else t.expand_to(t.const(0.0, x.dtype), [t.dim(x, 1), self.cells])
        b = t.optional(node, B)
        gates = t.input(node, W).known[1]
        bias = (
            None if b is None else t.ops("Split", self.of(b, 0, d), t.ints(gates, gates), sizes=[(gates,)] * 2, axis=0)
        )
        p = t.optional(node, P)
        return Direction(
            t, node, backwards, turned, self.functions[d],
            x=t.reshape(x, [t.product([t.dim(x, 0), t.dim(x, 1)]), t.dim(x, 2)]),
            w=self.of(t.input(node, W), 0, d),
            r=self.of(t.input(node, R), 0, d),
            bias=None if bias is None else (bias[0], bias[1]),
            peepholes=None if p is None else self.of(p, 0, d),
            hidden=hidden,
            previous=shifted(t, start, hidden, backwards=backwards),
            c0=c0, dy=mine, dh=dh, dc=dc, kept=kept,
        )  # fmt: skip

    def of(self, values: Value, axis: int, d: int) -> Value:
        """What belongs to one direction."""
        return self.t.squeeze(self.t.slice(values, axis, d, d + 1), [axis])
