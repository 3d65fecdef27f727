"""What came of some work as a step: its model and documents as blobs, its metrics as numbers.

Documents of a step, where there is something to tell: ``evaluation`` (JSON: metrics, classes, confusion, curves),
``predictions`` (npz: ``labels``, ``predictions``, ``right``, an entry for each sample), ``history`` (JSON of a
training), ``report`` (JSON: how it was made), ``problem`` (JSON: why metrics could not be measured), ``weights`` (of a
model that is too large for one file).
"""

from __future__ import annotations

import io
import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from onnxprune._tensors import constants
from onnxprune.cost import cost
from onnxprune.data import open_dataset
from onnxprune.errors import DataError, ModelError, OnnxPruneError, StoreDamaged
from onnxprune.evaluate import Evaluation, evaluate
from onnxprune.evaluate.tally import packed as packed_counts
from onnxprune.experiment import Pruned
from onnxprune.model import EXTERNAL_FROM, Model, inline_functions
from onnxprune.train import Trained
from onnxprune.weights import packed
from onnxprune.workspace.blobs import Blobs
from onnxprune.workspace.values import Cancelled, NewStep

__all__ = [
    "Measured",
    "Progress",
    "command_of",
    "dumps",
    "ending",
    "finished",
    "libraries",
    "measure",
    "original_step",
    "predictions_of",
    "pruned_report",
    "put_model",
    "trained_report",
    "value_of",
]

Progress = Callable[[str, int, int], None]
LIBRARIES = ("onnxprune", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "scipy")
FULL = 100  # classes; of more of them, a confusion matrix is written as the cells that are not 0
ALIGNMENT = 64  # bytes; where each tensor begins in a blob of weights


@dataclass(frozen=True)
class Measured:
    """Metrics by (name, class or ""), and documents by name."""

    metrics: Mapping[tuple[str, str], float] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)


def libraries() -> dict[str, str]:
    """Versions of what the result depends on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # onnxruntime is there under one of several names
            continue
    return found


def put_model(blobs: Blobs, model: Model) -> tuple[str, dict[str, str]]:
    """Write a model; returns its blob, and the document that holds its weights where they do not fit into it."""
    filled = model.filled()
    if filled.size <= EXTERNAL_FROM:
        return blobs.put(filled.chunks), {}
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    spans: list[tuple[onnx.TensorProto, int, int]] = []
    weights = blobs.put(_pieces(model, proto, spans))
    for tensor, offset, length in spans:
        del tensor.external_data[:]
        for key, value in (("location", weights), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    return blobs.put(proto.SerializeToString()), {"weights": weights}


def _pieces(
    model: Model, proto: onnx.ModelProto, spans: list[tuple[onnx.TensorProto, int, int]]
) -> Iterator[bytes | memoryview]:
    """The weights one after the other; ``spans`` is told where each of them lies."""
    position = 0
    for name, home in constants(proto.graph).items():
        if home.tensor is not None and home.tensor.data_location == TensorProto.EXTERNAL:
            gap, weight = -position % ALIGNMENT, model.weights[name]
            yield b"\0" * gap
            spans.append((home.tensor, position + gap, weight.nbytes))
            yield packed(weight)
            position += gap + weight.nbytes


def measure(
    blobs: Blobs,
    model: Model,
    source: Path | None,
    *,
    original: Model | None = None,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Cost of a model, and where there are data its metrics; without labels they compare it with ``original``.

    Where it cannot be measured on them (labels that fit no output, outputs that are NaN), a document says why: that is
    no reason to lose the model. Raises DataError for data that cannot be read.
    """
    metrics = _costs(model)
    if source is None:
        return Measured(metrics)
    dataset = open_dataset(source)
    if dataset.labels is None and original is None:
        return Measured(metrics)
    try:
        found = evaluate(
            model, dataset, original=original if dataset.labels is None else None,
            provider=provider, threads=threads, progress=progress,
        )  # fmt: skip
    except (DataError, ModelError) as error:
        return Measured(metrics, {"problem": blobs.put(dumps({"message": error.message, "hint": error.hint}))})
    return Measured({**metrics, **_metrics(found)}, _documents(blobs, found))


def _costs(model: Model) -> dict[tuple[str, str], float]:
    sizes = {"file_bytes": float(model.filled().size)}
    try:
        found = cost(inline_functions(model))
    except OnnxPruneError:  # shapes that nobody can tell: the model is usable nevertheless
        return {(name, ""): value for name, value in sizes.items()}
    sizes |= {name: float(getattr(found, name)) for name in ("parameters", "macs", "activation_bytes")}
    if found.nonzero is not None:
        sizes["nonzero"] = float(found.nonzero)
    return {(name, ""): value for name, value in sizes.items()}


