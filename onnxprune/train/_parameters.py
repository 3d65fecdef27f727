"""Which constants of a model are trained, and how they get back into it.

Trained are floating-point constants in which the model is linear: weights, biases, scales. Not trained are running
statistics, bounds, exponents and the like, single numbers that belong to a formula (the 0.5 of a GELU), and masks of
zeros and minus infinity. A vector that layers share by accident is several parameters, a matrix that they share is one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import ModelError, OptionError
from onnxprune.graph import Graph
from onnxprune.model import ArrayWeight, Model, Weight
from onnxprune.ops.emitter import FLOATS
from onnxprune.ops.rule import Role
from onnxprune.ops.tape import Tape
from onnxprune.store import Store
from onnxprune.stored import is_quantised
from onnxprune.weights import type_of
from onnxprune.zeros import weight_role

__all__ = ["Homes", "candidates", "check_floats", "delivered", "homes_of", "matching", "nearest", "spread"]

Array = NDArray[Any]
Homes = Mapping[str, str]
ARITHMETIC = frozenset("Add Sub Mul Div Pow Max Min Mean Sum Where".split())
PRODUCTS = frozenset("MatMul Gemm Conv ConvTranspose Einsum FusedMatMul".split())
FAR = -1e4  # what a mask adds to a score, or less


def candidates(graph: Graph, tape: Tape) -> tuple[str, ...]:
    """Names of what could be trained: weights of the tape that are floats and linear in the model ``graph``."""
    families: dict[str, list[str]] = {}
    for name, home in homes_of(graph, tape).items():
        families.setdefault(home, []).append(name)
    own = tape.graph.model.weights
    return tuple(
        home
        for home, names in families.items()
        if own[home].onnx_type in FLOATS
        and tuple(own[home].shape) == tuple(graph.weights[home].shape)
        and all(weight_role(graph, name) is Role.LINEAR for name in names)
        and not _is_formula(graph, home)
        and not _is_mask(graph.weights[home])
    )


def homes_of(graph: Graph, tape: Tape) -> dict[str, str]:
    """Constant of the analysis view -> the weight of the tape that holds its values."""
    own = tape.graph.model.weights
    found = {}
    for name in graph.weights:
        home = name if name in own else graph.origin.get(name, "")
        if home in own:
            found[name] = home
    return found


def check_floats(graph: Graph, label: str) -> None:
    """Raise ModelError for a model with quantised weights."""
    found = [name for name in graph.weights if is_quantised(graph, name)]
    if found:
        listed = ", ".join(f"`{name}`" for name in found[:3]) + (
            f" and {len(found) - 3} more" if len(found) > 3 else ""
        )
        raise ModelError(
            f"{label}: weights are quantised, and gradients need floating-point ones: {listed}",
            "Train the float model that this one was made from, and quantise the result again.",
        )


def matching(patterns: Sequence[str], names: Iterable[str]) -> frozenset[str]:
    """The names that a pattern (``*`` and ``?`` as in file names) fits. Raises OptionError for one that fits none."""
    known = list(names)
    found: set[str] = set()
    for pattern in patterns:
        hits = [name for name in known if fnmatchcase(name, pattern)]
        if not hits:
            raise OptionError(f"freeze: no weight fits `{pattern}`", nearest(pattern, known))
        found.update(hits)
    return frozenset(found)


def nearest(name: str, known: Collection[str]) -> str:
    """A hint at the names that come close."""
    return f"Nearest: {', '.join(get_close_matches(name, known, 3, 0.3) or list(known)[:3])}."


def spread(values: Mapping[str, Array], homes: Homes) -> dict[str, Array]:
    """Values by weight of the tape -> values by constant of the analysis view."""
    return {name: values[home] for name, home in homes.items() if home in values}


def delivered(model: Model, graph: Graph, values: Mapping[str, Array]) -> Model:
    """The model with these values for constants of its analysis view, in the types that they have there."""
    new: dict[str, Weight] = {}
    for name, array in values.items():
        old = graph.weights[name]
        with np.errstate(over="ignore"):  # of a 16-bit type: whoever measures the model sees that it is infinite
            new[name] = ArrayWeight(array.astype(old.dtype), old.onnx_type)
    editor = model.edit()
    Store(graph, editor).put(new)
    return editor.build()


def _is_formula(graph: Graph, name: str) -> bool:
    """A single number in arithmetic, unless it is added to a product that has one column: that is a bias."""
    weight = graph.weights[name]
    if int(np.prod(weight.shape)) != 1:
        return False
    if not weight.shape:
        return True
    for node, k in graph.consumers.get(name, ()):
        if node.op in ARITHMETIC and not node.domain:
            other = graph.producer.get(node.input(1 - k)) if len(node.inputs) == 2 else None
            if node.op != "Add" or other is None or other.op not in PRODUCTS:
                return True
    return False


def _is_mask(weight: Weight) -> bool:
    """Zeros, and numbers so low that they switch a score off."""
    if type_of(weight.dtype) not in FLOATS or not weight.shape:
        return False
    low = float(np.min(weight.array(), initial=0))
    return not np.isfinite(low) or (low <= FAR and len(np.unique(weight.array())) <= 2)
