"""PyTorch to ONNX: a module with example inputs, or a ``.pt2`` file, by either of torch's exporters.

``dynamo`` traces with torch.export and knows which sizes are symbolic; ``torchscript`` is the older tracer, which
still does some models that the other one cannot do.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from converters.base import TOLERANCE, Array, Converted, batch_sizes, finish, need, sample_like, version_of
from onnxprune.errors import ConversionError, OptionError

if TYPE_CHECKING:
    import torch

__all__ = ["EXPORTERS", "OPSET", "convert"]

EXPORTERS = ("dynamo", "torchscript")
OPSET = 18  # the lowest that the dynamo exporter writes; the torchscript exporter writes 7 to 20
BATCH = "batch"


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """One conversion: what torch exports, a module that computes the same, its inputs, and the options."""

    source: torch.nn.Module | torch.export.ExportedProgram
    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    keywords: Mapping[str, torch.Tensor]
    names: tuple[str, ...]
    batched: tuple[bool, ...]
    opset: int
    keep_batchnorm: bool

    @property
    def dynamic(self) -> bool:
        return any(self.batched)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (*self.inputs, *self.keywords.values())


def convert(  # noqa: PLR0913 - the signature that all converters share, and two options more
    source: torch.nn.Module | torch.export.ExportedProgram | str | os.PathLike[str],
    *,
    example_inputs: Any = None,
    opset: int | None = None,
    dynamic_batch: bool = True,
    check: bool = True,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    exporter: str = "dynamo",
    keep_batchnorm: bool = False,
) -> Converted:
    """Convert a module, an ExportedProgram, or the ``.pt2`` file of one.

    ``example_inputs``: a tensor or array, a tuple of them, or a mapping of keyword arguments; a ``.pt2`` file brings
    its own. ``dynamic_batch``: the first axis of every input whose first axis has the size of the first input's is
    dynamic. ``keep_batchnorm``: BatchNormalization is not folded into the layer in front of it. The source is not
    changed: a copy in inference mode is exported. Raises ConversionError, OptionError.
    """
    torch = need("torch", "torch")
    if exporter not in EXPORTERS:
        raise OptionError(f"there is no exporter {exporter!r}", f"torch has {' and '.join(EXPORTERS)}.")
    job, notes = _prepare(torch, source, example_inputs, dynamic_batch, opset or OPSET, keep_batchnorm)
    proto, warned = _export(torch, job, exporter)
    notes += [f"exported with {version_of('torch')}, {exporter}, opset {job.opset}", *warned]
    rng = np.random.default_rng(seed)
    samples = [[t.numpy(force=True) for t in job.tensors]]
    if job.tensors and job.tensors[0].ndim:
        for batch in batch_sizes(len(job.tensors[0]), dynamic=job.dynamic):
            pairs = zip(samples[0], job.batched, strict=True)
            samples.append([sample_like(value, rng, batch if moves else None) for value, moves in pairs])
    return finish(proto, _reference(torch, job) if check else None, samples, notes, tolerance)


def _prepare(
    torch: Any, source: Any, example_inputs: Any, dynamic_batch: bool, opset: int, keep_batchnorm: bool
) -> tuple[_Job, list[str]]:
    """The job, and notes on what could not be as asked."""
    notes: list[str] = []
    program = _program(torch, source)
    if program is not None:
        given, keywords = program.example_inputs
        if example_inputs is not None:
            given, keywords = _arguments(torch, example_inputs)
        names = tuple(program.graph_signature.user_inputs)
        if dynamic_batch and not program.range_constraints:
            notes.append(
                "the program was exported with fixed sizes, so the batch is fixed: export it with dynamic_shapes"
            )
        dynamic_batch = dynamic_batch and bool(program.range_constraints)
        traced, module = program, program.module()
    elif isinstance(source, torch.nn.Module):
        if example_inputs is None:
            raise ConversionError(
                "a torch module does not know the shapes of its inputs",
                "Pass example_inputs: a tensor, a tuple of tensors, or a dict of keyword arguments.",
            )
        given, keywords = _arguments(torch, example_inputs)
        traced = module = copy.deepcopy(source).eval()
        names = _names(module, len(given), keywords)
    else:
        raise ConversionError(
            f"{type(source).__name__} is not a torch model",
            "Pass a torch.nn.Module, an ExportedProgram or a .pt2 file.",
        )
    tensors = (*given, *keywords.values())
    if not all(isinstance(t, torch.Tensor) for t in tensors):
        raise ConversionError(
            f"all inputs must be tensors; got {', '.join(type(t).__name__ for t in tensors)}",
            "Wrap the module so that it takes tensors only.",
        )
    size = len(tensors[0]) if tensors and tensors[0].ndim else 0
    batched = tuple(bool(dynamic_batch and size and t.ndim and len(t) == size) for t in tensors)
    if program is None and size == 1 and dynamic_batch:  # torch.export takes a size of 1 for a constant
        given, keywords = _doubled(torch, given, keywords, batched)
    return _Job(traced, module, tuple(given), keywords, names, batched, opset, keep_batchnorm), notes


def _program(torch: Any, source: Any) -> Any:
    """The ExportedProgram that the source is or holds, or None."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.suffix != ".pt2":
            raise ConversionError(
                f"{path}: only .pt2 files hold a whole model; {path.suffix or 'a file without a suffix'} may hold "
                "just weights, or code that runs when it is read",
                "Save it from Python with torch.export.save(torch.export.export(module, inputs), 'net.pt2').",
            )
        try:
            return torch.export.load(path)
        except Exception as error:
            raise ConversionError(
                f"{path} cannot be read by {version_of('torch')}: {error}",
                "Export it again with this version of torch.",
            ) from error
    return source if isinstance(source, torch.export.ExportedProgram) else None


