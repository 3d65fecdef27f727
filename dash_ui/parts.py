"""Components that several views use, always the same way."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

__all__ = ["csv_button", "empty", "graph", "problem"]

# plotly.js would offer to upload a figure; nothing leaves this machine.
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["sendChartToCloud", "lasso2d", "select2d", "autoScale2d"],
    "responsive": True,
    "displayModeBar": "hover",
    "doubleClick": False,  # it maximises the panel; a plot that resets its zoom by it says "reset"
    "toImageButtonOptions": {"format": "svg"},
}

CLEAR = "rgba(0,0,0,0)"
# What a plot shows until its figure comes: nothing. (Without it plotly would draw white paper and axes from 0 to 6.)
BLANK: dict[str, Any] = {
    "data": [],
    "layout": {
        "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR, "xaxis": {"visible": False}, "yaxis": {"visible": False},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    },
}  # fmt: skip


def graph(name: str, *, label: str, config: dict[str, Any] | None = None, **properties: Any) -> html.Div:
    """A plot with the id ``name``. ``label``: what it shows, for those who cannot see it."""
    shown = {"figure": BLANK, **properties}
    found = dcc.Graph(id=name, config={**CONFIG, **(config or {})}, className="graph", **shown)
    return html.Div(found, className="graph-frame", role="img", **{"aria-label": label})


def csv_button(name: str, title: str, text: str = "CSV", *, table: str = "", file: str = "") -> html.Button:
    """A button that writes a table to a file.

    ``table``: the id of a grid, or of what holds a plain table, which the browser writes to ``file``-STEP.csv
    (``assets/tables.js``); without one a callback of the view does it.
    """
    wanted = {"data-csv": table, "data-file": file} if table else {}
    return html.Button(text, id=name, className="csv plain small", title=title, **{"aria-label": title}, **wanted)


def empty(text: str, hint: str = "") -> html.Div:
    """What a view shows where there is nothing to show: why, and what to do about it."""
    return html.Div([html.P(text), html.P(hint, className="hint")], className="empty")


def problem(text: str, hint: str = "") -> html.Div:
    """What a view shows where something went wrong."""
    return html.Div([html.P(text), html.P(hint, className="hint")], className="problem", role="alert")
