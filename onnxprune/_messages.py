"""What onnxruntime says, put as this project's errors."""

from __future__ import annotations

import re

from onnxprune.errors import ModelError, UnsupportedModel

__all__ = ["translated"]

UNSUPPORTED = (
    "Could not find an implementation",
    "is not a registered function/op",
    "No Op registered",
    "No opset import for domain",
    "not currently registered or supported",
)
# What onnxruntime puts around its message: error number, source line, C++ function.
NOISE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*onnxruntime_src/\S+:\d+ .*?\)>?(?: const)? (?=\S)")


def translated(error: Exception, what: str) -> ModelError:
    """The error to raise: UnsupportedModel where the model is sound but onnxruntime has no kernel for it."""
    text = NOISE.sub("", str(error)).strip()
    if any(words in text for words in UNSUPPORTED):
        return UnsupportedModel(
            f"{what}: {text}", "Update onnxruntime, or export the model for another opset or with other operators."
        )
    return ModelError(f"{what}: {text}", "If the model ran elsewhere, compare the versions of onnxruntime.")
