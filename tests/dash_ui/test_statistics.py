"""Rows and figures of the statistics, as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dash_ui.figures.classes import change_figure, curves_figure
from dash_ui.figures.confusion import cell_figure, confusion_figure
from dash_ui.figures.cost import cost_figure, moves_figure, sizes_figure
from dash_ui.figures.loss import loss_figure
from dash_ui.figures.metrics import metrics_figure
from dash_ui.figures.pareto import axis_title, pareto_figure
from dash_ui.figures.recovery import recovery_figure
from dash_ui.figures.steps import basis_of, thinned, tick_format
from dash_ui.rows.classes import change_rows, curves_of, mean_rows, why_no_curves
from dash_ui.rows.confusion import Matrix, instances_in, matrix_of, pair_rows
from dash_ui.rows.metrics import comparison_rows, first_metrics
from dash_ui.rows.statistics import focus_of, metric_rows, standing, step_options
from dash_ui.theme import DARK, LIGHT
from dash_ui.views.pareto import axes_of, first_axes
from onnxprune.workspace.evaluations import Documents, Head
from onnxprune.workspace.paths import cell_rows, epoch_rows, instance_rows, loss_rows, path_rows, tree_rows
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn, save
from tests.dash_ui.measured import grow
from tests.workspace.conftest import write_data


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("statistics")
    save(cnn(), folder / "cnn.onnx")
    write_data(folder / "data" / "bright.npz")
    with Workspace.open(grow(folder)) as opened:
        yield opened


@pytest.fixture
def documents(workspace: Workspace) -> Documents:
    return Documents(workspace)


def _trace(figure: Any, kind: str, place: int = 0) -> Any:
    return [trace for trace in figure.data if trace.type == kind][place]


# -- rows -------------------------------------------------------------------------------------------------------------


def test_a_step_is_compared_with_its_parent_unless_another_of_its_tree_is_chosen(workspace: Workspace) -> None:
    assert focus_of(workspace, {"step": 4}).other == 3
    assert focus_of(workspace, {"step": 4, "other": 1}).other == 1
    assert focus_of(workspace, {"step": 4, "other": 99}).other == 3
    assert focus_of(workspace, {"step": 4, "other": 4}).other == 3
    assert focus_of(workspace, {"step": 1}).other is None
    offered = step_options(workspace, workspace.steps.get(4))
    assert [option["value"] for option in offered] == [3, 1, 2, 5]
    assert offered[0]["label"] == "#3 prune (parent)"
    assert offered[1]["label"].startswith("#1 original")


def test_the_matrix_and_its_change(documents: Documents) -> None:
    matrix = matrix_of(documents, 4, 3)
    assert matrix is not None
    now, before = documents.confusion(4), documents.confusion(3)
    assert now is not None
    assert before is not None
    np.testing.assert_array_equal(matrix.counts, now)
    assert matrix.change is not None
    np.testing.assert_allclose(matrix.change, (now - before) / 4)
    chosen = matrix_of(documents, 4, 3, classes=[2, 0])
    assert chosen is not None
    assert (chosen.names, chosen.of) == (("0", "2"), 3)
    np.testing.assert_array_equal(chosen.counts, now[np.ix_([0, 2], [0, 2])])
    assert chosen.totals.tolist() == [4, 4]  # what was taken for class 1 still counts
    two = matrix_of(documents, 3, None, limit=2, most=2)
    assert two is not None
    first = pair_rows(documents, 3)[0]
    assert two.indices.tolist() == sorted((first["i"], first["j"]))  # the pair that is confused most


def test_the_order_of_classes(documents: Documents) -> None:
    before = documents.confusion(3)
    assert before is not None
    worst = matrix_of(documents, 3, 2, order="error")
    assert worst is not None
    missed = (4 - np.diagonal(before))[worst.indices]
    assert (np.diff(missed) <= 0).all()
    changed = matrix_of(documents, 3, 2, order="change")
    assert changed is not None
    assert changed.change is not None
    assert (np.diff(np.abs(changed.change).max(axis=1)) <= 0).all()


def test_pairs_and_instances(documents: Documents, workspace: Workspace) -> None:
    confusion, before = documents.confusion(3), documents.confusion(2)
    assert confusion is not None
    assert before is not None
    rows = pair_rows(documents, 3, 2)
    wrong = confusion.sum() - np.trace(confusion)
    assert sum(row["count"] for row in rows) == wrong > 0
    assert [row["count"] for row in rows] == sorted((row["count"] for row in rows), reverse=True)
    assert all(row["change"] == confusion[row["i"], row["j"]] - before[row["i"], row["j"]] for row in rows)
    first = rows[0]
    inside = instances_in(documents, 3, 2, first["i"], first["j"])
    assert inside is not None
    came = {row["instance"] for row in inside if row["moved"] == "came"}
    told = instance_rows(workspace, 2, 3)
    assert came == {r["instance"] for r in told if (r["label"], r["after"]) == (first["i"], first["j"])}
    assert all(row["i"] == 0 or row["j"] == 0 for row in pair_rows(documents, 3, 2, [0]))


def test_classes_of_two_steps(documents: Documents, workspace: Workspace) -> None:
    rows = change_rows(documents, 4, 3)
    old, new = (workspace.steps.class_metrics(number) for number in (3, 4))
    for row in rows:
        assert row["d_recall"] == pytest.approx(new["recall", row["class"]] - old["recall", row["class"]])
    moves = path_rows(workspace, 4)[3]
    assert sum(row["degenerated"] for row in rows) == moves["degenerated"]
    assert sum(row["improved"] for row in rows) == moves["improved"]
    macro, weighted = mean_rows(rows)
    metrics = workspace.steps.get(4).metrics
    assert macro["f1"] == pytest.approx(metrics["macro_f1"])
    assert weighted["recall"] == pytest.approx(metrics["weighted_recall"])
    assert change_rows(documents, 1, None)[0]["d_recall"] is None


def test_why_there_are_no_curves() -> None:
    head = Head(
        "classification", 5, ({"name": "a"},), ("2500 classes: no confusion matrix and no curves beyond 2000",), False
    )
    assert why_no_curves(head) == "2500 classes: no confusion matrix and no curves beyond 2000."
    assert "segmentation" in why_no_curves(Head("segmentation", 5, (), (), curves=False))
    assert "no scores" in why_no_curves(Head("classification", 5, (), (), curves=False))


def test_metrics_side_by_side(workspace: Workspace) -> None:
    rows = {row["metric"]: row for row in comparison_rows(workspace.steps.get(3), workspace.steps.get(2))}
    assert next(iter(rows)) == "accuracy"
    assert rows["parameters"]["verdict"] == "better"
    assert rows["parameters"]["change"].startswith("▼ -")
    assert (rows["macs"]["basis"], rows["accuracy"]["basis"], rows["parameters"]["basis"]) == (
        "estimated", "measured", "counted",
    )  # fmt: skip
    after, before = (workspace.steps.get(number).metrics["loss"] for number in (3, 2))
    assert rows["loss"]["exact"] == {"after": after, "before": before, "change": after - before}  # for a file
    first = comparison_rows(workspace.steps.get(1), None)[0]
    assert (first["before"], first["exact"]["before"]) == ("", None)
    assert first_metrics(["mse", "mae", "r2"]) == ["r2", "mae"]
    assert basis_of("latency") == "measured"


# -- where there is nothing --------------------------------------------------------------------------------------------


def test_what_is_said_where_there_is_nothing(small: Path) -> None:
    with Workspace.open(small) as fresh:
        step = fresh.steps.get(1)
        found = standing(fresh, Documents(fresh), step)
        assert (found.kind, found.measurable) == ("none", True)
        (small / "data" / "bright.npz").unlink()
        fresh.scan()
        assert standing(fresh, Documents(fresh), step).kind == "no data"


def test_a_regression_and_data_without_labels_point_to_the_metrics(small: Path) -> None:
    data = np.load(small / "data" / "bright.npz")
    np.savez(small / "data" / "bright.npz", x=data["x_test"])
    with Workspace.open(small) as fresh:
        fresh.scan()
        from onnxprune.workspace.actions import ACTIONS  # noqa: PLC0415 - only here

        ACTIONS["prune"](fresh, 1, {"ratio": 0.5, "threads": 1}, lambda *_: None, lambda: False)
        documents = Documents(fresh)
        assert standing(fresh, documents, fresh.steps.get(1)).kind == "original"
        assert standing(fresh, documents, fresh.steps.get(2)).kind == "fidelity"
        assert matrix_of(documents, 2, 1) is None
        assert change_rows(documents, 2, 1) == []
        rows = metric_rows(fresh, 2)
        figure = metrics_figure(rows, first_metrics([n for n in rows[1] if n in ("agreement", "kl", "cosine")]), LIGHT)
        assert len(figure.data) == 3
        assert "less is better" in "".join(a.text for a in figure.layout.annotations)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_empty_plots_say_why(theme: Any, workspace: Workspace) -> None:
    rows = path_rows(workspace, 1)
    for figure in (
        loss_figure(rows, [], theme), cost_figure(rows, theme), moves_figure(rows, theme),
        change_figure([], theme), curves_figure([], [], theme, ("", ""), "no scores"),
        metrics_figure([], ["accuracy"], theme), pareto_figure([], "macs", "accuracy", theme),
        recovery_figure([{**rows[0], "value": None}], [], theme),
    ):  # fmt: skip
        assert len(figure.data) == 0
        assert len(figure.layout.annotations) == 1
        assert figure.layout.annotations[0].text


# -- figures ----------------------------------------------------------------------------------------------------------


def test_the_matrix_colours_right_and_wrong_apart(documents: Documents) -> None:
    matrix = matrix_of(documents, 3, 2)
    assert matrix is not None
    figure = confusion_figure(matrix, LIGHT, cell=(1, 2))
    heat = _trace(figure, "heatmap")
    z = np.asarray(heat.z)
    np.testing.assert_allclose(np.diagonal(z), -np.diagonal(matrix.shares))
    wrong = ~np.eye(3, dtype=bool)
    assert (z[wrong] >= 0).all()
    assert z[wrong].max() == 1
    np.testing.assert_array_equal(np.asarray(heat.customdata)[..., 0], matrix.counts)
    shape = figure.layout.shapes[0]
    assert (shape.x0, shape.x1, shape.y0, shape.y1) == (1.5, 2.5, 0.5, 1.5)
    changed = np.asarray(_trace(confusion_figure(matrix, LIGHT, "change"), "heatmap").z)
    assert matrix.change is not None
    assert (np.sign(np.diagonal(changed)) == -np.sign(np.diagonal(matrix.change))).all()
    assert (np.sign(changed[wrong]) == np.sign(matrix.change[wrong])).all()


def test_names_that_are_alike_and_matrices_too_large_for_numbers() -> None:
    counts = np.eye(40, dtype=np.int64)
    matrix = Matrix(np.arange(40), ("same",) * 40, counts, counts.sum(axis=1), of=40)
    heat = _trace(confusion_figure(matrix, DARK, "count"), "heatmap")
    assert heat.text is None
    assert heat.x[3] == "3 · same"
    assert confusion_figure(matrix, DARK, "change").layout.annotations[0].text.startswith("There is no step")


def test_a_cell_over_the_path(workspace: Workspace) -> None:
    rows = cell_rows(workspace, 4, 0, 0)
    line = _trace(cell_figure(rows, LIGHT, ("0", "0"), "count"), "scatter")
    assert list(line.y) == [row["count"] for row in rows]
    assert [data[0] for data in line.customdata] == [1, 2, 3, 4]


def test_the_stripe_spans_the_epochs(workspace: Workspace) -> None:
    rows, epochs = path_rows(workspace, 4), epoch_rows(workspace, 4)
    figure = recovery_figure(rows, epochs, LIGHT, other=3)
    stripe = _trace(figure, "bar")
    for place, row in enumerate(rows):
        values = [e["value"] for e in epochs if e["step"] == row["step"]]
        mine = [k for k, x in enumerate(stripe.x) if x == place]
        assert bool(mine) == bool(values)
        if values and max(values) > min(values):
            low = min(stripe.base[k] for k in mine)
            high = max(stripe.base[k] + stripe.y[k] for k in mine)
            assert (low, high) == pytest.approx((row["recovery_low"], row["recovery_high"]))
            told = [int(stripe.text[k].split("<br>")[1].split()[0]) for k in mine]
            assert sum(told) == len(values)
    final, before = _trace(figure, "scatter"), _trace(figure, "scatter", 1)
    assert list(final.x) == [1, 3]  # 1 and 3 were trained further
    assert list(before.x) == [0, 2]
    assert any(shape.x0 == 2 for shape in figure.layout.shapes)  # the compared step


def test_losses_lie_between_their_steps(workspace: Workspace) -> None:
    figure = loss_figure(path_rows(workspace, 4), loss_rows(workspace, 4), LIGHT)
    x = np.asarray(_trace(figure, "scatter").x)
    known = x[~np.isnan(x)]
    assert known.min() > 0
    assert known.max() == 3
    assert not ((known > 1) & (known < 2)).any()  # nothing was trained to make step 3


def test_long_curves_keep_their_peaks() -> None:
    values = np.sin(np.arange(10_000) / 700)
    values[4321], values[7000] = 9, -9
    places = thinned(values, 100)
    assert len(places) <= 103
    assert {0, 4321, 7000, 9999} <= set(places.tolist())


def test_costs_sizes_and_moves(workspace: Workspace) -> None:
    rows = path_rows(workspace, 4)
    needed, beyond = cost_figure(rows, LIGHT).data
    assert [a + b for a, b in zip(needed.y, beyond.y, strict=True)] == [8, 3]
    sizes = sizes_figure(rows, LIGHT, "file_bytes")
    assert list(_trace(sizes, "bar").y) == [1 - row["macs_left"] for row in rows]
    assert list(_trace(sizes, "scatter").y) == [1 - row["file_bytes_left"] for row in rows]
    assert "estimated" in _trace(sizes, "bar").hovertemplate
    up, down = moves_figure(rows, LIGHT, since=True).data
    assert list(up.y) == [row["improved_since"] for row in rows[1:]]
    assert list(down.y) == [-row["degenerated_since"] for row in rows[1:]]
    assert down.marker.pattern.shape == "/"  # red is not alone


def test_curves_of_two_steps(documents: Documents) -> None:
    after, before = (curves_of(documents, number, ["macro", 1]) for number in (4, 3))
    figure = curves_figure(after, before, LIGHT, ("#4", "#3"))
    assert [trace.line.dash for trace in figure.data] == ["dot"] * len(before) + ["solid"] * len(after)
    assert {trace.line.color for trace in figure.data[: len(before)]} == {
        t.line.color for t in figure.data[len(before) :]
    }
    assert curves_of(documents, None, ["macro"]) == []
    changes = change_figure(change_rows(documents, 3, 2), LIGHT)
    assert {name for trace in changes.data for name in (trace.text or ())} == {"<b>0</b>", "<b>1</b>", "<b>2</b>"}


def test_the_front_of_a_tree(workspace: Workspace) -> None:
    rows = tree_rows(workspace, 4)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    names = axes_of(rows)
    assert first_axes(names) == ("parameters", "accuracy")
    figure = pareto_figure(rows, "parameters", "accuracy", LIGHT, selected=4, baseline=1, relative=(True, False))
    points = {data[0]: data[1:] for trace in figure.data if trace.customdata is not None for data in trace.customdata}
    assert set(points) == {1, 2, 3, 4, 5}
    assert points[1][0] == 100
    assert points[4][0] == pytest.approx(100 * rows[3]["parameters"] / rows[0]["parameters"])
    ring = next(trace for trace in figure.data if trace.name == "selected")
    assert (ring.x[0], ring.y[0]) == tuple(points[4])
    assert axis_title("macs", log=True) == "MACs ↓ · estimated, log scale"
    assert axis_title("accuracy") == "accuracy ↑ · measured"
    assert not any(trace.name == "front" for trace in pareto_figure(rows, "macs", "nothing", LIGHT).data)


def test_figures_are_the_same_every_time(workspace: Workspace) -> None:
    rows, epochs = path_rows(workspace, 4), epoch_rows(workspace, 4)
    texts = [json.dumps(recovery_figure(rows, epochs, DARK).to_plotly_json(), default=str) for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("name", "format_"), [("accuracy", ".2~%"), ("r2", ".3~g"), ("macs", ".3~s"), ("parameters", ".3~s"), ("x", ".3~s")]
)
def test_only_counts_have_prefixes(name: str, format_: str) -> None:
    assert tick_format(name) == format_
