"""The nine graphs in onnx's own test data (IR 3, opset 9), with real weights instead of constants.

They come with every weight made by a ConstantOfShape node; here each becomes an initializer of seeded random numbers
with a variance that keeps activations of order one, so that proofs on them are not vacuous.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

__all__ = ["LIGHT", "light"]

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT = tuple(sorted(p.stem.removeprefix("light_") for p in FOLDER.glob("light_*.onnx")))


def light(name: str, seed: int = 0) -> onnx.ModelProto:
    """One of `LIGHT` with random weights; IR version, opset and structure as they are."""
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    graph = model.graph
    rng = np.random.default_rng(seed)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    role = {i: (n.op_type, k) for n in graph.node for k, i in enumerate(n.input)}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        tensor = node.output[0]
        array = _values(rng, tuple(int(d) for d in shapes[node.input[0]]), role.get(tensor, ("", 0)))
        graph.initializer.append(numpy_helper.from_array(array, tensor))
        graph.input.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, array.shape))
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del graph.node[:]
    graph.node.extend(copies)
    read = {i for n in graph.node for i in n.input}
    for field in (graph.initializer, graph.input):
        live = [type(x).FromString(x.SerializeToString()) for x in field if x.name in read]
        del field[:]
        field.extend(live)
    _calm(model, rng)
    return model


def _calm(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Scale the classifier in front of a final Softmax to logits of order one: a saturated one would hide everything.

    Without calibrated BatchNorm statistics, activations grow with every residual block.
    """
    last = model.graph.node[-1]
    head = next((n for n in model.graph.node if last.op_type == "Softmax" and n.output[0] == last.input[0]), None)
    if head is None or head.op_type != "Gemm":
        return
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    probe.graph.output.append(onnx.helper.make_empty_tensor_value_info(head.output[0]))
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    logits = session.run([head.output[0]], {image.name: rng.standard_normal(image.shape).astype(np.float32)})[0]
    factor = np.float32(2.0 ** -np.round(np.log2(logits.std())))  # a power of two: the same weights on every machine
    for tensor in model.graph.initializer:
        if tensor.name in head.input[1:]:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factor, tensor.name))


def _values(rng: np.random.Generator, shape: tuple[int, ...], role: tuple[str, int]) -> np.ndarray:
    if len(shape) >= 2:
        fan = int(np.prod(shape[1:])) if role[0] == "Conv" else max(shape)
        return (rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)
    if role == ("BatchNormalization", 4) or role[0] in ("Mul", "Unsqueeze"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if role == ("BatchNormalization", 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)
