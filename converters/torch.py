"""PyTorch to ONNX: a module with example inputs, or a ``.pt2`` file, by either of torch's exporters.

``dynamo`` traces with torch.export and knows which sizes are symbolic; ``torchscript`` is the older tracer, which
still does some models that the other one cannot do.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.base import TOLERANCE, Array, Converted, batch_sizes, finish, need, sample_like, version_of
from converters.torch_export import EXPORTERS, Job, export
from onnxprune.errors import ConversionError, OptionError

if TYPE_CHECKING:
    import torch

__all__ = ["EXPORTERS", "OPSET", "convert"]

OPSET = 18  # the lowest that the dynamo exporter writes; the torchscript exporter writes 7 to 20


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
    proto, warned = export(torch, job, exporter)
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
) -> tuple[Job, list[str]]:
    """The job, and notes on what could not be as asked."""
    notes: list[str] = []
    program = _program(torch, source)
    if program is not None:
        given, keywords = program.example_inputs if example_inputs is None else _arguments(torch, example_inputs)
        names, movable = tuple(program.graph_signature.user_inputs), _open_batch(program)
        if dynamic_batch and not any(movable):
            notes.append("the program was exported with a fixed batch, which stays: export it with dynamic_shapes")
        traced, module = program, program.module()
    else:
        _check_module(torch, source, example_inputs)
        given, keywords = _arguments(torch, example_inputs)
        traced = module = copy.deepcopy(source).eval()
        names = _names(module, len(given), keywords)
        movable = (True,) * len(names)
    batched = _batched(torch, (*given, *keywords.values()), movable if dynamic_batch else ())
    if program is None:
        given, keywords = _doubled(torch, given, keywords, batched)
    outputs = _output_names(torch, module, given, keywords, names)
    return Job(traced, module, tuple(given), keywords, names, outputs, batched, opset, keep_batchnorm), notes


def _check_module(torch: Any, source: Any, example_inputs: Any) -> None:
    if not isinstance(source, torch.nn.Module):
        raise ConversionError(
            f"{type(source).__name__} is not a torch model",
            "Pass a torch.nn.Module, an ExportedProgram or a .pt2 file.",
        )
    if example_inputs is None:
        raise ConversionError(
            "a torch module does not know the shapes of its inputs",
            "Pass example_inputs: a tensor, a tuple of tensors, or a dict of keyword arguments.",
        )


def _batched(torch: Any, tensors: Sequence[Any], movable: Sequence[bool]) -> tuple[bool, ...]:
    """For each input, whether its first axis is to be dynamic: it is as long as that of the first input."""
    if not all(isinstance(t, torch.Tensor) for t in tensors):
        raise ConversionError(
            f"all inputs must be tensors; got {', '.join(type(t).__name__ for t in tensors)}",
            "Wrap the module so that it takes tensors only.",
        )
    size = len(tensors[0]) if tensors and tensors[0].ndim else 0
    return tuple(
        bool(size and t.ndim and len(t) == size and i < len(movable) and movable[i]) for i, t in enumerate(tensors)
    )


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


def _open_batch(program: Any) -> tuple[bool, ...]:
    """For each input of an exported program, whether the size of its first axis is symbolic."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    shapes = ([*getattr(values[name], "shape", ())] for name in program.graph_signature.user_inputs)
    return tuple(len(shape) > 0 and not isinstance(shape[0], int) for shape in shapes)


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
    """Examples with a dynamic batch of 1 repeated to 2: torch.export takes a size of 1 for a constant."""
    both = [
        torch.cat([t, t]) if moves and len(t) == 1 else t
        for t, moves in zip((*given, *keywords.values()), batched, strict=True)
    ]
    return tuple(both[: len(given)]), dict(zip(keywords, both[len(given) :], strict=True))


def _reference(torch: Any, job: Job) -> Any:
    module = job.module

    def run(sample: Sequence[Array]) -> list[Array]:
        tensors = [torch.from_numpy(np.ascontiguousarray(value)) for value in sample]
        count = len(job.inputs)
        with torch.no_grad():
            result = module(*tensors[:count], **dict(zip(job.keywords, tensors[count:], strict=True)))
        return [t.numpy(force=True) for _, t in _flat(torch, result)]

    return run


def _output_names(
    torch: Any, module: Any, given: Sequence[Any], keywords: Mapping[str, Any], taken: Sequence[str]
) -> tuple[str, ...]:
    """One name per tensor of the result: `output`, `output_0`, or the keys of a dict."""
    try:
        with torch.no_grad():
            result = module(*given, **keywords)
    except Exception as error:
        raise ConversionError(
            f"the model does not run on the example inputs: {type(error).__name__}: {error}",
            "Give tensors of the shapes and types that its forward takes.",
        ) from error
    return tuple(f"{name}_out" if name in taken else name for name, _ in _flat(torch, result))


def _flat(torch: Any, value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors of a nested result, in order, with their names."""
    if isinstance(value, torch.Tensor):
        yield name or "output", value
        return
    parts: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        parts = value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = dict(enumerate(value))
        name = name or "output"
    elif dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for key, item in parts.items():
        yield from _flat(torch, item, f"{name}_{key}" if name else str(key))
