"""Mask: a weight of the model as dense pixels, where single weights, kernels and units are taken out and put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids, parts
from dash_ui.desk import Desk
from dash_ui.figures.mask import histogram, mask_figure, view_key
from dash_ui.parts import csv_button, graph
from dash_ui.rows.brushing import edit_for
from dash_ui.rows.cell import cell_words, zero_since
from dash_ui.rows.mask import (
    SINGLE,
    ZERO,
    Change,
    Counts,
    Mask,
    changes,
    choices,
    counts,
    first_weight,
    group_of,
    magnitudes,
    mask_of,
    matrices_of,
)
from dash_ui.rows.preview import preview_of
from dash_ui.state import Selection
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.workspace.edits import edit_words
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["VIEW"]

NAME = "mask"
GRAPH, WEIGHT, WINDOW, SEEN = f"{NAME}-graph", f"{NAME}-weight", f"{NAME}-window", f"{NAME}-seen"
BRUSH, AT, SQUARE, HISTOGRAM = f"{NAME}-brush", f"{NAME}-at", f"{NAME}-square", f"{NAME}-histogram"
SIZE, DRAWN = f"{NAME}-size", f"{NAME}-drawn"  # counts come after the picture, which they would slow down
REMOVED = parts.CONFIG["modeBarButtonsToRemove"]
TOOLS = {"rectangle": "Rectangle", "lasso": "Lasso", "zoom": "Zoom"}
VERBS = {"remove": "Remove", "restore": "Restore"}
SNAP = {"weight": "weights", "kernel": "kernels", "unit": "units"}
Stored = Mapping[str, Any]


def layout() -> html.Div:
    """Tools, the picture, and beside it counts, legend and histogram."""
    bar = html.Div(
        [
            dcc.Dropdown(id=WEIGHT, clearable=False, className="mask-weight", placeholder="weight"),
            _choice("tool", "Brush", TOOLS, "rectangle"),
            _choice("verb", "What the brush does", VERBS, "remove"),
            _choice("snap", "What it takes", SNAP, "weight"),
            dcc.Checklist(id=SQUARE, options=[{"label": "square cells", "value": "yes"}], value=[]),
            html.Button("Show all", id=f"{NAME}-whole", className="plain", title="Show the whole weight again"),
        ],
        className="mask-bar",
    )  # fmt: skip
    picture = html.Div(
        [
            graph(GRAPH, label="Mask: rows are outputs, columns inputs, colours values; red is gone",
                  config={"scrollZoom": True, "showTips": False, "modeBarButtonsToRemove": [*REMOVED, "resetScale2d"]}),
            html.Div(id=f"{NAME}-layer", className="mask-layer"),
            html.Div(id=f"{NAME}-tip", className="mask-tip", hidden=True),
        ],
        id=f"{NAME}-frame", className="mask-frame keeps-dblclick",
    )  # fmt: skip
    side = html.Div(
        [
            html.Div(id=f"{NAME}-counts"),
            html.Div(
                [
                    html.Span([html.Span(id=f"{NAME}-low"), html.I(className="values"), html.Span(id=f"{NAME}-high")]),
                    html.Span([html.I(className="auto"), "zero, or by score"]),
                    html.Span([html.I(className="hand"), "by hand"]),
                ],
                className="mask-legend",
            ),
        ],
        className="mask-side",
    )  # fmt: skip
    values = html.Div(
        graph(HISTOGRAM, label="Histogram of magnitudes; drag on it", config={"displayModeBar": False}),
        className="mask-values",
    )
    said = html.Div(
        [
            html.P(id=f"{NAME}-said", role="status"),
            html.P(id=f"{NAME}-note"),
            html.Button(
                "Branch",
                id=f"{NAME}-branch",
                className="plain",
                hidden=True,
                title="Select that step, to go on from it",
            ),
        ],
        className="mask-said",
    )
    stores = [dcc.Store(id=name) for name in (WINDOW, SEEN, SIZE, DRAWN, BRUSH, AT, f"{NAME}-cell", f"{NAME}-back")]
    return html.Div(
        [html.Div(id=f"{NAME}-empty"), html.Div([bar, html.Div([picture, side, values], className="mask-main"), said],
         id=f"{NAME}-body", className="mask", hidden=True), *stores],
        className="mask-view",
    )  # fmt: skip


def _choice(name: str, label: str, options: Mapping[str, str], value: str) -> html.Div:
    found = dcc.RadioItems(
        id=f"{NAME}-{name}", options=[{"label": text, "value": key} for key, text in options.items()], value=value,
        inline=True,
    )  # fmt: skip
    return html.Div(found, className="stat-choice", role="radiogroup", title=label, **{"aria-label": label})


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    _register_browser(app)
    _register_weights(app, desk)
    _register_picture(app, desk)
    _register_facts(app, desk)
    _register_brush(app, desk)
    _register_cell(app, desk)


def _register_browser(app: Dash) -> None:
    for function, output, given in (
        ("zoomed", f"{NAME}-frame", Input(GRAPH, "relayoutData")),
        ("whole", f"{NAME}-layer", Input(f"{NAME}-whole", "n_clicks")),
        ("range", HISTOGRAM, Input(HISTOGRAM, "selectedData")),
    ):
        app.clientside_callback(
            ClientsideFunction(NAME, function), Output(output, "className", allow_duplicate=True), given,
            prevent_initial_call=True,
        )  # fmt: skip
    app.clientside_callback(ClientsideFunction(NAME, "measured"), Output(SIZE, "data"), Input(SEEN, "data"))
    app.clientside_callback(
        ClientsideFunction(NAME, "told"),
        Output(f"{NAME}-tip", "className"),
        Input(f"{NAME}-tip", "children"),
        State(f"{NAME}-cell", "data"),
    )


def _now(workspace: Workspace, selection: Stored | None) -> tuple[Selection, Step | None]:
    now = Selection.of(selection)
    return now, None if now.step is None else workspace.steps.get(now.step)


def _register_weights(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(WEIGHT, "options"),
        Output(WEIGHT, "value"),
        Output(f"{NAME}-empty", "children"),
        Output(f"{NAME}-body", "hidden"),
        Output(SEEN, "data"),
        Input(ids.SELECTION, "data"),
        State(WEIGHT, "value"),
        State(SEEN, "data"),
    )
    def offer(selection: Stored | None, value: str | None, seen: Stored | None) -> Any:
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return [no_update] * 5
            _, coupling = desk.analysis(workspace, step)
            found = matrices_of(desk, workspace, step)
        if not found:
            empty = parts.empty("This model has no weights to show.", "Only floating-point constants have a mask.")
            return [], None, empty, True, None
        shown = {"step": step.number, "group": now.group}
        same_group = seen is not None and seen["group"] == now.group
        wanted = value if same_group and value in found else first_weight(found, coupling, now.group)
        return (
            choices(found, coupling, now.group), no_update if wanted == value else wanted, None, False,
            no_update if shown == seen else shown,
        )  # fmt: skip


def _shown(desk: Desk, workspace: Workspace, selection: Stored | None, tensor: str | None) -> tuple[Step, Mask] | None:
    _, step = _now(workspace, selection)
    mask = None if step is None or tensor is None else mask_of(desk, workspace, step, tensor)
    return None if step is None or mask is None else (step, mask)


def _register_picture(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(GRAPH, "figure"),
        Output(f"{NAME}-low", "children"),
        Output(f"{NAME}-high", "children"),
        Output(DRAWN, "data"),
        Input(WEIGHT, "value"),
        Input(SIZE, "data"),
        Input(WINDOW, "data"),
        Input(ids.DRAFT_CHANGED, "data"),
        Input(SQUARE, "value"),
        Input(ids.THEME, "data"),
        State(ids.SELECTION, "data"),
        State(DRAWN, "data"),
    )
    def draw(
        tensor: str | None, size: Sequence[int] | None, window: Stored | None, _: Any, square: list[str],
        theme: str | None, selection: Any, before: Any,
    ) -> Any:  # fmt: skip
        if size is None:
            return [no_update] * 4
        with desk.workspace() as workspace:
            shown = _shown(desk, workspace, selection, tensor)
        if shown is None:
            return [no_update] * 4
        mask = shown[1]
        if ctx.triggered_prop_ids.keys() == {f"{ids.DRAFT_CHANGED}.data"} and before == [tensor, mask.revision, theme]:
            return [no_update] * 4  # a brush has drawn it already
        figure, drawn = _picture(mask, size, window, theme, square=bool(square))
        scale = f"{mask.layer.scale:.3g}"
        return figure, f"−{scale}", scale, no_update if drawn == before else drawn


def _picture(
    mask: Mask, size: Sequence[int], window: Stored | None, theme: str | None, *, square: bool
) -> tuple[Any, list[Any]]:
    """The figure, and what it shows."""
    view = window if window is not None and window["key"] == view_key(mask, square=square) else None
    figure = mask_figure(mask, theme_of(theme), view, square=square, size=(size[0], size[1]))
    return figure, [mask.layer.matrix.tensor, mask.revision, theme]


def _register_facts(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(f"{NAME}-counts", "children"),
        Output(HISTOGRAM, "figure"),
        Output(f"{NAME}-note", "children"),
        Output(f"{NAME}-branch", "children"),
        Output(f"{NAME}-branch", "hidden"),
        Output(f"{NAME}-back", "data"),
        Input(DRAWN, "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def facts(drawn: Sequence[str] | None, selection: Any) -> Any:
        if drawn is None:
            return [no_update] * 6
        tensor, _, theme = drawn
        with desk.workspace() as workspace:
            shown = _shown(desk, workspace, selection, tensor)
            if shown is None:
                return [no_update] * 6
            step, mask = shown
            _, coupling = desk.analysis(workspace, step)
            many = counts(desk, workspace, step, tensor)
            before = changes(workspace, step, mask.layer.matrix.name)
            words, back = _notes(desk, workspace, step, mask, before)
            number = group_of(mask.layer.matrix)
            table = _table(many, None if number is None else coupling.groups[number].name)
        figure = histogram(*magnitudes(mask), theme_of(theme))
        return table, figure, " ".join(words), f"Branch from #{back}", back is None, back

    @app.callback(
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Input(f"{NAME}-branch", "n_clicks"),
        State(f"{NAME}-back", "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def branch(_: int | None, back: int | None, selection: Stored | None) -> Any:
        return no_update if back is None else Selection.of(selection).changed(step=back)


def _table(many: tuple[Counts, Counts | None, Counts], group: str | None) -> Component:
    named = [("this weight", many[0]), (f"with {group}", many[1]), ("model", many[2])]
    rows = [
        html.Tr([html.Th(name, scope="row", title=name), _number(one.gone, ","), _number(one.left, ","),
                 _number(one.gone / max(one.of, 1), ".1%")])
        for name, one in named if one is not None
    ]  # fmt: skip
    save = csv_button(f"{NAME}-csv", "Download these counts as CSV", table=f"{NAME}-counts", file="mask-counts")
    head = html.Tr([html.Th(save, **{"data-csv": "of"}), *(html.Th(word) for word in ("pruned", "non-zero", "share"))])
    return html.Table([html.Thead(head), html.Tbody(rows)], className="mask-counts")


def _number(value: float, how: str) -> html.Td:
    """A cell; a file of the table has its number as it is."""
    return html.Td(format(value, how), **{"data-value": str(value)})


def _notes(
    desk: Desk, workspace: Workspace, step: Step, mask: Mask, before: Sequence[Change]
) -> tuple[list[str], int | None]:
    """What a person should know of the steps before, and of what goes along; and the step to branch from."""
    words, back = [], None
    for change in before[:1]:
        shapes = (" × ".join(map(str, shape)) for shape in (change.before, change.after))
        words.append(f"#{change.step} made it smaller, {' → '.join(shapes)}: what it took out is not in this model.")
        back = change.parent
    if (mask.codes & ZERO).any():
        since = zero_since(desk, workspace, step, mask)
        made = [n for n in since[0] if workspace.steps.get(n).parent is not None] if since else []
        if since is not None and made and back is None:
            latest = next(
                (n for k, n in enumerate(since[0]) if n in made and (since[1] == k)[mask.codes & ZERO > 0].any()), None
            )
            back = None if latest is None else workspace.steps.get(latest).parent
            words += [] if latest is None else [f"#{latest} left zeros here."]
    if mask.state.units and any(gone.any() for gone in mask.state.weights.values()):
        words.append("The draft removes units and single weights: apply one kind, then the other.")
    elif (mask.codes & SINGLE).any():
        words.append("Single weights become zeros; removing units makes the model smaller.")
    return words, back


def _register_brush(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
        Output(f"{NAME}-said", "children"),
        Output(GRAPH, "figure", allow_duplicate=True),
        Output(DRAWN, "data", allow_duplicate=True),
        Input(BRUSH, "data"),
        State(WEIGHT, "value"),
        State(ids.SELECTION, "data"),
        State(SIZE, "data"),
        State(WINDOW, "data"),
        State(SQUARE, "value"),
        State(DRAWN, "data"),
        prevent_initial_call=True,
    )
    def brush(
        event: Stored | None, tensor: str | None, selection: Stored | None, size: Sequence[int] | None,
        window: Stored | None, square: list[str], drawn: Sequence[str] | None,
    ) -> Any:  # fmt: skip
        same = [no_update] * 4
        if event is None or size is None or drawn is None or drawn[0] != tensor:
            return same
        _, seen, theme = drawn
        with desk.workspace() as workspace:
            shown = _shown(desk, workspace, selection, tensor)
            if shown is None:
                return same
            step, mask = shown
            _, coupling = desk.analysis(workspace, step)
            edit = edit_for(mask, coupling, event, Selection.of(selection).group)
            along = ""
            if "group" in edit and "remove" in edit:
                along = preview_of(desk, workspace, step, edit["group"], edit["remove"]).words
        revision = desk.edit(step.number, edit, seen)  # of the draft that the person saw
        with desk.workspace() as workspace:
            after = _shown(desk, workspace, selection, tensor)
        figure = same[:2] if after is None else _picture(after[1], size, window, theme, square=bool(square))
        return revision, along or f"{edit_words(edit)}.", *figure


def _register_cell(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(f"{NAME}-tip", "children"),
        Output(f"{NAME}-cell", "data"),
        Input(AT, "data"),
        State(WEIGHT, "value"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def peek(at: Stored | None, tensor: str | None, selection: Stored | None) -> Any:
        if at is None:
            return no_update, no_update
        with desk.workspace() as workspace:
            shown = _shown(desk, workspace, selection, tensor)
            if shown is None:
                return no_update, no_update
            step, mask = shown
            row, column = int(at["row"]), int(at["column"])
            if not (0 <= row < mask.codes.shape[0] and 0 <= column < mask.codes.shape[1]):
                return no_update, no_update
            lines = cell_words(desk, workspace, step, mask, row, column, Selection.of(selection).criterion)
        return [html.P(line) for line in lines], at["cell"]


VIEW = View(NAME, "Mask", "inspect", layout, register, 0)
