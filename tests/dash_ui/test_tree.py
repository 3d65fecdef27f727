"""The tree: its rows, where its nodes stand, its figure, the estimator."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dash_ui.desk import Desk
from dash_ui.figures.tree import TRACES, draw, heights_of
from dash_ui.rows.estimator import branch_of, estimator_points
from dash_ui.rows.history import Tree, Words, edge_words, number_words, put_away, shown, steps_words, tree_of, words_of
from dash_ui.rows.lanes import bend, lanes
from dash_ui.theme import DARK, LIGHT
from onnxprune.errors import WorkspaceError
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.history import SIZES, grow

ALL = sum(SIZES.values())


@pytest.fixture
def desk(demo: Path) -> Desk:
    with Workspace.open(demo) as workspace:
        grow(workspace)
    return Desk(demo)


def tree(desk: Desk, step: int | None = 1, *, trashed: bool = False, named: bool = True) -> Tree:
    known = {key: Words(**value) for key, value in (words_of(desk, 1, {}) or {}).items()} if named else {}
    with desk.workspace() as workspace:
        found = tree_of(desk, workspace, step, known, trashed=trashed)
    assert found is not None
    return found


def test_rows(desk: Desk) -> None:
    found = tree(desk)
    assert [node.units for node in found.nodes] == [168, 84, 84, 42, 42, 42, 42]
    assert [node.edge for node in found.nodes[1:]] == [
        "untrained",
        "settled",
        "untrained",
        "open",
        "untrained",
        "failed",
    ]
    assert [node.quality for node in found.nodes[:3]] == [0.99, 0.6, 0.985]
    assert found.metric == "accuracy"
    assert found.words.axis == "filters left"
    assert found.baseline.number == 1
    assert [node.number for node in found.path(5)] == [1, 2, 3, 4, 5]
    assert found.path(99) == []
    assert found.get(99) is None


def test_units_are_known_before_the_analysis_is_done(desk: Desk) -> None:
    """The plans name the groups; only the word for them has to wait."""
    found = tree(desk, named=False)
    assert [node.units for node in found.nodes] == [168, 84, 84, 42, 42, 42, 42]
    assert found.words.axis == "units left"


def test_a_lone_original_waits_for_the_analysis(demo: Path) -> None:
    desk = Desk(demo)
    with desk.workspace(scan=True):
        pass
    assert tree(desk, named=False).root.units is None
    assert heights_of(tree(desk, named=False))[1] == "parameters left"
    assert tree(desk).root.units == ALL
    assert heights_of(tree(desk)) == ({1: float(ALL)}, "filters left")


def test_no_steps(bare: Path) -> None:
    desk = Desk(bare)
    with desk.workspace(scan=True) as workspace:
        assert tree_of(desk, workspace, None, {}) is None
    assert words_of(desk, None, {}) is None


def test_words_are_asked_for_once(desk: Desk) -> None:
    known = words_of(desk, 5, {})
    assert known is not None
    assert words_of(desk, 2, known) is None
    assert Words(**next(iter(known.values()))).noun(["conv1"]) == "filters"


def test_mixed_words() -> None:
    words = Words({"a": 3, "b": 4}, {"a": "filters", "b": "neurons"})
    assert words.noun() == "units"
    assert words.noun(["b"]) == "neurons"
    assert words.axis == "units left: filters, neurons"


def test_why_a_training_ended_and_why_a_run_gave_up(desk: Desk) -> None:
    nodes = tree(desk).nodes
    assert edge_words(nodes[2]) == "fine-tuning converged (delta loss after 6 epochs)"
    assert edge_words(nodes[4]) == "fine-tuning not converged (max epochs after 8 epochs)"
    still = replace(nodes[2], stopped="max epochs", epochs=9)
    assert edge_words(still) == "fine-tuning converged (no epoch after the best of 9 was better)"
    assert edge_words(nodes[6]) == "given up by the automatic run: accuracy is 0.7, required 0.98"


def test_a_metric_that_should_be_low_fills_its_bar_where_it_is_as_low_as_the_originals(desk: Desk) -> None:
    with desk.workspace() as workspace:
        with workspace.database.writing() as connection:
            connection.execute("UPDATE label SET metrics = json_remove(metrics, '$.accuracy')")
        found = tree_of(desk, workspace, 1, {})
    assert found is not None
    assert found.metric == "loss"
    assert found.root.quality == 1
    assert found.nodes[1].quality == pytest.approx(0.03 / 0.4)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("accuracy", 0.9822, "98.22%"), ("parameters", 1.25e6, "1.25 M"), ("file_bytes", 480_000.0, "480 kB"),
        ("loss", 0.5, "0.5000 nats"), ("accuracy", None, "-"), ("own", 0.12345, "0.1235"),
    ],
)  # fmt: skip
def test_figures_in_words(name: str, value: float | None, words: str) -> None:
    assert shown(name, value) == words


def test_numbers_in_words() -> None:
    assert [number_words(n) for n in (12, 1234, 2.5e9)] == ["12", "1.23 k", "2.5 G"]
    assert number_words(12, "B") == "12 B"
    assert [steps_words(n) for n in ([3], [3, 4], [3, 4, 5], [1, 2, 3, 4, 5])] == [
        "Step 3", "Steps 3 and 4", "Steps 3, 4 and 5", "5 steps",
    ]  # fmt: skip


# -- where nodes stand -------------------------------------------------------------------------------------------------


def overlaps(columns: dict[int, int], heights: dict[int, float], gap: float) -> list[tuple[int, int]]:
    """Pairs of steps in one column that are nearer than the gap."""
    found = []
    for column in set(columns.values()):
        mine = sorted((n for n in columns if columns[n] == column), key=lambda n: heights[n])
        found += [(a, b) for a, b in itertools.pairwise(mine) if heights[b] - heights[a] < gap - 1e-9]
    return found


@pytest.mark.parametrize("shape", ["bushy", "deep", "level", "mixed", "rising"])
@pytest.mark.parametrize("count", [1, 2, 40, 300])
def test_no_two_nodes_overlap(shape: str, count: int) -> None:
    rng = np.random.default_rng(count)
    parents: dict[int, int | None] = {1: None}
    heights = {1: 1000.0}
    for number in range(2, count + 1):
        parent = {"bushy": 1, "mixed": int(rng.integers(1, number))}.get(shape, number - 1)
        change = {"level": 0.0, "rising": rng.normal(0, 40)}.get(shape, -float(rng.integers(0, 60)))
        parents[number], heights[number] = parent, heights[parent] + change
    gap = (max(heights.values()) - min(heights.values())) / 12 or 1.0
    columns = lanes(parents, heights, gap)
    assert set(columns) == set(parents)
    assert overlaps(columns, heights, gap) == []


def test_fine_tuning_stands_beside_and_the_next_pruning_below() -> None:
    parents = {1: None, 2: 1, 3: 2, 4: 3, 5: 4}
    columns = lanes(parents, {1: 100.0, 2: 50.0, 3: 50.0, 4: 25.0, 5: 25.0}, 5.0)
    assert columns == {1: 0, 2: 0, 3: 1, 4: 0, 5: 1}


def test_branches_of_lower_steps_stand_nearer() -> None:
    parents = {1: None, 2: 1, 3: 2, 4: 1, 5: 2}
    columns = lanes(parents, {1: 100.0, 2: 70.0, 3: 40.0, 4: 30.0, 5: 20.0}, 5.0)
    assert columns[3] == 0
    assert columns[5] == 1
    assert columns[4] == 2


def test_columns_are_used_again_at_another_height() -> None:
    parents = {1: None, 2: 1, 3: 2, 4: 1, 5: 3}
    columns = lanes(parents, {1: 100.0, 2: 50.0, 3: 20.0, 4: 80.0, 5: 20.0}, 5.0)
    assert columns[4] == 1
    assert columns[5] == 1


def test_a_step_without_its_parent_begins_a_tree() -> None:
    assert lanes({4: 2, 5: 4}, {4: 9.0, 5: 5.0}, 1.0) == {4: 0, 5: 0}


def test_edges_go_around_what_stands_between() -> None:
    assert bend((0, 10), (1, 5), 2) == ((0, 10), (1, 5))
    assert min(y for _, y in bend((0, 10), (3, 10), 2)) == 9
    assert bend((0, 10), (3, 5), 2)[2] == (3, 9)


# -- the figure --------------------------------------------------------------------------------------------------------


def test_the_figure_says_where_everything_is(desk: Desk) -> None:
    found = tree(desk)
    figure = draw(found, LIGHT)
    assert len(figure.data) == len(TRACES)
    boxes = figure.data[TRACES.index("boxes")]
    assert list(boxes.customdata) == [1, 2, 3, 4, 5, 6, 7]
    assert list(boxes.y) == [168, 84, 84, 42, 42, 42, 42]
    assert figure.layout.yaxis.title.text == "filters left"
    assert figure.layout.meta["parents"]["3"] == 2
    assert figure.layout.meta["bars"][1][2:] == [0.6, pytest.approx(found.nodes[1].left)]


def test_a_bar_is_as_long_as_its_share(desk: Desk) -> None:
    figure = draw(tree(desk), LIGHT)
    track, bar = (figure.data[TRACES.index(name)] for name in ("tracks", "quality"))
    assert (bar.x[4] - bar.x[3]) / (track.x[7] - track.x[6]) == pytest.approx(0.6)


def test_edges_are_told_apart_without_colours(desk: Desk) -> None:
    figure = draw(tree(desk), DARK)
    edges = figure.data[:4]
    assert len({edge.line.dash for edge in edges}) == 4
    assert [sum(x is None for x in edge.x) for edge in edges] == [1, 1, 3, 1]


def test_hovering_tells_size_cost_metrics_and_time(desk: Desk) -> None:
    text = draw(tree(desk), LIGHT).data[TRACES.index("boxes")].hovertext[2]
    for words in ("#3 fine-tune", "84 of 168 filters left", "accuracy 98.50%", "size in storage 100 kB", "MACs 500 k",
                  "parameters 20 k", "fine-tuning converged", "took 1.5 s"):  # fmt: skip
        assert words in text


def test_names_cannot_become_markup(desk: Desk) -> None:
    with desk.workspace() as workspace:
        workspace.steps.describe(2, name="<b onclick=x>", note="<i>")
    text = draw(tree(desk), LIGHT).data[TRACES.index("boxes")].hovertext[1]
    assert "<i>" not in text
    assert "&lt;b onclick" in text


def test_marks(desk: Desk) -> None:
    with desk.workspace() as workspace:
        workspace.steps.mark_damaged(3, "the blob is gone")
    marks = draw(tree(desk), LIGHT).data[TRACES.index("marks")]
    assert list(marks.text) == ["★", "!", "✕"]


def test_two_hundred_siblings_and_two_hundred_in_a_row(demo: Path) -> None:
    desk = Desk(demo)
    with desk.workspace(scan=True) as workspace:
        grower = grow(workspace)
        at = 1
        for k in range(100):
            grower.prune(1, 0.3 + k / 200, 0.5)
            at = grower.prune(at, 0.02, 0.5)
    found = tree(desk)
    figure = draw(found, LIGHT)
    places = [tuple(place) for place in figure.layout.meta["places"].values()]
    assert len(found.nodes) == 207
    assert len(set(places)) == 207


# -- the estimator -----------------------------------------------------------------------------------------------------


def test_estimates_follow_the_branch_of_the_step(desk: Desk) -> None:
    found = tree(desk)
    assert [node.number for node in branch_of(found, 2)] == [1, 3, 5]
    points = estimator_points(found, 3)
    assert points is not None
    assert points["points"][0]["units"] == 168
    measured = {p["units"]: p["value"] for p in points["points"]}
    assert measured[84] == pytest.approx(0.985)
    assert measured[42] == pytest.approx(0.95)
    assert 0.95 < measured[60] < 0.985
    assert points["start"] == 63
    assert points["noun"] == "filters"
    assert points["percent"]
    row = next(p for p in points["points"] if p["units"] == 60)
    assert row["low"] < row["value"] < row["high"]
    assert row["parameters"] < 40_000


def test_nothing_is_claimed_below_what_was_measured(desk: Desk) -> None:
    points = estimator_points(tree(desk), 5)
    assert points is not None
    below = [p for p in points["points"] if p["units"] < 42]
    assert below
    assert all(p["value"] is None and p["macs"] is None for p in below)


def test_what_a_run_gave_up_is_no_basis(desk: Desk) -> None:
    assert 7 not in [node.number for node in branch_of(tree(desk), 6)]


def test_one_measured_count_says_what_is_missing(demo: Path) -> None:
    desk = Desk(demo)
    with desk.workspace(scan=True):
        pass
    points = estimator_points(tree(desk), 1)
    assert points is not None
    assert "second step" in points["basis"]
    assert points["units"] == ALL
    assert estimator_points(tree(desk, named=False), 1) is None


# -- the trash ---------------------------------------------------------------------------------------------------------


def test_delete_takes_what_was_made_of_it_along(desk: Desk) -> None:
    assert put_away(desk, 4) == (3, "Steps 4 and 5 are in the trash.")
    assert [node.number for node in tree(desk).nodes] == [1, 2, 3, 6, 7]
    assert [node.trashed for node in tree(desk, trashed=True).nodes] == [False] * 3 + [True] * 2 + [False] * 2


def test_an_original_is_not_deleted(desk: Desk) -> None:
    with pytest.raises(WorkspaceError, match="step 1 is an original"):
        put_away(desk, 1)
