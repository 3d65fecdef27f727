"""The reference for inexact groups: the masked model, with every reduction over a pruned axis run over survivors only.

Written in primitive operators and independently of ``surgery.remove``: a constant *keep* tensor says which positions
survive; sums, products and extremes see their neutral element at the others; means and variances divide by the number
of survivors. Exact groups are left alone, so that a reduction wrongly taken for exact still shows.

    mean  = sum(where(keep, x, 0)) / sum(keep)
    layer = where(keep, x - mean, 0) / sqrt(sum(where(keep, x - mean, 0)^2) / sum(keep) + eps) * scale + bias
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune.cuts import cuts_of
from onnxprune.errors import ProofError
from onnxprune.graph import Graph, Node
from onnxprune.model import Model
from onnxprune.ops import Role, rule_for
from onnxprune.ops.reduction import is_mean_divisor, reduced_axes
from onnxprune.ops.ties import Ties
from onnxprune.plan import Plan
from onnxprune.proof.desk import Desk
from onnxprune.values import Coupling, Options
from onnxprune.zeros import weight_role

__all__ = ["CORRECTIONS", "correct"]

Array = NDArray[Any]
Place = tuple[str, int]  # tensor and axis

# What a reduction may see at a removed position without noticing.
NEUTRAL: dict[str, float] = {
    "ReduceSum": 0,
    "ReduceL1": 0,
    "ReduceL2": 0,
    "ReduceSumSquare": 0,
    "ReduceLogSum": 0,
    "ReduceProd": 1,
    "ReduceMax": -np.inf,
    "ReduceMin": np.inf,
    "ReduceLogSumExp": -np.inf,
}


def correct(masked: Model, coupling: Coupling, plan: Plan) -> Model:
    """The masked model as removal would have it where an inexact group loses units; itself where none does.

    Raises ProofError for an operator whose statistics cannot be restricted to the survivors.
    """
    inexact = {name: units for name, units in plan.units.items() if not coupling.groups[coupling.by_name[name]].exact}
    if not inexact:
        return masked
    graph: Graph = coupling.graph
    desk = Desk(graph, masked, cuts_of(coupling, inexact))
    for node in graph.nodes:
        if any(t in desk.cuts for t in (*node.inputs, *node.outputs)):
            _correct_node(node, desk, coupling.options)
    return desk.build()


def _correct_node(node: Node, desk: Desk, options: Options) -> None:
    said = _speak(node, desk.graph, options)
    if any(desk.keep(tensor, [axis]) is not None for tensor, axis in said.renormalised):
        correction = CORRECTIONS.get(node.op)
        if correction is None:
            raise ProofError(
                f"{node} mixes what is removed into what stays, and there is no corrected form of it to compare with",
                "Leave out the group (--skip NAME), or write the file unproven with --no-verify.",
            )
        correction(node, desk)
        return
    for operands in said.contracted:
        _correct_contraction(node, desk, operands)


@dataclass(frozen=True)
class _Said:
    """What a rule says about one node: the axes that it normalises over, and the operands of its contractions."""

    renormalised: tuple[Place, ...]
    contracted: tuple[tuple[Place, ...], ...]


def _speak(node: Node, graph: Graph, options: Options) -> _Said:
    rule = rule_for(node.domain, node.op)
    if rule is None or any(i and graph.shape(i) is None for i in (*node.inputs, *node.outputs[:1])):
        return _Said((), ())
    t = Ties(graph, options)
    t.node = node
    rule.couple(node, t)
    starts = np.array(t.starts or [0])

    def place(ids: NDArray[np.int64]) -> Place:
        owner = t.owners[int(np.searchsorted(starts, ids.reshape(-1)[0], "right")) - 1]
        return t.axes[owner] if owner >= 0 else ("", 0)

    return _Said(
        tuple(place(ids) for ids, _ in t.renormalised if ids.size),
        tuple(tuple(place(ids) for ids in operands if ids.size) for operands, _ in t.contractions),
    )


def _correct_contraction(node: Node, desk: Desk, operands: Sequence[Place]) -> None:
    """A sum over products: one operand is 0 at the removed positions. A linear constant is zeroed already."""
    constants = [tensor for tensor, _ in operands if tensor in desk.graph.weights]
    if any(weight_role(desk.graph, tensor) is Role.LINEAR for tensor in constants):
        return
    for tensor, axis in operands:
        keep = desk.keep(tensor, [axis])
        if keep is not None and tensor in node.inputs:
            k = node.inputs.index(tensor)
            desk.set_input(node, k, desk.protect(node, k, keep, 0))
            return


@dataclass
class _Statistics:
    """x without its mean (or as it is), 0 at the removed positions, and 1 / its standard deviation."""

    values: str
    inverse: str
    mean: str = ""


def _standardise(
    node: Node, desk: Desk, x: str, keep: NDArray[np.bool_], axes: Sequence[int], *, eps: float, dtype: Any,
    center: bool = True,
) -> _Statistics:  # fmt: skip
    number = desk.count(node, keep, x, axes, dtype)
    values = desk.where(node, keep, x, 0, dtype)
    mean = ""
    if center:
        mean = desk.add(node, "Div", desk.sum(node, values, axes), number)
        values = desk.where(node, keep, desk.add(node, "Sub", x, mean), 0, dtype)
    square = desk.sum(node, desk.add(node, "Mul", values, values), axes)
    variance = desk.add(node, "Add", desk.add(node, "Div", square, number), desk.constant(node, eps, dtype))
    inverse = desk.add(node, "Reciprocal", desk.add(node, "Sqrt", variance))
    return _Statistics(values, inverse, mean)


def _wide(node: Node, desk: Desk, tensor: str, dtype: np.dtype[Any]) -> tuple[str, np.dtype[Any]]:
    """Statistics are taken in float32, as the operators themselves do."""
    if dtype in (np.float32, np.float64):
        return tensor, dtype
    return desk.add(node, "Cast", tensor, to=int(onnx.TensorProto.FLOAT)), np.dtype(np.float32)


def _narrow(node: Node, desk: Desk, tensor: str, dtype: np.dtype[Any]) -> str:
    if dtype in (np.float32, np.float64):
        return tensor
    return desk.add(node, "Cast", tensor, to=int(onnx.helper.np_dtype_to_tensor_dtype(dtype)))


def _affine(node: Node, desk: Desk, y: str, scale: str, bias: str, view: Sequence[int] | None = None) -> str:
    """y * scale + bias; ``view``: shape that lines a vector up with y."""
    for op, tensor in (("Mul", scale), ("Add", bias)):
        if tensor:
            shape = "" if view is None else desk.constant(node, view, np.int64)
            y = desk.add(node, op, y, desk.add(node, "Reshape", tensor, shape) if shape else tensor)
    return y


def _input(node: Node, desk: Desk, k: int) -> str:
    return desk.name(node, k) if node.input(k) else ""


def correct_reduction(node: Node, desk: Desk) -> None:
    """The neutral element at removed positions; a mean in disguise (ReduceSum / Shape) divides by the survivors."""
    x = node.input(0)
    axes = reduced_axes(desk.graph, node) or ()
    keep = desk.keep(x, axes)
    if keep is None:
        return
    desk.set_input(node, 0, desk.protect(node, 0, keep, NEUTRAL[node.op]))
    if node.op == "ReduceSum" and is_mean_divisor(desk.graph, node):
        _shrink_divisor(node, desk, axes)


def _shrink_divisor(node: Node, desk: Desk, axes: Sequence[int]) -> None:
    x = node.input(0)
    cuts = [c for a, c in desk.cuts[x].items() if a in axes]
    share = float(np.prod([1 - c.lost / c.removed.shape[-1] for c in cuts]))
    for reader, k in desk.graph.consumers[node.outputs[0]]:
        if reader.op == "Div" and k == 0 and reader.inputs[1] in desk.graph.from_shape:
            factor = desk.constant(reader, share, desk.dtype(reader.inputs[1]))
            desk.set_input(reader, 1, desk.add(reader, "Mul", desk.name(reader, 1), factor))


def correct_mean(node: Node, desk: Desk) -> None:
    """y = sum(where(keep, x, 0)) / sum(keep)."""
    axes = reduced_axes(desk.graph, node) or ()
    keep = desk.keep(node.input(0), axes)
    if keep is None:
        return
    keepdims = bool(node.attrs.get("keepdims", 1))
    dtype = desk.dtype(node.input(0))
    x, wide = _wide(node, desk, desk.name(node, 0), dtype)
    total = desk.sum(node, desk.where(node, keep, x, 0, wide), axes, keepdims=keepdims)
    number = desk.count(node, keep, x, axes, wide, keepdims=keepdims)
    desk.replace(node, {0: _narrow(node, desk, desk.add(node, "Div", total, number), dtype)})


def correct_layer_norm(node: Node, desk: Desk) -> None:
    """LayerNormalization and RMSNormalization, from ``axis`` to the end."""
    x = node.input(0)
    rank = len(desk.graph.shapes[x])
    axes = tuple(range(node.attrs.get("axis", -1) % rank, rank))
    keep = desk.keep(x, axes)
    if keep is None:
        return
    _normalise_last(node, desk, desk.name(node, 0), keep, axes, desk.dtype(x))


def _normalise_last(
    node: Node, desk: Desk, x: str, keep: NDArray[np.bool_], axes: Sequence[int], dtype: np.dtype[Any],
    total: str = "",
) -> None:  # fmt: skip
    center = "RMS" not in node.op and "Simplified" not in node.op
    skips = node.op.startswith("Skip")
    x, wide = _wide(node, desk, x, dtype)
    eps = node.attrs.get("epsilon", 1e-12 if skips else 1e-5)
    found = _standardise(node, desk, x, keep, axes, eps=eps, dtype=wide, center=center)
    y = _narrow(node, desk, desk.add(node, "Mul", found.values, found.inverse), dtype)
    first = 2 if skips else 1
    bias = _input(node, desk, first + 1) if center else ""
    y = _affine(node, desk, y, _input(node, desk, first), bias)
    outputs = {0: y, 1: found.mean, 2: found.inverse} if center else {0: y, 1: found.inverse}
    if total:
        outputs[3] = total
    desk.replace(node, outputs)


def correct_skip_layer_norm(node: Node, desk: Desk) -> None:
    """LayerNormalization of x + skip (+ bias); output 3 is the sum."""
    y = node.output(0)
    last = len(desk.graph.shapes[y]) - 1
    keep = desk.keep(y, [last])
    if keep is None:
        return
    total = desk.add(node, "Add", desk.name(node, 0), desk.name(node, 1))
    bias = _input(node, desk, 3 if "Simplified" in node.op else 4)
    if bias:
        total = desk.add(node, "Add", total, bias)
    _normalise_last(node, desk, total, keep, [last], desk.dtype(node.input(0)), total)


def correct_instance_norm(node: Node, desk: Desk) -> None:
    """Statistics over the axes from 2 on; scale and bias per channel."""
    x = node.input(0)
    rank = len(desk.graph.shapes[x])
    axes = tuple(range(2, rank))
    keep = desk.keep(x, axes)
    if keep is None:
        return
    dtype = desk.dtype(x)
    wide_x, wide = _wide(node, desk, desk.name(node, 0), dtype)
    found = _standardise(node, desk, wide_x, keep, axes, eps=node.attrs.get("epsilon", 1e-5), dtype=wide)
    y = _narrow(node, desk, desk.add(node, "Mul", found.values, found.inverse), dtype)
    view = [-1, *(1,) * (rank - 2)]
    desk.replace(node, {0: _affine(node, desk, y, desk.name(node, 1), desk.name(node, 2), view)})


def correct_group_norm(node: Node, desk: Desk) -> None:
    """(N, G, C/G, the rest): statistics over the last two; scale and bias per channel, or per group in old opsets."""
    x, y = node.input(0), node.output(0)
    shape = desk.graph.shapes[x]
    last = bool(node.domain and node.attrs.get("channels_last", 1))
    channel = len(shape) - 1 if last else 1
    flat = desk.keep(y, [channel])
    if flat is None:
        return
    groups = node.attrs.get("num_groups", node.attrs.get("groups"))
    dtype = desk.dtype(x)
    source = desk.name(node, 0)
    if last:
        source = desk.add(node, "Transpose", source, perm=[0, len(shape) - 1, *range(1, len(shape) - 1)])
    wide_x, wide = _wide(node, desk, source, dtype)
    size = shape[channel] // groups
    grouped = desk.add(node, "Reshape", wide_x, desk.constant(node, [0, groups, size, -1], np.int64))
    keep = flat.reshape(1, groups, size, 1)
    found = _standardise(node, desk, grouped, keep, (2, 3), eps=node.attrs.get("epsilon", 1e-5), dtype=wide)
    z = _narrow(node, desk, desk.add(node, "Mul", found.values, found.inverse), dtype)
    per_channel = desk.graph.shapes[node.input(1)][0] != groups or size == 1
    view = [groups, size, 1] if per_channel else [groups, 1, 1]
    z = _affine(node, desk, z, desk.name(node, 1), desk.name(node, 2), view)
    z = desk.add(node, "Reshape", z, desk.add(node, "Shape", source))
    if last:
        z = desk.add(node, "Transpose", z, perm=[0, *range(2, len(shape)), 1])
    if node.domain and node.attrs.get("activation", 0):
        z = desk.add(node, "Mul", z, desk.add(node, "Sigmoid", z))
    desk.replace(node, {0: z})


def correct_mean_variance(node: Node, desk: Desk) -> None:
    """MeanVarianceNormalization; its 1e-9 is added to the standard deviation."""
    x = node.input(0)
    axes = tuple(a % len(desk.graph.shapes[x]) for a in node.attrs.get("axes", (0, 2, 3)))
    keep = desk.keep(x, axes)
    if keep is None:
        return
    dtype = desk.dtype(x)
    wide_x, wide = _wide(node, desk, desk.name(node, 0), dtype)
    found = _standardise(node, desk, wide_x, keep, axes, eps=1e-18, dtype=wide)
    desk.replace(node, {0: _narrow(node, desk, desk.add(node, "Mul", found.values, found.inverse), dtype)})


def correct_embed_layer_norm(node: Node, desk: Desk) -> None:
    """LayerNormalization of the sum of embeddings; a copy of the operator gives that sum and the mask index."""
    y = node.output(0)
    last = len(desk.graph.shapes[y]) - 1
    keep = desk.keep(y, [last])
    if keep is None:
        return
    index, total = desk.copy(node, 3)[1:]
    dtype = desk.dtype(y)
    wide_x, wide = _wide(node, desk, total, dtype)
    found = _standardise(node, desk, wide_x, keep, [last], eps=node.attrs.get("epsilon", 1e-12), dtype=wide)
    z = _narrow(node, desk, desk.add(node, "Mul", found.values, found.inverse), dtype)
    z = _affine(node, desk, z, _input(node, desk, 5), _input(node, desk, 6))
    desk.replace(node, {0: z, 1: index, 2: total})


def correct_maximum_norm(node: Node, desk: Desk) -> None:
    """y = x / max(x) over the features that survive, or x where that maximum is 0; 0 at removed positions."""
    x = node.input(0)
    last = len(desk.graph.shapes[x]) - 1
    keep = desk.keep(x, [last])
    if keep is None:
        return
    single = np.dtype(np.float32)
    value = desk.add(node, "Cast", desk.name(node, 0), to=int(onnx.TensorProto.FLOAT))
    seen = desk.where(node, keep, value, -np.inf, single)
    largest = desk.largest(node, seen, [last])
    empty = desk.add(node, "Equal", largest, desk.constant(node, 0, single))
    divisor = desk.add(node, "Where", empty, desk.constant(node, 1, single), largest)
    desk.replace(node, {0: desk.where(node, keep, desk.add(node, "Div", value, divisor), 0, single)})


CORRECTIONS: dict[str, Callable[[Node, Desk], None]] = {
    **dict.fromkeys(NEUTRAL, correct_reduction),
    "ReduceMean": correct_mean,
    "LayerNormalization": correct_layer_norm,
    "RMSNormalization": correct_layer_norm,
    "SimplifiedLayerNormalization": correct_layer_norm,
    "SkipLayerNormalization": correct_skip_layer_norm,
    "SkipSimplifiedLayerNormalization": correct_skip_layer_norm,
    "InstanceNormalization": correct_instance_norm,
    "GroupNormalization": correct_group_norm,
    "GroupNorm": correct_group_norm,
    "MeanVarianceNormalization": correct_mean_variance,
    "EmbedLayerNormalization": correct_embed_layer_norm,
    "Normalizer": correct_maximum_norm,
}