def _metrics(found: Evaluation) -> dict[tuple[str, str], float]:
    values = {(metric.name, ""): metric.value for metric in found}
    for report in found.per_class:
        values |= {(metric.name, report.name): metric.value for metric in report.metrics()}
    return values


def _documents(blobs: Blobs, found: Evaluation) -> dict[str, str]:
    told = found.as_dict()
    if found.confusion is not None and found.confusion.shape[0] > FULL:
        told["confusion"] = dict(zip(("shape", "places", "counts"), packed_counts(found.confusion), strict=True))
    documents = {"evaluation": blobs.put(dumps(told))}
    arrays = {name: getattr(found, name) for name in ("labels", "predictions", "right")}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        documents["predictions"] = blobs.put(buffer.getvalue())
    return documents


def predictions_of(blobs: Blobs, name: str) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The arrays of a document ``predictions``. Raises StoreDamaged."""
    try:
        with np.load(io.BytesIO(blobs.read(name)), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError) as error:
        raise StoreDamaged(f"{blobs.path(name)} holds no predictions: {error}", "Measure the step again.") from error


def original_step(blobs: Blobs, model: Model, path: str) -> NewStep:
    """A model of the folder as the root of a tree. What it costs is measured; how good it is takes data, and time."""
    blob, documents = put_model(blobs, model)
    return NewStep(
        "original", blob, model.hash, command=("onnxprune", "ws", "open"), versions=libraries(),
        metrics=_costs(model), documents=documents, name=PurePosixPath(path).stem,
    )  # fmt: skip


def ending(progress: Progress, cancelled: Callable[[], bool]) -> Progress:
    """Progress that ends the work, with Cancelled, when it is to end."""

    def report(stage: str, done: int = 0, total: int = 0) -> None:
        if cancelled():
            raise Cancelled("it was cancelled")
        progress(stage, done, total)

    return report


def finished(  # noqa: PLR0913 - all that a step has
    blobs: Blobs,
    kind: str,
    parent: int | None,
    model: Model,
    *,
    command: Sequence[str],
    report: Mapping[str, Any],
    measured: Measured,
    plan: str | None = None,
    history: str | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    promise: str = "identical",
    seconds: float = 0.0,
    name: str = "",
) -> NewStep:
    """A step of a model, its plan and history (both as text) and what was measured; blobs are written."""
    blob, documents = put_model(blobs, model)
    documents |= measured.documents
    if history is not None:
        documents["history"] = blobs.put(history.encode("utf-8", "backslashreplace"))
    documents["report"] = blobs.put(dumps(report))
    written = None if plan is None else blobs.put(plan.encode("utf-8", "backslashreplace"))
    return NewStep(
        kind, blob, model.hash, parent, written, dataset, seed, tuple(command), promise, seconds, libraries(),
        measured.metrics, documents, name,
    )  # fmt: skip


def pruned_report(pruned: Pruned) -> dict[str, Any]:
    """How a pruning was made, for the document ``report``."""
    return {
        **pruned.reached.as_dict(),
        "groups": [{"name": n, "removed": gone, "units": total} for n, (gone, total) in pruned.reached.groups.items()],
        "proof": None if pruned.proof is None else pruned.proof.to_dict(),
        "zeroed": None if pruned.zeroed is None else pruned.zeroed.to_dict(),
        "recover": None if pruned.recovered is None else pruned.recovered.as_dict(),
        "floors_hold": None if pruned.floors is None else bool(pruned.floors),
        "masked": pruned.masked,
        "signature": pruned.signature,
        "warnings": pruned.warnings,
        "timings": pruned.timings,
        "data": pruned.data,
    }


def trained_report(trained: Trained) -> dict[str, Any]:
    """How a training went, for the document ``report``; its rows are in ``history``."""
    return {
        "trained_for": trained.words,
        "stopped": trained.stopped,
        "best_epoch": trained.best_epoch,
        "epochs": len(trained.history.trained),
        "steps": trained.history.epochs[-1].step if trained.history.epochs else 0,
        "seconds": trained.seconds,
        "notes": trained.notes,
    }


def command_of(verb: str, step: int, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The command line that does the same again: ``onnxprune ws VERB STEP --set name=value ...``."""
    words = ["onnxprune", "ws", verb, str(step)]
    for name, value in options.items():
        if value is not None:
            words += ["--set", f"{name}={_word(value)}"]
    return tuple(words)


def _word(value: Any) -> str:
    """A value as the command line reads it: JSON, or text that is not JSON as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return dumps(value).decode()


def value_of(text: str) -> Any:
    """The opposite: a value as a command line has it."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def dumps(value: Any) -> bytes:
    """JSON, in which what is not a finite number is null, and a float32 has the digits that tell it from others."""
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain((value.astype(str).astype(float) if value.dtype == np.float32 else value).tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
