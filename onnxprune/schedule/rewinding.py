"""Earlier weights of a model: from an ONNX file, from a checkpoint, or from arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnxprune.errors import DataError, OptionError
from onnxprune.graph import build_graph
from onnxprune.model import ArrayWeight, Model, inline_functions, load
from onnxprune.store import Store
from onnxprune.train import weights_at

__all__ = ["earlier", "with_weights"]

Array = NDArray[Any]


def earlier(model: Model, path: Path, epoch: int | None = None) -> Model:
    """The model with the weights of a file: an ONNX model of the same architecture, or a checkpoint's ``epoch``.

    Raises OptionError, DataError and ModelError.
    """
    if path.suffix.lower() == ".onnx":
        if epoch is not None:
            raise OptionError(f"{path} is a model, which has no epochs", "Name a checkpoint, or leave the epoch out.")
        found = inline_functions(load(path))
        wanted = build_graph(inline_functions(model)).weights
        have = build_graph(found).weights
        odd = next((n for n in wanted if n not in have or tuple(have[n].shape) != tuple(wanted[n].shape)), None)
        if odd is not None or len(found.proto.graph.node) != len(inline_functions(model).proto.graph.node):
            raise DataError(
                f"{path}: not the same architecture as {model.label}" + (f" (weight `{odd}`)" if odd else ""),
                "Name an earlier state of the same model.",
            )
        return found
    return with_weights(model, weights_at(path, 0 if epoch is None else epoch))


def with_weights(model: Model, weights: Mapping[str, Array]) -> Model:
    """The model with these weights, named as in its analysis view. Raises DataError for what it does not have."""
    model = inline_functions(model)
    graph = build_graph(model)
    for name, array in weights.items():
        have = tuple(graph.weights[name].shape) if name in graph.weights else None
        if have != array.shape:
            told = "which it does not have" if have is None else f"which is {have} in the model"
            raise DataError(
                f"{model.label}: the earlier weights hold `{name}` {array.shape}, {told}",
                "Use weights of the same model.",
            )
    editor = model.edit()
    Store(graph, editor).put({name: ArrayWeight(array) for name, array in weights.items()})
    return editor.build()
