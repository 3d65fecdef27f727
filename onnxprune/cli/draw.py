"""``onnxprune draw`` and ``onnxprune preview``: a model as a picture, and what goes along with a unit."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune._atomic import replacing
from onnxprune.cli.console import Report, count, emit_json, plain, progress, say, show, table
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    InexactOption,
    JsonOption,
    ModelArgument,
    NormGroups,
    NormGroupsOption,
    Provider,
    ProviderOption,
    ShapeOption,
    ThreadsOption,
    coupling_options,
    examples,
    keep_input,
    writable,
)
from onnxprune.cost import example_graph
from onnxprune.criteria import Settings, score
from onnxprune.drawing import (
    METRICS,
    Drawing,
    Marks,
    Overlay,
    Preview,
    Sketch,
    arrange,
    counted,
    of_latency,
    of_scores,
    of_sparsity,
    page,
    preview,
    ramp,
    sketch,
    svg,
)
from onnxprune.errors import ModelSaveError, OptionError
from onnxprune.experiment import analyse
from onnxprune.latency_table import latency_table
from onnxprune.model import Model, load
from onnxprune.plan import Plan, check_coupling
from onnxprune.values import Coupling

__all__ = ["register"]

SUFFIXES = (".svg", ".html", ".json")
NARROWEST, WIDEST = 240, 20_000
POSITIONS = 8  # that a table shows
DRAW = examples(
    "onnxprune draw model.onnx -o net.svg",
    "onnxprune draw model.onnx -o net.svg --plan half.json",
    "onnxprune draw model.onnx -o net.html --metric macs --width 1200",
    "onnxprune draw model.onnx -o net.json --full",
)
PREVIEW = examples(
    "onnxprune preview model.onnx --unit conv2=17",
    "onnxprune preview model.onnx --unit conv2=17,18 --unit conv3=0 --json",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="draw", epilog=DRAW)(draw_model)
    app.command(name="preview", epilog=PREVIEW)(preview_units)


def draw_model(
    model: ModelArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="An .svg, an .html, or a .json with the places.", show_default=False
        ),
    ],
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", metavar="FILE", help="Show what this plan removes, red and hatched.", show_default=False
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help=f"Colour the layers by {', '.join(METRICS[:-1])}, or a criterion such as l2.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        int, typer.Option("--width", metavar="PIXELS", help="Longer networks go on in the next line.")
    ] = 960,
    scale: Annotated[float, typer.Option("--scale", metavar="FACTOR", help="Of boxes and gaps.")] = 1.0,
    full: Annotated[bool, typer.Option("--full", help="Draw blocks that repeat every time, not once with ×N.")] = False,
    dark: Annotated[bool, typer.Option("--dark", help="For a dark page (SVG).")] = False,
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Draw the architecture of a model: layers as boxes, branches, joins, and what a plan removes."""
    _check(out, width, scale)
    options = coupling_options(include_inexact, attention, norm_groups, allow_io, shape)
    with progress("reading") as report:
        loaded, chosen = load(model), Plan.load(plan) if plan is not None else None
        keep_input(loaded, out)
        if chosen is not None and chosen.options != options and chosen.units:
            options = chosen.options
        report("looking for groups", 0, 0)
        inlined, coupling = analyse(loaded, options, provider=provider, threads=threads)
        gone = _gone(chosen, coupling)
        report("drawing", 0, 0)
        found = sketch(inlined, coupling)
        overlay = _overlay(metric, found, inlined, coupling, threads, provider, report)
    drawing = arrange(found, width, scale=scale, collapse=False if full else None)
    marks = Marks(gone=gone, colours=ramp(overlay) if overlay else {}, note=_note(overlay))
    _write(out, _content(out, drawing, marks, overlay, model.name, dark=dark))
    layers = [box for box in found.boxes if box.heavy]
    if json:
        emit_json(
            {"file": str(out), "layers": len(layers), "boxes": len(found.boxes), "rows": drawing.rows, "gone": gone}
        )
        return
    say(f"{out}: {len(layers)} layers in {drawing.rows} {'row' if drawing.rows == 1 else 'rows'}")


def _check(out: Path, width: int, scale: float) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise OptionError(
            f"{out}: cannot draw into {out.suffix or 'such a file'}", f"Use one of {', '.join(SUFFIXES)}."
        )
    if not NARROWEST <= width <= WIDEST:
        raise OptionError(f"--width {width}: expected {NARROWEST} to {WIDEST} pixels", "A screen is about 1200 wide.")
    if not 0.25 <= scale <= 8:
        raise OptionError(f"--scale {scale}: expected 0.25 to 8", "1 is the normal size.")
    writable(out)


def _gone(plan: Plan | None, coupling: Coupling) -> dict[str, float]:
    """Group -> share of its units that the plan removes."""
    if plan is None:
        return {}
    check_coupling(plan, coupling)
    return {name: len(units) / coupling.groups[coupling.by_name[name]].units for name, units in plan.units.items()}


