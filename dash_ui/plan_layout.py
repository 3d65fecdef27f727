"""What the plan consists of on the page; `dash_ui.views.plan` and ``assets/plan.js`` bring it to life."""

from __future__ import annotations

from dash import dcc, html
from dash.development.base_component import Component

from dash_ui import parts
from dash_ui.rows.draft import PRESETS
from dash_ui.rows.units import SCALE_WORDS
from onnxprune.instability import RUNS

__all__ = [
    "ASKED", "CRITERION", "DRAFT", "FORESEEN", "GRAPH", "KNOWN", "LOG", "OFFERED", "PREVIEW", "RADAR", "RUNS_OF",
    "SCALE", "SHOWN", "STORES", "UNITS", "layout", "tools",
]  # fmt: skip

UNITS = "plan-units"  # what does not change while a threshold is dragged
SHOWN = "plan-shown"  # what these units are, in a few words, so that a request need not carry them all
DRAFT = "plan-draft"  # what goes, and why
KNOWN = "plan-known"  # which draft that is, likewise
ASKED = "plan-asked"  # a change that the browser wants to have in the draft
PREVIEW = "plan-preview"  # where the threshold is while it moves
FORESEEN = "plan-foreseen"  # what would be left there
OFFERED = "plan-offered"  # the criterion that the page begins with, which nobody chose
STORES = (UNITS, SHOWN, DRAFT, KNOWN, ASKED, PREVIEW, FORESEEN, OFFERED)
CRITERION, SCALE, LOG, RUNS_OF = "plan-criterion", "plan-scale", "plan-log", "plan-runs"
GRAPH, RADAR = "plan-graph", "plan-radar"
LEFT = {"units": "units", "score": "score", "instability": "instability", "parameters": "parameters", "macs": "MACs"}


def layout() -> Component:
    """Presets, radar with its numbers, groups, bubbles with slider, circles with the bar."""
    stores = [dcc.Store(id=name) for name in STORES]
    return html.Div([*stores, _presets(), _left(), _groups(), _bubbles(), _circles()], className="plan")


def tools() -> Component:
    """In the head of the panel: the score that the axis shows, its scale, and what can be measured for it."""
    return html.Div(
        [
            html.Label(
                [html.Span("Score"), dcc.Dropdown(id=CRITERION, clearable=False, className="plan-choice")],
                title="What a unit is judged by: the axis of the bubbles",
            ),
            html.Label(
                [
                    html.Span("Scale"),
                    dcc.Dropdown(
                        id=SCALE, clearable=False, searchable=False, className="plan-choice wide",
                        options=[{"value": name, "label": words} for name, words in SCALE_WORDS.items()],
                    ),
                ],
                title="How scores of different layers are made comparable",
            ),
            dcc.Checklist(id=LOG, options=[{"value": "log", "label": "log"}], value=[], className="plan-log"),
            html.Div(id="plan-progress", className="plan-progress", role="status"),
            _measure(),
        ],
        className="plan-head-tools",
    )  # fmt: skip


def _measure() -> html.Details:
    """What takes longer and is done as a job; folded."""
    return html.Details(
        [
            html.Summary("Measure", className="plain small"),
            html.Div(
                [
                    html.P("What each group costs when its lowest units go, measured on the data."),
                    html.Button("Measure sensitivity", id="plan-measure", className="plain"),
                    html.P("How far the ranks of units spread over several short trainings: the size of a bubble."),
                    html.Div(
                        [
                            html.Button("Measure instability", id="plan-unsteady", className="plain"),
                            html.Label(
                                [
                                    dcc.Input(
                                        id=RUNS_OF, type="number", min=2, max=50, step=1, value=RUNS, debounce=True,
                                        className="plan-runs",
                                    ),
                                    html.Span("trainings"),
                                ]
                            ),
                        ],
                        className="plan-set",
                    ),
                ],
                className="menu-body",
            ),
        ],
        className="menu",
    )  # fmt: skip


