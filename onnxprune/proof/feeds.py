"""Which inputs a proof is run on: generated ones, or rows of a dataset.

The first two feeds have the same shapes, to see what varies between inputs; the third has another batch size, and
other sizes on the remaining dynamic axes where the model takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError
from onnxprune.graph import Graph, dynamic_dims
from onnxprune.proof.decisions import FLOATS
from onnxprune.samples import generate
from onnxprune.sizes import resized, size_variants
from onnxprune.weights import dtype_of

__all__ = ["Data", "Feeds", "feeds_to_try", "scaled"]

Array = NDArray[Any]
Feeds = list[dict[str, Array]]
Data = Mapping[str, Array] | Iterable[Mapping[str, Array]]
ROWS = 16  # rows in one feed of vectors: enough that no unit is idle by chance; images and sequences hold many
MOST = 8  # at most so many feeds from an iterable


def feeds_to_try(graph: Graph, data: Data | None, seed: int) -> Iterator[Feeds]:
    """Lists of feeds, the best first; the next one is for the case that the original does not run on one."""
    if data is None:
        yield from _generated(graph, seed)
    elif isinstance(data, Mapping):
        yield _from_rows(graph, data, seed)
    else:
        yield _from_iterable(graph, data, seed)


def scaled(feeds: Feeds, factor: float) -> Feeds:
    """The same with floating inputs multiplied."""
    return [{name: _times(value, factor) for name, value in feed.items()} for feed in feeds]


def _times(value: Array, factor: float) -> Array:
    floating = value.dtype.kind in "fc" or value.dtype.name == "bfloat16"
    return (value * factor).astype(value.dtype) if floating else value


def _generated(graph: Graph, seed: int) -> Iterator[Feeds]:
    """The graph's own sizes with more rows where a sample is a vector, then without, then other sizes."""
    dims = dynamic_dims(graph.model)
    vectors = all(graph.dtypes.get(i) in FLOATS and len(graph.shapes.get(i, ())) <= 2 for i in graph.inputs)
    for number, sizes in enumerate(size_variants(graph)):
        for mine in (sizes | {dims[0]: ROWS}, sizes) if dims and vectors and not number else (sizes,):
            shapes = resized(graph, mine)
            pair = [generate(graph, seed=seed + k, shapes=shapes) for k in (0, 1)]
            for larger in _larger(dims, mine):
                yield [*pair, generate(graph, seed=seed + 2, shapes=resized(graph, larger))]
            yield pair


def _larger(dims: Sequence[str], sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Every dynamic dimension one larger, then the batch alone."""
    for names in (dims, dims[:1]) if len(dims) > 1 else (dims,) if dims else ():
        yield {**sizes, **{d: sizes[d] + 1 for d in names if d in sizes}}


def _from_rows(graph: Graph, data: Mapping[str, Array], seed: int) -> Feeds:
    """Rows of arrays: two batches of one size, and one of another where the batch is dynamic."""
    rows = {name: _typed(graph, name, data) for name in graph.inputs}
    count = min((len(v) for v in rows.values() if v.ndim), default=1)
    fixed = not dynamic_dims(graph.model)
    size = (
        next((graph.shapes[n][0] for n in graph.inputs if graph.shapes.get(n)), 1) if fixed else min(ROWS, count // 2)
    )
    size = max(size, 1)
    if count < size:
        raise DataError(
            f"the model takes {size} samples at a time, the data have {count}", "Give more samples, or none at all."
        )
    starts = [k * size for k in range(3 if fixed else 2) if (k + 1) * size <= count]
    feeds = [{name: v[k : k + size] if v.ndim else v for name, v in rows.items()} for k in starts]
    if not fixed and count > size:
        feeds.append({name: v[: size + 1] if v.ndim else v for name, v in rows.items()})
    return _with_a_second(graph, feeds, seed)


def _from_iterable(graph: Graph, data: Iterable[Mapping[str, Array]], seed: int) -> Feeds:
    feeds = [{name: _typed(graph, name, feed) for name in graph.inputs} for feed in islice(data, MOST)]
    if not feeds:
        raise DataError("the data hold no batch", "Give at least one, or none at all: inputs are made up then.")
    return _with_a_second(graph, feeds, seed)


def _with_a_second(graph: Graph, feeds: Feeds, seed: int) -> Feeds:
    """The first two have equal shapes: one is made up where the data have none."""
    shapes = {name: value.shape for name, value in feeds[0].items()}
    if len(feeds) > 1 and shapes == {name: value.shape for name, value in feeds[1].items()}:
        return feeds
    return [feeds[0], generate(graph, seed=seed, shapes=shapes), *feeds[1:]]


def _typed(graph: Graph, name: str, data: Mapping[str, Array]) -> Array:
    if name not in data:
        raise DataError(
            f"the data have no array for input `{name}`; they have: {', '.join(map(str, data))}",
            "Name the arrays after the model's inputs.",
        )
    value = np.asarray(data[name])
    wanted = dtype_of(graph.dtypes[name]) if name in graph.dtypes else value.dtype
    return value if value.dtype in {wanted, np.dtype(object)} else value.astype(wanted)
