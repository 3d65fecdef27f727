"""Sizes of symbolic dimensions: which combinations to try where a model does not take those it was assigned."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

import onnx

from onnxprune.errors import DataError
from onnxprune.graph import Graph, dynamic_dims

__all__ = ["known_sizes", "resized", "size_variants"]

# Sizes of dynamic dimensions, tried where the graph's own do not run.
STEPS = (2, 8, 32)
COMMON_SIZES = (8, 32, 64, 224, 1)
MOST_SUMMED = 4


def size_variants(graph: Graph) -> Iterator[dict[str, int]]:
    """Sizes of the symbolic dimensions to try, the graph's own first: models often take some sizes only.

    Then leading axes of one size (they are the batch, whatever their names), one of the others as the sum of two
    (past and present), multiples of 2, 8 and 32 (images that are halved several times), one common size, and the
    same with a batch of 1.
    """
    dims = dynamic_dims(graph.model)
    own = {dim: size for dim, size in known_sizes(graph).items() if dim in dims}
    leading = [dim for dim in dims if any(shape and _dim(v, 0) == dim for v, shape in _declared(graph))]
    others = [dim for dim in dims if dim not in leading and not _parts(dim, own)]
    yield _with_sums(own)
    for batch in (own[dims[0]], 1) if dims else ():
        tied = own | dict.fromkeys(leading or dims[:1], batch)
        yield _with_sums(tied)
        for total, a, b in _sums(others) if batch > 1 else ():
            yield _with_sums(tied | {total: tied[a] + tied[b]})
        if others:
            for step in STEPS:
                yield _with_sums(tied | _multiples([own[dim] for dim in others], others, step))
            for size in COMMON_SIZES:
                yield _with_sums(tied | dict.fromkeys(others, size))


def _sums(dims: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(whole, part, part) for all choices, where they are few."""
    if len(dims) <= MOST_SUMMED:
        for a, b in combinations(dims, 2):
            yield from ((total, a, b) for total in reversed(dims) if total not in {a, b})


def _multiples(sizes: Sequence[int], dims: Sequence[str], step: int) -> dict[str, int]:
    """The next multiples of ``step``, all different."""
    found: dict[str, int] = {}
    for dim, size in zip(dims, sizes, strict=True):
        wanted = -(-size // step) * step
        while wanted in found.values():
            wanted += step
        found[dim] = wanted
    return found


def _with_sums(sizes: Mapping[str, int]) -> dict[str, int]:
    """Dimensions that are named as a sum of others have the size of that sum."""
    return {dim: _size(dim, sizes) for dim in sizes}


def resized(graph: Graph, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shape per graph input; ``sizes``: new value per symbolic dimension, the others stay.

    A leading axis without a name follows when the first dimension is such an axis; a dimension that is named as a
    sum of others (``past + 1``) is that sum.
    """
    known = known_sizes(graph) | dict(sizes)
    unnamed = next((size for name, size in sizes.items() if name.endswith("[0]")), None)
    shapes = {}
    for value, assigned in _declared(graph):
        shape = list(assigned)
        for axis in range(len(shape)):
            dim = _dim(value, axis)
            if dim:
                follows = unnamed is not None and axis == 0 and dim.endswith("[0]") and dim not in sizes
                shape[axis] = unnamed if follows and unnamed is not None else _size(dim, known)
        shapes[value.name] = tuple(shape)
    return shapes


def _declared(graph: Graph) -> list[tuple[onnx.ValueInfoProto, tuple[int, ...]]]:
    """Declaration and assigned shape of every input. Raises DataError where there is no shape."""
    found = []
    for value in graph.model.proto.graph.input:
        if value.name in graph.inputs:
            shape = graph.shape(value.name)
            if shape is None:
                raise DataError(
                    f"input `{value.name}` is not a tensor of known rank, so no value can be made up for it",
                    "Give data for it, or a shape: --shape NAME=1,3,224,224.",
                )
            found.append((value, shape))
    return found


def known_sizes(graph: Graph) -> dict[str, int]:
    """Size per symbolic dimension in the assignment of the graph."""
    known: dict[str, int] = {}
    for value, shape in _declared(graph):
        for axis, size in enumerate(shape):
            dim = _dim(value, axis)
            if dim:
                known.setdefault(dim, size)
    return known


def _dim(value: onnx.ValueInfoProto, axis: int) -> str:
    """Name of a symbolic dimension, "" of a fixed one."""
    dim = value.type.tensor_type.shape.dim[axis]
    return "" if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param or f"{value.name}[{axis}]"


def _size(dim: str, known: Mapping[str, int]) -> int:
    parts = _parts(dim, known)
    return sum(int(part) if part.isdigit() else known[part] for part in parts) if parts else known[dim]


def _parts(dim: str, known: Collection[str]) -> list[str]:
    """The names and numbers that the dimension ``past + 1`` is the sum of; nothing for a plain name."""
    parts = [part.strip() for part in dim.split("+")]
    return parts if len(parts) > 1 and all(part.isdigit() or part in known for part in parts) else []
