"""What the page offers to save: a menu in the head of every panel, and tables that know their exact numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dash_ui.app import all_views
from dash_ui.maps_parts import effect_table
from dash_ui.page import LISTS, drawer, page
from dash_ui.parts import csv_button
from dash_ui.rows.instances import Chosen, Source, effect_of
from onnxprune.data import Dataset
from onnxprune.explain import Outcome

REVISIONS = {"tree": "", "jobs": "", "ended": ""}


def nodes(found: Any) -> Iterator[Any]:
    """A component and all that is in it."""
    yield found
    children = getattr(found, "children", None) or []
    for child in children if isinstance(children, list | tuple) else [children]:
        yield from nodes(child)


def labels(found: Any) -> list[str]:
    """What can be saved, as a screen reader says it."""
    menus = [node for node in nodes(found) if getattr(node, "className", "") == "menu picture"]
    buttons = [node for menu in menus for node in nodes(menu) if type(node).__name__ == "Button"]
    return [getattr(button, "aria-label") for button in buttons]


def test_every_panel_has_its_menu() -> None:
    found = labels(page(all_views(), "folder", REVISIONS, demo=False))
    for title in ("History", "Architecture", "Plan", "Statistics", "Inspect", "Guidance", "Jobs"):
        assert {f"Save {title} as picture: SVG", f"Save {title} as picture: PNG"} <= set(found)
    assert {"Save the whole drawing as SVG", "Save all that goes as SVG"} <= set(found)
    assert len(found) == len(set(found))


def test_forms_have_none() -> None:
    by_name = {view.name: drawer(view) for view in all_views() if view.area == "drawer"}
    assert {name for name, found in by_name.items() if labels(found)} == set(LISTS)


def test_a_button_knows_its_table_and_file() -> None:
    button = csv_button("x-csv", "Download x as CSV", table="x-table", file="x")
    assert (getattr(button, "data-csv"), getattr(button, "data-file")) == ("x-table", "x")
    assert "data-csv" not in csv_button("x-csv", "Download x as CSV").to_plotly_json()["props"]


def test_cells_of_what_comes_out_have_their_exact_numbers() -> None:
    source = Source("d", "d", Dataset({"x": np.zeros((1, 2))}, np.array([1])), np.array([1]), ("a", "b", "c"))
    values = np.array([[1 / 3, 1 / 7, 11 / 21]])
    found = effect_of(source, Chosen((0,)), {"before": None, "after": Outcome("y", values, values, True)})
    table = next(node for node in effect_table(found) if type(node).__name__ == "Table")
    cells = [getattr(node, "data-value") for node in nodes(table) if type(node).__name__ == "Td"]
    assert {float(text) for text in cells if text} == set(values[0])
