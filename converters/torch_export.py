"""Running torch's two exporters, without their chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from converters.base import need
from onnxprune.errors import ConversionError

if TYPE_CHECKING:
    import torch

__all__ = ["EXPORTERS", "Job", "export"]

EXPORTERS = ("dynamo", "torchscript")
BATCH = "batch"  # the name of the dynamic axis


@dataclass(frozen=True, eq=False)
class Job:
    """One conversion: what torch exports, a module that computes the same, its inputs, and the options."""

    source: torch.nn.Module | torch.export.ExportedProgram
    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    keywords: Mapping[str, torch.Tensor]
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    batched: tuple[bool, ...]
    opset: int
    keep_batchnorm: bool

    @property
    def dynamic(self) -> bool:
        return any(self.batched)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (*self.inputs, *self.keywords.values())


def export(torch: Any, job: Job, exporter: str) -> tuple[onnx.ModelProto, list[str]]:
    """The proto, and the exporter's warnings that the trace may be wrong. Raises ConversionError."""
    try:
        with _quiet(torch) as warned:
            proto = (_dynamo if exporter == "dynamo" else _torchscript)(torch, job)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        other = EXPORTERS[1 - EXPORTERS.index(exporter)]
        fixed = ", or a fixed batch (dynamic_batch=False)" if job.dynamic else ""
        raise ConversionError(
            f"torch's {exporter} exporter cannot convert this model: {type(error).__name__}: {reason[0]}",
            f"Try exporter='{other}'{fixed}.",
        ) from error
    return proto, warned


@contextlib.contextmanager
def _quiet(torch: Any) -> Iterator[list[str]]:
    """Hold back what is printed, logged and warned; yields a list that gets the warnings about the trace."""
    notes: list[str] = []
    threshold, fast = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # torch's fused encoder layer has no ONNX form
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield notes
        notes += sorted(
            {str(w.message).splitlines()[0] for w in caught if issubclass(w.category, torch.jit.TracerWarning)}
        )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(threshold)


def _dynamo(torch: Any, job: Job) -> onnx.ModelProto:
    batch = torch.export.Dim(BATCH)
    axes = [{0: batch} if moves else {} for moves in job.batched]
    shapes = None
    if job.dynamic and job.source is job.module:
        shapes = dict(zip(job.names, axes, strict=True))
    program = torch.onnx.export(
        job.source,
        job.inputs,
        kwargs=dict(job.keywords),
        dynamo=True,
        opset_version=job.opset,
        input_names=list(job.names),
        output_names=list(job.outputs),
        dynamic_shapes=shapes,
        optimize=not job.keep_batchnorm,
        verbose=False,
    )
    if job.keep_batchnorm:
        _tidy(program.model)
    proto: onnx.ModelProto = program.model_proto
    return proto


def _tidy(model: Any) -> None:
    """What the exporter's own optimisation does, less the fusion of BatchNormalization."""
    optimizer = need("onnxscript.optimizer", "torch")
    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)


def _torchscript(torch: Any, job: Job) -> onnx.ModelProto:
    buffer = io.BytesIO()
    mode = torch.onnx.TrainingMode
    torch.onnx.export(
        job.module if job.source is job.module else _in_inference_mode(torch, job.module),
        job.inputs,
        buffer,
        kwargs=dict(job.keywords),
        dynamo=False,
        opset_version=job.opset,
        input_names=list(job.names),
        output_names=list(job.outputs),
        dynamic_axes={name: {0: BATCH} for name, moves in zip(job.names, job.batched, strict=True) if moves},
        training=mode.PRESERVE if job.keep_batchnorm else mode.EVAL,
    )
    return onnx.load_from_string(buffer.getvalue())


def _in_inference_mode(torch: Any, program: torch.nn.Module) -> torch.nn.Module:
    """A program's module, which has one mode only, for an exporter that insists on setting it."""

    class Inference(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.program = program
            self.training = False

        def train(self, mode: bool = True) -> Inference:
            self.training = mode
            return self

        def forward(self, *args: Any, **keywords: Any) -> Any:
            return self.program(*args, **keywords)

    return Inference()
