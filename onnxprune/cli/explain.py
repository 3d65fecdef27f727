"""``onnxprune explain``: what units of a layer see, and which part of an input moves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from onnxprune.cli.console import emit_json, progress, show
from onnxprune.cli.explained import MAPS, document, found_table, plot_found, remarks, save_arrays, title
from onnxprune.cli.measures import SplitOption
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    Attention,
    JsonOption,
    ModelArgument,
    NormGroups,
    Provider,
    ProviderOption,
    ShapeOption,
    ThreadsOption,
    coupling_options,
    examples,
    keep_input,
    writable,
)
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import OptionError
from onnxprune.experiment import analyse
from onnxprune.explain import (
    Attribution,
    FeatureMaps,
    Layer,
    View,
    attribute,
    class_layer,
    default_layer,
    feature_maps,
    find_layer,
    look_at,
    rows_of_class,
    suggest_method,
)
from onnxprune.figures import check_path
from onnxprune.model import load

__all__ = ["register"]

INSTANCES = 4  # of a class, or of the data, where nobody says which
UNITS = 16
EXAMPLES = examples(
    "onnxprune explain model.onnx --data digits.npz --layer conv4 --plot filters.png",
    "onnxprune explain model.onnx --data digits.npz --layer conv1 --method feature-maps --class 3 -o maps.npz",
    "onnxprune explain model.onnx --data photos/ --target predicted --method integrated --plot why.png",
    "onnxprune explain text.onnx --data reviews.npz --target label --instances 0,5,9 --plot tokens.html",
)


class Method(StrEnum):
    """What is looked at."""

    GUIDED = "guided"
    GRADIENT = "gradient"
    GRADIENT_X_INPUT = "gradient-x-input"
    INTEGRATED = "integrated"
    FEATURE_MAPS = "feature-maps"


class At(StrEnum):
    """Where a unit with many positions is differentiated."""

    MAX = "max"
    SUM = "sum"


@dataclass(frozen=True)
class Wanted:
    """What the options ask for: a layer or a class, which units of it, which instances."""

    layer: str | None
    target: str | None
    units: tuple[int, ...] | None
    instances: tuple[int, ...] | None
    cls: int | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="explain", epilog=EXAMPLES)(explain)


def explain(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="PATH",
            help="The instances: .npz, a folder of images or arrays (docs/datasets.md).",
            show_default=False,
        ),
    ],
    split: SplitOption = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="A group, tensor or node. By default the last group with height and width, else the last one.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="CLASS",
            help="Explain the score of a class instead of a layer: its number, `predicted` or `label`.",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(
            "--units", metavar="0-15,20", help=f"Units of the layer, the first {UNITS} by default.", show_default=False
        ),
    ] = None,
    instances: Annotated[
        str | None,
        typer.Option(
            "--instances",
            metavar="0,5,9",
            help=f"Numbers of samples, also as ranges. The first {INSTANCES} by default.",
            show_default=False,
        ),
    ] = None,
    cls: Annotated[
        int | None,
        typer.Option(
            "--class", metavar="N", help=f"The first {INSTANCES} samples with this label.", show_default=False
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help=f"{', '.join(m.value for m in Method)}. By default guided for pictures in front of ReLU, else "
            "gradient-x-input.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        At, typer.Option("--at", metavar="max|sum", help="A unit with many positions: its largest value, or their sum.")
    ] = At.MAX,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Points on the way of `integrated`.")] = 32,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.npz", help="Write the arrays there.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw it there: .png (of pictures a grid, instances down, units across), .html, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    shape: ShapeOption = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Show what units of a layer, or a class, look at: feature maps, guided back-propagation, attributions."""
    check_environment(provider, threads)
    wanted = Wanted(layer, target, _numbers("--units", units), _numbers("--instances", instances), cls)
    _check(wanted, method, steps, out, plot)
    options = coupling_options(False, Attention.HEADS, NormGroups.WHOLE, None, shape)
    dataset = open_dataset(data, split)
    with progress("reading", remaining=True) as report:
        loaded = load(model)
        keep_input(loaded, *(path for path in (out, plot) if path))
        report("looking for groups", 0, 0)
        view = look_at(*analyse(loaded, options, provider=provider, threads=threads))
        rows = _rows(wanted, dataset)
        found: FeatureMaps | Attribution
        chosen = _layer(view, wanted)
        which = _units(wanted, chosen)
        how = method.value if method else suggest_method(view, chosen)
        if how == MAPS:
            numbers = which if not isinstance(which, str) else None
            found = feature_maps(
                view, dataset, chosen, rows=rows, units=numbers, provider=provider, threads=threads, progress=report
            )
        else:
            found = attribute(
                view, dataset, chosen, method=how, rows=rows, units=which, at=at.value, steps=steps,
                provider=provider, threads=threads, progress=report,
            )  # fmt: skip
    if out is not None:
        save_arrays(found, out)
    if plot is not None:
        plot_found(view, dataset, found, plot)
    if json:
        emit_json(document(model, data, found, out, plot))
        return
    show(title(found), style="bold")
    show(found_table(found))
    for line in remarks(found):
        show(line)


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """``0-15,20`` -> (0, ..., 15, 20)."""
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise OptionError(f"{option} {text}: expected numbers and ranges", "Write them as 0,5,9 or 0-15.")
        found += range(int(first), int(last) + 1) if dash else [int(first)]
    return tuple(dict.fromkeys(found))


def _check(wanted: Wanted, method: Method | None, steps: int, out: Path | None, plot: Path | None) -> None:
    for left, right, one, other in (
        (wanted.instances, wanted.cls, "--instances", "--class"),
        (wanted.layer, wanted.target, "--layer", "--target"),
        (wanted.units, wanted.target, "--units", "--target"),
    ):
        if left is not None and right is not None:
            raise OptionError(f"both {one} and {other} are given", "Give one of them.")
    if wanted.target is not None and method is Method.FEATURE_MAPS:
        raise OptionError("--target asks for the score of a class, which has no feature maps", "Give --layer.")
    if steps < 1:
        raise OptionError(f"--steps {steps}: expected at least 1", "Leave it out for 32.")
    if out is not None:
        if out.suffix.lower() != ".npz":
            raise OptionError(f"--out {out}: the arrays are written as .npz", "Name a file that ends in .npz.")
        writable(out)
    if plot is not None:
        if plot.suffix.lower() != ".png":
            check_path(plot)
        writable(plot)


def _layer(view: View, wanted: Wanted) -> Layer:
    if wanted.target is not None:
        return class_layer(view)
    return default_layer(view) if wanted.layer is None else find_layer(view, wanted.layer)


def _units(wanted: Wanted, layer: Layer) -> Sequence[int] | str:
    if wanted.target in ("predicted", "label"):
        return str(wanted.target)
    if wanted.target is not None:
        found = _numbers("--target", wanted.target)
        return found or ()
    return wanted.units if wanted.units is not None else range(min(layer.units, UNITS))


def _rows(wanted: Wanted, dataset: Dataset) -> Sequence[int]:
    if wanted.cls is not None:
        return rows_of_class(dataset, wanted.cls, INSTANCES)
    return wanted.instances if wanted.instances is not None else range(min(len(dataset), INSTANCES))
