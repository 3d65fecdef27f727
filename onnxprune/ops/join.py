"""Concat, Split, Slice, Pad: constant index maps along one or a few axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnxprune.graph import Graph, Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.join_gradients import vjp_concat, vjp_pad, vjp_slice, vjp_split
from onnxprune.ops.rule import Role, Rule, Zeros, zero_keeps
from onnxprune.ops.ties import Ties


def couple_concat(node: Node, t: Ties) -> None:
    """The joined axis is the inputs' axes end to end."""
    y = node.output(0)
    rank = t.rank(y)
    axis = node.attrs.get("axis", 1) % rank
    joined, offset = t.el(y, axis), 0
    apart = _is_taken_apart(node, t, axis)
    for k, x in enumerate(node.inputs):
        size = t.sizes(x)[axis]
        if not apart:
            t.tie_like(x, y, [(a, a) for a in range(rank) if a != axis], k)
        t.tie_ids(t.el(x, axis), joined[offset : offset + size], k)
        offset += size
    for a in range(rank):
        if apart and a != axis:
            _stack(node, t, a, axis)


def _is_taken_apart(node: Node, t: Ties, axis: int) -> bool:
    """Whether whatever reads the result picks single rows out of it: one of the last states of stacked recurrences."""
    y = node.output(0)
    readers = t.graph.consumers.get(y, ())
    fresh = all(t.axis_ids(y, a) is None for a in range(t.rank(y)) if a != axis)
    return fresh and bool(readers) and all(k == 0 and _picks_a_row(r, t, axis) for r, k in readers)


def _picks_a_row(reader: Node, t: Ties, axis: int) -> bool:
    if reader.op == "Slice" and not reader.domain:
        ranges = slice_ranges(t.graph, reader)
        return ranges is not None and [(a, p.size) for a, p in ranges] == [(axis, 1)]
    if reader.op != "Gather" or reader.attrs.get("axis", 0) % t.rank(reader.inputs[0]) != axis:
        return False
    index = t.graph.value(reader.inputs[1])
    return index is not None and index.ndim < 2 and index.size == 1 and reader.inputs[1] not in t.graph.from_shape


def _stack(node: Node, t: Ties, a: int, axis: int) -> None:
    """Every row along ``axis`` keeps an axis ``a`` of its own; all rows must lose equally many."""
    y, offset = node.output(0), 0
    rows = t.blocks_of(y, a, axis, t.sizes(y)[axis])
    for k, x in enumerate(node.inputs):
        size = t.sizes(x)[axis]
        ragged = t.ragged.get((x, a))
        own = ragged is not None and ragged.along == axis and len(ragged.ids) == size
        ids = ragged.ids if ragged is not None and own else np.tile(t.el(x, a), (size, 1))
        t.tie_ids(ids.reshape(-1), rows[offset : offset + size].reshape(-1), k)
        offset += size
    t.equal_count(list(rows), f"{node} stacks tensors of one size")


def couple_split(node: Node, t: Ties) -> None:
    """The outputs are consecutive stretches of one axis; picking apart the blocks of a ragged axis frees them."""
    x = node.input(0)
    axis = node.attrs.get("axis", 0) % t.rank(x)
    offset = 0
    for y in node.outputs:
        if not y:
            t.freeze(x, axis, f"{node} drops an output")
            continue
        size = t.sizes(y)[axis]
        take_positions(t, x, y, axis, np.arange(offset, offset + size))
        offset += size


