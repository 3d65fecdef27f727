"""Hessian times gradient: how the gradient flow g'g changes with the weights.

    d(g'g)/dw = 2 H g

with g the gradient of the mean loss over all samples and H its Hessian. The gradient graph is made of operators that
models are made of, so it is differentiated once more: z = <g_batch, g> for the fixed vector g, and dz/dw = H_batch g,
which adds up over batches. That takes two passes over the samples. Where an operator of the gradient graph has no rule,
the product is the central difference (g(w + e g) - g(w - e g)) / 2e.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.autodiff import backward, build, declared_input
from onnxprune.autodiff.prepare import analysed
from onnxprune.criteria.base import Settings
from onnxprune.criteria.gradient_runs import Differentiated, Written, mean_gradients, of_weights, ready, write_weights
from onnxprune.errors import ModelError, UnsupportedModel
from onnxprune.model import Model
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape
from onnxprune.weights import dtype_of

__all__ = ["Flow", "gradient_flow"]

Array = NDArray[Any]
FLOAT = int(TensorProto.FLOAT)
STEP = 3e-5  # |e g| over |w|: longer ones cross more kinks of ReLU, shorter ones drown in rounding


@dataclass(frozen=True, eq=False)
class Flow:
    """``product``: constant -> H g, of its shape; ``ran``: how the gradient was found; ``warnings`` beside its own."""

    product: Mapping[str, Array]
    ran: Differentiated
    warnings: tuple[str, ...] = ()


def gradient_flow(model: Model, settings: Settings, names: Sequence[str]) -> Flow:
    """H g with respect to these weights, at all samples together.

    Raises OptionError without a dataset, UnsupportedModel for a model that cannot be prepared for differentiation.
    """
    ran = of_weights(model, settings, names)
    g = mean_gradients(ran, settings)
    if not g:
        return Flow({}, ran)
    try:
        again, vectors = _differentiated_again(model, settings, ran, g)
    except UnsupportedModel as error:
        words = f"H g is a central difference of gradients, good to about three digits: {str(error).splitlines()[0]}"
        return Flow(_difference(model, settings, ran, g), ran, (words,))
    try:
        product = mean_gradients(again, settings, vectors)
    except ModelError:  # onnxruntime's optimizer makes an invalid graph of some
        product = mean_gradients(again, settings, vectors, optimize=False)
    return Flow({name: product.get(name, np.zeros_like(values)) for name, values in g.items()}, ran)


def _differentiated_again(
    model: Model, settings: Settings, ran: Differentiated, g: Mapping[str, Array]
) -> tuple[Differentiated, dict[str, Array]]:
    """The graph of H g, and g as its inputs."""
    first = write_weights(model, ran.goal, list(g))
    tape = first.tape
    parts: list[Value] = []
    vectors: dict[str, Array] = {}
    different = {gradient.name: (name, gradient) for name, gradient in first.values.items()}  # some share a vector
    for name, gradient in different.values():
        vector = declared_input(tape, f"along_{name}", gradient.dtype, gradient.known)
        vectors[vector.name] = g[name].astype(dtype_of(gradient.dtype))
        parts.append(tape.cast(tape.sum(gradient * vector), FLOAT))
    z = tape.op("Sum", *parts, sizes=())
    second = Tape(*analysed(_named_batches(build(tape, [z]), tape)))
    home = {name: second.graph.origin.get(name, name) for name in g}
    one = second.const(np.ones((), np.float32))
    gradients = backward(second, {z.name: one}, list(dict.fromkeys(home.values())))
    values = {name: gradients[there] for name, there in home.items() if there in gradients}
    return ready(Written(second, values), ran.goal, ran.data, settings), vectors


def _named_batches(model: Model, tape: Tape) -> Model:
    """The model with names for the dynamic sizes of inputs: equal ones are one dimension."""
    sizes = {value.name: value.known for value in tape.inputs}
    sizes |= {name: tape.tensor(name).known for name in tape.graph.inputs}
    editor = model.edit()
    for value in editor.proto.graph.input:
        for size, dim in zip(sizes.get(value.name, ()), value.type.tensor_type.shape.dim, strict=False):
            if size < 0:
                dim.dim_param = f"size{-size}"
    return editor.build()


def _difference(model: Model, settings: Settings, ran: Differentiated, g: Mapping[str, Array]) -> dict[str, Array]:
    """(g(w + e g) - g(w - e g)) / 2e."""
    base = write_weights(model, ran.goal, list(g)).tape.graph
    home = {name: base.origin.get(name, name) for name in g}
    weights = {there: (base.weights[there].array(), g[name]) for name, there in home.items()}
    size, slope = (sum(float(np.vdot(v, v)) for v in values) for values in zip(*weights.values(), strict=True))
    step = STEP * float(np.sqrt(size / slope)) if slope else 1.0
    ends = []
    for sign in (1, -1):
        editor = base.model.edit()
        for name, (w, along) in weights.items():
            editor.set_weight(name, (w + sign * step * along).astype(w.dtype))
        moved = ready(write_weights(editor.build(), ran.goal, list(g)), ran.goal, ran.data, settings)
        ends.append(mean_gradients(moved, settings))
    return {name: (ends[0][name] - ends[1][name]) / (2 * step) for name in g}
