"""scikit-learn to ONNX through skl2onnx: MLPClassifier, MLPRegressor, and pipelines that scale in front of one.

A classifier becomes a network with one output, the class probabilities; the class itself is their ArgMax, and is a
second output on request.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from converters.base import TOLERANCE, Array, Converted, batch_sizes, finish, need, sample_like, version_of
from onnxprune.errors import ConversionError

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["OPSET", "convert"]

OPSET = 18
INPUT = "x"


def convert(  # noqa: PLR0913 - the signature that all converters share, and two options more
    source: BaseEstimator | str | os.PathLike[str],
    *,
    example_inputs: Any = None,
    opset: int | None = None,
    dynamic_batch: bool = True,
    check: bool = True,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    labels: bool = False,
    trust_pickle: bool = False,
) -> Converted:
    """Convert a fitted estimator or pipeline, or a ``.pkl`` / ``.joblib`` file of one.

    ``example_inputs``: rows as the estimator takes them, float32 in ONNX; by default standard normal numbers.
    ``labels``: a classifier also gives the class itself. ``trust_pickle``: reading a pickle runs code that is in it,
    so a file is read only when the caller says so. Raises ConversionError.
    """
    sklearn = need("sklearn", "sklearn")
    skl2onnx = need("skl2onnx", "sklearn")
    estimator = _load(source, trust_pickle) if isinstance(source, str | os.PathLike) else source
    _check_estimator(sklearn, estimator)
    rng = np.random.default_rng(seed)
    if example_inputs is None:
        rows: Array = rng.standard_normal((1, estimator.n_features_in_)).astype(np.float32)
    else:
        rows = _rows(example_inputs, estimator)
    proto = _export(skl2onnx, estimator, rows, None if dynamic_batch else len(rows), opset or OPSET)
    classifier = hasattr(estimator, "predict_proba")
    if classifier and not labels:
        _keep_output(proto.graph, "probabilities")
    elif not classifier:
        _widen(proto.graph, np.asarray(estimator.predict(rows)).shape[1:])
    written = next(entry.version for entry in proto.opset_import if not entry.domain)  # the lowest that is enough
    notes = [f"exported with {version_of('skl2onnx')}, {version_of('scikit-learn')}, opset {written}"]
    if classifier:
        notes.append(f"classes in order: {', '.join(str(c) for c in estimator.classes_)}")
    samples = [[rows], *([sample_like(rows, rng, size)] for size in batch_sizes(len(rows), dynamic=dynamic_batch))]
    reference = _Reference(estimator, classifier=classifier, labels=labels) if check else None
    return finish(proto, reference, samples, notes, tolerance)


def _load(path: str | os.PathLike[str], trust_pickle: bool) -> Any:
    path = Path(path)
    if not trust_pickle:
        raise ConversionError(
            f"{path} is a pickle, and reading one runs whatever code is in it",
            "If you made it, or trust who did, allow it: trust_pickle=True, or --trust-pickle.",
        )
    try:
        return need("joblib", "sklearn").load(path)
    except (OSError, EOFError, ImportError, AttributeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ConversionError(
            f"{path} cannot be read: {type(error).__name__}: {error}", "Save the estimator again with joblib.dump."
        ) from error


def _check_estimator(sklearn: Any, estimator: Any) -> None:
    if not isinstance(estimator, need("sklearn.base", "sklearn").BaseEstimator):
        raise ConversionError(
            f"{type(estimator).__name__} is not a scikit-learn estimator", "Pass a fitted MLP or a pipeline with one."
        )
    if not hasattr(estimator, "n_features_in_"):
        raise ConversionError(f"{type(estimator).__name__} is not fitted ({sklearn.__version__})", "Call fit first.")


def _rows(example: Any, estimator: Any) -> Array:
    rows = np.asarray(example, np.float32)
    if rows.ndim != 2 or rows.shape[1] != estimator.n_features_in_:
        raise ConversionError(
            f"example_inputs have shape {rows.shape}, {type(estimator).__name__} takes rows of "
            f"{estimator.n_features_in_} numbers",
            "Pass an array of shape (rows, features).",
        )
    return rows


def _export(skl2onnx: Any, estimator: Any, rows: Array, batch: int | None, opset: int) -> onnx.ModelProto:
    types = [(INPUT, skl2onnx.common.data_types.FloatTensorType([batch, rows.shape[1]]))]
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto: onnx.ModelProto = skl2onnx.convert_sklearn(
                estimator, initial_types=types, target_opset={"": opset, "ai.onnx.ml": 3}, options=options
            )
    except Exception as error:
        raise ConversionError(
            f"skl2onnx cannot convert {type(estimator).__name__}: {str(error).strip().splitlines()[0]}",
            "Supported are MLPClassifier, MLPRegressor, and pipelines of scalers in front of one.",
        ) from error
    return proto


def _widen(graph: onnx.GraphProto, targets: tuple[int, ...]) -> None:
    """Repair skl2onnx' reshape of an MLPRegressor's output to one column, where it has several targets."""
    node = graph.node[-1]
    if not targets or node.op_type != "Reshape":
        return
    for tensor in graph.initializer:
        if tensor.name == node.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(np.array([-1, *targets], np.int64), tensor.name))
            graph.output[0].type.tensor_type.shape.dim[1].dim_value = targets[0]


def _keep_output(graph: onnx.GraphProto, name: str) -> None:
    """Drop the other outputs, and the nodes and initializers that only they needed."""
    needed, nodes = {name}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    outputs = [value for value in graph.output if value.name == name]
    del graph.node[:], graph.initializer[:], graph.output[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(constants)
    graph.output.extend(outputs)


class _Reference:
    """The estimator's own outputs, in the order of the model's."""

    def __init__(self, estimator: Any, *, classifier: bool, labels: bool) -> None:
        self.estimator, self.classifier, self.labels = estimator, classifier, labels

    def __call__(self, sample: Sequence[Array]) -> list[Array]:
        (rows,) = sample
        if not self.classifier:
            predicted = np.asarray(self.estimator.predict(rows))
            return [predicted.reshape(len(rows), -1)]
        probabilities = np.asarray(self.estimator.predict_proba(rows))
        return [np.asarray(self.estimator.predict(rows)), probabilities] if self.labels else [probabilities]
