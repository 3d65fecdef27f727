"""Inputs to fit on where there are no data.

Whatever ``samples.generate`` gives (standard normal floats, integers in range, masks), but images and signals, that
is inputs of convolutions, get the statistics that natural ones have: a spectrum that falls with the frequency f as
1/f^a, a drawn from 0 (white) to 2 for each sample, and a contrast and a brightness of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cost import one_example
from onnxprune.data import Dataset
from onnxprune.graph import Graph, build_graph
from onnxprune.linear import CONVOLUTIONS
from onnxprune.model import Model
from onnxprune.runtime import model_inputs
from onnxprune.samples import complete_shapes, generate

__all__ = ["made_up"]

Array = NDArray[Any]

SEEN_THROUGH = frozenset(("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Pad"))
STEEPEST = 2.0
CONTRAST, BRIGHTNESS = 0.7, 0.5  # spread of the logarithm of the one, of the other


def made_up(model: Model, count: int, seed: int = 0, *, shapes: Mapping[str, Sequence[int]] | None = None) -> Dataset:
    """``count`` samples of every input (as many as the model takes at once, where that is fixed).

    ``shapes``: of a sample of an input, with any number in the place of the samples.
    """
    insists = {info.name for info in model_inputs(model) if info.shape and isinstance(info.shape[0], int)}
    fixed = {n: (shape[0] if n in insists else count, *shape[1:]) for n, shape in (shapes or {}).items()}
    graph = complete_shapes(build_graph(model, dict.fromkeys(one_example(model), count), fixed=fixed))
    inputs = generate(graph, seed=seed)
    rng = np.random.default_rng(seed)
    for name, values in inputs.items():
        order = _signal(graph, name, tuple(range(values.ndim)))
        if order and values.dtype.kind == "f":
            inputs[name] = np.ascontiguousarray(_coloured(values.transpose(order), rng).transpose(np.argsort(order)))
    return Dataset(inputs, name="generated inputs")


def _signal(graph: Graph, tensor: str, order: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a graph input in the order (samples, channels, spatial ...); () where no convolution reads it."""
    for node, k in graph.consumers.get(tensor, ()):
        found: tuple[int, ...] = ()
        if node.op in CONVOLUTIONS and k == 0:
            return order
        if node.op == "Transpose":
            found = _signal(graph, node.output(0), tuple(order[a] for a in node.attrs.get("perm", order[::-1])))
        elif node.op in SEEN_THROUGH and graph.shapes.get(node.output(0)) == graph.shapes.get(tensor):
            found = _signal(graph, node.output(0), order)
        if found:
            return found
    return ()


def _coloured(white: Array, rng: np.random.Generator) -> Array:
    """Of (samples, channels, spatial ...)."""
    spatial = tuple(range(2, white.ndim))
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, white.shape[2:]), indexing="ij")))
    frequency.flat[0] = 1 / max(white.shape[2:])  # the mean, which brightness sets anew
    each = (len(white),) + (1,) * (white.ndim - 1)
    spectrum = np.fft.fftn(white, axes=spatial) / frequency ** rng.uniform(0, STEEPEST, each)
    values = np.fft.ifftn(spectrum, axes=spatial).real
    values /= np.maximum(values.std(axis=(1, *spatial), keepdims=True), 1e-12)
    values = values * np.exp(rng.normal(0, CONTRAST, each)) + rng.normal(0, BRIGHTNESS, each)
    return values.astype(white.dtype)
