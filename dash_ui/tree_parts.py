"""What the tree view is made of: tools, legend, plot, estimator, and the strip of the selected step."""

from __future__ import annotations

from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from dash_ui.parts import empty, graph

__all__ = ["BASE", "POINTS", "SHOWN", "WANTED", "WORDS", "layout"]

WANTED = "wanted-units"  # Store: {"step", "units", "of", "ratio", "asked"}; what the estimator was asked to prune to
BASE, WORDS, POINTS, SHOWN = "tree-base", "tree-words", "tree-points", "tree-shown"
BLANK = {
    "layout": {
        "xaxis": {"visible": False},
        "yaxis": {"visible": False},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
}


def layout() -> Component:
    """The whole view, empty."""
    own = ("trash-shown", "undo-step", "command", "room", "missing")
    stores = (BASE, WORDS, POINTS, SHOWN, WANTED, *(f"tree-{name}" for name in own))
    return html.Div(
        [
            *(dcc.Store(id=name) for name in stores),
            _tools(),
            _legend(),
            html.Div(
                [
                    graph(
                        "tree-graph", label="Tree of steps", figure=BLANK,
                        config={"scrollZoom": True, "displayModeBar": False, "doubleClick": "reset"},
                    ),
                    _estimator(),
                    html.Div(
                        empty("There are no steps yet.", "Put an ONNX model into the folder of this workspace."),
                        id="tree-none", hidden=True,
                    ),
                ],
                id="tree-keys", className="tree-plot", tabIndex=0,
                **{"aria-label": "Tree of steps. Arrow keys move along it; with Shift they choose what is compared."},
            ),
            _undo(),
            _card(),
        ],
        className="tree",
    )  # fmt: skip


def _tools() -> html.Div:
    return html.Div(
        [
            _field("filter", "Filter", "Filter steps by number, kind, name or note", type="search"),
            _icon("fit", "Show the whole tree; pressed again, what is around the selected step"),
            _icon("estimate", "Estimator: a node to drag along the axis tells what to expect there", pressed="false"),
            _icon("trash", "Show what was deleted", "delete", pressed="false"),
        ],
        className="tree-tools",
    )  # fmt: skip


def _icon(name: str, label: str, icon: str = "", pressed: str | None = None, *, hidden: bool = False) -> html.Button:
    """A button that shows an icon only. ``pressed``: of one that stays down."""
    state = {} if pressed is None else {"aria-pressed": pressed}
    return html.Button(
        html.Span(className=f"icon icon-tree-{icon or name}"), id=f"tree-{name}", className="ghost", title=label,
        hidden=hidden, **{"aria-label": label}, **state,
    )  # fmt: skip


def _field(name: str, placeholder: str, label: str, **properties: Any) -> html.Label:
    """A field with its label, which is not seen: the place in it says the same."""
    kind = {"type": "text", **properties}
    field = dcc.Input(id=f"tree-{name}", placeholder=placeholder, autoComplete="off", **kind)
    return html.Label([html.Span(label, className="unseen"), field], className=f"tree-field tree-field-{name}")


def _legend() -> html.Div:
    entries = (
        ("bar quality", "quality", "tree-metric"), ("bar left", "parameters left", None),
        ("edge settled", "converged", None), ("edge open", "not converged", None),
        ("edge untrained", "not trained", None), ("edge failed", "given up", None),
    )  # fmt: skip
    return html.Div(
        [
            html.Span(
                [html.I(className=look), html.Span(text, **({"id": name} if name else {}))], className=f"key {look}"
            )
            for look, text, name in entries
        ],
        className="tree-legend",
    )


def _estimator() -> html.Div:
    def line(name: str, label: str) -> html.Div:
        return html.Div([html.Span(label), html.Span(id=f"tree-estimator-{name}")])

    return html.Div(
        [
            html.Div(className="level"),
            html.Div(
                id="tree-estimator-knob", className="knob", title="Drag up and down", role="slider", tabIndex=0,
                **{"aria-label": "Estimator: units left", "aria-orientation": "vertical"},
            ),
            html.Div(
                [
                    html.Strong(id="tree-estimator-units"),
                    html.Div([html.Span(id="tree-estimator-metric"), html.Span(id="tree-estimator-value")]),
                    line("band", "nine of ten within"),
                    line("parameters", "parameters"),
                    line("macs", "MACs"),
                    html.Small(id="tree-estimator-basis"),
                    html.Button("Prune", id="tree-estimator-go", className="primary"),
                ],
                className="estimate",
            ),
        ],
        id="tree-estimator", className="estimator", hidden=True,
    )  # fmt: skip


def _undo() -> html.Div:
    return html.Div(
        [html.Span(id="tree-undo-words"), html.Button("Undo", id="tree-undo", className="plain")],
        id="tree-undo-bar", className="tree-undo", hidden=True, role="status",
    )  # fmt: skip


def _card() -> html.Div:
    """What is selected, and what can be done with it."""
    branch = "Begin a branch: the next action starts at this step"
    compare = "Hold other steps against this one (Shift and a click does the same)"
    return html.Div(
        [
            html.Div(id="tree-facts", className="tree-facts"),
            html.Div(
                [
                    html.Button("Continue", id="tree-branch", className="ghost", title=branch),
                    html.Button("Compare", id="tree-compare", className="ghost", title=compare),
                    _icon("edit", "Give this step a name and a note", pressed="false"),
                    _icon("pin", "Make this step the baseline that others are compared with"),
                    _icon("copy", "Copy the command line that makes this step again"),
                    _icon("delete", "Put this step, and all that was made of it, into the trash"),
                    _icon("restore", "Take this step out of the trash", hidden=True),
                ],
                className="tree-actions",
            ),
            html.Div(
                [
                    _field("name", "Name", "Name of the selected step", debounce=True, maxLength=60),
                    _field("note", "Note", "Note on the selected step", debounce=True, maxLength=400),
                ],
                className="tree-own", id="tree-own", hidden=True,
            ),
        ],
        className="tree-selected", id="tree-selected",
    )  # fmt: skip
