"""The form of a model that is differentiated: a recent opset, every constant with one reader, operators taken apart.

None of this is delivered: weights keep their names, so that what training made of them goes back into the original
model (``onnxprune.train``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import version_converter

from onnxprune._graphs import find_node, refill, weave
from onnxprune.autodiff.parts import split_up
from onnxprune.errors import UnsupportedModel
from onnxprune.graph import PRIMES, Graph, dynamic_dims
from onnxprune.model import Model, from_proto
from onnxprune.nodes import Node
from onnxprune.ops import Rule, rule_for
from onnxprune.ops.emitter import Array, UnknownShape, Value
from onnxprune.ops.tape import Tape
from onnxprune.samples import assign

__all__ = ["OPSET", "Prepared", "Shapes", "analysed", "declare", "prepare"]

OPSET = 18  # from here on reductions take their axes as an input, as everything that is emitted does
# Operators whose outputs have a size that depends on data, and its axis where no attribute gives it
PICKS = {"Compress": 0, "NonZero": 1, "Unique": 0, "NonMaxSuppression": 0}
WHOLE = 2  # the output of Unique that is as long as its input
ROUNDS = 8  # what an operator is taken apart into may itself have to be taken apart
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Prepared:
    """A model to differentiate.

    ``graph`` and ``other``: its analysis (`analysed`). ``updates``: weights that training changes by other means than
    gradients (running statistics), and the tensor that holds the new value after a step.
    """

    model: Model
    graph: Graph
    other: Graph | None
    updates: Mapping[str, str] = field(default_factory=dict)


def prepare(
    model: Model,
    *,
    training: bool = False,
    frozen: Collection[str] = (),
    seed: int = 0,
    shapes: Shapes | None = None,
) -> Prepared:
    """Convert, un-share, take apart. ``shapes``: whole shapes per input; ``seed``: of Dropout in training.

    ``frozen``: operators that do in training what they do in inference.

    Raises UnsupportedModel where the opset cannot be converted.
    """
    model = unshared(converted(model), shapes)
    graph, other = analysed(model, shapes)
    updates: dict[str, str] = {}
    for number in range(ROUNDS):
        tape = Tape(graph, other, training=training, seed=seed)
        chosen: dict[int, Callable[[Node, Tape], Sequence[Value | None]]] = {}
        for node in graph.nodes:
            rule = rule_for(node.domain, node.op)
            changes = training and not number and node.op not in frozen
            how = None if rule is None or len(node.where) > 1 else _other_form(rule, training=changes)
            if how is not None:
                chosen[node.number] = how
        joined = {} if number else split_up(tape)
        if not chosen and not joined:
            break
        changed = _taken_apart(model, graph, tape, chosen, joined)
        if changed is model:
            break
        model = changed
        graph, other = analysed(model, shapes)
        updates |= tape.updates
    return Prepared(model, graph, other, updates)


def _other_form(rule: Rule, *, training: bool) -> Callable[[Node, Tape], Sequence[Value | None]] | None:
    return rule.train if training and rule.train is not None else rule.expand


def _taken_apart(
    model: Model,
    graph: Graph,
    tape: Tape,
    chosen: Mapping[int, Callable[[Node, Tape], Sequence[Value | None]]],
    joined: Mapping[tuple[int | str, ...], Sequence[onnx.NodeProto]],
) -> Model:
    """The model with other nodes in the place of some; the same one where all stay as they are."""
    instead = dict(joined)
    for node in graph.nodes:
        if node.number not in chosen:
            continue
        before = len(tape.nodes)
        try:
            outputs = chosen[node.number](node, tape)
        except UnknownShape:  # it stays as it is; gradients that have to pass it will name it
            del tape.nodes[before:]
            continue
        if len(outputs) == 1 and outputs[0] is not None and outputs[0].name == node.output(0):
            continue  # it stays as it is
        for name, value in zip(node.outputs, outputs, strict=False):
            if name and value is not None:
                tape.nodes.append(onnx.helper.make_node("Identity", [value.name], [name], name=tape.fresh(name)))
        instead[node.where] = tape.nodes[before:]
    if not instead:
        return model
    editor = model.edit()
    weave(editor.proto.graph, {}, instead)
    for name, array in tape.constants.items():
        editor.set_weight(name, array)
    declare(editor.proto, tape.domains)
    return editor.build()


def declare(proto: onnx.ModelProto, domains: Mapping[str, int]) -> None:
    """Import domains of operators, by version, that the model does not import yet."""
    known = {entry.domain for entry in proto.opset_import}
    for domain, version in domains.items():
        if domain not in known:
            proto.opset_import.add(domain=domain, version=version)


def analysed(model: Model, shapes: Shapes | None = None) -> tuple[Graph, Graph | None]:
    """The analysis view, and a second one with other sizes where the model has dynamic dimensions.

    What depends on data (how many elements Compress picks) is a dynamic dimension as well.
    """
    fixed = dict(shapes or {})
    graph = assign(model, fixed=fixed)
    names = dynamic_dims(model)
    picked = _picked(graph)
    if not names and not picked:
        return graph, None
    sizes = dict(zip(names, PRIMES[1], strict=False))
    if not picked:
        return graph, assign(model, sizes, fixed=fixed)
    first = assign(_declaring(model, graph, picked, PRIMES[0]), fixed=fixed)
    second = assign(model, sizes, fixed=fixed)
    return first, assign(_declaring(model, second, picked, PRIMES[1]), sizes, fixed=fixed)


def _picked(graph: Graph) -> dict[str, tuple[tuple[int, ...], int]]:
    """Tensors some of whose sizes depend on data: those axes, and the number of the operator that decides."""
    data = set(graph.inputs)
    for node in graph.nodes:
        if node.op not in ("Shape", "Size") and not data.isdisjoint(node.inputs):
            data.update(node.outputs)
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    for node in graph.nodes:
        if node.domain or len(node.where) > 1:
            continue
        for k, output in enumerate(node.outputs):
            axes = _picked_axes(graph, node, k, data) if graph.shape(output) else ()
            if axes:
                found[output] = axes, node.number
    return found


def _picked_axes(graph: Graph, node: Node, k: int, data: Collection[str]) -> tuple[int, ...]:
    """Axes of output ``k`` whose size depends on data."""
    rank = len(graph.shapes[node.output(k)])
    if node.op in PICKS and k != WHOLE:
        return (int(node.attrs.get("axis", PICKS[node.op])) % rank if not k else 0,)
    if node.op == "Slice" and any(name in data for name in node.inputs[1:3]):
        axes = graph.value(node.input(3)) if node.input(3) else np.arange(graph.shapes[node.inputs[1]][0])
        return () if axes is None else tuple(int(axis) % rank for axis in axes)
    return ()


def _declaring(
    model: Model, graph: Graph, picked: Mapping[str, tuple[tuple[int, ...], int]], primes: Sequence[int]
) -> Model:
    """The model with sizes of that kind declared: primes, from the end of the list, one for each operator."""
    editor = model.edit()
    proto = editor.proto.graph
    refill(proto.value_info, [value for value in proto.value_info if value.name not in picked])
    order = sorted({number for _, number in picked.values()})
    for name, (axes, number) in picked.items():
        shape = list(graph.shapes[name])
        for axis in axes:
            shape[axis] = primes[-1 - order.index(number) % len(primes)]
        proto.value_info.append(onnx.helper.make_tensor_value_info(name, graph.dtypes[name], shape))
    return editor.build()


def converted(model: Model) -> Model:
    """The model at opset 18 at least, with an IR version that goes with it."""
    version = next((o.version for o in model.proto.opset_import if o.domain in ("", "ai.onnx")), OPSET)
    if version >= OPSET:
        return model
    try:
        proto = version_converter.convert_version(model.to_proto(), OPSET)
    except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedModel(
            f"{model.label} cannot be converted from opset {version} to {OPSET}: {str(error).splitlines()[0]}",
            f"Gradients need opset {OPSET}: export the model with that or a later one.",
        ) from error
    proto.ir_version = max(proto.ir_version, 8)
    return from_proto(proto)


def unshared(model: Model, shapes: Shapes | None = None) -> Model:
    """A constant of its own for every layer that reads a vector which was stored once because it is equal.

    Exporters do that to fresh biases and norms, and to running statistics. A vector whose entries differ is shared on
    purpose (nobody trains two layers to the same values), and so is one whose readers share a matrix as well: the
    branches of a siamese network. Matrices stay shared.
    """
    graph = assign(model, fixed=dict(shapes or {}))
    families: dict[str, list[str]] = {}
    for copy, original in graph.origin.items():
        families.setdefault(original, [original]).append(copy)
    editor = model.edit()
    for original, names in families.items():
        if original not in editor.weights or not _alike(graph.weights[original].array()):
            continue
        homes: dict[frozenset[str], str] = {}
        for name in names:
            for node, k in graph.consumers.get(name, ()):
                matrices = frozenset(i for i in node.inputs if i in graph.weights and _matrix(graph, i))
                home = homes.setdefault(matrices or frozenset((name,)), name)
                if home == original or len(node.where) > 1:
                    continue
                editor.set_weight(home, graph.weights[original])
                find_node(editor.proto.graph, node.where).input[k] = home
    return editor.build()


def _alike(values: Array) -> bool:
    """Whether all entries are the same."""
    return values.size > 0 and bool((values == values.reshape(-1)[0]).all())


def _matrix(graph: Graph, name: str) -> bool:
    return sum(size > 1 for size in graph.weights[name].shape) > 1