def _arguments(torch: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, arrays made tensors."""

    def tensor(value: Any) -> Any:
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    if isinstance(example, Mapping):
        return (), {str(name): tensor(value) for name, value in example.items()}
    if isinstance(example, Sequence):
        return tuple(tensor(value) for value in example), {}
    return (tensor(example),), {}


def _names(module: torch.nn.Module, positional: int, keywords: Mapping[str, Any]) -> tuple[str, ...]:
    """Input names from the signature of ``forward``; ``input_0`` ... where it has none."""
    named = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    named += [f"input_{i}" for i in range(len(named), positional)]
    return (*named[:positional], *keywords)


def _doubled(
    torch: Any, given: Sequence[Any], keywords: Mapping[str, Any], batched: Sequence[bool]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Examples of batch 1 repeated to batch 2."""
    both = [torch.cat([t, t]) if moves else t for t, moves in zip((*given, *keywords.values()), batched, strict=True)]
    return tuple(both[: len(given)]), dict(zip(keywords, both[len(given) :], strict=True))


def _export(torch: Any, job: _Job, exporter: str) -> tuple[onnx.ModelProto, list[str]]:
    """The proto and the exporter's warnings about the result."""
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


@contextmanager
def _quiet(torch: Any) -> Iterator[list[str]]:
    """Hold back log lines and warnings; yields a list that gets those that say the trace may be wrong."""
    notes: list[str] = []
    threshold, fast = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # torch's fused encoder layer has no ONNX form
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield notes
        notes += sorted(
            {str(w.message).splitlines()[0] for w in caught if issubclass(w.category, torch.jit.TracerWarning)}
        )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(threshold)


def _dynamo(torch: Any, job: _Job) -> onnx.ModelProto:
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


def _torchscript(torch: Any, job: _Job) -> onnx.ModelProto:
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
        dynamic_axes={name: {0: BATCH} for name, moves in zip(job.names, job.batched, strict=True) if moves},
        training=mode.PRESERVE if job.keep_batchnorm else mode.EVAL,
    )
    return onnx.load_from_string(buffer.getvalue())


def _in_inference_mode(torch: Any, program: torch.nn.Module) -> torch.nn.Module:
    """A program's module, which has one mode only, for an exporter that insists on setting it."""

    class Inference(torch.nn.Module):  # type: ignore[misc, name-defined]
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


def _reference(torch: Any, job: _Job) -> Any:
    module = job.module

    def run(sample: Sequence[Array]) -> list[Array]:
        tensors = [torch.from_numpy(np.ascontiguousarray(value)) for value in sample]
        count = len(job.inputs)
        with torch.no_grad():
            result = module(*tensors[:count], **dict(zip(job.keywords, tensors[count:], strict=True)))
        return [t.numpy(force=True) for t in _flat(torch, result)]

    return run


def _flat(torch: Any, value: Any) -> Iterator[Any]:
    """The tensors of a nested result, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _flat(torch, item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _flat(torch, item)
    elif dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            yield from _flat(torch, getattr(value, part.name))
