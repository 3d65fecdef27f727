"""``onnxprune convert``: a framework's file to ONNX. ``register`` is the entry point that adds the command."""

from __future__ import annotations

import json as jsonlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from converters import TOLERANCE, Converted, convert, framework_of
from onnxprune.errors import DataError, ModelSaveError, OptionError
from onnxprune.model import save

__all__ = ["register"]

EPILOG = """Examples:

  onnxprune convert net.pt2 -o net.onnx

  onnxprune convert net.pt2 -o net.onnx --exporter torchscript --keep-batchnorm

  onnxprune convert net.keras -o net.onnx

  onnxprune convert mlp.joblib -o mlp.onnx --trust-pickle"""
OWNERS = {"--exporter": "torch", "--keep-batchnorm": "torch", "--labels": "sklearn", "--trust-pickle": "sklearn"}


class Framework(StrEnum):
    """Where a model comes from."""

    AUTO = "auto"
    TORCH = "torch"
    KERAS = "keras"
    SKLEARN = "sklearn"


class Exporter(StrEnum):
    """torch's two exporters."""

    DYNAMO = "dynamo"
    TORCHSCRIPT = "torchscript"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="convert", epilog=EPILOG)(convert_model)


def convert_model(  # noqa: PLR0913, PLR0917 - every option of a command is an argument of its function
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A .pt2, .keras, .joblib or .pkl file.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The ONNX file to write.", show_default=False)
    ],
    framework: Annotated[Framework, typer.Option(help="By default the file's suffix says it.")] = Framework.AUTO,
    exporter: Annotated[Exporter, typer.Option(help="Which of torch's exporters.")] = Exporter.DYNAMO,
    keep_batchnorm: Annotated[
        bool, typer.Option("--keep-batchnorm", help="torch: do not fold BatchNormalization into convolutions.")
    ] = False,
    opset: Annotated[
        int | None, typer.Option(metavar="N", min=7, help="ONNX operator set; by default 18.", show_default=False)
    ] = None,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="Keep the batch size of the example instead of a dynamic one.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="Example inputs: one array per input, in order, or by name.", show_default=False
        ),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="scikit-learn: the class as a second output.")] = False,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="scikit-learn: read a pickle, which runs the code in it.")
    ] = False,
    check: Annotated[bool, typer.Option(help="Compare the result with the framework.")] = True,
    tolerance: Annotated[float, typer.Option(metavar="X", help="Largest relative difference.")] = TOLERANCE,
    seed: Annotated[int, typer.Option(metavar="N", help="For the inputs of the comparison.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """Convert a model of PyTorch, Keras or scikit-learn to ONNX and compare the two on generated inputs."""
    if not out.parent.is_dir():
        raise ModelSaveError(f"{out} cannot be written: there is no folder {out.parent}", "Make the folder first.")
    name = framework_of(source) if framework is Framework.AUTO else framework.value
    options: dict[str, Any] = {
        "example_inputs": None if inputs is None else _examples(inputs), "opset": opset,
        "dynamic_batch": not fixed_batch, "check": check, "tolerance": tolerance, "seed": seed,
    }  # fmt: skip
    options |= _own(
        name,
        torch={"exporter": exporter.value, "keep_batchnorm": keep_batchnorm},
        sklearn={"labels": labels, "trust_pickle": trust_pickle},
        given={
            "--exporter": exporter is not Exporter.DYNAMO, "--keep-batchnorm": keep_batchnorm,
            "--labels": labels, "--trust-pickle": trust_pickle,
        },
    )  # fmt: skip
    converted = convert(source, framework=name, **options)
    save(converted.model, out)
    _report(converted, source, out, json)


def _own(name: str, given: dict[str, bool], **groups: dict[str, Any]) -> dict[str, Any]:
    """The options of one framework; those of another one may not be given."""
    for option, owner in OWNERS.items():
        if given[option] and owner != name:
            raise OptionError(f"{option} is for {owner}, and this is a {name} model", f"Leave {option} out.")
    return groups.get(name, {})


def _examples(path: Path) -> Any:
    """The arrays of a .npz file: one alone, several called arr_0 ... in order, others by the names of the inputs."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}", "Write it with numpy.savez.") from error
    if not arrays or not all(isinstance(value, np.ndarray) for value in arrays.values()):
        raise DataError(f"{path} holds no arrays", "Write it with numpy.savez.")
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if all(name.startswith("arr_") for name in arrays):
        return tuple(arrays.values())
    return arrays


def _report(converted: Converted, source: Path, out: Path, json: bool) -> None:
    model = converted.model
    figures = {
        "source": str(source), "out": str(out), "hash": model.hash, "parity": converted.parity,
        "nodes": len(model.proto.graph.node), "weight_bytes": model.nbytes, "notes": list(converted.notes),
    }  # fmt: skip
    if json:
        typer.echo(jsonlib.dumps(figures, indent=2))
        return
    for note in converted.notes:
        typer.echo(note)
    agreement = "not compared" if converted.parity is None else f"largest relative difference {converted.parity:.1e}"
    typer.echo(f"{out} written: {figures['nodes']} nodes, {model.nbytes / 1e6:.3g} MB of weights, {agreement}")
