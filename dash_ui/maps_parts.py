"""What the view of feature maps is made of: its layout, the instance, what comes out, and words about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from dash_ui.parts import csv_button, empty
from dash_ui.rows.instances import Chosen, Effect, Portrait, Source, guess
from dash_ui.rows.maps import Side, Sides
from dash_ui.statistics import choice
from onnxprune.drawing import singular

__all__ = ["NAME", "effect_table", "group_words", "layout", "nothing", "portrait_of", "said_of"]

NAME = "maps"
MODES = {"one": "maps", "sees": "looks at", "mean": "mean"}
SHOWS = "Show what units make of an instance, what they look at in it, or the mean over many"
SCALES = {"own": "each unit", "common": "all alike"}
SORTS = {"index": "number", "activation": "activation", "change": "change", "score": "score"}
COLUMNS = {"before": "before", "after": "now", "draft": "draft"}
MOVED = "Length of the difference between both outputs, as a share of the length of the first one"
SHOWN_UP_TO = 96  # pixels across of an instance


def layout() -> html.Div:
    """The instance and how to choose one above; below it the instance, the units, and what comes out."""
    return html.Div(
        [
            *(dcc.Store(id=f"{NAME}-{word}") for word in ("focus", "ask", "shown", "key", "draft", "click", "again")),
            html.Div(id=f"{NAME}-state"),
            html.Div([_choosing(), _body()], id=f"{NAME}-body", className="maps-body", hidden=True),
            html.Progress(id=f"{NAME}-busy", className="maps-busy", hidden=True, **{"aria-label": "The model is run"}),
        ],
        id=f"{NAME}-root", className="maps",
    )  # fmt: skip


def _choosing() -> html.Div:
    return html.Div(
        [
            choice(f"{NAME}-mode", SHOWS, MODES, "one"),
            html.Span(
                [
                    _button("previous", "‹", "Previous instance"),
                    html.Label(
                        [
                            html.Span("Number of the instance", className="unseen"),
                            dcc.Input(
                                id=f"{NAME}-row", type="number", min=0, step=1, value=0, debounce=True,
                                className="maps-row",
                            ),
                        ]
                    ),
                    _button("next", "›", "Next instance"),
                    html.Span(id=f"{NAME}-of", className="maps-quiet"),
                    _button("random", "Random", "Another instance, drawn at random", "plain"),
                    _button("wrong", "Wrong one", "The next instance that this step gets wrong", "plain"),
                ],
                id=f"{NAME}-walk", className="maps-part",
            ),
            html.Label(
                [
                    html.Span("Only instances of a class", className="unseen"),
                    dcc.Dropdown(id=f"{NAME}-class", options=[], placeholder="any class", className="maps-class"),
                ]
            ),
            html.Span(className="maps-gap"),
            html.Span("sort by", className="maps-quiet"),
            choice(f"{NAME}-sort", "Sort units by", SORTS, "index"),
            html.Span("scale", className="maps-quiet"),
            choice(f"{NAME}-scale", "Scale of colours and heights", SCALES, "own"),
        ],
        className="maps-bar",
    )  # fmt: skip


def _button(name: str, text: str, title: str, kind: str = "ghost") -> html.Button:
    return html.Button(text, id=f"{NAME}-{name}", className=f"{kind} maps-{name}", title=title, **{"aria-label": title})


def _body() -> html.Div:
    return html.Div(
        [
            html.Section(id=f"{NAME}-instance", className="maps-instance", **{"aria-label": "The instance"}),
            html.Section(
                [
                    html.P(id=f"{NAME}-words", className="maps-words"),
                    html.Div(
                        id=f"{NAME}-units", className="maps-units keeps-dblclick", role="group",
                        **{"aria-label": "Units of the layer; a pressed one is in the plan"},
                    ),
                    html.P(id=f"{NAME}-said", className="unseen", role="status"),
                ],
                className="maps-middle",
            ),
            html.Section(id=f"{NAME}-effect", className="maps-effect", **{"aria-label": "What comes out"}),
        ],
        className="maps-grid",
    )  # fmt: skip


def nothing(source: Source | None) -> Component:
    """Why there are no feature maps to see."""
    if source is None:
        return empty(
            "There are no data for this model, so that nothing can be put through it.",
            "Put a dataset into the folder's data/ (docs/datasets.md tells how it is laid out).",
        )
    return empty("The model has no group of units.", "Nothing in it can be removed as a whole.")


def portrait_of(found: Portrait | None, source: Source, chosen: Chosen, effect: Effect | None) -> list[Component]:
    """The instance itself with its label and what it is taken for; of a mean, of how many it is."""
    if found is None:
        words = [html.P([html.B(f"{len(chosen.rows):,}"), f" of {len(source):,} instances"])]
        words.append(html.P("Their mean, spread evenly over the data.", className="maps-quiet"))
        return [html.Div(words, className="maps-mean"), _data(source)]
    row = chosen.rows[0]
    facts: list[Component] = []
    if source.labels is not None:
        label = source.name(int(source.labels[row]))
        facts.append(_fact("label", label))
        for word, title in (("before", "before"), ("after", "now")):
            taken = guess(effect.rows, word) if effect is not None and effect.probable else None
            if taken is not None:
                facts.append(_fact(title, taken, "maps-well" if taken == label else "maps-badly"))
    return [_seen(found, row), html.Dl(facts, className="maps-facts")]


def _fact(name: str, value: str, kind: str = "") -> html.Div:
    mark = {"maps-well": " ✓", "maps-badly": " ✗"}.get(kind, "")
    return html.Div([html.Dt(name), html.Dd(value + mark, className=kind)])


def _data(source: Source) -> html.P:
    return html.P(source.path.rpartition("/")[2], className="maps-quiet maps-file", title=source.path)


def _seen(found: Portrait, row: int) -> Component:
    if found.kind == "picture":
        wide, high = found.size
        factor = max(1, SHOWN_UP_TO // max(wide, high, 1))
        return html.Img(
            src=found.image, alt=f"Instance {row}", className="maps-picture",
            style={"width": f"{min(wide * factor, SHOWN_UP_TO)}px", "aspectRatio": f"{wide} / {high}"},
        )  # fmt: skip
    rows = [html.Tr([html.Th(name, scope="row"), html.Td(value)]) for name, value in found.cells]
    if found.more:
        rows.append(html.Tr(html.Td(f"and {found.more:,} more", colSpan=2)))
    table = html.Table(html.Tbody(rows), className="maps-cells", **{"aria-label": f"Instance {row}"})
    return html.Div(table, className="maps-record", tabIndex=0)


def group_words(found: Sides, *, guessed: bool) -> list[Component | str]:
    """What is shown: the layer, how large its maps are, what it is compared with, how to read it."""
    after, before = found.after, found.before
    words: list[Component | str] = [html.B(after.group.name), f" · {after.group.units:,} {after.group.kind}"]
    size = _size(after)
    if size:
        words.append(f" of {size}")
    if before is None:
        words.append(f" · #{after.step.number}: {found.why}")
    else:
        gone = 0 if found.match is None else found.match.gone.size
        lost = f", {gone:,} of {before.group.units:,} gone" if gone else ""
        words.append(f" · {_legend(after.form, before.step.number, after.step.number)}{lost}")
    if found.scores is None and found.criterion:
        words.append(f" · no scores by {found.criterion} yet")
    words += [f" · {note}" for note in after.notes]
    words.append(f" · click a {singular(after.group.kind)} to plan its removal")
    if guessed:
        words.append(", a layer of the drawing to see that one")
    return words


def _size(side: Side) -> str:
    shape = side.values.shape[1:]
    if side.form == "pictures":
        return f"{shape[0]} × {shape[1]}" + (" (queries × keys)" if side.group.kind.startswith("head") else "")
    if side.form == "lines":
        return f"{shape[0]} {'time steps' if side.group.kind == 'cells' else 'places'}"
    return ""


def _legend(form: str, before: int, after: int) -> str:
    if form == "pictures":
        return f"left #{before}, right #{after}"
    if form == "lines":
        return f"dashed #{before}, full #{after}"
    return f"outlined #{before}, filled #{after}"


def effect_table(found: Effect, notes: Sequence[str] = ()) -> list[Component]:
    """What comes out before, now and with the draft, and how far it moved."""
    if found.rows:
        shown = [word for word in COLUMNS if word == "draft" or any(row[word] is not None for row in found.rows)]
        size = len(found.rows) + found.more
        first = f"{len(found.rows)} of {size:,}" if found.more else "class"
        named = {"data-csv": "class" if found.probable else "output"}
        head = [html.Th(first if found.probable else "", scope="col", **named)]
        head += [html.Th(COLUMNS[word], scope="col") for word in shown]
        parts: list[Component] = [
            html.Table(
                [html.Thead(html.Tr(head)), html.Tbody([_row(row, shown, found) for row in found.rows])],
                className="maps-table",
            ),
        ]
    else:
        parts = [html.P("What comes out is no single vector; how far it moves:", className="maps-quiet")]
    parts.append(html.P(" ".join(said_of(found)), className="maps-line", title=MOVED))
    parts += [html.P(note, className="maps-note") for note in notes]
    if found.rows:
        parts.append(csv_button(f"{NAME}-csv", "Download what comes out as CSV", table=f"{NAME}-effect", file="output"))
    return parts


def _row(row: Mapping[str, Any], shown: Sequence[str], found: Effect) -> html.Tr:
    name = [html.B(row["name"]), html.Span(", the label", className="unseen")] if row["label"] else row["name"]
    cells = [html.Td(**_cell(row[word], word, probable=found.probable)) for word in shown]
    title = f"{row['name']}, the label" if row["label"] else str(row["name"])
    return html.Tr([html.Th(name, scope="row", title=title, **{"data-value": str(row["name"])}), *cells])


def _cell(value: float | None, word: str, *, probable: bool) -> dict[str, Any]:
    if value is None:
        return {"children": "·", "data-value": ""}
    exact = {"data-value": str(value)}  # for a file of the table
    if not probable:
        return {"children": f"{value:.4g}", **exact}
    look = {"className": f"maps-share maps-{word}", "style": {"--share": f"{value:.4f}"}}
    return {"children": f"{value:.1%}", **look, **exact}


def said_of(found: Effect) -> list[str]:
    """How far the output moved, and how many come out right, in words."""
    lines = []
    if "after" in found.moved:
        lines.append(f"The step moved the output by {_percent(found.moved['after'])}.")
    if "draft" in found.moved:
        lines.append(f"The draft moves it by {_percent(found.moved['draft'])}{' more' if lines else ''}.")
    if found.right and any(0 < share < 1 for share in found.right.values()):
        told = ", ".join(f"{COLUMNS[word]} {share:.0%}" for word, share in found.right.items())
        lines.append(f"Right: {told}.")
    return lines


def _percent(value: float) -> str:
    if value == float("inf"):
        return "more than can be said, it was 0"
    return f"{value:.1%}" if value < 10 else f"{value:.0f} times its size"
