"""torch modules to ONNX by either of torch's exporters, kept in a folder between runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import logging
import os
import sys
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from tests.nets._spec import NetSpec

__all__ = ["cache_folder", "export_module", "export_spec"]

_SHARED = ("_spec.py", "_export.py", "_blocks.py", "_attention.py")


def cache_folder() -> Path:
    """Where exports are kept: ``$ONNXPRUNE_CACHE``, else ``.cache/nets`` in the repository."""
    default = Path(__file__).resolve().parents[2] / ".cache" / "nets"
    return Path(os.environ.get("ONNXPRUNE_CACHE") or default)


def export_spec(spec: NetSpec, exporter: str, opset: int, *, keep_batchnorm: bool = False) -> onnx.ModelProto:
    """The ONNX model of a net, from the cache when its source has not changed."""
    if exporter in spec.unsupported:
        raise ValueError(f"{spec.name}: {exporter} cannot export it: {spec.unsupported[exporter]}")
    path = cache_folder() / f"{spec.name}-{exporter}-{_key(spec, opset, keep_batchnorm)}.onnx"
    if path.exists():
        return onnx.load(path)
    proto = export_module(spec, exporter, opset, keep_batchnorm=keep_batchnorm)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{spec.name}-{exporter}-{opset}-{int(keep_batchnorm)}-*.onnx"):
        old.unlink(missing_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_bytes(proto.SerializeToString())
    partial.replace(path)
    return proto


def _key(spec: NetSpec, opset: int, keep_batchnorm: bool) -> str:
    digest = hashlib.sha256()
    for path in _sources(spec):
        digest.update(path.read_bytes())
    for package in ("torch", "onnxscript", "onnx"):
        digest.update(importlib.metadata.version(package).encode())
    return f"{opset}-{int(keep_batchnorm)}-{digest.hexdigest()[:12]}"


def _sources(spec: NetSpec) -> list[Path]:
    """The files that a net is made of: those shared by all, its own, and the families that its own imports."""
    own = sys.modules[spec.make.__module__]
    used = {getattr(value, "__module__", "") for value in vars(own).values()}
    names = sorted(m for m in used | {own.__name__} if m.startswith("tests.nets."))
    folder = Path(__file__).parent
    return [*(folder / name for name in _SHARED), *(Path(str(sys.modules[m].__file__)) for m in names)]


def export_module(spec: NetSpec, exporter: str, opset: int, *, keep_batchnorm: bool = False) -> onnx.ModelProto:
    """Export without the cache; the exporters' warnings and log lines are kept quiet."""
    module = spec.build()
    threshold = logging.root.manager.disable
    fast = torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator cannot be exported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                return _dynamo(spec, module, opset, keep_batchnorm=keep_batchnorm)
            return _torchscript(spec, module, opset, keep_batchnorm=keep_batchnorm)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(threshold)


def _torchscript(spec: NetSpec, module: nn.Module, opset: int, *, keep_batchnorm: bool) -> onnx.ModelProto:
    mode = torch.onnx.TrainingMode.PRESERVE if keep_batchnorm else torch.onnx.TrainingMode.EVAL
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        spec.example_inputs(),
        buffer,
        dynamo=False,
        opset_version=opset,
        input_names=list(spec.input_names),
        output_names=list(spec.outputs),
        dynamic_axes=spec.dynamic_axes,
        training=mode,
    )
    return onnx.load_from_string(buffer.getvalue())


def _dynamo(spec: NetSpec, module: nn.Module, opset: int, *, keep_batchnorm: bool) -> onnx.ModelProto:
    dims = {name: torch.export.Dim(name) for axes in spec.dynamic_axes.values() for name in axes.values()}
    shapes = tuple({axis: dims[symbol] for axis, symbol in i.dynamic.items()} for i in spec.inputs)
    program = torch.onnx.export(
        module,
        spec.example_inputs(),
        dynamo=True,
        opset_version=opset,
        input_names=list(spec.input_names),
        output_names=list(spec.outputs),
        dynamic_shapes=shapes,
        optimize=not keep_batchnorm,
        verbose=False,
    )
    proto: onnx.ModelProto = program.model_proto
    return proto
