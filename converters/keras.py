"""Keras 3 (on TensorFlow) to ONNX: a model or a ``.keras`` file, through Keras' own export, which uses tf2onnx.

Images stay channels last: the ONNX model's input is (batch, height, width, channels), and tf2onnx puts Transpose
nodes around the convolutions.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from converters.base import TOLERANCE, Array, Converted, batch_sizes, finish, need, sample_like, version_of
from onnxprune.errors import ConversionError

__all__ = ["OPSET", "convert"]

OPSET = 18


def convert(
    source: Any,
    *,
    example_inputs: Any = None,
    opset: int | None = None,
    dynamic_batch: bool = True,
    check: bool = True,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Converted:
    """Convert a built ``keras.Model``, or a ``.keras`` file of one.

    ``example_inputs``: an array, a sequence of them in the order of ``model.inputs``, or a mapping of their names;
    needed only where an axis other than the batch has no size, which is then fixed to the example's. The batch of an
    example is that of a model with a fixed one, otherwise it is 1. Raises ConversionError.
    """
    keras = _framework()
    model = _load(keras, source) if isinstance(source, str | os.PathLike) else source
    if not isinstance(model, keras.Model):
        raise ConversionError(f"{type(model).__name__} is not a Keras model", "Pass a keras.Model or a .keras file.")
    rng = np.random.default_rng(seed)
    examples = _examples(model, example_inputs, rng)
    proto = _export(keras, model, examples, opset or OPSET, dynamic_batch=dynamic_batch)
    _name_outputs(proto, model, dynamic_batch=dynamic_batch)
    sizes = batch_sizes(len(examples[0]), dynamic=dynamic_batch)
    samples = [examples, *([sample_like(value, rng, size) for value in examples] for size in sizes)]
    notes = [f"exported with {version_of('keras')}, {version_of('tf2onnx')}, opset {opset or OPSET}"]
    return finish(proto, _Reference(keras, model) if check else None, samples, notes, tolerance)


def _framework() -> Any:
    """Keras on the TensorFlow backend, without TensorFlow's start-up messages."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    need("tensorflow", "keras")
    need("tf2onnx", "keras")
    keras = need("keras", "keras")
    if keras.backend.backend() != "tensorflow":
        raise ConversionError(
            f"Keras runs on the backend {keras.backend.backend()}, and this converter needs TensorFlow",
            "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported.",
        )
    return keras


def _load(keras: Any, source: str | os.PathLike[str]) -> Any:
    path = Path(source)
    try:
        with _quiet():
            return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ConversionError(
            f"{path} cannot be read by {version_of('keras')}: {_line(error)}",
            "Save it with model.save('net.keras'); a model with custom or Lambda layers is converted from Python.",
        ) from error


def _examples(model: Any, given: Any, rng: np.random.Generator) -> list[Array]:
    """One array per input of the model."""
    if not getattr(model, "inputs", None):
        raise ConversionError("the Keras model has no inputs yet", "Build it: call it once, or begin with keras.Input.")
    if given is not None:
        arrays = _in_order(model, given)
        if len(arrays) != len(model.inputs):
            raise ConversionError(
                f"the model has {len(model.inputs)} inputs, example_inputs {len(arrays)}", "Pass one array per input."
            )
        pairs = zip(arrays, model.inputs, strict=True)
        return [np.asarray(array, np.dtype(tensor.dtype)) for array, tensor in pairs]
    result = []
    for tensor in model.inputs:
        if None in tensor.shape[1:]:
            raise ConversionError(
                f"input `{tensor.name}` has shape {tensor.shape}: an axis other than the batch has no size",
                "Pass example_inputs: their sizes are taken.",
            )
        like = np.zeros((1, *tensor.shape[1:]), np.dtype(tensor.dtype))
        result.append(sample_like(like, rng))
    return result


def _in_order(model: Any, given: Any) -> list[Any]:
    if isinstance(given, Mapping):
        return [given[name] for name in (_plain(tensor) for tensor in model.inputs) if name in given]
    return list(given) if isinstance(given, Sequence) else [given]


def _export(keras: Any, model: Any, examples: Sequence[Array], opset: int, *, dynamic_batch: bool) -> onnx.ModelProto:
    signature = [
        keras.InputSpec(
            shape=(None if dynamic_batch else len(value), *value.shape[1:]), dtype=value.dtype.name, name=_plain(tensor)
        )
        for value, tensor in zip(examples, model.inputs, strict=True)
    ]
    one = len(signature) == 1
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder) / "model.onnx"
            model.export(
                path, format="onnx", verbose=False, opset_version=opset,
                input_signature=signature if one else [signature],
            )  # fmt: skip
            proto = onnx.load(path)
    except Exception as error:
        raise ConversionError(
            f"Keras cannot export this model: {type(error).__name__}: {_line(error)}",
            "tf2onnx knows which TensorFlow operators have an ONNX form; replace the layer that has none.",
        ) from error
    _complement(proto.graph)
    unknown = {node.op_type for node in proto.graph.node if not node.domain and not onnx.defs.has(node.op_type)}
    if unknown:
        raise ConversionError(
            f"{version_of('tf2onnx')} has no ONNX form for TensorFlow's {', '.join(sorted(unknown))}",
            "Replace the layer that uses it.",
        )
    return proto


def _complement(graph: onnx.GraphProto) -> None:
    """erfc(x) = 1 - erf(x): TensorFlow's GELU uses it, tf2onnx leaves it as it is, and ONNX has only Erf."""
    nodes = []
    for node in graph.node:
        if node.op_type == "Erfc":
            erf, one = f"{node.output[0]}/erf", f"{node.output[0]}/one"
            nodes += [
                helper.make_node("Erf", node.input, [erf], f"{node.name}/erf"),
                helper.make_node("Sub", [one, erf], node.output, node.name),
            ]
            graph.initializer.append(helper.make_tensor(one, onnx.TensorProto.FLOAT, [], [1.0]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _name_outputs(proto: onnx.ModelProto, model: Any, *, dynamic_batch: bool) -> None:
    """Give the outputs Keras' names instead of `Identity:0`, and the batch axis its name."""
    graph = proto.graph
    wanted = getattr(model, "output_names", None) or [model.layers[-1].name]  # a Sequential has no such list
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    names = {
        value.name: name
        for value, name in zip(graph.output, wanted, strict=False)
        if len(graph.output) == len(set(wanted)) and name not in taken
    }
    _rename(graph, names)
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
        if dynamic_batch and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors in a graph and the bodies in it."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _plain(tensor: Any) -> str:
    return str(tensor.name).split(":", maxsplit=1)[0].replace("/", "_")


def _line(error: Exception) -> str:
    """The first line of a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what tf2onnx and TensorFlow print and log."""
    threshold = logging.root.manager.disable
    logging.disable(logging.WARNING)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(threshold)


class _Reference:
    """The model's own outputs, in order."""

    def __init__(self, keras: Any, model: Any) -> None:
        self.keras, self.model = keras, model

    def __call__(self, sample: Sequence[Array]) -> list[Array]:
        result = self.model(sample[0] if len(sample) == 1 else list(sample), training=False)
        return [self.keras.ops.convert_to_numpy(value) for value in self.keras.tree.flatten(result)]
