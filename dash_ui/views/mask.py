"""Mask: a weight of the model as dense pixels, where single weights, kernels and units are taken out and put back.

The page asks for what it draws at ``/_mask`` (`dash_ui.mask_answers`), by itself, whenever one of the shared stores
changes, and after each brush.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from flask import jsonify, request
from flask.wrappers import Response

from dash_ui import ids, parts
from dash_ui.desk import Desk
from dash_ui.mask_answers import answer
from dash_ui.parts import csv_button, graph
from dash_ui.views import View
from onnxprune.errors import OnnxPruneError

__all__ = ["VIEW"]

NAME = "mask"
ASKED = "/_mask"
LOG = logging.getLogger("dash_ui")
WEIGHT, SQUARE, HISTOGRAM = f"{NAME}-weight", f"{NAME}-square", f"{NAME}-histogram"
CONFIG = {
    **parts.CONFIG, "scrollZoom": True, "showTips": False,
    "modeBarButtonsToRemove": [*parts.CONFIG["modeBarButtonsToRemove"], "resetScale2d"],
}  # fmt: skip
TOOLS = {"rectangle": "Rectangle", "lasso": "Lasso", "zoom": "Zoom"}
VERBS = {"remove": "Remove", "restore": "Restore"}
SNAP = {"weight": "weights", "kernel": "kernels", "unit": "units"}
KEYS = (
    (("arrows",), "move the cell, over whole kernels where the brush takes kernels or units"),
    (("Shift", "arrows"), "mark a rectangle"),
    (("Enter",), "or the space bar: remove or restore what is marked"),
    (("Shift", "Space"), "whole rows; with Ctrl whole columns"),
    (("Home", "End"), "first and last column; with Ctrl first and last cell"),
    (("PgUp", "PgDn"), "a quarter of what is seen"),
    (("+", "−", "0"), "zoom in and out at the cell, show all"),
    (("Esc",), "mark nothing but the cell"),
)
SPOKEN = """Arrows move, Shift and arrows mark a rectangle, Enter or space removes or restores, Shift and space takes
whole rows, Control and space whole columns, Home and End, page up and page down go far, plus and minus zoom."""


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
            _help(),
        ],
        className="mask-bar",
    )  # fmt: skip
    picture = html.Div(
        [
            html.Div(
                html.Div(className="mask-plot", **{"data-config": json.dumps(CONFIG)}), id=f"{NAME}-graph", role="img",
                **{"aria-label": "Mask: rows are outputs, columns inputs, colours values; red is gone"},
            ),
            html.Div(id=f"{NAME}-layer", className="mask-layer"),
            html.Div(id=f"{NAME}-tip", className="mask-tip", hidden=True),
        ],
        id=f"{NAME}-frame", className="mask-frame keeps-dblclick", tabIndex=0, role="application",
        **{"aria-label": "Mask", "aria-roledescription": "weights to brush", "aria-describedby": f"{NAME}-spoken"},
    )  # fmt: skip
    side = html.Div([_counts(), _legend()], className="mask-side")
    values = html.Div(
        graph(HISTOGRAM, label="Histogram of magnitudes; drag on it", config={"displayModeBar": False}),
        className="mask-values",
    )
    main = html.Div([picture, side, values], className="mask-main")
    return html.Div(
        [
            html.Div(
                parts.empty("This model has no weights to show.", "Only floating-point constants have a mask."),
                id=f"{NAME}-empty", hidden=True,
            ),
            html.Div([bar, main, _said()], id=f"{NAME}-body", className="mask"),
        ],
        className="mask-view",
    )  # fmt: skip


def _help() -> html.Details:
    """Keys and gestures, one click away."""
    rows = [html.Div([html.Dt([html.Kbd(key) for key in keys]), html.Dd(does)]) for keys, does in KEYS]
    mouse = "Drag over cells, click one; at the edge whole rows and columns. The wheel zooms, a drag with Zoom too."
    listed = [html.P(mouse), html.P("With the keyboard, after Tab to the picture:"), html.Dl(rows)]
    summary = html.Summary("?", title="How to brush, with mouse and keyboard", **{"aria-label": "How to brush"})
    return html.Details([summary, html.Div(listed, className="mask-help-card")], className="mask-help")


def _counts() -> html.Table:
    """Rows for the weight, the group and the model; the browser writes them."""
    rows = [html.Tr([html.Th(scope="row"), html.Td(), html.Td(), html.Td()]) for _ in range(3)]
    save = csv_button(f"{NAME}-csv", "Download these counts as CSV", table=f"{NAME}-counts", file="mask-counts")
    words = [html.Th(word) for word in ("pruned", "non-zero", "share")]
    head = html.Thead(html.Tr([html.Th(save, **{"data-csv": "of"}), *words]))
    return html.Table([head, html.Tbody(rows)], className="mask-counts", id=f"{NAME}-counts")


def _legend() -> html.Div:
    return html.Div(
        [
            html.Span([html.Span(id=f"{NAME}-low"), html.I(className="values"), html.Span(id=f"{NAME}-high")]),
            html.Span([html.I(className="auto"), "zero, or by score"]),
            html.Span([html.I(className="hand"), "by hand"]),
        ],
        className="mask-legend",
    )


def _said() -> html.Div:
    branch = html.Button(
        "Branch", id=f"{NAME}-branch", className="plain", hidden=True, title="Select that step, to go on from it"
    )
    return html.Div(
        [
            html.P(id=f"{NAME}-said", role="status"),
            html.P(id=f"{NAME}-note"),
            branch,
            html.P(id=f"{NAME}-live", className="unseen", role="status", **{"aria-live": "polite"}),
            html.P(SPOKEN, id=f"{NAME}-spoken", className="unseen"),
        ],
        className="mask-said",
    )


def _choice(name: str, label: str, options: Mapping[str, str], value: str) -> html.Div:
    found = dcc.RadioItems(
        id=f"{NAME}-{name}", options=[{"label": text, "value": key} for key, text in options.items()], value=value,
        inline=True,
    )  # fmt: skip
    return html.Div(found, className="stat-choice", role="radiogroup", title=label, **{"aria-label": label})


def register(app: Dash, desk: Desk) -> None:
    """Answer what the page asks, and tell it what changed."""

    def asked() -> Response:
        found = jsonify(told(desk, request.get_json()))
        found.headers["Cache-Control"] = "no-store"
        return found

    app.server.add_url_rule(ASKED, "mask", asked, methods=["POST"])
    app.clientside_callback(
        ClientsideFunction(NAME, "changed"),
        Output(f"{NAME}-layer", "className"),
        Input(ids.SELECTION, "data"),
        Input(ids.DRAFT_CHANGED, "data"),
        Input(ids.THEME, "data"),
        Input(WEIGHT, "value"),
        Input(SQUARE, "value"),
    )


def told(desk: Desk, ask: Mapping[str, Any]) -> dict[str, Any]:
    """The answer, or a message where there is none."""
    try:
        return answer(desk, ask)
    except OnnxPruneError as error:
        return {"problem": {"kind": "error", "text": error.message, "hint": error.hint}}
    except Exception as error:  # the page must go on; whoever runs the server reads why
        LOG.error("a question about a mask failed", exc_info=error)
        text, hint = f"Something went wrong: {type(error).__name__}", "The terminal that runs onnxprune shows where."
        return {"problem": {"kind": "error", "text": text, "hint": hint}}


VIEW = View(NAME, "Mask", "inspect", layout, register, 0)
