"""The page: a top bar, four areas around the model, and drawers that slide in from the right.

History, statistics and inspect show one of their views at a time, behind tabs; inspect folds to its tabs where the
page is low, so that the model has the room. What belongs to the model is seen at
once: its views stand in rows by the tens of their ``order`` (0-9 the first row, 10-19 the second), side by side. The
first view of an area is there from the beginning, another one is made when its tab is opened, and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from dash_ui import ahead, ids, top
from dash_ui import help as helping
from dash_ui.views import View

__all__ = ["DRAWER", "FOLDS", "MODEL", "TABBED", "drawer", "overlays", "page", "slot", "stores", "tab"]

MODEL, DRAWER = "model", "drawer"
TABBED = {"history": "History", "statistics": "Statistics", "inspect": "Inspect"}
LISTS = ("guidance", "jobs")  # drawers with something to show to others; the rest are forms
PICTURES = {"svg": "sharp", "png": "pixels"}
FOLDS = "inspect"  # the area of which only the tabs are seen until one is opened; nothing of it is made before
ROW = 10  # orders that share a row


def slot(name: str) -> str:
    """The id of the place of a view."""
    return f"slot-{name}"


def tab(name: str) -> str:
    """The id of the tab of a view; of the button in the top bar, for a drawer."""
    return f"tab-{name}"


def stores(revisions: dict[str, str]) -> list[Component]:
    """What the views share."""
    empty = (ids.SELECTION, ids.PLACE, ids.DRAFT_CHANGED, ids.TOAST, ids.LIVE, ids.ESTIMATE, ids.FIND, ids.THEME)
    return [
        dcc.Location(id=ids.URL, refresh=False),
        dcc.Interval(id=ids.TICK, interval=1000),
        *(dcc.Store(id=name) for name in empty),
        dcc.Store(id=ids.REVISION, data=revisions),
        dcc.Store(id=ids.TREE, data=revisions["tree"]),
        dcc.Store(id=ids.ENDED, data=revisions["ended"]),
        dcc.Store(id=ids.OPTIONS, storage_type="local"),
        dcc.Store(id=ids.RUNNING),
        dcc.Store(id="shell-opened", data=[]),
        dcc.Store(id="shell-walk"),
        *ahead.stores(),
    ]


def page(found: Sequence[View], workspace: str, revisions: dict[str, str], *, demo: bool) -> html.Div:
    """The whole page. ``workspace``: the name of the folder; ``demo``: it holds the bundled example."""
    by_area = {area: [view for view in found if view.area == area] for area in (*TABBED, MODEL, DRAWER)}
    return html.Div(
        [
            *stores(revisions),
            top.layout(workspace, by_area[DRAWER]),
            html.Main(
                [
                    _tabbed("history", by_area["history"]),
                    _splitter("history", "Width of the history", vertical=True),
                    _model(by_area[MODEL]),
                    _splitter("statistics", "Width of the statistics", vertical=True),
                    _tabbed("statistics", by_area["statistics"]),
                    _splitter("inspect", "Height of the inspection", vertical=False),
                    _tabbed("inspect", by_area["inspect"]),
                ],
                className="desk",
                id="desk",
            ),
            *(drawer(view) for view in by_area[DRAWER]),
            *overlays(),
        ],
        className="page",
        id="page",
        **{"data-demo": "yes" if demo else "no", "data-folder": workspace},
    )


def overlays() -> list[Component]:
    """What lies above the page: messages, the lost server, the keys, the tour."""
    lost = "The server does not answer. What you see is kept; it goes on when the server is back."
    return [
        html.Div(html.Span(lost), id="lost", className="lost", role="alert", hidden=True),
        html.Div(id="toasts", className="toasts", role="status", **{"aria-live": "polite"}),
        helping.keys(),
        helping.tour(),
    ]


def _tabbed(area: str, views: Sequence[View]) -> html.Section:
    """An area that shows one of its views."""
    buttons = [
        html.Button(
            view.title, id=tab(view.name), className="tab", role="tab",
            **{"data-area": area, "data-view": view.name, "aria-controls": slot(view.name),
               "aria-selected": "true" if view is views[0] and area != FOLDS else "false"},
        )
        for view in views
    ]  # fmt: skip
    head = html.Div(buttons, className="tabs", role="tablist", **{"aria-label": TABBED[area]})
    slots = [_slot(view, shown=view is views[0] and area != FOLDS) for view in views]
    return _panel(area, TABBED[area], head, slots, hidden=not views, folds=area == FOLDS)


def _model(views: Sequence[View]) -> html.Div:
    """The views of the model in their rows, each a panel of its own."""
    rows: list[Component] = []
    for number, group in groupby(views, key=lambda view: view.order // ROW):
        cells: list[Component] = []
        for view in group:
            if cells:
                cells.append(_splitter(f"cell-{view.name}", f"Width of {view.title}", vertical=True))
            title = html.H2(view.title, className="title")
            cells.append(_panel(view.name, view.title, title, [_slot(view, shown=True)], view))
        if rows:
            rows.append(_splitter(f"row-{number}", "Height of the row above", vertical=False))
        rows.append(html.Div(cells, className="model-row", **{"data-row": str(number)}))
    return html.Div(rows, className="area-model", id="area-model")


def _panel(
    name: str,
    title: str,
    head: Component,
    body: Sequence[Component],
    view: View | None = None,
    *,
    hidden: bool = False,
    folds: bool = False,
) -> html.Section:
    """A frame with a head, which a double click or its button makes as large as the page. ``view``: its only one."""
    fold = html.Button(
        html.Span(className="icon icon-fold"), className="ghost fold", title=f"Open or fold {title}",
        **{"aria-label": f"Open or fold {title}", "data-area": name},
    )  # fmt: skip
    maximise = html.Button(
        html.Span(className="icon icon-maximise"), className="ghost maximise", title="Maximise (m)",
        **{"aria-label": f"Maximise {title}", "data-panel": name},
    )  # fmt: skip
    between = [html.Div(view.tools(), className="panel-tools")] if view and view.tools else []
    between += [fold] if folds else []
    picture = _picture(title, view.whole if view else None)
    return html.Section(
        [
            html.Header([head, *between, picture, maximise], className="panel-head"),
            html.Div(list(body), className="panel-body"),
        ],
        className=f"panel panel-{name}",
        id=f"panel-{name}",
        hidden=hidden,
        tabIndex=-1,
        **{"aria-label": title, "data-panel": name},
    )


def _picture(title: str, whole: tuple[str, str] | None = None) -> html.Details:
    """Saves what is seen of a view; ``assets/pictures.js`` hears of the choice. ``whole``: as of a `View`."""
    name = f"Save {title} as picture"
    choices = [
        html.Button(
            [html.Span(kind.upper()), html.Span(f"what is seen, {words}", className="hint")], className="ghost",
            **{"data-picture": kind, "aria-label": f"{name}: {kind.upper()}"},
        )
        for kind, words in PICTURES.items()
    ]  # fmt: skip
    if whole is not None:
        text = [html.Span("SVG"), html.Span(f"{whole[1]}, for print", className="hint")]
        choices.append(html.Button(text, id=whole[0], className="ghost", **{"aria-label": f"Save {whole[1]} as SVG"}))
    summary = html.Summary(
        html.Span(className="icon icon-picture"), className="ghost", title="Save as picture", **{"aria-label": name}
    )
    return html.Details([summary, html.Div(choices, className="menu-body")], className="menu picture")


def _slot(view: View, *, shown: bool) -> html.Div:
    """The place of a view, filled where it is shown from the beginning."""
    role: dict[str, Any] = {} if view.area == MODEL else {"role": "tabpanel", "aria-labelledby": tab(view.name)}
    return html.Div(
        view.layout() if shown else None,
        id=slot(view.name),
        className=f"slot view-{view.name}",
        hidden=not shown,
        **role,
    )


def drawer(view: View) -> html.Aside:
    """A view that slides in from the right."""
    close = html.Button(
        "×", className="ghost close-drawer", title="Close (Esc)", **{"aria-label": f"Close {view.title}"}
    )
    picture = [_picture(view.title)] if view.name in LISTS else []
    return html.Aside(
        [
            html.Header([html.H2(view.title, className="title"), *picture, close], className="panel-head"),
            html.Div(None, id=slot(view.name), className=f"panel-body slot view-{view.name}"),
        ],
        id=f"drawer-{view.name}",
        className="drawer",
        hidden=True,
        tabIndex=-1,
        **{"aria-label": view.title, "data-view": view.name},
    )


def _splitter(name: str, label: str, *, vertical: bool) -> html.Div:
    """A border that is dragged, or moved with the arrow keys."""
    return html.Div(
        className=f"splitter {'vertical' if vertical else 'horizontal'}", id=f"splitter-{name}", role="separator",
        tabIndex=0, title="Drag to resize; double-click for the usual size",
        **{"data-name": name, "aria-label": label, "aria-orientation": "vertical" if vertical else "horizontal"},
    )  # fmt: skip
