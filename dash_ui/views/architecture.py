"""The architecture of the selected step: layers as boxes, what is to go, what hangs together (C18-C25, X3)."""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids, parts
from dash_ui.desk import Desk
from dash_ui.figures.architecture import architecture, kinds_in, scale_of
from dash_ui.rows.architecture import MISSING, OVERLAYS, overlay_of, places, shares_left, sketch_of
from dash_ui.rows.preview import preview_of
from dash_ui.rows.queue import queue, words_of
from dash_ui.rows.units import options_of
from dash_ui.state import Selection
from dash_ui.theme import Theme, theme_of
from dash_ui.views import View
from onnxprune.drawing import Drawing, Marks, Overlay, Sketch, arrange, ramp, svg
from onnxprune.errors import OnnxPruneError
from onnxprune.guidance import ask
from onnxprune.values import Coupling
from onnxprune.workspace.job import Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace

__all__ = ["VIEW", "fitted", "measured"]

GRAPH, FOCUS, SIZE, PLACES, OPEN = (
    "architecture-graph", "architecture-focus", "architecture-size", "architecture-places", "architecture-open",
)  # fmt: skip
METRIC, LEGEND, GROUPS, NOTE = "architecture-metric", "architecture-legend", "architecture-groups", "architecture-note"
NARROWEST = 240
SIZES = (2.0, 1.6, 1.3, 1.0, 0.84, 0.72)  # of boxes; the first with which all of the drawing can be seen


def layout() -> Component:
    """The drawing, its legend, and a line about the selected group."""
    stores = [
        dcc.Store(id=FOCUS), dcc.Store(id=SIZE), dcc.Store(id=PLACES), dcc.Store(id=OPEN, data=[]),
        dcc.Store(id="architecture-state"), dcc.Download(id="architecture-file"),
    ]  # fmt: skip
    return html.Div(
        [
            *stores,
            _found(),
            html.Div(id="architecture-empty"),
            html.Div(
                html.Div(
                    parts.graph(
                        GRAPH, label="Architecture: a box for each layer, its height by the size of its feature map, "
                        "its number the units, red and hatched what is to be removed",
                        config={"modeBarButtonsToRemove": [*parts.CONFIG["modeBarButtonsToRemove"], "toImage"]},
                    ),
                    id="architecture-sheet", className="architecture-sheet",
                ),
                id="architecture-scroll", className="architecture-scroll", tabIndex=0,
            ),
            html.Div(id=LEGEND, className="architecture-legend"),
            html.Div(id=NOTE, className="architecture-note", role="status"),
        ],
        className="architecture keeps-dblclick",
    )  # fmt: skip


def _found() -> html.Div:
    """Where one is among the layers that the top bar was asked for; hidden while it was asked for none."""
    return html.Div(
        [
            html.Span("", id="architecture-matches", className="architecture-word", role="status"),
            _button("‹", "Previous match", id="architecture-before"),
            _button("›", "Next match (Enter)", id="architecture-after"),
        ],
        id="architecture-found", className="architecture-found", hidden=True,
    )  # fmt: skip


def tools() -> Component:
    """In the head of the panel: what the colours mean, the groups as buttons, the size, the picture as a file."""
    sizes = [
        _button(text, title, **{"data-zoom": how})
        for how, text, title in (
            ("out", "−", "Smaller boxes"),
            ("in", "+", "Larger boxes"),
            ("fit", "fit", "Normal size, all of it"),
        )
    ]
    colour = html.Label(
        [
            html.Span("Colour", className="architecture-word"),
            dcc.Dropdown(
                id=METRIC, clearable=False, searchable=False, value="", className="architecture-choice",
                options=[{"value": name, "label": words} for name, words in OVERLAYS.items()],
            ),
        ],
        className="architecture-set",
    )  # fmt: skip
    return html.Div(
        [
            colour,
            html.Div(id="architecture-row", children=_walk(), className="architecture-row"),
            html.Div(sizes, className="architecture-set end", role="group", **{"aria-label": "Size"}),
        ],
        className="architecture-tools",
    )


def _button(text: str, title: str, **properties: Any) -> html.Button:
    return html.Button(text, className="plain small", title=title, **{"aria-label": title, **properties})


def _walk() -> list[Component]:
    return [
        _button("‹", "Previous layer", id="architecture-previous"),
        html.Div(id=GROUPS, className="architecture-groups", role="group", **{"aria-label": "Layers"}),
        _button("›", "Next layer", id="architecture-next"),
    ]  # fmt: skip


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    _register_browser(app)
    _register_drawing(app, desk)
    _register_words(app, desk)
    _register_measuring(app, desk)


