"""A model as the groups that can be pruned in it, and what is broken in it already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from onnxprune.coupling import couple
from onnxprune.criteria.slices import linear_weights, weight_of
from onnxprune.model import Model, inline_functions
from onnxprune.values import Coupling, Options

__all__ = ["analyse", "broken_weights"]

CHUNK = 1 << 22  # elements looked at in one go


def analyse(
    model: Model, options: Options | None = None, *, provider: str = "auto", threads: int | None = None
) -> tuple[Model, Coupling]:
    """The model without local functions, and its groups; they carry the hash of the model as it was given.

    ``provider`` and ``threads``: where shapes that cannot be inferred are seen by running the model.
    """
    inlined = inline_functions(model)
    coupling = couple(inlined, options, provider=provider, threads=threads)
    return inlined, coupling if inlined is model else replace(coupling, model_hash=model.hash)


def broken_weights(model: Model, coupling: Coupling) -> tuple[str, ...]:
    """A warning for each linear weight with NaN or Inf in it."""
    graph = coupling.graph
    found = ((name, _not_finite(weight_of(model, graph, name).array())) for name in linear_weights(graph))
    return tuple(f"weight `{name}` has {count} entries that are NaN or Inf" for name, count in found if count)


def _not_finite(array: np.ndarray[Any, np.dtype[Any]]) -> int:
    if array.dtype.kind in "iub":
        return 0
    flat = array.reshape(-1)
    pieces = (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))
    return sum(piece.size - int(np.count_nonzero(np.isfinite(piece))) for piece in pieces)
