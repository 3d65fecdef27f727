"""What all converters share: the result, optional packages, sample inputs, and the parity check.

Parity = max over outputs of max|framework - onnxruntime| / max(max|framework|, 1e-6), on generated inputs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune import runtime
from onnxprune.errors import ConversionError, OnnxPruneError
from onnxprune.model import Model, from_proto

__all__ = ["TOLERANCE", "Array", "Converted", "batch_sizes", "finish", "need", "sample_like", "version_of"]

Array = NDArray[Any]
Reference = Callable[[Sequence[Array]], Sequence[Array]]

TOLERANCE = 1e-4  # float32; a reduced precision inside the framework needs a wider one


@dataclass(frozen=True, eq=False)
class Converted:
    """A converted model and how well it agrees with its source.

    ``parity``: the largest relative difference of any output, None when it was not checked. ``notes``: which
    exporter made it, and what a person should know about the result.
    """

    model: Model
    parity: float | None
    notes: tuple[str, ...] = ()


def need(package: str, extra: str) -> ModuleType:
    """Import a framework. Raises ConversionError that names what to install."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConversionError(
            f"this conversion needs the package `{package}`, which cannot be imported: {error}",
            f"Install it: pip install 'onnxprune[{extra}]'.",
        ) from error


def version_of(package: str) -> str:
    """``package 1.2.3``, for notes."""
    return f"{package} {importlib.metadata.version(package)}"


def batch_sizes(size: int, *, dynamic: bool) -> tuple[int, ...]:
    """The batch sizes that parity is checked with: the example's, and where the axis is dynamic another one."""
    return (size, size + 1) if dynamic else (size,)


def sample_like(example: Array, rng: np.random.Generator, batch: int | None = None) -> Array:
    """Random numbers with the type and shape of an example, the first axis of size ``batch`` if given.

    Floating point: standard normal. Integers: within the range of the example's, so that what is an index stays one.
    """
    shape = example.shape if batch is None else (batch, *example.shape[1:])
    if example.dtype.kind == "b":
        return rng.random(shape) > 0.5
    if example.dtype.kind in "iu":
        low, high = (int(example.min()), int(example.max())) if example.size else (0, 0)
        return rng.integers(low, high, shape, example.dtype, endpoint=True)
    return np.asarray(rng.standard_normal(shape), example.dtype)


def finish(
    proto: onnx.ModelProto,
    reference: Reference | None,
    samples: Sequence[Sequence[Array]],
    notes: Sequence[str],
    tolerance: float = TOLERANCE,
) -> Converted:
    """Make a Model of a converter's result and compare it with the framework on the samples.

    ``reference`` computes the framework's outputs, in the model's order, from one sample (arrays in the order of the
    model's inputs); None: no check. Raises ConversionError.
    """
    try:
        model = from_proto(proto)
        parity = _parity(model, reference, samples, tolerance) if reference else None
    except ConversionError:
        raise
    except OnnxPruneError as error:
        raise ConversionError(f"the converted model does not run: {error.message}", error.hint) from error
    return Converted(model, parity, tuple(notes))


def _parity(model: Model, reference: Reference, samples: Sequence[Sequence[Array]], tolerance: float) -> float:
    session = runtime.session(model, provider="cpu")
    worst, where = 0.0, ""
    for sample in samples:
        feeds = {info.name: np.asarray(value, info.dtype) for info, value in zip(session.inputs, sample, strict=True)}
        try:
            expected = reference(sample)
        except Exception as error:
            raise ConversionError(
                f"the framework cannot run its own model on inputs of shape {_shapes(feeds)}: {error}",
                "Convert with a fixed batch, or without the check.",
            ) from error
        got = session.run(feeds)
        if len(expected) != len(got):
            raise ConversionError(
                f"the framework gives {len(expected)} outputs, the ONNX model {len(got)}: {', '.join(got)}",
                "Wrap the model so that it returns a tuple of tensors.",
            )
        for (name, value), want in zip(got.items(), expected, strict=True):
            found = _difference(name, value, np.asarray(want))
            if found > worst:
                worst, where = found, f"output `{name}` at inputs of shape {_shapes(feeds)}"
    if worst > tolerance:
        raise ConversionError(
            f"the converted model does not agree with its source: {where} differs by {worst:.1e}, "
            f"allowed {tolerance:g}",
            "Does it draw random numbers, or branch on its data? Try another exporter, or allow more (tolerance).",
        )
    return worst


def _difference(name: str, got: Array, want: Array) -> float:
    if got.shape != want.shape:
        raise ConversionError(
            f"output `{name}` has shape {got.shape}, the framework's has {want.shape}",
            "A size was fixed during export: convert with a fixed batch, or by another exporter where there is one.",
        )
    if not np.issubdtype(want.dtype, np.number):
        return 0.0 if np.array_equal(got, want) else math.inf
    got, want = got.astype(np.float64), want.astype(np.float64)
    if not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return math.inf
    finite = np.isfinite(want)
    scale = max(float(np.abs(want[finite]).max(initial=0)), 1e-6)
    return float(np.abs(got[finite] - want[finite]).max(initial=0)) / scale


def _shapes(feeds: Mapping[str, Array]) -> str:
    return ", ".join(str(value.shape) for value in feeds.values())