def take_positions(t: Ties, x: str, y: str, axis: int, positions: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """y = x at these positions of ``axis``; other axes tie. A single block of a ragged axis becomes an ordinary one."""
    for a in range(t.rank(x)):
        if a == axis:
            t.tie_ids(t.el(x, a)[positions], t.el(y, a), 0)
            continue
        ragged = t.ragged.get((x, a))
        if ragged is not None and ragged.along == axis and positions.size == 1:
            t.tie_ids(ragged.ids[positions[0]], t.el(y, a), 0)
        else:
            t.tie(x, a, y, a, 0)


def cut_split(node: Node, c: Cutter) -> None:
    """Equal or given sizes become the sizes that are left."""
    x = node.inputs[0]
    axis = node.attrs.get("axis", 0) % len(c.old_shape(x))
    if not c.changed(x, axis):
        return
    sizes = [c.size(y, axis) for y in node.outputs]
    if len(node.inputs) > 1 and node.inputs[1]:
        c.want(node, 1, sizes)
    elif node.version < 13:
        c.set_attr(node, "split", sizes)
    elif len(set(sizes)) > 1:
        c.drop_attr(node, "num_outputs")
        c.set_input(node, 1, c.add_constant(f"{node.name}.split", np.array(sizes, np.int64)))


def slice_ranges(graph: Graph, node: Node) -> list[tuple[int, np.ndarray[Any, np.dtype[np.int64]]]] | None:
    """(axis, old positions in order) per sliced axis, or None where the bounds depend on data."""
    shape = graph.shapes[node.inputs[0]]
    if "starts" in node.attrs:
        starts, ends = node.attrs["starts"], node.attrs["ends"]
        axes: Sequence[int] = node.attrs.get("axes", range(len(starts)))
        steps: Sequence[int] = [1] * len(starts)
    else:
        values = [graph.value(i) if i else None for i in node.inputs[1:]]
        if any(v is None for v, i in zip(values, node.inputs[1:], strict=True) if i):
            return None
        starts, ends = values[0].tolist(), values[1].tolist()  # type: ignore[union-attr]
        axes = values[2].tolist() if len(values) > 2 and values[2] is not None else range(len(starts))
        steps = values[3].tolist() if len(values) > 3 and values[3] is not None else [1] * len(starts)
    result = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        stop = None if step < 0 and end < -size else end
        result.append((axis % len(shape), np.arange(size)[slice(start, stop, step)]))
    return result


def couple_slice(node: Node, t: Ties) -> None:
    """Constant bounds are an index map; picking one block of a ragged axis frees it."""
    x, y = node.input(0), node.output(0)
    ranges = slice_ranges(t.graph, node)
    if ranges is None:
        _freeze_sliced(node, t)
        return
    where = dict(ranges)
    single = [a for a, p in where.items() if p.size == 1]
    for a in range(t.rank(x)):
        ragged = t.ragged.get((x, a))
        if a in where:
            t.tie_ids(t.el(x, a)[where[a]], t.el(y, a), 0)
        elif ragged is not None and ragged.along in single:
            t.tie_ids(ragged.ids[where[ragged.along][0]], t.el(y, a), 0)
        else:
            t.tie(x, a, y, a, 0)


def _freeze_sliced(node: Node, t: Ties) -> None:
    x, y = node.input(0), node.output(0)
    axes = t.graph.value(node.input(3)) if node.input(3) else None
    sliced = {int(a) % t.rank(x) for a in axes} if axes is not None else set(range(t.rank(x)))
    for a in range(t.rank(x)):
        if a in sliced:
            t.freeze(x, a, f"the bounds of {node} depend on data")
            t.freeze(y, a, f"the bounds of {node} depend on data")
        else:
            t.tie(x, a, y, a, 0)


def cut_slice(node: Node, c: Cutter) -> None:
    """Bounds become the bounds of the survivors; where they are no longer a regular stretch, a Gather takes over."""
    x, y = node.inputs[0], node.outputs[0]
    ranges = slice_ranges(c.graph, node)
    if ranges is None or not any(c.changed(x, a) for a, _ in ranges):
        return
    bounds = {}
    for axis, old in ranges:
        position = np.full(c.old_shape(x)[axis], -1, np.int64)
        position[c.keep(x, axis)] = np.arange(c.size(x, axis))
        new = position[old]
        new = new[new >= 0]
        bounds[axis] = (new, c.changed(x, axis))
    if all(_stretch(new) is not None for new, changed in bounds.values() if changed):
        _set_bounds(node, c, ranges, {a: _stretch(new) for a, (new, changed) in bounds.items() if changed})
        return
    tensor, nodes = c.local(node, x), []
    for axis, (new, _) in bounds.items():
        output = c.fresh(f"{node.name}.taken")
        indices = c.add_constant(f"{node.name}.positions", new)
        nodes.append(onnx.helper.make_node("Gather", [tensor, indices], [output], axis=axis, name=c.fresh(node.name)))
        tensor = output
    nodes[-1].output[0] = c.local(node, y)
    nodes[-1].name = node.name
    c.replace(node, nodes)


def _stretch(positions: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[int, int, int] | None:
    """(start, end, step) of a regular stretch, with ends that never wrap around."""
    if positions.size == 1:
        return int(positions[0]), int(positions[0]) + 1, 1
    steps = np.unique(np.diff(positions))
    if steps.size != 1:
        return None
    step, last = int(steps[0]), int(positions[-1])
    end = last + (1 if step > 0 else -1)
    return int(positions[0]), end if end >= 0 else -(2**31), step


def _set_bounds(node: Node, c: Cutter, ranges: Sequence[tuple[int, Any]], new: dict[int, Any]) -> None:
    if "starts" in node.attrs:
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        for i, (axis, _) in enumerate(ranges):
            if axis in new:
                starts[i], ends[i] = new[axis][:2]
        c.set_attr(node, "starts", starts)
        c.set_attr(node, "ends", ends)
        return
    starts, ends = (list(map(int, c.value(node.inputs[k]))) for k in (1, 2))  # type: ignore[arg-type]
    steps = c.value(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] else None
    new_steps = [1] * len(starts) if steps is None else [int(s) for s in steps]
    for i, (axis, _) in enumerate(ranges):
        if axis in new:
            starts[i], ends[i], new_steps[i] = new[axis]
    c.want(node, 1, starts)
    c.want(node, 2, ends)
    if steps is not None and new_steps != [int(s) for s in steps]:
        c.want(node, 4, new_steps)


def couple_pad(node: Node, t: Ties) -> None:
    """The middle of a padded axis is the input; what is padded on may go as well (the pads shrink)."""
    x, y = node.input(0), node.output(0)
    pads = pads_of(t.graph, node)
    if pads is None:
        t.freeze_node(node, f"the pads of {node} depend on data")
        return
    for axis, pad in enumerate(pads):
        ids, size = t.el(y, axis), t.sizes(x)[axis]
        if _ties(node, pad):
            t.tie_ids(t.el(x, axis), ids[pad[0] : pad[0] + size], 0)
        else:
            t.freeze(x, axis, f"{node} pads it")
            t.freeze(y, axis, f"{node} pads it")


def _ties(node: Node, pad: tuple[int, int]) -> bool:
    """Whether the axis holds the input as it is, with at most a constant around it."""
    return pad == (0, 0) or (_constant_mode(node) and min(pad) >= 0)


def _constant_mode(node: Node) -> bool:
    return bool(node.attrs.get("mode", "constant") == "constant")


def pads_of(graph: Graph, node: Node) -> list[tuple[int, int]] | None:
    """(before, after) per axis of the input."""
    rank = len(graph.shapes[node.inputs[0]])
    pads = node.attrs.get("pads", node.attrs.get("paddings"))
    if pads is None:
        value = graph.value(node.inputs[1]) if node.input(1) else None
        if value is None:
            return None
        pads = value.tolist()
    axes = graph.value(node.input(3)) if node.input(3) else np.arange(rank)
    if axes is None:
        return None
    result = [(0, 0)] * rank
    for i, axis in enumerate(axes.tolist()):
        result[axis] = (int(pads[i]), int(pads[i + len(axes)]))
    return result


def cut_pad(node: Node, c: Cutter) -> None:
    """Pads shrink by what is removed of the padding."""
    x, y = node.inputs[0], node.outputs[0]
    pads = pads_of(c.graph, node)
    if pads is None or not c.changed(y):
        return
    new = []
    for axis, (before, _) in enumerate(pads):
        front = int((c.keep(y, axis) < before).sum()) if before > 0 else before
        new.append((front, c.size(y, axis) - c.size(x, axis) - front))
    if node.input(1) and not node.input(3):
        c.want(node, 1, [p[0] for p in new] + [p[1] for p in new])
    elif node.input(3):
        axes = c.graph.values[node.inputs[3]].tolist()
        c.want(node, 1, [new[a][0] for a in axes] + [new[a][1] for a in axes])
    else:
        name = "pads" if "pads" in node.attrs else "paddings"
        c.set_attr(node, name, [p[0] for p in new] + [p[1] for p in new])


def zero_pad(node: Node, z: Zeros) -> None:
    """Padding with 0 is 0; anything else is not, and lies in the way of every axis but the padded one."""
    outputs = z.outputs(node)
    fill = node.attrs.get("value", 0.0)
    if node.input(2) and _constant_mode(node):
        value = z.graph.value(node.input(2))
        fill = 1.0 if value is None else float(np.asarray(value, np.float64).reshape(-1)[0]) if value.size else 0.0
    z.set(outputs, fill == 0)
    pads = pads_of(z.graph, node) or []
    padded = {axis for axis, pad in enumerate(pads) if any(pad)}
    tied = [axis for axis, pad in enumerate(pads) if _ties(node, pad)]
    for axis, (_, source, target) in zip(tied, z.records(node), strict=False):
        z.flags[target] = z.flags[source] & (fill == 0 or padded <= {axis})


RULES = (
    Rule("Concat", couple_concat, (Role.PASS,), zero_keeps, vjp=vjp_concat),
    Rule("Split", couple_split, (Role.PASS, Role.SHAPE), zero_keeps, cut_split, vjp=vjp_split),
    Rule("Slice", couple_slice, (Role.PASS, Role.SHAPE), zero_keeps, cut_slice, vjp=vjp_slice),
    Rule("Pad", couple_pad, (Role.PASS, Role.SHAPE, Role.DATA, Role.SHAPE), zero_pad, cut_pad, vjp=vjp_pad),
)
