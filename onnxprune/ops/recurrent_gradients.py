"""Gradients of LSTM, GRU and RNN: back-propagation through time.

Every cotangent of a step is that of its hidden state (dh) or cell state (dc), times factors that depend on the forward
pass only. Those are computed for all steps at once, and so are the gradients of all parameters afterwards. What is left
for the loop over time, from the last step to the first, is for an LSTM

    dh = dy + s,  dc = dh A + u,  d = [dc, dh, dc, dc] K,  u' = dc F,  s' = d R

with d the cotangents of its gates (input, output, forget, cell); for the others it is similar.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from onnxprune.graph import Node
from onnxprune.ops.cell_activation_gradients import SLOPES, Applied, Slope
from onnxprune.ops.emitter import Value
from onnxprune.ops.lstm_forward_gradients import kept_gates
from onnxprune.ops.recurrence_gradients import (
    C0,
    H0,
    B,
    Direction,
    Found,
    Kept,
    Loop,
    P,
    R,
    Results,
    W,
    X,
    directions,
    inside,
    product,
    side_by_side,
)
from onnxprune.ops.tape import Tape

Values = list[Value]
Work = Generator[Loop, Results, Found]
Step = Callable[[Value, Values, Values], tuple[Values, Values]]  # dh, states, factors -> states, outputs


def vjp_recurrent(node: Node, t: Tape) -> Sequence[Value | None]:
    """X, W, R, B, sequence_lens, initial_h, initial_c, P -> Y, Y_h, Y_c. All outputs may have cotangents."""
    ways = directions(node, t, kept_gates(node, t))
    pairs = list(zip(ways, side_by_side(t, [BACKWARD[node.op](way) for way in ways]), strict=True))
    made: dict[int, Values] = {W: [], R: []}
    for way, f in pairs:
        dw, dr = _of_weights(way, f)
        made[W] += [] if dw is None else [dw]
        made[R] += [] if dr is None else [dr]
    if t.needs(node, B):
        made[B] = [t.concat([t.sum(v, [0, 1]) for v in (f.by_x, f.by_h)], 0) for _, f in pairs]
    made[H0] = [f.h0 for _, f in pairs]
    made[C0] = [f.c0 for _, f in pairs if f.c0 is not None]
    made[P] = [f.peepholes for _, f in pairs if f.peepholes is not None]
    gradients: list[Value | None] = []
    for k in range(len(node.inputs)):
        if not t.needs(node, k) or not (k == X or made.get(k)):
            gradients.append(None)
            continue
        gradient = _of_inputs(pairs) if k == X else t.concat([t.unsqueeze(v, [0]) for v in made[k]], 0)
        swapped = k in (X, H0, C0) and node.attrs.get("layout", 0)
        gradients.append(t.transpose(gradient, (1, 0, 2)) if swapped else gradient)
    return gradients


def _of_inputs(pairs: Sequence[tuple[Direction, Found]]) -> Value:
    """The sum over directions of d W, (T, B, I)."""
    first, t = pairs[0][0], pairs[0][0].t
    total: Value | None = None
    for way, found in pairs:
        if way.turned is None:
            total = product(t, way.matrix(found.by_x), way.w, total)
        else:
            own = first.matrix(way.forwards(way.steps(product(t, way.matrix(found.by_x), way.w, None))))
            total = own if total is None else total + own
    return first.steps(total) if total is not None else first.x


def _of_weights(way: Direction, found: Found) -> tuple[Value | None, Value | None]:
    """dW = d' x and dR = d' h, in one product where both are wanted and d is the same."""
    t, by_x, by_h = way.t, way.matrix(found.by_x), way.matrix(found.by_h)
    wanted = [t.needs(way.node, k) for k in (W, R)]
    if all(wanted) and found.by_x is found.by_h and len(found.right) == 1:
        whole = t.gemm(by_x, way.both, trans_a=True)
        inputs = way.w.known[1]
        return t.slice(whole, 1, 0, inputs), t.slice(whole, 1, inputs, whole.known[1])
    dr = [t.gemm(t.slice(by_h, 1, rows.start, rows.stop), way.matrix(h), trans_a=True) for rows, h in found.right]
    return t.gemm(by_x, way.x, trans_a=True) if wanted[0] else None, t.concat(dr, 0) if wanted[1] else None


def _backward(way: Direction, states: Values, inputs: Values, step: Step) -> Loop:
    """The loop over time, last step first; ``dy`` is the first input where it is known."""
    given = [] if way.dy is None else [way.dy]

    def body(before: Values, slices: Values) -> tuple[Values, Values]:
        dh = before[0] if way.dy is None else before[0] + slices[0]
        return step(dh, before[1:], slices[len(given) :])

    return Loop(states, [*given, *inputs], body, backwards=not way.backwards)


def backward_rnn(way: Direction) -> Work:
    """h = f(x W' + h_before R' + b)."""
    t, rows, name = way.t, way.rows(1), way.functions[0].name
    if name in SLOPES and not way.node.attrs.get("clip", 0.0):
        slope = SLOPES[name](way.hidden)
    else:
        _, slope = way.applied(0, way.gates())
    slopes = t.expand(slope(t.const(1.0, way.hidden.dtype)), way.hidden)

    def step(dh: Value, _: Values, factors: Values) -> tuple[Values, Values]:
        d = dh * factors[0]
        return [dh.emitter.matmul(d, inside(way.r, dh))], [d]

    (h0,), (d,) = yield _backward(way, [way.dh or way.zeros], [slopes], step)
    return Found(d, d, [(rows, way.previous)], h0)


def backward_gru(way: Direction) -> Work:
    """z, r = f(x W' + h_before R' + b), n = g(x W' + b + r of what is recurrent), h = (1 - z) n + z h_before."""
    t, before = way.t, way.previous
    both, new = way.rows(2), way.rows(1, first=2)
    biases = way.bias or (None, None)
    bx, bh = ((b and t.slice(b, 0, both.start, both.stop), b and t.slice(b, 0, new.start, new.stop)) for b in biases)
    two = way.of_h(before, both, way.of_x(both, bx[0] + bh[0] if bx[0] and bh[0] else None))
    (z, sz), (r, sr) = (way.applied(0, part) for part in way.split(way.steps(two), 2))
    if way.node.attrs.get("linear_before_reset", 0):
        return (yield from _backward_gru_linear(way, (z, sz), (r, sr), bx[1], bh[1]))
    bias = bx[1] + bh[1] if bx[1] and bh[1] else None
    held = r * before
    n, sn = way.applied(1, way.steps(way.of_h(held, new, way.of_x(new, bias))))
    of_n, of_z, of_r = sn(1.0 - z), sz(before - n), sr(before)
    r_both, r_new = (t.slice(way.r, 0, rows.start, rows.stop) for rows in (both, new))

    def step(dh: Value, _: Values, factors: Values) -> tuple[Values, Values]:
        e, (keep, reset, kn, kz, kr) = dh.emitter, factors
        dn = dh * kn
        back = e.matmul(dn, inside(r_new, dh))
        dzr = e.concat([dh * kz, back * kr], -1)
        state = e.matmul(dzr, inside(r_both, dh)) + dh * keep + back * reset
        return [state], [dzr, dn]

    (h0,), (dzr, dn) = yield _backward(way, [way.dh or way.zeros], [z, r, of_n, of_z, of_r], step)
    d = t.concat([dzr, dn], -1)
    return Found(d, d, [(both, before), (new, held)], h0)


def _backward_gru_linear(way: Direction, update: Applied, reset: Applied, bx: Value | None, bh: Value | None) -> Work:
    """The reset gate comes after the product: all gates follow from dh, so that the loop has one product."""
    t, before, new, (z, sz), (r, sr) = way.t, way.previous, way.rows(1, first=2), update, reset
    recurrent = way.steps(way.of_h(before, new, bh))
    n, sn = way.applied(1, way.steps(way.of_x(new, bx)) + r * recurrent)
    of_n = sn(1.0 - z)
    factors = t.concat([sz(before - n), sr(of_n * recurrent), of_n * r], -1)

    def step(dh: Value, _: Values, given: Values) -> tuple[Values, Values]:
        e = dh.emitter
        d = e.concat([dh, dh, dh], -1) * given[1]
        return [e.matmul(d, inside(way.r, dh)) + dh * given[0]], [d, e.op("Identity", dh, sizes=dh.sizes)]

    (h0,), (d, dh) = yield _backward(way, [way.dh or way.zeros], [z, factors], step)
    two = t.slice(d, 2, 0, 2 * way.cells)
    return Found(t.concat([two, dh * of_n], -1), d, [(way.rows(3), before)], h0)


def backward_lstm(way: Direction) -> Work:
    """i, o, f = f(x W' + h_before R' + b + P c), g likewise, c = f c_before + i g, h = o h(c)."""
    t, rows, c0 = way.t, way.rows(4), way.c0 or way.zeros
    peepholes = None if way.peepholes is None else way.split(way.peepholes, 3)
    coupled = bool(way.node.attrs.get("input_forget", 0))
    if way.kept is not None:
        gates = _gates_kept(way, way.kept)
    else:
        gates = yield from _gates_again(way, c0, peepholes, coupled=coupled)
    cell, before = gates.cell, way.after(c0, gates.cell)
    of_i = gates.si(gates.g - before if coupled else gates.g)
    of_o, of_g, of_c = gates.so(gates.active), gates.sg(gates.i), gates.sh(gates.o)
    of_f = t.zeros_like(before) if coupled else gates.sf(before)
    keep = gates.f
    if peepholes is not None:
        pi, po, pf = peepholes
        of_c = of_c + of_o * po
        keep = keep + of_i * pi if coupled else keep + of_i * pi + of_f * pf
    late = [way.dc] if way.dc is not None and way.dc.rank == 3 else []

    def step(dh: Value, states: Values, factors: Values) -> tuple[Values, Values]:
        e = dh.emitter
        dc = dh * factors[0] + states[0]
        for more in factors[3:]:
            dc = dc + more
        d = e.concat([dc, dh, dc, dc], -1) * factors[2]
        return [e.matmul(d, inside(way.r, dh)), dc * factors[1]], [d]

    start = [way.dh or way.zeros, way.zeros if late or way.dc is None else way.dc]
    factors = t.concat([of_i, of_o, of_f, of_g], -1)
    (h0, dc0), (d,) = yield _backward(way, start, [of_c, keep, factors, *late], step)
    dp = None
    if peepholes is not None and t.needs(way.node, P):
        di, do, df, _ = way.split(d, 4)
        dp = t.concat([t.sum(v * c, [0, 1]) for v, c in ((di, before), (do, cell), (df, before))], 0)
    return Found(d, d, [(rows, way.previous)], h0, dc0, dp)


@dataclass(frozen=True)
class Gates:
    """Of all steps, with the slopes of the activations of i, o, f, g and of the cell state. ``active``: h(c)."""

    i: Value
    o: Value
    f: Value
    g: Value
    cell: Value
    active: Value
    si: Slope
    so: Slope
    sf: Slope
    sg: Slope
    sh: Slope


def _gates_kept(way: Direction, kept: Kept) -> Gates:
    """Those that the forward pass kept."""
    first, second, third = (SLOPES[function.name] for function in way.functions)
    slopes = first(kept.i), first(kept.o), first(kept.f), second(kept.g), third(kept.active)
    return Gates(kept.i, kept.o, kept.f, kept.g, kept.cell, kept.active, *slopes)


def _gates_again(
    way: Direction, c0: Value, peepholes: Values | None, *, coupled: bool
) -> Generator[Loop, Results, Gates]:
    """From the inputs and the hidden states."""
    inner = way.split(way.gates(), 4)
    g, sg = way.applied(1, inner[3])
    cell = yield from _cells(way, inner, g, c0, peepholes, coupled=coupled)
    if peepholes is not None:
        before, (pi, po, pf) = way.after(c0, cell), peepholes
        inner = [inner[0] + before * pi, inner[1] + cell * po, inner[2] + before * pf]
    (i, si), (o, so), (f, sf) = (way.applied(0, values) for values in inner[:3])
    active, sh = way.functions[2](cell)
    return Gates(i, o, 1.0 - i if coupled else f, g, cell, active, si, so, sf, sg, sh)


def _cells(
    way: Direction, inner: Values, g: Value, c0: Value, peepholes: Values | None, *, coupled: bool
) -> Generator[Loop, Results, Value]:
    """The cell states of all steps, (T, B, H)."""

    def gates(i: Value, f: Value, c: Value | None) -> tuple[Value, Value]:
        if peepholes is not None and c is not None:
            i, f = i + c * inside(peepholes[0], c), f + c * inside(peepholes[2], c)
        i, _ = way.applied(0, i)
        return i, 1.0 - i if coupled else way.applied(0, f)[0]

    def alone(states: Values, given: Values) -> tuple[Values, Values]:
        return _twice(states[0] * given[0] + given[1])

    def with_peepholes(states: Values, given: Values) -> tuple[Values, Values]:
        i, f = gates(given[0], given[1], states[0])
        return _twice(states[0] * f + i * given[2])

    if peepholes is not None:
        inputs, step = [inner[0], inner[2], g], with_peepholes
    else:
        i, f = gates(inner[0], inner[2], None)
        inputs, step = [f, i * g], alone
    _, (cells,) = yield Loop([c0], inputs, step, way.backwards)
    return cells


def _twice(value: Value) -> tuple[Values, Values]:
    """As the next state, and as what the step puts out."""
    return [value], [value.emitter.op("Identity", value, sizes=value.sizes)]


BACKWARD = {"LSTM": backward_lstm, "GRU": backward_gru, "RNN": backward_rnn}
