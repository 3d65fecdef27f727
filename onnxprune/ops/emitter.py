"""Writing ONNX nodes as arithmetic: what gradient rules, losses and optimisers are put in.

``Emitter`` appends nodes in the order in which they are asked for, so that what it holds is always sorted. A ``Value``
is a tensor of the graph that is being written; ``a * b + 1.0`` writes two nodes. Numbers become constants of the other
operand's type. Everything here is valid from opset 18 on.

Sizes: a positive one is fixed; a negative one is dynamic and its absolute value is the size that it has in the
analysis (a prime of its own), so that equal sizes are equal numbers and a dynamic one is never taken for 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper

from onnxprune.weights import dtype_of

__all__ = ["FLOATS", "Array", "Dim", "Emitter", "Sizes", "UnknownShape", "Value", "broadcast_sizes"]

Array = NDArray[Any]
Sizes = tuple[int, ...]
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
INT64, BOOL = int(TensorProto.INT64), int(TensorProto.BOOL)


class UnknownShape(Exception):
    """A rule needs the shape of a tensor that nothing could tell; ``args[0]`` is its name."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph that is being written. ``sizes`` is None where the shape is not known.

    ``dtype``: ONNX's number of the element type.
    """

    emitter: Emitter = field(repr=False)
    name: str
    sizes: Sizes | None
    dtype: int

    @property
    def rank(self) -> int:
        """Number of axes. Raises UnknownShape."""
        return len(self.known)

    @property
    def known(self) -> Sizes:
        """The sizes. Raises UnknownShape."""
        if self.sizes is None:
            raise UnknownShape(self.name)
        return self.sizes

    @property
    def fixed(self) -> bool:
        """Whether all sizes are known and none is dynamic."""
        return self.sizes is not None and all(size >= 0 for size in self.sizes)

    def __add__(self, other: Value | float) -> Value:
        return self.emitter.binary("Add", self, other)

    def __radd__(self, other: float) -> Value:
        return self.emitter.binary("Add", other, self)

    def __sub__(self, other: Value | float) -> Value:
        return self.emitter.binary("Sub", self, other)

    def __rsub__(self, other: float) -> Value:
        return self.emitter.binary("Sub", other, self)

    def __mul__(self, other: Value | float) -> Value:
        return self.emitter.binary("Mul", self, other)

    def __rmul__(self, other: float) -> Value:
        return self.emitter.binary("Mul", other, self)

    def __truediv__(self, other: Value | float) -> Value:
        return self.emitter.binary("Div", self, other)

    def __rtruediv__(self, other: float) -> Value:
        return self.emitter.binary("Div", other, self)

    def __pow__(self, other: Value | float) -> Value:
        return self.emitter.binary("Pow", self, other)

    def __neg__(self) -> Value:
        return self.emitter.unary("Neg", self)

    def __gt__(self, other: Value | float) -> Value:
        return self.emitter.binary("Greater", self, other, dtype=BOOL)

    def __lt__(self, other: Value | float) -> Value:
        return self.emitter.binary("Less", self, other, dtype=BOOL)

    def __ge__(self, other: Value | float) -> Value:
        return self.emitter.binary("GreaterOrEqual", self, other, dtype=BOOL)

    def __le__(self, other: Value | float) -> Value:
        return self.emitter.binary("LessOrEqual", self, other, dtype=BOOL)

    def equals(self, other: Value | float) -> Value:
        """Element by element, as booleans."""
        return self.emitter.binary("Equal", self, other, dtype=BOOL)


@dataclass(frozen=True)
class Dim:
    """One size of a tensor that is only known when the model runs: a 1-D int64 tensor of one element."""

    value: Value
    size: int  # negative: see the module docstring


class Emitter:
    """Nodes and constants that are being written. ``training``: operators behave as they do in training."""

    def __init__(self, taken: set[str], *, training: bool = False) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.domains: dict[str, int] = {}
        self.training = training
        self._taken = taken
        self._constant_of: dict[tuple[str, Sizes, bytes], Value] = {}
        self._shape_of: dict[tuple[str, int, int], Value] = {}
        self._count = 0

    # names, nodes, constants

    def inner(self) -> Emitter:
        """One for the body of a loop: its names differ from those outside."""
        return Emitter(self._taken, training=self.training)

    def fresh(self, base: str) -> str:
        """A name that nothing has."""
        name = base
        while name in self._taken:
            self._count += 1
            name = f"{base}_{self._count}"
        self._taken.add(name)
        return name

    def op(
        self,
        op: str,
        *inputs: Value | None,
        sizes: Sizes | None = None,
        dtype: int | None = None,
        domain: str = "",
        **attrs: Any,
    ) -> Value:
        """A node with one output. ``dtype``: that of the first input unless given; ``sizes``: unknown unless given."""
        return self.ops(op, *inputs, sizes=(sizes,), dtypes=(dtype,), domain=domain, **attrs)[0]

    def ops(
        self,
        op: str,
        *inputs: Value | None,
        sizes: Sequence[Sizes | None],
        dtypes: Sequence[int | None] = (),
        domain: str = "",
        **attrs: Any,
    ) -> tuple[Value, ...]:
        """A node with as many outputs as there are ``sizes``. An absent input is None; absent ones at the end go."""
        names = ["" if value is None else value.name for value in inputs]
        while names and not names[-1]:
            names.pop()
        default = next((value.dtype for value in inputs if value is not None), int(TensorProto.FLOAT))
        types = [*dtypes, *[None] * (len(sizes) - len(dtypes))]
        outputs = tuple(
            Value(self, self.fresh(f"{op}_out"), shape, default if dtype is None else dtype)
            for shape, dtype in zip(sizes, types, strict=True)
        )
        given = {key: value for key, value in attrs.items() if value is not None}
        names_out = [value.name for value in outputs]
        node = helper.make_node(op, names, names_out, name=self.fresh(f"{op}_node"), domain=domain, **given)
        self.nodes.append(node)
        if domain:
            self.domains.setdefault(domain, 1)
        return outputs

    def const(self, values: ArrayLike, dtype: int | None = None) -> Value:
        """A constant; equal ones are written once. ``dtype``: ONNX's number; that of the array unless given."""
        array = np.asarray(values)
        if dtype is not None:
            array = array.astype(dtype_of(dtype))
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constant_of:
            name = self.fresh("const")
            self.constants[name] = array
            kind = dtype if dtype is not None else int(helper.np_dtype_to_tensor_dtype(array.dtype))
            self._constant_of[key] = Value(self, name, array.shape, kind)
        return self._constant_of[key]

    def ints(self, *values: int) -> Value:
        """A 1-D constant of int64, as axes, sizes and pads are."""
        return self.const(np.array(values, np.int64))

    def count_up(self, length: int | Dim) -> Value:
        """0, 1, 2, ... as int64, so many."""
        if isinstance(length, int):
            return self.const(np.arange(length, dtype=np.int64))
        limits = self.const(np.int64(0)), self.op("Squeeze", length.value, sizes=()), self.const(np.int64(1))
        return self.op("Range", *limits, sizes=(length.size,))

    # element-wise

    def unary(self, op: str, x: Value, **attrs: Any) -> Value:
        """Same shape, same type."""
        return self.op(op, x, sizes=x.sizes, **attrs)

    def binary(self, op: str, a: Value | float, b: Value | float, dtype: int | None = None) -> Value:
        """Broadcast; a number takes the other operand's type."""
        if not isinstance(a, Value):
            if not isinstance(b, Value):
                raise TypeError("one of the operands must be a Value")
            a = self.const(a, b.dtype)
        elif not isinstance(b, Value):
            b = self.const(b, a.dtype)
        return self.op(op, a, b, sizes=broadcast_sizes(a.sizes, b.sizes), dtype=dtype)

    def where(self, condition: Value, a: Value | float, b: Value | float) -> Value:
        """``a`` where the condition holds, else ``b``."""
        kind = next(value.dtype for value in (a, b) if isinstance(value, Value))
        a = a if isinstance(a, Value) else self.const(a, kind)
        b = b if isinstance(b, Value) else self.const(b, kind)
        sizes = broadcast_sizes(broadcast_sizes(condition.sizes, a.sizes), b.sizes)
        return self.op("Where", condition, a, b, sizes=sizes, dtype=kind)

    def gate(self, x: Value, condition: Value) -> Value:
        """``x`` where the condition holds, else 0, as a product: quicker than ``where``; ``x`` must be finite."""
        return x * self.cast(condition, x.dtype)

    def cast(self, x: Value, dtype: int) -> Value:
        """The same as another type; nothing where it has that type."""
        return x if x.dtype == dtype else self.op("Cast", x, sizes=x.sizes, dtype=dtype, to=dtype)

    def zeros_like(self, x: Value) -> Value:
        return self.expand(self.const(0.0, x.dtype), x)

    # shapes

    def dim(self, x: Value, axis: int) -> int | Dim:
        """The size of one axis: a number where it is fixed."""
        axis %= x.rank
        size = x.known[axis]
        if size >= 0:
            return size
        return Dim(self._shape(x, axis, axis + 1), size)

    def shape_of(self, x: Value) -> Value:
        """The shape as a 1-D int64 tensor: a constant where it is fixed."""
        return self.ints(*x.known) if x.fixed else self._shape(x, 0, -1)

    def length(self, x: Value, axis: int) -> Value:
        """The size of one axis as a 1-D tensor; where the shape is not known, ``axis`` counts from the front."""
        axis = axis % x.rank if x.sizes is not None else axis
        if x.sizes is not None and x.sizes[axis] >= 0:
            return self.ints(x.sizes[axis])
        return self._shape(x, axis, axis + 1)

    def _shape(self, x: Value, start: int, end: int) -> Value:
        key = (x.name, start, end)
        if key not in self._shape_of:
            limits: dict[str, Any] = {} if end < 0 else {"start": start, "end": end}
            sizes = None if x.sizes is None else (len(x.sizes[start : end if end > 0 else None]),)
            self._shape_of[key] = self.op("Shape", x, sizes=sizes, dtype=INT64, **limits)
        return self._shape_of[key]

    def shape_vector(self, parts: Sequence[int | Dim]) -> Value:
        """Sizes as a 1-D int64 tensor."""
        if all(isinstance(part, int) for part in parts):
            return self.ints(*(part for part in parts if isinstance(part, int)))
        pieces = [self.ints(part) if isinstance(part, int) else part.value for part in parts]
        return self.op("Concat", *pieces, sizes=(len(pieces),), dtype=INT64, axis=0)

    def product(self, parts: Sequence[int | Dim]) -> int | Dim:
        """Product of sizes."""
        fixed = prod(part for part in parts if isinstance(part, int))
        dynamic = [part for part in parts if isinstance(part, Dim)]
        if not dynamic:
            return fixed
        value = dynamic[0].value
        for part in dynamic[1:]:
            value = value * part.value
        if fixed != 1:
            value = value * self.ints(fixed)
        return Dim(value, -abs(fixed * prod(part.size for part in dynamic)))

    def reshape(self, x: Value, parts: Sequence[int | Dim]) -> Value:
        """To these sizes, none of them -1 or 0: ``dim`` and ``product`` give dynamic ones."""
        sizes = tuple(part if isinstance(part, int) else part.size for part in parts)
        if x.sizes == sizes:
            return x
        dynamic = [number for number, part in enumerate(parts) if isinstance(part, Dim)]
        if len(dynamic) == 1:  # one unknown size follows from the others
            vector = self.ints(*(-1 if isinstance(part, Dim) else part for part in parts))
        else:
            vector = self.shape_vector(parts)
        return self.op("Reshape", x, vector, sizes=sizes, allowzero=None if dynamic else _zero_sized(sizes))

    def reshape_like(self, x: Value, like: Value) -> Value:
        """To the shape of another tensor."""
        if x.sizes is not None and x.sizes == like.sizes:
            return x
        if like.sizes is None:
            return self.op("Reshape", x, self._shape(like, 0, -1))
        return self.reshape(x, [self.dim(like, axis) for axis in range(like.rank)])

    def expand(self, x: Value, like: Value) -> Value:
        """Broadcast to the shape of another tensor."""
        if x.sizes is not None and x.sizes == like.sizes:
            return x
        return self.op(
            "Expand", x, self._shape(like, 0, -1) if not like.fixed else self.shape_of(like), sizes=like.sizes
        )

    def expand_to(self, x: Value, parts: Sequence[int | Dim]) -> Value:
        """Broadcast to these sizes."""
        sizes = tuple(part if isinstance(part, int) else part.size for part in parts)
        return x if x.sizes == sizes else self.op("Expand", x, self.shape_vector(parts), sizes=sizes)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """``perm[i]`` is the axis of ``x`` that becomes axis i."""
        if list(perm) == list(range(len(perm))):
            return x
        sizes = None if x.sizes is None else tuple(x.sizes[axis] for axis in perm)
        return self.op("Transpose", x, sizes=sizes, perm=list(perm))

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        """Without these axes of size 1."""
        gone = {axis % x.rank for axis in axes}
        sizes = tuple(size for axis, size in enumerate(x.known) if axis not in gone)
        return self.op("Squeeze", x, self.ints(*sorted(gone)), sizes=sizes) if gone else x

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """With new axes of size 1 at these places of the result."""
        rank = x.rank + len(axes)
        new = sorted(axis % rank for axis in axes)
        old = iter(x.known)
        sizes = tuple(1 if axis in new else next(old) for axis in range(rank))
        return self.op("Unsqueeze", x, self.ints(*new), sizes=sizes) if axes else x

    def slice(self, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
        """Along one axis of fixed size, as in Python for numbers within it (``end`` may lie outside)."""
        axis %= x.rank
        size = x.known[axis]
        count = len(range(*slice(start, end if end >= -size else None, step).indices(size)))
        sizes = (*x.known[:axis], count, *x.known[axis + 1 :])
        if step == 1 and count == size:
            return x
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis), self.ints(step), sizes=sizes)

    def flip(self, x: Value, axes: Sequence[int]) -> Value:
        """Backwards along these axes."""
        axes = [axis % x.rank for axis in axes]
        last, far = [-1] * len(axes), [-(2**31)] * len(axes)
        return self.op("Slice", x, self.ints(*last), self.ints(*far), self.ints(*axes), self.ints(*last), sizes=x.sizes)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """One after the other along an axis."""
        if len(values) == 1:
            return values[0]
        sizes = None
        if all(value.sizes is not None for value in values):
            axis %= values[0].rank
            total = _total([value.known[axis] for value in values])
            sizes = (*values[0].known[:axis], total, *values[0].known[axis + 1 :])
        return self.op("Concat", *values, sizes=sizes, axis=axis)

    # reductions and products

    def reduce(self, op: str, x: Value, axes: Sequence[int] | None = None, *, keep: bool = False) -> Value:
        """ReduceSum and its like over these axes (all without)."""
        over = range(x.rank) if axes is None else sorted(axis % x.rank for axis in axes)
        if not over:
            return x
        kept = (1 if axis in over else size for axis, size in enumerate(x.known) if keep or axis not in over)
        return self.op(op, x, self.ints(*over), sizes=tuple(kept), keepdims=int(keep))

    def sum(self, x: Value, axes: Sequence[int] | None = None, *, keep: bool = False) -> Value:
        return self.reduce("ReduceSum", x, axes, keep=keep)

    def mean(self, x: Value, axes: Sequence[int] | None = None, *, keep: bool = False) -> Value:
        return self.reduce("ReduceMean", x, axes, keep=keep)

    def matmul(self, a: Value, b: Value) -> Value:
        """As NumPy's for at least two axes each."""
        sizes = None
        if a.sizes is not None and b.sizes is not None:
            batch = broadcast_sizes(a.sizes[:-2], b.sizes[:-2])
            sizes = None if batch is None else (*batch, a.sizes[-2], b.sizes[-1])
        return self.op("MatMul", a, b, sizes=sizes)

    def gemm(self, a: Value, b: Value, *, trans_a: bool = False, trans_b: bool = False) -> Value:
        """Product of two matrices, each transposed first where asked."""
        sizes = (a.known[1 if trans_a else 0], b.known[0 if trans_b else 1])
        return self.op("Gemm", a, b, sizes=sizes, transA=int(trans_a), transB=int(trans_b))

    def swap(self, x: Value) -> Value:
        """The last two axes exchanged."""
        rank = x.rank
        return self.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


def broadcast_sizes(a: Sizes | None, b: Sizes | None) -> Sizes | None:
    """The shape that two tensors have together."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b), strict=True)
    return tuple(y if x == 1 else x for x, y in pairs)


def _total(sizes: Sequence[int]) -> int:
    total = sum(abs(size) for size in sizes)
    return -total if any(size < 0 for size in sizes) else total


def _zero_sized(sizes: Sizes) -> int | None:
    return 1 if 0 in sizes else None
