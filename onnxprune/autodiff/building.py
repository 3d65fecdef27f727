"""From a model to a tape, and from what was written on it to a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx
from onnx import helper

from onnxprune._graphs import keep_outputs, refill, used_names, weave
from onnxprune.autodiff.prepare import Shapes, declare, prepare
from onnxprune.model import Model
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape

__all__ = ["build", "declared_input", "open_tape"]


def open_tape(
    model: Model,
    *,
    training: bool = False,
    frozen: Collection[str] = (),
    guided: bool = False,
    seed: int = 0,
    shapes: Shapes | None = None,
) -> Tape:
    """A tape of the model, prepared for differentiation; weights keep their names.

    ``training``: BatchNormalization uses the statistics of the batch, Dropout drops, but for the operators in
    ``frozen``. ``guided`` and ``seed``: see ``Tape``. ``shapes``: whole shapes per input, for models whose dynamic
    sizes must be known. Raises UnsupportedModel.
    """
    prepared = prepare(model, training=training, frozen=frozen, seed=seed, shapes=shapes)
    tape = Tape(prepared.graph, prepared.other, training=training, guided=guided, seed=seed)
    tape.updates.update(prepared.updates)
    return tape


def declared_input(tape: Tape, name: str, dtype: int, sizes: Sequence[int]) -> Value:
    """A further input of the graph that is written: labels, a learning rate. A negative size is dynamic.

    The name is ``name`` or begins with it.
    """
    value = Value(tape, tape.fresh(name), tuple(sizes), dtype)
    tape.inputs.append(value)
    return value


def build(tape: Tape, outputs: Iterable[Value], *, parameters: Collection[str] = ()) -> Model:
    """The model that puts out these tensors, under their own names, with nothing that they do not need.

    ``parameters``: weights that become inputs, to be fed by a training loop. Of these and of declared inputs only what
    is needed is there; the model's own inputs stay. The tape may be used further.
    """
    editor = tape.graph.model.edit()
    graph = editor.proto.graph
    for (number, k), name in tape.asked.items():
        node = tape.graph.nodes[number]
        proto = graph.node[int(node.where[0])]
        while len(proto.output) <= k:
            proto.output.append("")
        proto.output[k] = name
    weave(graph, {}, {tape.graph.nodes[number].where: made.nodes for number, made in tape.replaced.items()})
    graph.node.extend(tape.nodes)
    for written in (tape, *tape.replaced.values()):
        for name, array in written.constants.items():
            editor.set_weight(name, array)
    declare(editor.proto, tape.domains)
    for name in parameters:
        weight = editor.weights.pop(name)
        if all(value.name != name for value in graph.input):
            graph.input.append(helper.make_tensor_value_info(name, weight.onnx_type, list(weight.shape)))
    for value in tape.inputs:
        sizes = [size if size >= 0 else None for size in value.known]
        graph.input.append(helper.make_tensor_value_info(value.name, value.dtype, sizes))
    del graph.value_info[:]
    wanted = list(outputs)
    built = editor.build()
    proto = onnx.ModelProto()
    proto.CopyFrom(built.proto)
    keep_outputs(proto.graph, dict.fromkeys(value.name for value in wanted))
    used = set(used_names(proto.graph))
    extra = {value.name for value in tape.inputs} | set(parameters)
    refill(proto.graph.input, [v for v in proto.graph.input if v.name in used or v.name not in extra])
    types = {value.name: value.dtype for value in wanted}
    for value in proto.graph.output:
        if not value.type.HasField("tensor_type"):
            value.CopyFrom(helper.make_tensor_value_info(value.name, types[value.name], None))
    final = built.edit()
    final.proto.CopyFrom(proto)
    return final.build()
