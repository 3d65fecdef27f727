"""Generated inputs: seeded, of the right shape and type, and sensible to the operators that read them.

What an input is, is read off its readers: integers that reach the indices of a Gather lie in its range, what selects
between real and padded positions is a mask of ones with one padded row, lengths are full, positions count up from 0;
everything else is standard normal. ``complete_shapes`` runs a model on such inputs where shape inference was silent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune import runtime
from onnxprune.errors import DataError, ModelError, OnnxPruneError
from onnxprune.graph import Graph, Node, build_graph, dynamic_dims
from onnxprune.model import Model
from onnxprune.sizes import known_sizes, resized, size_variants
from onnxprune.weights import dtype_of, type_of

__all__ = ["assign", "complete_shapes", "generate"]

Array = NDArray[Any]

# Operators that hand their first input's numbers on, and those that hand on every input's.
MOVES = frozenset(
    "Cast Identity Unsqueeze Squeeze Reshape Flatten Transpose Expand Slice Tile Clip Gather GatherElements "
    "Split Pad DequantizeLinear".split()
)
JOINS = frozenset("Concat Max Min Sum".split())
OPEN_END = 10  # integers of which nothing is known lie below this
PADDED = 3  # the last third of the padded row is masked

MASK_NAME = re.compile(r"mask", re.IGNORECASE)
POSITION_NAME = re.compile(r"position|(^|_)pos(_|$)", re.IGNORECASE)
LENGTH_NAME = re.compile(r"(^|_)(len|lens|length|lengths|seqlens?)(_|$)", re.IGNORECASE)

# (operator, input) -> input that holds the table, and the axis of it that is addressed
TABLES: dict[tuple[str, int], int] = {
    ("Gather", 1): 0,
    ("GatherElements", 1): 0,
    ("ScatterElements", 1): 0,
    ("EmbedLayerNormalization", 0): 2,
    ("EmbedLayerNormalization", 1): 4,
    ("RotaryEmbedding", 1): 2,
    ("RotaryEmbedding", 3): 1,
}
MASKS = {
    ("Where", 0),
    ("And", 0),
    ("And", 1),
    ("Or", 0),
    ("Or", 1),
    ("Not", 0),
    ("Attention", 3),
    ("MultiHeadAttention", 4),
    ("EmbedLayerNormalization", 7),
}
LENGTHS = {("LSTM", 4), ("GRU", 4), ("RNN", 4), ("ReverseSequence", 1)}
COUNTS = {("Loop", 0), ("TopK", 1), ("Range", 0), ("Range", 1), ("Range", 2)}


@dataclass
class _Use:
    """What the readers of one input make of it. ``limit``: indices stay below it; ``length``: of a full sequence."""

    limit: int | None = None
    length: int | None = None
    mask: bool = False
    count: bool = False

    def below(self, limit: int) -> None:
        self.limit = max(1, limit if self.limit is None else min(self.limit, limit))


def generate(
    graph: Graph,
    *,
    batch: int | None = None,
    seed: int = 0,
    scale: float = 1.0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Array]:
    """One value per graph input, of the shape and type that ``graph`` assigns to it.

    ``batch`` replaces the size of the first dynamic dimension; ``scale`` multiplies the standard normal inputs;
    ``shapes`` (name -> shape, all inputs) is used instead of the assignment. Raises DataError for an input that
    holds text, is not a tensor, or has no known shape.
    """
    if shapes is None:
        dims = dynamic_dims(graph.model)
        shapes = resized(graph, {dims[0]: batch} if batch is not None and dims else {})
    rng = np.random.default_rng(seed)
    return {name: _one(graph, name, shapes[name], rng, scale) for name in graph.inputs}


def _one(graph: Graph, name: str, shape: tuple[int, ...], rng: np.random.Generator, scale: float) -> Array:
    onnx_type = graph.dtypes.get(name, int(onnx.TensorProto.FLOAT))
    if onnx_type == onnx.TensorProto.STRING:
        raise DataError(f"input `{name}` holds text, and text cannot be made up", "Give data with --data FILE.npz.")
    dtype = dtype_of(onnx_type)
    use = _use_of(graph, name)
    if use.limit is None and (use.mask or MASK_NAME.search(name)):
        return _mask(shape, use).astype(dtype)
    if dtype == np.bool_:
        return np.ones(shape, np.bool_)
    if np.issubdtype(dtype, np.integer):
        return _integers(graph, name, shape, dtype, use, rng)
    if np.issubdtype(dtype, np.complexfloating):
        return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), dtype) * scale
    return np.asarray(rng.standard_normal(shape) * scale).astype(dtype)


def _mask(shape: tuple[int, ...], use: _Use) -> Array:
    """Ones; the end of the first row is padding. A mask of one entry per sample holds lengths."""
    mask = np.ones(shape, np.int64)
    if use.length is not None:
        return mask * use.length
    if shape and shape[-1] > 1:
        row = mask[0] if len(shape) > 1 else mask
        row[..., shape[-1] - max(shape[-1] // PADDED, 1) :] = 0
    return mask


def _integers(
    graph: Graph, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], use: _Use, rng: np.random.Generator
) -> Array:
    if use.count:
        return np.full(shape, min(2, use.limit or 2), dtype)
    length = use.length
    if length is None and LENGTH_NAME.search(name):
        length = _longest(graph, name)
    if length is not None:
        return np.full(shape, length, dtype)
    if POSITION_NAME.search(name):
        last = np.arange(shape[-1] if shape else 1) % (use.limit or np.iinfo(dtype).max)
        return np.array(np.broadcast_to(last.astype(dtype) if shape else last[0], shape), dtype)
    info = np.iinfo(dtype)
    if use.limit is None and dtype.itemsize == 1:  # an image or a quantised tensor
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.integers(0, min(use.limit or OPEN_END, int(info.max)), shape).astype(dtype)


def _longest(graph: Graph, name: str) -> int:
    """The sequence axis of the other inputs: their second one."""
    others = [graph.shapes[i] for i in graph.inputs if i != name and len(graph.shapes.get(i, ())) > 1]
    return max((shape[1] for shape in others), default=1)


def _use_of(graph: Graph, tensor: str) -> _Use:
    """Follow the numbers of an input through operators that only move them, to those that use them."""
    use = _Use()
    seen: set[tuple[str, int]] = set()
    stack = [(tensor, 0)]
    while stack:
        name, offset = stack.pop()
        if (name, offset) in seen or len(seen) > len(graph.nodes):
            continue
        seen.add((name, offset))
        for node, k in graph.consumers.get(name, ()):
            _note(graph, node, k, offset, use)
            stack.extend(_onwards(graph, node, k, offset))
    return use


def _note(graph: Graph, node: Node, k: int, offset: int, use: _Use) -> None:
    place = (node.op, k)
    limit = _limit(graph, node, k)
    if limit is not None:
        use.below(limit - offset)
    length = _length(graph, node, k)
    if length is not None:
        use.length = length
    if place in COUNTS:
        use.count = True
    if place in MASKS or _is_padding_bias(graph, node, k):
        use.mask = True


def _limit(graph: Graph, node: Node, k: int) -> int | None:
    """What an index at this place must stay below."""
    place = (node.op, k)
    if place in TABLES:
        shape = graph.shape(node.input(TABLES[place]))
        axis = node.attrs.get("axis", 0)
        return shape[axis if -len(shape) <= axis < len(shape) else 0] if shape else None
    if place in {("GatherND", 1), ("ScatterND", 1)}:
        data, indices = graph.shape(node.input(0)), graph.shape(node.input(1))
        first = node.attrs.get("batch_dims", 0)
        return min(data[first : first + indices[-1]], default=1) if data and indices else None
    if place == ("OneHot", 0):
        depth = graph.value(node.input(1))
        return None if depth is None else int(depth.reshape(-1)[0])
    return None


def _length(graph: Graph, node: Node, k: int) -> int | None:
    """The full length, where lengths of sequences are expected."""
    place = (node.op, k)
    shape = graph.shape(node.input(0)) or ()
    if place in LENGTHS and shape:
        return shape[node.attrs.get("time_axis", node.attrs.get("layout", 0)) if len(shape) > 1 else 0]
    if place in {("GroupQueryAttention", 5), ("GroupQueryAttention", 6)} and len(shape) > 1:
        past = graph.shape(node.input(3)) or ()
        return shape[1] + (past[2] if len(past) > 2 else 0) - (k == 5)
    if place == ("Attention", 3) and node.domain and len(graph.shape(node.input(3)) or ()) == 1 and len(shape) > 1:
        return shape[1]
    return None


def _is_padding_bias(graph: Graph, node: Node, k: int) -> bool:
    """``1 - mask``, which is then multiplied by a large number; ``mask == 0``."""
    if node.op == "Sub" and k == 1:
        one = graph.value(node.input(0))
        readers = graph.consumers.get(node.output(0), ())
        return (
            one is not None
            and one.size == 1
            and float(one.reshape(-1)[0]) == 1.0
            and any(
                _is_large(graph, reader.input(1 - j)) for reader, j in readers if reader.op in ("Mul", "Cast", "Where")
            )
        )
    if node.op == "Equal":
        zero = graph.value(node.input(1 - k))
        return zero is not None and zero.size == 1 and float(zero.reshape(-1)[0]) == 0.0
    return False


def _is_large(graph: Graph, tensor: str) -> bool:
    value = graph.value(tensor) if tensor else None
    return value is None or bool((np.abs(value.astype(np.float64)) >= 1000).any())


def _onwards(graph: Graph, node: Node, k: int, offset: int) -> Iterator[tuple[str, int]]:
    if node.bodies:
        for body in node.bodies.values():
            if k < len(body.inputs):
                yield body.inputs[k], offset
        return
    if (node.op in MOVES and k == 0) or node.op in JOINS or (node.op == "Where" and k > 0):
        yield from ((o, offset) for o in node.outputs if o)
    elif node.op in ("Add", "Sub") and node.op + str(k) != "Sub1":
        other = graph.value(node.input(1 - k))
        if other is not None and np.issubdtype(other.dtype, np.integer) and other.size:
            shift = int(other.max()) if node.op == "Add" else -int(other.min())
            yield node.output(0), offset + shift


def assign(
    model: Model,
    sizes: Mapping[str, int] | None = None,
    *,
    fixed: Mapping[str, tuple[int, ...]] | None = None,
    provider: str = "auto",
    threads: int | None = None,
) -> Graph:
    """The graph under the assignment nearest to ``sizes`` (dimension -> size) that the model accepts, shapes complete.

    Where shape inference knows every shape, ``sizes`` are taken as they are. Otherwise the model is run once, and if
    it does not run, other sizes are tried. ``fixed``: whole shapes per input. ``provider`` and ``threads`` are for that
    run; "auto" is the CPU.
    """
    graph = build_graph(model, sizes, fixed=fixed)
    missing = _missing(graph)
    if not missing:
        return graph
    try:
        session = _showing(model, missing, provider, threads)
        for number, variant in enumerate(size_variants(graph)):
            found = _tried(session, graph, variant)
            if found is not None:
                again = build_graph(model, variant, fixed=fixed) if number or variant != known_sizes(graph) else graph
                return _filled(again, {n: v for n, v in found.items() if n not in again.shapes})
    except OnnxPruneError:
        return graph
    return graph


def _showing(model: Model, tensors: list[str], provider: str, threads: int | None) -> runtime.Session:
    """A session that gives these tensors; a GPU takes longer to start than one run takes."""
    return runtime.session(model, outputs=tensors, provider="cpu" if provider == "auto" else provider, threads=threads)


def _tried(session: runtime.Session, graph: Graph, sizes: Mapping[str, int]) -> dict[str, Array] | None:
    try:
        return session.run(generate(graph, shapes=resized(graph, sizes)))
    except ModelError:
        return None


def complete_shapes(graph: Graph, *, provider: str = "auto", threads: int | None = None) -> Graph:
    """Fill in the shapes and types that shape inference could not tell, from one run on generated inputs.

    Tensors inside control flow stay as they are. A model that does not run leaves the graph as it is.
    """
    missing = _missing(graph)
    if not missing:
        return graph
    try:
        found = _showing(graph.model, missing, provider, threads).run(generate(graph))
    except OnnxPruneError:
        return graph
    return _filled(graph, found)


def _missing(graph: Graph) -> list[str]:
    """Tensors of the main graph without a shape."""
    outputs = (tensor for node in graph.nodes if len(node.where) == 1 for tensor in node.outputs)
    return [tensor for tensor in outputs if tensor and tensor not in graph.shapes]


def _filled(graph: Graph, found: Mapping[str, Array]) -> Graph:
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    shapes = dict(graph.shapes) | {name: value.shape for name, value in arrays.items()}
    dtypes = dict(graph.dtypes)
    for name, value in arrays.items():
        if value.dtype != object:
            dtypes.setdefault(name, type_of(value.dtype))
    return replace(graph, shapes=shapes, dtypes=dtypes).refold()
