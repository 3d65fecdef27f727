"""Masks of single weights of a draft, kept from one brush to the next, because working them out anew takes long."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dash_ui.desk import Desk, Kept
from onnxprune import Model
from onnxprune.errors import OptionError
from onnxprune.weights import Weight
from onnxprune.workspace.drafting import take_weights

__all__ = ["Brushed", "brushed"]

Mask = NDArray[np.bool_]
Edits = Sequence[tuple[int | None, Mapping[str, Any]]]
KEPT = 6  # masks, each as large as its weight


class Brushed:
    """The last masks, by model, weight and numbers of the entries that made them. None of them is ever changed."""

    def __init__(self, size: int = KEPT) -> None:
        self._size, self._lock = size, threading.Lock()
        self._values = Kept(2)  # reading a weight copies it
        self._found: OrderedDict[tuple[str, str, tuple[int, ...]], Mask] = OrderedDict()

    def mask(self, model_hash: str, name: str, weight: Weight, edits: Edits) -> Mask:
        """What these entries take of a weight. Raises OptionError for a place that it does not have."""
        numbers = tuple(number for number, _ in edits if number is not None)

        def values() -> NDArray[Any]:
            return self._values.get((model_hash, name), weight.array)

        with self._lock:
            keys = [(model_hash, name, numbers[:many]) for many in range(len(numbers), 0, -1)]
            near = next((key for key in keys if key in self._found), None)
            held = 0 if near is None else len(near[2])
            if near is not None:
                self._found.move_to_end(near)
            if near is not None and held == len(edits):
                return self._found[near]
            found: Mask = np.zeros(weight.shape, np.bool_) if near is None else self._found[near].copy()
            for _, edit in edits[held:]:
                take_weights(found, edit, values)
            found.flags.writeable = False
            if len(numbers) == len(edits):
                self._found[model_hash, name, numbers] = found
            while len(self._found) > self._size:
                self._found.popitem(last=False)
            return found


def brushed(desk: Desk, model: Model, model_hash: str, edits: Edits) -> dict[str, Mask]:
    """Name of the weight -> mask of its shape.

    ``edits``: numbers of entries, None after them for what is no entry, and what they say, in their order.

    Raises OptionError for a weight that the model does not have.
    """
    by_name: dict[str, list[tuple[int | None, Mapping[str, Any]]]] = {}
    for number, edit in edits:
        if "clear" in edit:
            by_name.clear()
        elif "weight" in edit:
            by_name.setdefault(str(edit["weight"]), []).append((number, edit))
    masks: Brushed = desk.kept.get(("brushed",), Brushed)
    found = {}
    for name, mine in by_name.items():
        if name not in model.weights:
            raise OptionError(f"the model has no weight {name!r}", f"Weights: {', '.join(model.weights)}.")
        found[name] = masks.mask(model_hash, name, model.weights[name], mine)
    return found