def _presets() -> html.Div:
    presets = [
        *((f"{share:.0%}", f"{share:.0%}", f"The lowest {share:.0%} of all units go") for share in PRESETS),
        ("dead", "dead units", "Units that score 0 go"),
        ("knee", "knee", "The threshold beyond which each further unit costs visibly more"),
    ]
    return html.Div(
        [
            html.Span("Remove", className="plan-word"),
            html.Div(
                [
                    html.Button(text, className="plain small", title=title, disabled=True, **{"data-preset": name})
                    for name, text, title in presets
                ],
                className="plan-joined", role="group", **{"aria-label": "Presets of the threshold"},
            ),
            parts.csv_button(
                "plan-csv", "Download the table of layers as CSV", "Layers as CSV", table="plan-groups", file="layers"
            ),
            html.Button(
                "Empty the plan", id="plan-clear", className="ghost small",
                title="Take everything out of the plan (undo brings it back)",
            ),
        ],
        id="plan-tools", className="plan-tools",
    )  # fmt: skip


def _left() -> html.Div:
    numbers = [
        html.Div([html.Dt(word, id=f"plan-word-{name}"), html.Dd("—", id=f"plan-left-{name}")])
        for name, word in LEFT.items()
    ]
    return html.Div(
        [
            html.H3("What is left"),
            parts.graph(
                RADAR, label="Radar: shares of units, score, instability, parameters and MACs that are left",
                config={"displayModeBar": False, "staticPlot": False},
            ),
            html.Dl(numbers, className="plan-numbers"),
        ],
        className="plan-left",
    )  # fmt: skip


def _groups() -> html.Div:
    heads = (("layer", None), ("", "units"), ("goes", None), ("own %", None), ("", "locked"))  # shown, else in a file
    cells = [html.Th(word, scope="col", **({"data-csv": name} if name else {})) for word, name in heads]
    table = html.Table([html.Thead(html.Tr(cells)), html.Tbody()], className="plan-table")
    return html.Div(table, id="plan-groups", className="plan-groups")


def _bubbles() -> html.Div:
    stretch = [
        html.Button(text, className="plain small", title=title, **{"data-stretch": how, "aria-label": title})
        for how, text, title in (
            ("in", "+", "Stretch the axis around the threshold"), ("out", "\N{MINUS SIGN}", "Squeeze the axis"),
            ("all", "all", "Show the whole axis"),
        )
    ]  # fmt: skip
    graph = parts.graph(
        GRAPH, label="Bubbles: a bubble for each unit, its score, its instability as size, its layer as colour",
        config={"scrollZoom": True, "doubleClick": False},
    )  # fmt: skip
    line = html.Div(id="plan-line", className="plan-line", hidden=True, **{"aria-hidden": "true"})
    graph.children = [graph.children, line]
    return html.Div(
        [
            html.Div(
                [
                    html.Strong(id="plan-counts", className="plan-counts"),
                    html.Span(id="plan-size", className="plan-hint"),
                    html.Div(
                        stretch, id="plan-stretch", className="plan-set", role="group", **{"aria-label": "Stretch"}
                    ),
                ],
                className="plan-head",
            ),
            html.Div(
                [graph, html.Div(id="plan-empty"), html.Div(id="plan-unit", className="plan-tip", hidden=True)],
                id="plan-stage", className="plan-stage",
            ),
            html.Div(id="plan-marks", className="plan-marks"),
            _range(),
            html.Div(id="plan-notes", className="plan-hint"),
            html.Div(id="plan-said", className="plan-said", role="status"),
        ],
        className="plan-bubbles",
    )  # fmt: skip


def _range() -> html.Div:
    """The slider below the plot; the browser hears of every move."""
    return html.Div(
        dcc.Input(id="plan-range", type="range", min=0, max=2000, step=1, value=0, className="plan-range"),
        className="plan-slider",
    )


def _circles() -> html.Div:
    return html.Div(
        [
            html.Div([html.H3("What goes"), dcc.Download(id="plan-file")], className="plan-head"),
            html.Div(
                [html.Div(id="plan-tip", className="plan-tip", hidden=True)],
                id="plan-circles", className="plan-circles", role="img",
            ),
            html.Div(
                id="plan-bar", className="plan-bar", role="img", **{"aria-label": "Share of each layer in the plan"}
            ),
        ],
        className="plan-circles-frame",
    )  # fmt: skip
