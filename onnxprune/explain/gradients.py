"""The gradient of units of a layer with respect to what a model is given: one graph, run for many pairs at a time.

A *pair* is an instance and a unit. What is differentiated is the unit's activation for this instance: its largest
value (``at="max"``), or the sum over all its positions (``at="sum"``). Which unit it is, is an input of the graph: a
mask over the layer's units, so that all pairs go through one session, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.errors import OptionError, UnsupportedModel
from onnxprune.explain.layers import Layer, View
from onnxprune.explain.sources import Source, cut
from onnxprune.model import Model
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape
from onnxprune.runtime import model_inputs, session
from onnxprune.values import Ints
from onnxprune.weights import dtype_of

__all__ = ["ATS", "UnitGradients"]

Array = NDArray[Any]
ATS = ("max", "sum")
MEMORY = 256 << 20  # bytes of activations and gradients that are held at once
MOST = 64  # pairs at a time
COPIES = 3  # how often a tensor is there during the reverse pass: itself, its gradient, something on the way


class UnitGradients:
    """Gradients of the units of one layer, ready to run.

    ``sources``: those that a gradient reaches. ``guided``: see `ops.Tape`. Raises OptionError where none is reached,
    UnsupportedModel where an operator on the way has no rule.
    """

    def __init__(
        self,
        view: View,
        layer: Layer,
        sources: Sequence[Source],
        *,
        at: str = "max",
        guided: bool = False,
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        if at not in ATS:
            raise OptionError(f"at: got {at!r}, expected {' or '.join(ATS)}", "Leave it out for max.")
        self.layer = layer
        part = cut(view, sources, layer.tensor)
        tape = open_tape(part, guided=guided, shapes=_still_there(part, dict(view.coupling.options.shapes)))
        y = tape.tensor(layer.tensor)
        mask = declared_input(tape, "units", y.dtype, _mask_sizes(layer, y))
        first = tape.tensor(tape.graph.inputs[0]) if tape.graph.inputs else y
        score, seed = (_highest if at == "max" else _total)(tape, y, mask, layer.batch, first)
        try:
            found = backward(tape, {layer.tensor: seed}, [s.tensor for s in sources])
        except UnsupportedModel as error:
            raise UnsupportedModel(
                error.message,
                "Its feature maps can be seen all the same (--method feature-maps); they need no gradients.",
            ) from error
        self.sources = tuple(source for source in sources if source.tensor in found)
        if not self.sources:
            raise _unreached(view, layer)
        self._mask, self._score = mask.name, score.name
        self._names = {source.tensor: found[source.tensor].name for source in self.sources}
        self._masks = layer.masks([abs(size) for size in y.known]).astype(dtype_of(y.dtype))
        self._per = abs(y.known[layer.batch]) // abs(first.known[0])
        built = build(tape, [score, *(found[source.tensor] for source in self.sources)])
        self._session = session(built, provider=provider, threads=threads, cache=False)
        self.fixed = first.known[0] if first.known[0] > 0 else None
        self.size = self.fixed or _at_once(tape, abs(first.known[0]))

    def run(
        self,
        feeds: Mapping[str, Array],
        instance: Ints,
        unit: Ints,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """The activation of each pair, and tensor -> its gradient for each pair.

        ``feeds``: input or source tensor -> values, instances along axis 0; ``instance`` and ``unit``: of each pair.
        """
        scores: list[Array] = []
        parts: dict[str, list[Array]] = {tensor: [] for tensor in self._names}
        for start in range(0, len(instance), self.size):
            rows = np.arange(start, min(start + self.size, len(instance)))
            count = len(rows)
            if self.fixed:
                rows = np.concatenate([rows, np.repeat(rows[-1:], self.fixed - count)])
            given = {i.name: feeds[i.name][instance[rows]] for i in self._session.inputs if i.name != self._mask}
            found = self._session.run({**given, self._mask: self._mask_of(unit[rows])})
            scores.append(found[self._score][:count])
            for tensor, name in self._names.items():
                parts[tensor].append(found[name][:count])
            if progress:
                progress(start + count)
        return np.concatenate(scores), {tensor: np.concatenate(found) for tensor, found in parts.items()}

    def _mask_of(self, unit: Ints) -> Array:
        """(…, samples along the batch axis, …): each sample has the mask of its unit."""
        rows = self._masks[np.repeat(unit, self._per)]
        return np.ascontiguousarray(np.moveaxis(rows.squeeze(1 + self.layer.batch), 0, self.layer.batch))


def _still_there(part: Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {info.name: shapes[info.name] for info in model_inputs(part) if info.name in shapes}


def _mask_sizes(layer: Layer, y: Value) -> tuple[int, ...]:
    if y.sizes is None:
        raise OptionError(f"the shape of `{layer.tensor}` is not known", "Give the shapes of the inputs with --shape.")
    kept = (layer.axis, layer.along, layer.batch)
    return tuple(size if axis in kept else 1 for axis, size in enumerate(y.sizes))


def _rows(t: Tape, x: Value, batch: int, first: Value) -> tuple[Value, Value]:
    """(samples, everything else), and the tensor with the samples first."""
    moved = t.transpose(x, [batch, *(axis for axis in range(x.rank) if axis != batch)])
    count = t.dim(first, 0)
    rest = int(np.prod([abs(size) for size in moved.known])) // abs(first.known[0])
    target = t.concat([t.shape_vector([count]), t.ints(-1)], 0)
    dynamic = any(size < 0 for size in moved.known[1:]) or (moved.known[0] < 0) != (first.known[0] < 0)
    return t.op("Reshape", moved, target, sizes=(first.known[0], -rest if dynamic else rest)), moved


def _back(t: Tape, rows: Value, moved: Value, batch: int) -> Value:
    """The opposite of ``_rows``."""
    whole = t.reshape_like(rows, moved)
    axes = list(range(1, moved.rank))
    axes.insert(batch, 0)
    return t.transpose(whole, axes)


def _total(t: Tape, y: Value, mask: Value, batch: int, first: Value) -> tuple[Value, Value]:
    """Sum over the positions of the unit, and its cotangent."""
    return t.sum(_rows(t, y * mask, batch, first)[0], [1]), t.expand(mask, y)


def _highest(t: Tape, y: Value, mask: Value, batch: int, first: Value) -> tuple[Value, Value]:
    """Largest value among the positions of the unit, and 1 where it is (the first of equal ones)."""
    lowest = float(np.finfo(dtype_of(y.dtype)).min)
    rows, moved = _rows(t, t.where(mask > 0.0, y, lowest), batch, first)
    sizes = (rows.known[0], 1)
    place = t.op("ArgMax", rows, sizes=sizes, dtype=7, axis=1, keepdims=1)
    one = t.expand(t.const(1.0, y.dtype), place)
    seed = t.op("ScatterElements", t.zeros_like(rows), place, one, sizes=rows.sizes, axis=1)
    return t.reduce("ReduceMax", rows, [1]), _back(t, seed, moved, batch)


def _at_once(tape: Tape, batch: int) -> int:
    """Pairs that go through at a time."""
    graph = tape.graph
    made = (graph.shapes[t] for n in graph.nodes for t in n.outputs if t in graph.shapes)
    numbers = sum(int(np.prod(shape)) for shape in made) / batch
    return int(min(MOST, max(1, MEMORY // max(COPIES * 4 * numbers, 1))))


def _unreached(view: View, layer: Layer) -> OptionError:
    inputs = ", ".join(f"`{name}`" for name in view.graph.inputs)
    return OptionError(
        f"no gradient goes from layer {layer.name} (`{layer.tensor}`) back to an input ({inputs}): it does not "
        "depend on one that is a number, or only by way of operators whose gradient is 0",
        "Its feature maps can be seen all the same (--method feature-maps); or name another layer.",
    )
