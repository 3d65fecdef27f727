"""Framework models to ONNX: ``convert`` picks the framework, each has a module of its own with the same signature.

::

    convert(source, *, example_inputs=None, opset=None, dynamic_batch=True, check=True, tolerance=1e-4, seed=0, ...)
        -> Converted(model, parity, notes)

``converters.torch`` adds ``exporter`` and ``keep_batchnorm``, ``converters.sklearn`` ``labels`` and ``trust_pickle``.
A framework is imported when its converter is called, and not before.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from converters.base import TOLERANCE, Converted
from onnxprune.errors import ConversionError, OptionError

__all__ = ["FRAMEWORKS", "TOLERANCE", "Converted", "convert", "framework_of"]

FRAMEWORKS = ("torch", "keras", "sklearn")
SUFFIXES = {
    ".pt2": "torch", ".pt": "torch", ".pth": "torch",
    ".keras": "keras", ".h5": "keras",
    ".pkl": "sklearn", ".pickle": "sklearn", ".joblib": "sklearn",
}  # fmt: skip


def convert(source: Any, *, framework: str | None = None, **options: Any) -> Converted:
    """Convert a model of any supported framework, or its file.

    ``framework``: "torch", "keras" or "sklearn"; found out from the source by default. ``options`` are those of the
    framework's own ``convert``. Raises ConversionError, OptionError.
    """
    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        what = "is a folder, not a file" if Path(source).is_dir() else "does not exist"
        raise ConversionError(f"{source} {what}", "Name a .pt2, .keras, .joblib or .pkl file.")
    name = framework or framework_of(source)
    if name not in FRAMEWORKS:
        raise OptionError(f"there is no converter for {name!r}", f"There are {', '.join(FRAMEWORKS)}.")
    result: Converted = importlib.import_module(f"converters.{name}").convert(source, **options)
    return result


def framework_of(source: Any) -> str:
    """The framework of a file, by its suffix, or of an object, by its class. Raises ConversionError."""
    if isinstance(source, str | os.PathLike):
        suffix = Path(source).suffix.lower()
        if suffix in SUFFIXES:
            return SUFFIXES[suffix]
        if suffix == ".onnx":
            raise ConversionError(f"{source} is an ONNX file already", "Use it as it is: `onnxprune inspect`.")
        raise ConversionError(
            f"{source}: its suffix does not say which framework made it",
            f"Known are {', '.join(SUFFIXES)}; or name the framework: {', '.join(FRAMEWORKS)}.",
        )
    for base in type(source).__mro__:
        package = base.__module__.split(".")[0]
        if package in FRAMEWORKS:
            return package
    raise ConversionError(
        f"{type(source).__module__}.{type(source).__name__} is not a model of a known framework",
        f"Known are {', '.join(FRAMEWORKS)}.",
    )
