"""The order in which units go when what counts is score per cost: a knapsack, emptied greedily.

The unit goes next that has the lowest worth for what its removal saves::

    key(u) = worth(u) / sum over the targets t that are not met yet of  saving(t, group of u) / excess(t)
    worth(u) = w  s(u)^2 / sum of s(v)^2 over the units v of its group that come not earlier

w: the number of weight matrices that the unit is cut from. A unit is worth what it takes away of what is left of its
layers (LAMP, arXiv:2010.07611): with the plain sum of scores as the value of a model, the layer that costs most is
emptied down to one unit. Under MACs targets of 0.8, 0.6 and 0.5 the trained nets in examples/ kept 48% of their
accuracy with it, without repair, and 64% with the worth above.

Savings are marginal, and looked at anew after each batch: in front of a layer that became narrower a unit saves less,
and a target that is met no longer counts. They are derivatives of products of sizes, so that nothing is counted again
for each group. HALP (arXiv:2110.10811) prunes by such a knapsack, with latencies as costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from onnxprune.allocate.quantities import TARGETS
from onnxprune.cost import CostModel
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.values import Ints
from onnxprune.weights import nbytes_of

__all__ = ["Slopes", "knapsack_order"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BATCHES = 200  # of all units; a batch goes by the same savings


class Slopes:
    """What is left, and what the next unit of every group saves, as shares of the whole model, target by target.

    ``rates``: number of a node -> milliseconds per MAC; without them latency is taken to follow the MACs.
    """

    def __init__(self, model: CostModel, rates: Mapping[int, float] | None = None) -> None:
        self.model, self.table = model, model.table
        table, units = model.table, np.diff(model.starts)
        every = np.arange(int(model.starts[-1]))
        member = csr_array(((1 / units).repeat(units), (every, np.arange(units.size).repeat(units))))
        self.positions = csr_array(model.matrix @ member)  # [axis, group]: positions that a unit takes, on average
        tensor = np.arange(table.starts.size).repeat(np.diff(np.append(table.starts, table.dims.size)))
        self.axes = csr_array((np.ones(tensor.size), (tensor, np.arange(tensor.size))))
        self.elasticity = self._elasticity()
        macs = np.array(table.macs, np.float64)
        per_mac = np.array([1.0 if rates is None else rates.get(n.number, 0.0) for n in table.counted], np.float64)
        held = np.array([nbytes_of(int(t), (8,)) / 8 for t in table.types])
        parameter = np.zeros(table.starts.size)
        parameter[table.parameters] = table.packed * 1.0
        self._of_tensors = {"target_params": parameter, "target_bytes": np.where(parameter > 0, held, 0.0)}
        self._of_nodes = {"target_macs": macs, "target_latency": macs * per_mac}
        self._buffer = held[table.buffers]
        self.whole = {name: amount for name, (amount, _) in self._amounts(np.zeros(every.size, np.bool_)).items()}

    def left(self, gone: Bools) -> dict[str, tuple[float, Floats]]:
        """Target -> share of the model that is left, and the share that one more unit of each group saves."""
        found = self._amounts(gone)
        return {t: (amount / self.whole[t], saved / self.whole[t]) for t, (amount, saved) in found.items()}

    def _amounts(self, gone: Bools) -> dict[str, tuple[float, Floats]]:
        table = self.table
        dims = np.maximum(table.dims - self.model.matrix @ gone.astype(np.int64), 1).astype(np.float64)
        per_axis = diags_array(1 / dims) @ self.positions
        sizes = np.exp(self.axes @ np.log(dims))
        relative = csr_array(self.axes @ per_axis)
        work = np.exp(self.elasticity @ np.log(dims / np.maximum(table.dims, 1)))
        shrinking = csr_array(self.elasticity @ per_axis)
        found = {name: (weight * sizes, relative) for name, weight in self._of_tensors.items()}
        found |= {name: (weight * work, shrinking) for name, weight in self._of_nodes.items()}
        found["target_memory"] = (self._at_peak(sizes), relative)
        return {name: (max(float(a.sum()), 1e-30), np.asarray(a @ slope)) for name, (a, slope) in found.items()}

    def _at_peak(self, sizes: Floats) -> Floats:
        """Bytes of the buffers that are held when most is held, by tensor."""
        table = self.table
        held = sizes[table.buffers] * self._buffer
        change = np.zeros(len(table.graph.nodes) + 2)
        np.add.at(change, table.born, held)
        np.subtract.at(change, table.dies, held)
        step = int(np.argmax(np.cumsum(change)))
        result = np.zeros(sizes.size)
        result[table.buffers] = np.where((table.born <= step) & (step < table.dies), held, 0.0)
        return result

    def _elasticity(self) -> csr_array:
        """[node, axis]: 1 where the MACs of a node are proportional to an axis, 0 where they do not depend on it."""
        table = self.table
        found: list[tuple[float, int, int]] = []
        for row, (node, macs) in enumerate(zip(table.counted, table.macs, strict=True)):
            tensors = {t for t in (*node.inputs, *node.outputs) if t in table.number}
            shapes = {t: table.shape(t, table.dims) for t in tensors}
            for tensor in tensors if macs else ():
                for axis, size in enumerate(shapes[tensor]):
                    at = int(table.starts[table.number[tensor]]) + axis
                    if size > 1 and self.positions.indptr[at] < self.positions.indptr[at + 1]:
                        shape = shapes[tensor]
                        fewer = {**shapes, tensor: (*shape[:axis], size - 1, *shape[axis + 1 :])}
                        found.append((size * (1 - _macs(node, fewer) / macs), row, at))
        values, rows, axes = zip(*found, strict=True) if found else ((), (), ())
        return csr_array((values, (rows, axes)), (len(table.counted), table.dims.size), dtype=np.float64)


def _macs(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    rule = rule_for(node.domain, node.op)
    return rule.macs(node, shapes) if rule is not None and rule.macs is not None else 0


def knapsack_order(
    slopes: Slopes, wanted: Mapping[str, float], worth: Floats, group: Ints, gone: Bools, candidates: Ints
) -> Ints:
    """The candidates in the order in which they go.

    ``wanted``: target -> share to be kept. ``worth``, ``group``, ``gone`` (from the beginning): of all units.
    """
    gone = gone.copy()
    batch = -(-candidates.size // BATCHES)
    left, order = candidates, [candidates[:0]]
    while left.size:
        saving = _savings(slopes.left(gone), wanted)[group[left]]
        with np.errstate(divide="ignore", invalid="ignore"):
            key = np.where(saving > 0, worth[left] / saving, np.inf)
        by_key = np.lexsort((left, worth[left], key))
        order.append(left[by_key[:batch]])
        gone[order[-1]] = True
        left = left[np.sort(by_key[batch:])]
    return np.concatenate(order)


def _savings(now: Mapping[str, tuple[float, Floats]], wanted: Mapping[str, float]) -> Floats:
    """Per group: saving over excess, summed over the targets that are missed; over all of them where none is."""
    targets = [t for t in TARGETS if t in wanted]
    excess = {t: now[t][0] - wanted[t] for t in targets}
    missed = {t: e for t, e in excess.items() if e > 0} or dict.fromkeys(targets, 1.0)
    return np.asarray(sum(now[t][1] / e for t, e in missed.items()))