def _register_browser(app: Dash) -> None:
    app.clientside_callback(
        ClientsideFunction("architecture", "focus"),
        Output(FOCUS, "data"),
        Input(ids.SELECTION, "data"),
        State(FOCUS, "data"),
    )
    app.clientside_callback(
        ClientsideFunction("architecture", "follow"),
        Output("architecture-state", "data"),
        Input(PLACES, "data"),
        Input(ids.LIVE, "data"),
        Input(ids.SELECTION, "data"),
        Input(ids.FIND, "data"),
    )


def fitted(found: Sketch, size: dict[str, Any], opened: list[int]) -> Drawing:
    """The drawing with the largest boxes with which all of it can be seen; where none fits, with normal ones."""
    width, height, scale = (
        max(float(size["width"]), NARROWEST),
        float(size.get("height", 0)),
        float(size.get("scale", 1)),
    )
    tried = (arrange(found, width, scale=scale * factor, open_repeats=opened) for factor in SIZES)
    fitting = next((drawing for drawing in tried if drawing.height <= height), None)
    return arrange(found, width, scale=scale, open_repeats=opened) if fitting is None else fitting


def _drawn(
    desk: Desk, workspace: Workspace, focus: dict[str, Any], size: dict[str, Any], opened: list[int], metric: str
) -> tuple[Drawing, Coupling, dict[int, float], Overlay | None, str]:
    step = workspace.steps.get(focus["step"])
    found = sketch_of(desk, workspace, step)
    original = workspace.steps.get(step.root)
    left = {} if original.model_hash == step.model_hash else shares_left(found, sketch_of(desk, workspace, original))
    overlay, why = overlay_of(desk, workspace, step, metric, focus.get("data"))
    key = ("drawing", step.model_hash, *size.values(), *opened)
    drawing = desk.kept.get(key, lambda: fitted(found, size, opened))
    return drawing, desk.analysis(workspace, step)[1], left, overlay, why


