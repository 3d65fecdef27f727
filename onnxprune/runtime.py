"""Running models on onnxruntime: sessions, usable devices, its limits, and measured latency.

Weights above a few bytes are handed to onnxruntime as arrays beside a small skeleton, so that a session needs no
second copy of the model and no temporary file, and works beyond 2 GiB.
"""
from __future__ import annotations
from typing import Any
import onnx


def check_versions(proto: onnx.ModelProto, label: str) -> None:
    pass
