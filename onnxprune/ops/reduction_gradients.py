"""Gradients of reductions, of Softmax and its kin, of TopK and of running sums.

A reduction's cotangent gets its reduced axes back with size 1; the reverse loop broadcasts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Value
from onnxprune.ops.tape import Tape

__all__ = ["REDUCTIONS"]

Cotangents = Sequence[Value | None]
Vjp = Callable[[Node, Tape], Cotangents]


class Reduced:
    """One Reduce* node: its input, and its output and cotangent with the reduced axes as axes of size 1."""

    def __init__(self, node: Node, t: Tape) -> None:
        self.t, self.node = t, node
        self.x = t.input(node, 0)
        self.over = _axes(node, t, self.x.rank)
        self.dy = self._kept(t.dy(node))

    @property
    def y(self) -> Value:
        return self._kept(self.t.output(self.node))

    def _kept(self, y: Value) -> Value:
        if self.node.attrs.get("keepdims", 1):
            return y
        if self.over is None:
            return self.t.op("Unsqueeze", y, self.t.input(self.node, 1))
        return self.t.unsqueeze(y, self.over)

    def sum(self, values: Value) -> Value:
        """The sum over the reduced axes."""
        return self.reduce("ReduceSum", values)

    def reduce(self, op: str, values: Value) -> Value:
        """A reduction over the same axes; they stay with size 1."""
        if self.over is None:
            return self.t.op(op, values, self.t.input(self.node, 1), keepdims=1)
        return self.t.reduce(op, values, self.over, keep=True)

    def count(self) -> Value | float:
        """How many elements each result is made of."""
        t = self.t
        if self.over is None:
            return self.sum(t.expand(t.const(1.0, self.x.dtype), self.x))
        size = t.product([t.dim(self.x, axis) for axis in self.over])
        return float(size) if isinstance(size, int) else t.cast(size.value, self.x.dtype)


def _axes(node: Node, t: Tape, rank: int) -> tuple[int, ...] | None:
    """The reduced axes from 0; None where they depend on data."""
    everything = () if node.attrs.get("noop_with_empty_axes", 0) else tuple(range(rank))
    if not node.input(1):
        return everything
    value = t.constant(node, 1)
    if value is None:
        return None
    return tuple(sorted(int(axis) % rank for axis in value.reshape(-1))) or everything


def _vjp(derive: Callable[[Reduced], Value]) -> Vjp:
    def vjp(node: Node, t: Tape) -> Cotangents:
        r = Reduced(node, t)
        return (t.expand(derive(r), r.x) if r.over is None else derive(r),)

    return vjp


def _mean(r: Reduced) -> Value:
    """1 / n each."""
    return r.dy / r.count()


def _extreme(r: Reduced) -> Value:
    """To the largest (smallest) elements; those that tie share equally."""
    t = r.t
    mask = t.cast((r.x - r.y).equals(0.0), r.x.dtype)
    return mask * (r.dy / r.sum(mask))


def _product(r: Reduced) -> Value:
    """The product of the others. A single 0 among the factors gets all, two or more nothing."""
    t = r.t
    zero = r.x.equals(0.0)
    ones = t.cast(zero, r.x.dtype)
    factors = t.where(zero, 1.0, r.x)
    others = r.dy * r.reduce("ReduceProd", factors) / factors
    return t.where((ones - r.sum(ones)).equals(0.0), others, 0.0)


def _norm(r: Reduced) -> Value:
    """x / |x|; 0 where all elements are 0."""
    length = r.y
    return r.x * (r.dy / r.t.where(length.equals(0.0), 1.0, length))


def _log_sum_exp(r: Reduced) -> Value:
    """softmax(x): exp(x - y) alone would carry the rounding error of a large y."""
    if r.over is not None and len(r.over) == 1:
        return r.t.unary("Softmax", r.x, axis=r.over[0]) * r.dy
    parts = r.t.unary("Exp", r.x - r.y)
    return parts * (r.dy / r.sum(parts))


DERIVATIVES: dict[str, Callable[[Reduced], Value]] = {
    "ReduceSum": lambda r: r.dy,
    "ReduceMean": _mean,
    "ReduceMax": _extreme,
    "ReduceMin": _extreme,
    "ReduceProd": _product,
    "ReduceL1": lambda r: r.t.unary("Sign", r.x) * r.dy,
    "ReduceL2": _norm,
    "ReduceSumSquare": lambda r: r.x * (r.dy * 2.0),
    "ReduceLogSum": lambda r: r.dy * r.t.unary("Exp", -r.y),
    "ReduceLogSumExp": _log_sum_exp,
}


# -- along one axis -------------------------------------------------------------------------------------------------


def vjp_softmax(node: Node, t: Tape) -> Cotangents:
    """y = e^x / sum e^x: dx = y (dy - sum dy y)."""
    y, axis = t.output(node), [int(node.attrs.get("axis", -1))]
    weighted = t.dy(node) * y
    return (weighted - y * t.sum(weighted, axis, keep=True),)


def vjp_log_softmax(node: Node, t: Tape) -> Cotangents:
    """y = x - log sum e^x: dx = dy - e^y sum dy."""
    dy, axis = t.dy(node), [int(node.attrs.get("axis", -1))]
    return (dy - t.unary("Exp", t.output(node)) * t.sum(dy, axis, keep=True),)


def vjp_top_k(node: Node, t: Tape) -> Cotangents:
    """Each cotangent goes back to the position that its value came from."""
    x, dy = t.input(node, 0), t.dy(node)
    indices = t.ask(node, 1, dy, dtype=INT64)
    axis = int(node.attrs.get("axis", -1))
    return t.op("ScatterElements", t.zeros_like(x), indices, dy, sizes=x.sizes, axis=axis), None


def vjp_cum_sum(node: Node, t: Tape) -> Cotangents:
    """Running sums from the other end."""
    dy = t.dy(node)
    reverse, exclusive = int(node.attrs.get("reverse", 0)), int(node.attrs.get("exclusive", 0))
    axis = t.input(node, 1)
    return t.op("CumSum", dy, axis, sizes=dy.sizes, reverse=1 - reverse, exclusive=exclusive), None


REDUCTIONS: Mapping[str, Vjp] = {
    **{op: _vjp(derive) for op, derive in DERIVATIVES.items()},
    "Softmax": vjp_softmax,
    "LogSoftmax": vjp_log_softmax,
    "TopK": vjp_top_k,
    "CumSum": vjp_cum_sum,
}