def _register_drawing(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(GRAPH, "figure"),
        Output(PLACES, "data"),
        Output("architecture-sheet", "style"),
        Output(LEGEND, "children"),
        Output(GROUPS, "children"),
        Output("architecture-empty", "children"),
        Input(FOCUS, "data"),
        Input(SIZE, "data"),
        Input(OPEN, "data"),
        Input(METRIC, "value"),
        Input(ids.THEME, "data"),
        Input(ids.ENDED, "data"),
        State(PLACES, "data"),
    )
    def show(  # one parameter for each input
        focus: dict[str, Any] | None, size: dict[str, Any] | None, opened: list[int] | None, metric: str | None,
        theme: str | None, ended: str | None, before: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        if not focus or not size or focus.get("step") is None:
            return [no_update] * 6
        stamp = [
            focus,
            size,
            opened,
            metric,
            theme,
            ended if metric in ("latency", "sensitivity") else "",
        ]
        if before is not None and before.get("stamp") == stamp:
            return [no_update] * 6
        look = theme_of(theme)
        try:
            with desk.workspace() as workspace:
                drawing, coupling, left, overlay, why = _drawn(desk, workspace, focus, size, opened or [], metric or "")
        except OnnxPruneError as error:
            return (
                no_update,
                {"stamp": stamp, "places": []},
                {"display": "none"},
                [],
                [],
                parts.problem(error.message, error.hint),
            )
        rows = places(drawing, left, overlay)
        shown = overlay if overlay is not None and overlay.values else None
        figure = architecture(drawing, look, rows, overlay=shown)
        named = {
            "stamp": stamp,
            "places": rows,
            "groups": [g.name for g in coupling.groups],
            "repeats": len(drawing.sketch.repeats),
        }
        named["units"] = {group.name: group.units for group in coupling.groups}
        style = {"height": f"{drawing.height:.0f}px", "width": f"{drawing.width:.0f}px"}
        return (
            figure,
            named,
            style,
            _legend(drawing, look, shown, why, bool(left), metric or ""),
            _buttons(coupling, drawing.sketch),
            None,
        )

    @app.callback(
        Output("architecture-file", "data"),
        Input("architecture-save", "n_clicks"),
        State(FOCUS, "data"),
        State(SIZE, "data"),
        State(OPEN, "data"),
        State(METRIC, "value"),
        State(ids.THEME, "data"),
        State(ids.LIVE, "data"),
        prevent_initial_call=True,
    )
    def save(
        _: int,
        focus: dict[str, Any],
        size: dict[str, Any],
        opened: list[int],
        metric: str,
        theme: str,
        live: dict[str, Any] | None,
    ) -> Any:
        with desk.workspace() as workspace:
            drawing, coupling, left, overlay, _why = _drawn(desk, workspace, focus, size, opened or [], metric or "")
        gone = {
            name: n / coupling.groups[coupling.by_name[name]].units
            for name, n in ((live or {}).get("gone") or {}).items()
            if name in coupling.by_name and n
        }
        colours = ramp(overlay) if overlay is not None and overlay.values else {}
        content = svg(drawing, Marks(gone=gone, left=left, colours=colours), dark=theme == "dark")
        return {"content": content, "filename": f"architecture-{focus['step']}.svg", "type": "image/svg+xml"}


def _legend(
    drawing: Drawing, theme: Theme, overlay: Overlay | None, why: str, pruned: bool, metric: str
) -> list[Component]:
    """The types as buttons that fade the others, or the scale of a metric; then what else is drawn."""
    found: list[Component] = []
    if overlay is not None:
        colours = ", ".join(scale_of(theme))
        found += [
            html.Span(overlay.title),
            html.Span(
                "0" if min(overlay.values.values()) >= 0 else overlay.written.format(min(overlay.values.values()))
            ),
            html.Span(className="architecture-scale", style={"background": f"linear-gradient(90deg, {colours})"}),
            html.Span(overlay.written.format(max(overlay.values.values()))),
            html.Span(f"({overlay.basis})"),
        ]
    else:
        found += [
            html.Button(
                [html.Span(className="architecture-swatch", style={"background": colour}), word],
                className="ghost small", title=f"Fade all but: {word}",
                **{"data-kind": kind, "aria-pressed": "false"},
            )
            for kind, word, colour in kinds_in(drawing, theme)
        ]  # fmt: skip
    if why:
        found.append(html.Span(why, className="architecture-why"))
    if metric in MISSING and overlay is None:
        place = {"architecture-measure": metric}
        found.append(html.Button("Measure", id=place, className="small", title=f"Measure the {OVERLAYS[metric]} now"))
    found.append(html.Span([html.Span(className="architecture-swatch gone"), "to be removed"]))
    if pruned:
        found.append(html.Span([html.Span(className="architecture-swatch went"), "removed from the original"]))
    found.append(html.Span("height: size of the feature map (log)", className="architecture-word"))
    return found


def _buttons(coupling: Coupling, sketched: Sketch) -> list[Component]:
    """A button for each group, in the order of the model."""
    place = {name: boxes[0] for name, boxes in sketched.producers.items()}
    groups = sorted(coupling.groups, key=lambda group: place.get(group.name, len(sketched.boxes)))
    return [
        html.Button(
            group.name, className="plain small", title=f"{group.units:,} {group.kind}",
            **{"data-group": group.name, "aria-pressed": "false"},
        )
        for group in groups
    ]  # fmt: skip


def _register_words(app: Dash, desk: Desk) -> None:
    @app.callback(Output(NOTE, "children"), Input(ids.SELECTION, "data"), Input(PLACES, "data"))
    def tell(selection: dict[str, Any] | None, drawn: dict[str, Any] | None) -> Any:
        now = Selection.of(selection)
        if now.step is None or not drawn or not drawn.get("groups"):
            return (
                ""
                if not drawn or drawn.get("groups") or not drawn["places"]
                else "Nothing can be removed from this model."
            )
        if now.group is None or now.group not in drawn["groups"]:
            return "Click a layer, or choose one with the buttons."
        with desk.workspace() as workspace:
            found = preview_of(desk, workspace, workspace.steps.get(now.step), now.group, [0])
        return [html.B(now.group), f" · {drawn['units'][now.group]:,} {found.kind} · {found.words}"]


def _register_measuring(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Input({"architecture-measure": ALL}, "n_clicks"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def measure(clicks: list[int | None], selection: dict[str, Any] | None) -> Any:
        now, asked = Selection.of(selection), ctx.triggered_id
        if not any(clicks) or asked is None or now.step is None:
            return no_update
        job = measured(desk, now.step, asked["architecture-measure"], now.data)
        if job is None:
            return {"kind": "info", "text": "It is known already.", "hint": ""}
        return {"kind": "info", "text": f"{words_of(job)}: job {job.number} is queued.", "hint": "It is drawn then."}


def measured(desk: Desk, step: int, metric: str, data: str | None) -> Job | None:
    """The job that measures an overlay; None where it is known. Raises OptionError, DataError without data."""
    if metric == "latency":
        return queue(desk, "time-layers", step, {})
    with desk.workspace() as workspace:
        job = ask(workspace, step, "score", criterion=metric, **(options_of(workspace, step, metric, data) or {}))
        if job is not None:
            Jobs(workspace.database).start_worker(workspace.folder)
    return job


VIEW = View(
    "architecture", "Architecture", "model", layout, register, order=0, tools=tools,
    whole=("architecture-save", "the whole drawing"),
)  # fmt: skip
