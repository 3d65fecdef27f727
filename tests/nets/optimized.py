"""Exports as onnxruntime's own optimizer rewrites them: fused operators of com.microsoft in real surroundings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

__all__ = ["optimized"]


def optimized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model after onnxruntime's extended graph optimisations for the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)
