"""LSTM, GRU and RNN: the unit is a cell of one direction.

A cell owns its row in every gate of W (directions, gates * cells, inputs), R (directions, gates * cells, cells), both
halves of B and the peepholes P, its column of R, its entry in the initial states, and its place in every output.
The two directions of a bidirectional layer have cells of their own (ragged axes) and must lose equally many of them.

A cell whose parameters are zero stays at 0: in an LSTM ``c' = f(0) c + f(0) g(0)`` and ``h' = f(0) h(c')``, in a GRU
``h' = (1 - f(0)) g(0) + f(0) h``, in an RNN ``h' = f(0)``. So g (and h) must map 0 to 0, and the state that is carried
on must begin at 0.
"""

from __future__ import annotations

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.recurrent_gradients import vjp_recurrent
from onnxprune.ops.rule import Role, Rule, Shapes, Zeros
from onnxprune.ops.sources import is_all_zero
from onnxprune.ops.ties import Ties
from onnxprune.values import Ints

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
MUST_KEEP_ZERO = {"LSTM": (1, 2), "GRU": (1,), "RNN": (0,)}  # positions among the activations of a direction
ZERO_AT_ZERO = frozenset(("tanh", "relu", "leakyrelu", "thresholdedrelu", "scaledtanh", "elu", "softsign"))
CARRIED = {"LSTM": 6, "GRU": 5}  # input: the state from which a zeroed cell does not recover by itself
HIDDEN, CELL = 5, 6


def couple_recurrent(node: Node, t: Ties) -> None:
    """X, W, R, B, sequence_lens, initial_h, initial_c, P -> Y, Y_h, Y_c."""
    x, w, r = node.input(0), node.input(1), node.input(2)
    gates = GATES[node.op]
    directions, cells = t.sizes(r)[0], t.sizes(r)[2]
    hub = t.virtual(directions * cells).reshape(directions, cells)

    def rows(k: int, count: int) -> None:
        """Axis 1 of parameter ``k`` holds ``count`` stretches of cells."""
        _freeze_directions(node, t, node.input(k), 0)
        ids = _by_direction(t, node.input(k), 1, 0, directions).reshape(directions, count, cells)
        for g in range(count):
            t.tie_ids(ids[:, g].reshape(-1), hub.reshape(-1), k)

    rows(1, gates)
    rows(2, gates)
    if node.input(3):
        rows(3, 2 * gates)
    if node.input(7):
        rows(7, 3)
    columns = _by_direction(t, r, 2, 0, directions).reshape(-1)
    t.tie_ids(columns, hub.reshape(-1), None)
    t.consumes(r, 2)
    t.contracts(columns, hub.reshape(-1))
    t.tie(x, 2, w, 2, None)
    t.consumes(w, 2)
    t.contracts(t.el(w, 2), t.el(x, 2))
    _couple_states(node, t, hub)
    t.equal_count(list(hub), f"both directions of {node} have equally many cells")


def _couple_states(node: Node, t: Ties, hub: Ints) -> None:
    x, directions = node.input(0), len(hub)
    batchwise = node.attrs.get("layout", 0)
    time, batch = (1, 0) if batchwise else (0, 1)
    t.freeze(x, time, f"{node} walks along it")
    if node.input(4):
        t.tie(x, batch, node.input(4), 0, None)
    # (tensor, its batch axis, its direction axis, input position)
    states = [(node.input(k), 0 if batchwise else 1, 1 if batchwise else 0, k) for k in (HIDDEN, CELL)]
    for tensor, batch_axis, along, k in states:
        if tensor and not is_all_zero(t.graph, tensor):
            t.tie(x, batch, tensor, batch_axis, None)
            _freeze_directions(node, t, tensor, along)
            t.tie_ids(_by_direction(t, tensor, 2, along, directions).reshape(-1), hub.reshape(-1), k)
            t.kinds.setdefault(tensor, "cells")
    for k, tensor in enumerate(node.outputs):
        if not tensor or t.shape(tensor) is None:
            continue
        along = (2 if batchwise else 1) if k == 0 else (1 if batchwise else 0)
        t.tie(x, batch, tensor, 0 if batchwise else (2 if k == 0 else 1), None)
        if k == 0:
            t.freeze(tensor, time, f"{node} walks along it")
        _freeze_directions(node, t, tensor, along)
        t.tie_ids(hub.reshape(-1), _by_direction(t, tensor, t.rank(tensor) - 1, along, directions).reshape(-1))
        t.kinds[tensor] = "cells"


def _freeze_directions(node: Node, t: Ties, tensor: str, axis: int) -> None:
    if t.sizes(tensor)[axis] > 1:
        t.freeze(tensor, axis, f"the directions of {node} stay")


def _by_direction(t: Ties, tensor: str, axis: int, along: int, directions: int) -> Ints:
    """Elements of an axis, (directions, size): each direction has its own, unless the tensor ties them elsewhere."""
    known = t.ragged.get((tensor, axis))
    if known is not None and known.ids.shape[0] == directions and known.along == along:
        return known.ids
    if t.axis_ids(tensor, axis) is not None or directions == 1:
        return np.tile(t.el(tensor, axis), (directions, 1))
    return t.blocks_of(tensor, axis, along, directions)


def zero_recurrent(node: Node, z: Zeros) -> None:
    """A cell is 0 where all its parameters are, its activations map 0 to 0 and its state begins at 0."""
    z.set(z.outputs(node), False)
    if not _activations_keep_zero(node):
        return
    needed = {1, 2, 3, CARRIED.get(node.op, 1)} | ({HIDDEN} if node.input(4) else set())
    into = [(k, s, d) for k, s, d in z.records(node) if k > 0]
    for k, source, target in into:
        if k in needed:
            z.flags[target[~z.flags[source]]] = False
    for k, source, target in z.records(node):
        if k == -1:
            z.flags[target] = z.flags[source]


def _activations_keep_zero(node: Node) -> bool:
    default = DEFAULTS[node.op]
    names = tuple(n.lower() for n in node.attrs.get("activations", ())) or default
    per_direction = [names[i : i + len(default)] for i in range(0, len(names), len(default))]
    return all(d[p] in ZERO_AT_ZERO for d in per_direction for p in MUST_KEEP_ZERO[node.op])


def cut_recurrent(node: Node, c: Cutter) -> None:
    """``hidden_size`` follows; an initial state of zeros has a size of its own and is left out: it is the default."""
    if not c.changed(node.inputs[2], 2):
        return
    c.set_attr(node, "hidden_size", c.size(node.inputs[2], 2))
    for k in (HIDDEN, CELL):
        if node.input(k) and is_all_zero(c.graph, node.inputs[k]):
            c.set_input(node, k, "")


def macs_recurrent(node: Node, shapes: Shapes) -> int:
    """Time steps x batch x directions x gate rows x (inputs + cells)."""
    time, batch, inputs = shapes[node.input(0)]
    directions, rows, cells = shapes[node.input(2)]
    return time * batch * directions * rows * (inputs + cells)


PARAMETERS = (Role.DATA, *(Role.LINEAR,) * 3, Role.INDEX, *(Role.LINEAR,) * 3)

RULES = tuple(
    Rule(op, couple_recurrent, PARAMETERS, zero_recurrent, cut_recurrent, macs_recurrent, vjp=vjp_recurrent)
    for op in GATES
)
