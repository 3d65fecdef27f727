"""The one place where tests decide whether two models compute the same.

Both run on onnxruntime without its graph optimisations, on the same seeded inputs. The error of an output is
``max|a - b| / max(max|a|, 1e-6)``; NaN and Inf are never equal to anything, so that a broken model cannot pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnxprune.model import Model

__all__ = [
    "Array",
    "Feeds",
    "assert_close",
    "assert_differs",
    "assert_equal",
    "assert_same",
    "errors",
    "feeds_for",
    "run",
]

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Outputs = Mapping[str, Any]

FLOOR = 1e-6  # an output smaller than this counts as this large
SIXTEENTHS = 16  # inputs are multiples of 1/16, so that sums of products are exact in float32


def assert_same(a: Model, b: Model, feeds: Feeds | int = 0, rtol: float = 1e-5) -> None:
    """Every output of ``b`` is that of ``a``, up to ``rtol``; ``feeds`` are inputs, or the seed of generated ones."""
    assert_equal(*_both(a, b, feeds), rtol)


def assert_equal(a: Outputs, b: Outputs, rtol: float = 1e-5) -> None:
    """The same for outputs that are already there."""
    worst = errors(a, b)
    name = max(worst, key=lambda k: worst[k])
    assert worst[name] <= rtol, f"output `{name}` differs by {worst[name]:.3g}, allowed are {rtol:.3g} (all: {worst})"


def assert_close(a: Any, b: Any, rtol: float = 1e-5) -> None:
    """Two arrays, by the same error: ``b`` is ``a``, up to ``rtol`` of the largest value of ``a``."""
    error = _error(np.asarray(a), np.asarray(b))
    assert error <= rtol, f"differs by {error:.3g}, allowed are {rtol:.3g}; shapes {np.shape(a)} and {np.shape(b)}"


def assert_differs(a: Outputs, b: Outputs, rtol: float = 1e-3) -> None:
    """Some output of ``b`` is another one than that of ``a``: the comparison says something."""
    worst = errors(a, b)
    assert max(worst.values()) > rtol, f"both models compute the same (errors: {worst})"


def _both(a: Model, b: Model, feeds: Feeds | int) -> tuple[Outputs, Outputs]:
    if isinstance(feeds, int):
        feeds = feeds_for(a, feeds)
    return run(a, feeds), run(b, feeds)


def errors(a: Outputs, b: Outputs) -> dict[str, float]:
    """Error per output of ``a``; infinite where shapes differ, or where either is not finite."""
    return {name: _error(a[name], b[name]) for name in a}


def _error(a: Any, b: Any) -> float:
    if isinstance(a, list):
        return max((_error(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if a.shape != b.shape:
        return float("inf")
    if a.dtype == object:
        return 0.0 if np.array_equal(a, b) else float("inf")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(a).max(initial=0.0), FLOOR))


def run(model: Model, feeds: Feeds, kernels: Sequence[type[OpRun]] = ()) -> dict[str, Any]:
    """All outputs of the model, by name; with ``kernels`` on onnx's reference evaluator, which calls them."""
    if kernels:
        names = [o.name for o in model.proto.graph.output]
        evaluator = ReferenceEvaluator(model.to_proto(), new_ops=list(kernels))
        return dict(zip(names, evaluator.run(None, dict(feeds)), strict=True))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def feeds_for(model: Model, seed: int = 0, dynamic: int = 3) -> dict[str, Array]:
    """Seeded inputs: floats normal, rounded to sixteenths; integers in 0..3; every dynamic axis of this length."""
    rng = np.random.default_rng(seed)
    constants = {t.name for t in model.proto.graph.initializer}
    return {value.name: _one(value, rng, dynamic) for value in model.proto.graph.input if value.name not in constants}


def _one(value: onnx.ValueInfoProto, rng: np.random.Generator, dynamic: int) -> Array:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.dim_value > 0 else dynamic for d in tensor.shape.dim)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 4, shape).astype(dtype)
    return np.asarray(np.round(rng.standard_normal(shape) * SIXTEENTHS) / SIXTEENTHS, dtype)
