"""What the result says about itself: its parent, its plan, its repair, and inputs or outputs of another shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime import model_inputs
from onnxprune.train import zeros_text

__all__ = ["METADATA", "fitting", "signature_changes", "signed"]

METADATA = {name: f"onnxprune.{name}" for name in ("parent", "plan", "hash", "signature", "recover", "zeros")}


def fitting(shapes: Mapping[str, tuple[int, ...]], before: Model, after: Model) -> dict[str, tuple[int, ...]]:
    """The given input shapes for the new model: a fixed size that was cut has its new value."""
    new = {info.name: info.shape for info in model_inputs(after)}
    old = {info.name: info.shape for info in model_inputs(before)}
    return {
        name: tuple(
            after_size if isinstance(after_size, int) and after_size != before_size else size
            for size, before_size, after_size in zip(shape, old[name], new[name], strict=True)
        )
        for name, shape in shapes.items()
    }


def signature_changes(before: Model, after: Model) -> tuple[str, ...]:
    """Inputs and outputs of another shape than before, one line for each; old files list weights as inputs too."""
    result = []
    for word in ("input", "output"):
        now = {value.name: value for value in getattr(after.proto.graph, word)}
        for old in getattr(before.proto.graph, word):
            if old.name in before.weights:
                continue
            was, is_now = _dims(old), _dims(now[old.name])
            if was != is_now:
                result.append(f"{word} `{old.name}` was ({', '.join(was)}) and is ({', '.join(is_now)})")
    return tuple(result)


def _dims(value: onnx.ValueInfoProto) -> tuple[str, ...]:
    return tuple(
        dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?")
        for dim in value.type.tensor_type.shape.dim
    )


def signed(
    result: Model, parent: str, plan: Plan, signature: Sequence[str], recover: str = "",
    zeros: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Model:  # fmt: skip
    """The result with its own hash, its parent's and the plan in its metadata, none of which the hash covers.

    ``zeros``: single weights that plans zeroed up to here, in the coordinates of the result (`train.kept_zeros`); None
    for those that it says itself.
    """
    editor = result.edit()
    editor.set_metadata(METADATA["parent"], parent)
    editor.set_metadata(METADATA["plan"], plan.to_json())
    editor.set_metadata(METADATA["hash"], result.hash)
    if zeros is not None and (zeros or METADATA["zeros"] in result.metadata):
        editor.set_metadata(METADATA["zeros"], zeros_text(zeros, result.hash))
    if recover:
        editor.set_metadata(METADATA["recover"], recover)
    if signature:
        editor.set_metadata(METADATA["signature"], "\n".join(signature))
    return editor.build()
