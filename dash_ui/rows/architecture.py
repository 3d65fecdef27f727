"""What the architecture view shows, as plain rows: sketches of steps, what an overlay says, places for the browser."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dash_ui.desk import Desk
from onnxprune.cost import example_graph
from onnxprune.drawing import (
    Box,
    Drawing,
    Overlay,
    Placed,
    Sketch,
    counted,
    of_latency,
    of_scores,
    of_sparsity,
    sketch,
)
from onnxprune.guidance import is_quick, kept_scores, score_now
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["MISSING", "OVERLAYS", "hover_text", "overlay_of", "places", "shares_left", "sketch_of", "units_words"]

OVERLAYS = {
    "": "layer type",
    "parameters": "parameters",
    "macs": "MACs",
    "latency": "latency",
    "sensitivity": "sensitivity",
    "sparsity": "zeros in weights",
}
MISSING = {
    "latency": "No layer was timed on this machine yet.",
    "sensitivity": "The sensitivity of this step was not measured yet.",
}
NAMES = 12  # nodes that a hover lists


def sketch_of(desk: Desk, workspace: Workspace, step: Step) -> Sketch:
    """The layers of a step's model. Raises ModelError, StoreDamaged."""
    model, coupling = desk.analysis(workspace, step)
    found: Sketch = desk.kept.get(("sketch", step.model_hash), lambda: sketch(model, coupling))
    return found


def shares_left(now: Sketch, original: Sketch) -> dict[int, float]:
    """Id of a box -> share of the units of the original's layer that it still has; a box with all is left out.

    Of layers with the same name the first stands for the first, the second for the second, and so on.
    """
    before = {key: box.units or 0 for key, box in _numbered(original)}
    return {
        box.id: box.units / before[key]
        for key, box in _numbered(now)
        if box.units is not None and before.get(key, 0) > box.units
    }


def _numbered(sketched: Sketch) -> list[tuple[tuple[str, str, int], Box]]:
    seen: dict[tuple[str, str], int] = defaultdict(int)
    found = []
    for box in sketched.boxes:
        key = (box.kind, box.name)
        found.append(((*key, seen[key]), box))
        seen[key] += 1
    return found


def overlay_of(desk: Desk, workspace: Workspace, step: Step, name: str, data: str | None) -> tuple[Overlay | None, str]:
    """The overlay with this name, and why it is empty where it is."""
    found = sketch_of(desk, workspace, step)
    model, coupling = desk.analysis(workspace, step)
    overlay: Overlay | None
    if name in ("parameters", "macs"):
        overlay = counted(found, name)
    elif name == "sparsity":
        shapes = dict(coupling.options.shapes)
        overlay = desk.kept.get(
            ("sparsity", step.model_hash), lambda: of_sparsity(found, model, example_graph(model, shapes))
        )
    elif name == "latency":
        overlay = of_latency(found, coupling)
    elif name == "sensitivity":
        scores = kept_scores(workspace, step.number, name, **({"data": data} if data else {}))
        overlay = of_scores(found, scores, name) if scores is not None else None
    elif name and is_quick(name):
        overlay = of_scores(found, score_now(workspace, step.number, name), name)
    else:
        return None, ""
    return overlay, "" if overlay is not None and overlay.values else MISSING.get(
        name, f"No layer has {OVERLAYS.get(name, name)}."
    )


def places(drawing: Drawing, left: Mapping[int, float], overlay: Overlay | None) -> list[dict[str, Any]]:
    """What the browser knows of each rectangle: its corners, its groups, its words."""
    return [_place(drawing, place, left, overlay) for place in drawing.placed]


def _place(drawing: Drawing, place: Placed, left: Mapping[int, float], overlay: Overlay | None) -> dict[str, Any]:
    boxes = [drawing.sketch.boxes[number] for number in place.boxes]
    kept = min(left.get(box.id, 1.0) for box in boxes)
    return {
        "box": [
            round(v, 1) for v in (place.x - place.width / 2, place.y - place.height / 2, place.width, place.height)
        ],
        "kept": round(kept, 4),
        "kind": boxes[0].kind,
        "names": [box.name for box in boxes],
        "groups": [list(box.groups) for box in boxes],
        "also": sorted({name for box in boxes for name in box.also}),
        "carries": sorted({name for box in boxes for name in box.carries}),
        "word": units_words(boxes),
        "repeat": place.repeat,
        "hover": hover_text(boxes, kept, overlay),
    }


def units_words(boxes: Sequence[Box]) -> str:
    """What the units are called, "" where there are none."""
    return boxes[0].unit_word if boxes[0].units is not None else ""


def hover_text(boxes: Sequence[Box], kept: float, overlay: Overlay | None) -> str:
    """Name, type, units, shape, costs: lines in the little language that plotly has for text."""
    box = boxes[0]
    lines = [f"<b>{escape(box.name)}</b>" + (f" and {len(boxes) - 1} equal ones" if len(boxes) > 1 else "")]
    lines.append(escape(box.word))
    if box.units is not None:
        before = f" of {round(box.units / kept)} in the original" if kept < 1 else ""
        lines.append(f"{box.units:,} {escape(box.unit_word)}{before}")
    if box.shape:
        lines.append("output " + " × ".join(f"{size:,}" for size in box.shape))
    if box.parameters or box.macs:
        each = " in all" if len(boxes) > 1 else ""
        lines.append(f"{sum(b.parameters for b in boxes):,} parameters, {sum(b.macs for b in boxes):,} MACs{each}")
    if overlay is not None:
        lines += [
            escape(text) for text in [overlay.text(box.id)] if text and overlay.name not in ("parameters", "macs")
        ]
    ops = [node.partition(" ")[0] for node in box.nodes]
    if len(ops) > 1:
        lines.append(f"{len(ops)} nodes: " + escape(", ".join(ops[:NAMES])) + (" ..." if len(ops) > NAMES else ""))
    if box.groups:
        lines.append(f"group {escape(', '.join(box.groups[:3]))}" + (" ..." if len(box.groups) > 3 else ""))
    elif box.units is not None:
        lines.append("nothing of it can be removed")
    return "<br>".join(lines)
