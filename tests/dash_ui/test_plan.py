"""Bubbles, radar and circles as data; what the view says."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from dash import Dash

from dash_ui.desk import Desk
from dash_ui.figures.bubbles import DRAWN_UP_TO, IN_PLAN, bubbles, drawn_at, lanes, sizes
from dash_ui.figures.circles import circles_svg, side
from dash_ui.figures.layers import DISTINCT, layer_colours
from dash_ui.figures.radar import AFTER, radar
from dash_ui.plan_layout import STORES
from dash_ui.theme import DARK, LIGHT
from dash_ui.views.plan import VIEW, answer, radar_words
from tests.dash_ui.test_draft_rows import desk, here, rows

__all__ = ["desk", "here"]  # fixtures

SVG = "{http://www.w3.org/2000/svg}"


class TestBubbles:
    def test_one_for_each_unit_at_its_score(self) -> None:
        units = rows(3, 4)
        trace = bubbles(units, LIGHT).data[0]
        assert list(trace.x) == [1, 2, 3, 1, 2, 3, 4]
        assert len(set(trace.marker.color)) == 2
        assert trace.customdata[4][0] == "b · filter 1"
        assert "parameters" in trace.hovertemplate
        assert "instability" not in trace.hovertemplate

    def test_each_in_the_lane_of_its_group_always_at_the_same_place(self) -> None:
        units = rows(64, 32)
        assert (np.round(lanes(units)) == units.group).all()
        assert (lanes(units) == lanes(rows(64, 32))).all()
        assert np.unique(lanes(units)).size == 96

    def test_the_area_grows_with_the_instability(self) -> None:
        found = sizes(rows(3, instability=np.array([0.0, 1.0, 4.0])))
        assert found.tolist() == [5, 12.5, 20]
        assert np.ptp(sizes(rows(3))) == 0
        assert "instability" in bubbles(rows(3, instability=np.ones(3)), LIGHT).data[0].hovertemplate

    def test_a_logarithmic_axis_shows_what_scores_nothing_at_its_edge(self) -> None:
        units = rows(3, scores={"a": np.array([0.0, 0.5, 2.0])})
        assert drawn_at(units, log=True).tolist() == [0.05, 0.5, 2]
        axis = bubbles(units, LIGHT, log=True).layout.xaxis
        assert axis.type == "log"
        assert axis.title.text == "l2, as measured (logarithmic)"

    def test_many_leave_their_drawing_to_the_canvas(self) -> None:
        units = rows(DRAWN_UP_TO, 1)
        figure = bubbles(units, LIGHT)
        assert list(figure.data[0].x) == [1, DRAWN_UP_TO]
        assert figure.data[0].marker.opacity == 0
        assert sizes(units).max() < sizes(rows(3)).max()

    def test_what_goes_has_a_mark_besides_its_colour(self) -> None:
        trace = bubbles(rows(2), DARK).data[IN_PLAN]
        assert trace.marker.symbol == "circle-x"
        assert trace.marker.line.color == DARK.gone
        assert len(trace.x) == 0

    def test_many_groups_do_not_crowd_the_axis(self) -> None:
        axis = bubbles(rows(*[2] * 26), LIGHT).layout.yaxis
        assert len(axis.tickvals) == 26
        assert axis.range[0] > axis.range[1]

    def test_nothing_measured(self) -> None:
        assert len(bubbles(rows(2, scores={}), LIGHT).data) == 2


class TestColours:
    @pytest.mark.parametrize("theme", [LIGHT, DARK])
    def test_up_to_twelve_are_distinct_and_more_are_a_ramp(self, theme: Any) -> None:
        few, many = layer_colours(theme, DISTINCT), layer_colours(theme, 54)
        assert len(set(few)) == DISTINCT
        assert len(many) == 54
        assert len(set(many)) == 54
        assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in (*few, *many))
        assert layer_colours(theme, 1) == few[:1]


def test_the_radar_closes() -> None:
    trace = radar({"filters": 0.5, "l2": 0.75, "MACs": 0.25}, LIGHT).data[AFTER]
    assert list(trace.r) == [0.5, 0.75, 0.25, 0.5]
    assert trace.theta[0] == trace.theta[-1] == "filters"


def test_the_radar_shows_what_is_known() -> None:
    assert radar_words(rows(2, scores={})) == {"units": "filters", "parameters": "parameters", "macs": "MACs"}
    full = radar_words(rows(2, instability=np.ones(2)))
    assert list(full) == ["units", "score", "instability", "parameters", "macs"]


class TestCircles:
    def test_one_for_each_unit_that_goes_with_its_number(self) -> None:
        gone = np.array([True, False, True, False, True])
        tree = ET.fromstring(circles_svg(rows(3, 2), gone, LIGHT))  # noqa: S314 - our own
        titles = [circle.findtext(f"{SVG}title") for circle in tree.iter(f"{SVG}circle")]
        assert titles == ["a · filter 0", "a · filter 2", "b · filter 1"]
        texts = [text.text for text in tree.iter(f"{SVG}text")]
        assert texts == ["3 of 5 units go", "0", "2", "1"]

    def test_the_bar_is_shared_by_groups(self) -> None:
        gone = np.array([True, True, True, False, True])
        tree = ET.fromstring(circles_svg(rows(3, 2), gone, LIGHT))  # noqa: S314 - our own
        widths = {r.findtext(f"{SVG}title"): float(r.get("width", 0)) for r in tree.iter(f"{SVG}rect") if r.get("y")}
        assert widths == {"a: 3 of 3": 720, "b: 1 of 2": 240}

    @pytest.mark.parametrize("count", [0, 1, 100, 5000])
    def test_they_fit(self, count: int) -> None:
        pixels = side(count, 960, 320)
        assert (960 // pixels) * (320 // pixels) >= count

    def test_names_are_escaped(self) -> None:
        units = rows(2)
        group = type(units.groups[0])("a<b&c", "filters", 2, 0)
        text = circles_svg(type(units)(**{**vars(units), "groups": (group,)}), np.array([True, False]), LIGHT)
        assert "a&lt;b&amp;c" in text


class TestView:
    def test_it_has_its_stores_and_labels(self) -> None:
        found = str(VIEW.layout())
        assert all(f"'{name}'" in found for name in STORES)
        assert "aria-label" in found

    def test_callbacks_register(self, desk: Desk) -> None:
        app = Dash(__name__, suppress_callback_exceptions=True)
        VIEW.register(app, desk)
        assert app.callback_map or app._callback_list

    def test_the_answer_is_for_the_step_that_is_shown(self, desk: Desk, here: Any) -> None:
        workspace, step = here
        shown = {"step": step.number, "criterion": "l2", "scale": "score"}
        found = answer(desk, workspace, shown, {"step": step.number}, None)
        assert found is not None
        drafted, left, revision = found
        assert drafted["empty"]
        assert drafted["left"] == left
        assert left["macs_left"] == 1
        assert revision == workspace.drafts.revision(step.number)
        assert answer(desk, workspace, {**shown, "step": 99}, {"step": step.number}, None) is None
        assert answer(desk, workspace, shown, {}, None) is None
