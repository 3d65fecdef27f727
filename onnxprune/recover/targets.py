"""What is fitted to what: the outputs of a layer in the original, by the inputs that the pruned model gives it.

``LinearTarget``: a convolution or matrix product. ``RecurrentTarget``: gates of one direction of an LSTM, GRU or RNN,
before their non-linearity::

    gates(t) = W x(t) + R h(t-1) + Wb + Rb

a layer on (x, h) whose states h are those of the original, restricted to the cells that are left. The candidate gate
of a GRU multiplies its recurrent part by the reset gate, so that its two parts are fitted each on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnxprune._graphs import find_node, used_names
from onnxprune._model import ModelEditor
from onnxprune.linear import LinearLayer
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops.recurrent import GATES
from onnxprune.values import Ints

__all__ = ["LinearTarget", "RecurrentTarget", "Target"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Values = Mapping[str, Array]

FEW = 4096  # samples of a layer with more columns than that
BIAS = 3  # input of a recurrence


class Target(Protocol):
    """A piece of the model that is fitted; ``number``: its place in the order of execution.

    ``needs``: tensors of the pruned model, ``wants``: tensors of the original. ``mask`` (groups, rows, columns): True
    where a weight has to stay zero; None for nowhere.
    """

    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def wants(self) -> tuple[str, ...]: ...
    @property
    def makes(self) -> tuple[str, ...]: ...
    @property
    def intercept(self) -> bool: ...
    @property
    def mask(self) -> Bools | None: ...

    def samples(self, pruned: Values, original: Values, total: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """x (groups, samples, columns) and t (groups, samples, rows) of one batch, of ``total`` examples in all."""
        ...

    def current(self, model: Model) -> tuple[Floats, Floats]:
        """Weights (groups, rows, columns) and bias (groups, rows) as the model has them."""
        ...

    def write(self, editor: ModelEditor, weights: Floats, bias: Floats) -> None: ...


@dataclass(eq=False)
class LinearTarget:
    """A layer of the pruned model and the same layer of the original.

    ``keep``: channels of the original's output that are left, None for all; ``axis``: of the channels in the output.
    Where zeros were written instead, ``fixed``: entries of the stored weight that stay zero, and ``silent``: channels
    of the output that do, with their bias. ``mean``: where a BatchNormalization alone reads the output, the constant
    that holds its mean, which a bias is taken off.
    """

    original: LinearLayer
    pruned: LinearLayer
    keep: Ints | None
    axis: int
    fixed: Bools | None = None
    silent: Bools | None = None
    mean: str = ""
    wanted: int = 8192
    _take: Ints | None = None

    def __post_init__(self) -> None:
        self.mask: Bools | None = None
        self._dead: tuple[Bools, Bools, Bools] | None = None  # entries, silent rows, columns that nothing reads
        if self.fixed is not None:
            entries: Bools = self.pruned.matrix(self.fixed)
            columns = np.logical_and.reduce(entries, axis=1)
            rows = (
                np.zeros(entries.shape[:2], np.bool_) if self.silent is None else self.silent.reshape(entries.shape[:2])
            )
            self._dead = (entries, rows, columns)
            scattered = entries & ~(rows[:, :, None] | columns[:, None, :])
            self.mask = entries if scattered.any() else None

    @property
    def name(self) -> str:
        return self.pruned.node.name or self.pruned.output

    @property
    def number(self) -> int:
        return self.pruned.node.number

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.pruned.input,)

    @property
    def wants(self) -> tuple[str, ...]:
        return (self.original.biased,)

    @property
    def makes(self) -> tuple[str, ...]:
        return (self.pruned.output,)

    @property
    def intercept(self) -> bool:
        return bool(self.pruned.bias) or self.pruned.node.op != "MatMul"

    def samples(self, pruned: Values, original: Values, total: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, y = pruned[self.pruned.input], original[self.original.biased]
        if self.keep is not None:
            y = np.take(y, self.keep, axis=self.axis)
        take = self._positions(x.shape, total, rng)
        columns, rows = self.pruned.columns(x, take), self.pruned.outputs(y, take)
        if self._dead is not None:
            _, dead_rows, dead_columns = self._dead
            rows = np.where(dead_rows[:, None, :], 0.0, rows)
            columns = np.where(dead_columns[:, None, :], 0.0, columns)
        return columns, rows

    def _positions(self, shape: tuple[int, ...], total: int, rng: np.random.Generator) -> Ints | None:
        """Some positions of every example, where all of them would be more samples than are of use."""
        count = self.pruned.positions(shape)
        columns = prod(self.pruned.kernel) * shape[1] // self.pruned.groups if self.pruned.convolves else shape[-1]
        wanted = FEW if columns > FEW else max(self.wanted, 5 * columns)
        each = -(-wanted // total)
        if each >= count or len(shape) < 3:
            return None
        return np.sort(rng.choice(count, each, replace=False))

    def current(self, model: Model) -> tuple[Floats, Floats]:
        matrix = self.pruned.matrix(_array(model, self.pruned.weight)).astype(np.float64)
        scale = self._alpha
        bias = np.zeros(matrix.shape[:2])
        if self.pruned.bias:
            bias += (
                np.broadcast_to(_array(model, self.pruned.bias), matrix[..., 0].size).reshape(bias.shape) * self._beta
            )
        return matrix * scale, bias

    @property
    def _alpha(self) -> float:
        return (
            float(self.pruned.node.attrs.get("alpha", 1.0)) if self.pruned.node.op in ("Gemm", "FusedMatMul") else 1.0
        )

    @property
    def _beta(self) -> float:
        return float(self.pruned.node.attrs.get("beta", 1.0)) if self.pruned.node.op == "Gemm" else 1.0

    def write(self, editor: ModelEditor, weights: Floats, bias: Floats) -> None:
        old = editor.weights[self.pruned.weight]
        if self._dead is not None:
            entries, dead_rows, _ = self._dead
            weights, bias = np.where(entries, 0.0, weights), np.where(dead_rows, 0.0, bias)
        stored = self.pruned.stored(weights / self._alpha, old.shape)
        editor.set_weight(self.pruned.weight, stored.astype(old.dtype))
        if self.mean and not self.pruned.bias:
            mean = editor.weights[self.mean]
            editor.set_weight(self.mean, (mean.array() - bias.reshape(-1)).astype(mean.dtype))
        elif self.intercept:
            self._write_bias(editor, (bias.reshape(-1) / self._beta).astype(old.dtype))

    def _write_bias(self, editor: ModelEditor, bias: Array) -> None:
        """Into the constant where this node alone reads it, else into one of its own."""
        node, position = find_node(editor.proto.graph, self.pruned.node.where), 2
        name = node.input[2] if len(node.input) > 2 else ""
        if self.pruned.node.op == "MatMul":
            node = next(n for n in editor.proto.graph.node if self.pruned.output in n.input)
            position = 1 - list(node.input).index(self.pruned.output)
            name = node.input[position]
        if name and list(used_names(editor.proto.graph)).count(name) == 1:
            shape = editor.weights[name].shape
            editor.set_weight(name, bias.reshape(shape) if prod(shape) == bias.size else bias)
            return
        own = editor.add_weight(f"{self.pruned.weight}.bias", bias)
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = own


@dataclass(eq=False)
class RecurrentTarget:
    """Some gates of one direction. ``keep``: cells that are left, None for all; ``cells`` of the original.

    ``gates``: their numbers; ``uses``: the inputs they are fitted on, "xh", "x" or "h". ``start``: the initial state,
    a constant or the name of a tensor of the original.
    """

    node: Node
    before: Node
    direction: int
    reverse: bool
    gates: tuple[int, ...]
    uses: str
    keep: Ints | None
    states: str  # the original's Y
    weights: tuple[Array, Array, Array]  # W, R, B of the original, of this direction
    start: Array | str | None = None
    fixed: tuple[Bools, Bools, Bools] | None = None  # entries of W, R and B that stay zero

    def __post_init__(self) -> None:
        self.mask = None
        if self.fixed is not None:
            rows = self._rows(self.fixed[1].shape[-1])
            fixed = np.concatenate(
                [part[rows] for u, part in zip("xh", self.fixed[:2], strict=True) if u in self.uses], 1
            )
            self.mask = fixed[None] if fixed.any() else None

    @property
    def name(self) -> str:
        word = {"xh": "", "x": ", from the input", "h": ", from the state"}[self.uses]
        return f"{self.node.name or self.node.output(0)} (direction {self.direction}{word})"

    @property
    def number(self) -> int:
        return self.node.number

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.node.input(0),)

    @property
    def wants(self) -> tuple[str, ...]:
        return (self.before.input(0), self.states, *((self.start,) if isinstance(self.start, str) else ()))

    @property
    def makes(self) -> tuple[str, ...]:
        return tuple(filter(None, self.node.outputs))

    @property
    def intercept(self) -> bool:
        return True

    def samples(self, pruned: Values, original: Values, total: int, rng: np.random.Generator) -> tuple[Array, Array]:
        del total, rng
        w, r, b = self.weights
        cells = r.shape[-1]
        h = self._previous(original)
        x_then, x_now = original[self.before.input(0)], pruned[self.node.input(0)]
        gates = self._all_rows(cells, self.gates)
        count = GATES[self.node.op] * cells
        target = np.zeros((*h.shape[:2], gates.size))
        if "x" in self.uses:
            target += x_then @ w[gates].T + b[gates]
        if "h" in self.uses:
            target += h @ r[gates].T + b[count + gates]
        kept = h if self.keep is None else h[..., self.keep]
        rows = target.reshape(-1, len(self.gates), cells)
        rows = rows if self.keep is None else rows[..., self.keep]
        parts = [part for u, part in (("x", x_now), ("h", kept)) if u in self.uses]
        columns = np.concatenate(parts, axis=-1)
        return columns.reshape(1, -1, columns.shape[-1]), rows.reshape(1, len(columns) * columns.shape[1], -1)

    def _previous(self, original: Values) -> Array:
        """The state that each step starts from, (steps, batch, cells)."""
        states = original[self.states][:, self.direction]
        first = self.start if isinstance(self.start, np.ndarray) else None
        if isinstance(self.start, str):
            first = original[self.start]
        begin = np.zeros_like(states[:1]) if first is None else np.broadcast_to(first[self.direction], states[:1].shape)
        return np.concatenate([states[1:], begin] if self.reverse else [begin, states[:-1]])

    def _all_rows(self, cells: int, gates: tuple[int, ...]) -> Ints:
        return np.concatenate([np.arange(g * cells, (g + 1) * cells) for g in gates])

    def _rows(self, cells: int) -> Ints:
        """Rows of the pruned model's W and R."""
        return self._all_rows(cells, self.gates)

    def current(self, model: Model) -> tuple[Floats, Floats]:
        names = list(find_node(model.proto.graph, self.node.where).input)
        w, r = (_array(model, names[k])[self.direction].astype(np.float64) for k in (1, 2))
        rows, count = self._rows(r.shape[-1]), len(r)
        parts = [part[rows] for u, part in (("x", w), ("h", r)) if u in self.uses]
        bias = np.zeros(rows.size)
        if len(names) > BIAS and names[BIAS]:
            b = _array(model, names[BIAS])[self.direction].astype(np.float64)
            bias += b[rows] * ("x" in self.uses) + b[count + rows] * ("h" in self.uses)
        return np.concatenate(parts, axis=1)[None], bias[None]

    def write(self, editor: ModelEditor, weights: Floats, bias: Floats) -> None:
        node = find_node(editor.proto.graph, self.node.where)
        w, r = (np.array(editor.weights[node.input[k]].array()) for k in (1, 2))
        cells, inputs = r.shape[-1], w.shape[-1]
        rows = self._rows(cells)
        if self.mask is not None:
            weights = np.where(self.mask, 0.0, weights)
        if "x" in self.uses:
            w[self.direction, rows] = weights[0][:, :inputs]
            editor.set_weight(node.input[1], w)
        if "h" in self.uses:
            r[self.direction, rows] = weights[0][:, -cells:]
            editor.set_weight(node.input[2], r)
        self._write_bias(editor, node, bias[0], rows, w.shape[1])

    def _write_bias(self, editor: ModelEditor, node: Any, bias: Floats, rows: Ints, count: int) -> None:
        """The half that belongs to the input takes the change, that of the state where it is fitted alone."""
        dtype = editor.weights[node.input[2]].dtype
        directions = editor.weights[node.input[2]].shape[0]
        has = len(node.input) > BIAS and bool(node.input[BIAS])
        b = np.array(editor.weights[node.input[BIAS]].array()) if has else np.zeros((directions, 2 * count), dtype)
        if "x" in self.uses:
            other = b[self.direction, count + rows] if "h" in self.uses else 0.0
            b[self.direction, rows] = bias - other
        else:
            b[self.direction, count + rows] = bias
        if self.fixed is not None:
            b[self.direction, self.fixed[2]] = 0
        if has and list(used_names(editor.proto.graph)).count(node.input[BIAS]) == 1:
            editor.set_weight(node.input[BIAS], b)
            return
        own = editor.add_weight(f"{node.input[2]}.bias", b)
        while len(node.input) <= BIAS:
            node.input.append("")
        node.input[BIAS] = own


def _array(model: Model, tensor: str) -> Array:
    return model.weights[tensor].array()