def _overlay(
    metric: str | None,
    found: Sketch,
    model: Model,
    coupling: Coupling,
    threads: int | None,
    provider: str,
    report: Report,
) -> Overlay | None:
    if metric is None:
        return None
    if metric in ("parameters", "macs"):
        return counted(found, metric)
    if metric == "sparsity":
        return of_sparsity(found, model, example_graph(model, dict(coupling.options.shapes)))
    if metric == "latency":
        return of_latency(
            found, coupling, latency_table(model, coupling, threads=threads, provider=provider, progress=report)
        )
    return of_scores(found, score(model, coupling, metric, Settings(threads=threads, provider=provider)), metric)


def _note(overlay: Overlay | None) -> str:
    if overlay is None:
        return ""
    if not overlay.values:
        return f"colour: {overlay.title}; no layer has any"
    words = overlay.written.format
    return f"colour: {overlay.title} ({overlay.basis}), up to {words(max(overlay.values.values()))}"


def _content(out: Path, drawing: Drawing, marks: Marks, overlay: Overlay | None, name: str, *, dark: bool) -> str:
    suffix = out.suffix.lower()
    if suffix == ".svg":
        return svg(drawing, marks, dark=dark)
    if suffix == ".html":
        return page(drawing, marks, title=name)
    return jsonlib.dumps(plain(_document(drawing, marks, overlay)), indent=1, allow_nan=False) + "\n"


def _document(drawing: Drawing, marks: Marks, overlay: Overlay | None) -> dict[str, Any]:
    values = overlay.values if overlay else {}
    return {
        "width": drawing.width,
        "height": drawing.height,
        "boxes": [
            {**asdict(box), "gone": {n: marks.gone[n] for n in box.groups if n in marks.gone}}
            | ({overlay.name: values.get(box.id)} if overlay else {})
            for box in drawing.sketch.boxes
        ],
        "edges": [asdict(edge) for edge in drawing.sketch.edges],
        "repeats": [repeat.copies for repeat in drawing.sketch.repeats],
        "places": [asdict(place) for place in drawing.placed],
        "routes": [asdict(route) for route in drawing.routes],
        "frames": [asdict(bracket) for bracket in drawing.brackets],
    }


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        raise ModelSaveError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from error


def preview_units(
    model: ModelArgument,
    unit: Annotated[
        list[str],
        typer.Option("--unit", metavar="GROUP=N,N", help="Units of a group. May be repeated.", show_default=False),
    ],
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what goes along with a unit: every slice of every weight that its removal takes."""
    wanted = _units(unit)
    options = coupling_options(include_inexact, attention, norm_groups, allow_io, shape)
    with progress("reading") as report:
        loaded = load(model)
        report("looking for groups", 0, 0)
        _, coupling = analyse(loaded, options, provider=provider, threads=threads)
        found = [preview(coupling, group, units) for group, units in wanted.items()]
    if json:
        emit_json({"model": str(model), "previews": [_told(one) for one in found]})
        return
    for one in found:
        rows = [
            (
                row.layer,
                row.op,
                row.role,
                f"{row.tensor}[{row.axis}]",
                _places(row.index.tolist()),
                count(row.parameters),
            )
            for row in one.rows
        ]
        columns = ("layer", "operator", "what it does", "tensor[axis]", "positions", "parameters")
        show(one.words)
        show(table(f"{one.group}: {_places(one.units)}", columns, rows, right=(5,)))
        show(f"{count(one.parameters)} parameters and {count(one.macs)} MACs less (counted); each entry once.")


def _units(texts: Sequence[str]) -> dict[str, list[int]]:
    """``conv2=17,18`` ... -> group -> units."""
    found: dict[str, list[int]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        parts = [part.strip() for part in numbers.split(",")]
        if not (name and equals) or not all(part.isascii() and part.isdigit() for part in parts):
            raise OptionError(f"--unit {text}: expected GROUP=N or GROUP=N,N", "Write it as --unit conv2=17.")
        found.setdefault(name, []).extend(map(int, parts))
    return found


def _places(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:POSITIONS])) + (f" ... ({len(numbers)})" if len(numbers) > POSITIONS else "")


def _told(found: Preview) -> dict[str, Any]:
    return {
        "group": found.group,
        "kind": found.kind,
        "units": found.units,
        "words": found.words,
        "parameters": found.parameters,
        "macs": found.macs,
        "rows": [
            {
                "tensor": row.tensor, "axis": row.axis, "index": row.index, "blocks": row.blocks, "role": row.role,
                "layer": row.layer, "op": row.op, "parameters": row.parameters,
            }
            for row in found.rows
        ],
        "activations": found.carried,
    }  # fmt: skip
