"""Whether a comparison says anything: do the compared tensors vary between inputs, did the mask change something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cuts import cuts_of, masks
from onnxprune.extract import reached_from
from onnxprune.graph import Graph
from onnxprune.ops.quantized import stored_zero
from onnxprune.plan import Plan
from onnxprune.proof.chain import Chain, Tally
from onnxprune.proof.decisions import FLOATS
from onnxprune.values import Coupling

__all__ = ["Sense", "loses_something", "required"]


@dataclass(frozen=True, eq=False)
class Sense:
    """What a comparison has to show before it counts.

    ``required``: tensors that must vary between inputs. ``wants_change``: the mask must change something.
    """

    chain: Chain
    required: tuple[str, ...]
    wants_change: bool

    def counts(self, tally: Tally) -> bool:
        """All that must vary does, and the mask changed something."""
        return self._changed(tally) and all(name in tally.varies for name in self.required)

    def says_something(self, tally: Tally) -> bool:
        """At least one of those that must vary does, and the mask changed something."""
        return self._changed(tally) and any(name in tally.varies for name in self.required)

    def last_that_count(self, tally: Tally, inner: Tally) -> tuple[str, ...]:
        """The last tensors in front of the silent ones that vary, and that the mask changed where that is missing.

        ``inner``: a tally of all tensors.
        """
        changed = self._changed(tally)
        silent = [name for name in self.required if not changed or name not in tally.varies]

        def says(name: str) -> bool:
            return name in inner.errors and name in inner.varies and (changed or name in inner.changed)

        return tuple(dict.fromkeys(n for start in silent for n in _in_front(self.chain, start, says)))

    def _changed(self, tally: Tally) -> bool:
        return bool(tally.changed) or not self.wants_change


def required(chain: Chain) -> tuple[str, ...]:
    """What must vary: the floating outputs that the removal reaches; for integer ones what they are decided on."""
    result: dict[str, None] = {}
    fed = reached_from(chain.graph, chain.graph.inputs)
    for name in dict.fromkeys(o for s in chain.segments for o in s.outputs):
        if name not in chain.reached or name not in fed or name in chain.graph.from_shape:
            continue
        if chain.graph.dtypes.get(name) in FLOATS:
            result[name] = None
        elif name in chain.graph.outputs:
            floating = _in_front(chain, name, lambda n: n in fed and chain.graph.dtypes.get(n) in FLOATS)
            result.update(dict.fromkeys(floating))
    return tuple(result)


def _in_front(chain: Chain, start: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    """The nearest wanted tensors that ``start`` is computed from and that the removal reaches."""
    seen: set[str] = set()
    stack = [start]
    while stack:
        node = chain.graph.producer.get(stack.pop())
        if node is None:
            continue
        inner = [o for body in node.bodies.values() for o in body.outputs]
        for name in (*node.inputs, *inner):
            if not name or name in seen or name not in chain.reached:
                continue
            seen.add(name)
            if wanted(name):
                yield name
            else:
                stack.append(name)


def loses_something(coupling: Coupling, plan: Plan) -> bool:
    """Whether any weight that is masked is other than zero."""
    graph: Graph = coupling.graph
    for tensor, axes in cuts_of(coupling, plan.units, lambda m: m.weight and m.linear).items():
        array = np.asarray(graph.weights[tensor].array())
        zero = stored_zero(graph, tensor)
        if any(_any_nonzero(array, gone, zero) for gone in masks(array.shape, axes)):
            return True
    return any(
        _any_nonzero(np.asarray(graph.weights[name].array()), gone, stored_zero(graph, name))
        for name, gone in plan.weights.items()
        if name in graph.weights
    )


def _any_nonzero(array: NDArray[Any], gone: NDArray[np.bool_], zero: NDArray[Any] | int) -> bool:
    return bool(((array != zero) & gone).any())
