"""Feature maps as the browser gets them, and the choice of instances."""

from __future__ import annotations

import io
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dash_ui.desk import Desk
from dash_ui.maps_parts import effect_table, layout, portrait_of, said_of
from dash_ui.rows.draft import draft_of
from dash_ui.rows.effects import draft_effect
from dash_ui.rows.instances import (
    MEAN_OF,
    Chosen,
    Effect,
    Source,
    effect_of,
    mean_rows,
    move,
    portrait,
    source_for,
    wrong_rows,
)
from dash_ui.rows.maps import browser_maps, palette, shaped, sides
from dash_ui.theme import DARK, LIGHT
from dash_ui.views.maps import VIEW, _drawn
from onnxprune.data import Dataset
from onnxprune.errors import OptionError
from onnxprune.evaluate import evaluate
from onnxprune.explain import FeatureMaps, Layer, Outcome, outcome
from onnxprune.explain.maps import statistics
from onnxprune.model import from_proto
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import mlp

FOCUS = {"step": 2, "other": None, "group": "conv1", "criterion": "l2", "data": None}
ASK = {"row": 3, "cls": None, "mode": "one", "path": ""}
ROW = Chosen((3,))


@pytest.fixture
def pruned(demo: Path) -> Desk:
    """The digits, measured, and a step with three quarters of the filters."""
    with Workspace.open(demo) as workspace:
        workspace.measure(1)
        options = {"criterion": "l2", "ratio": 0.25, "verify": False}
        ACTIONS["prune"](workspace, 1, options, lambda *_: None, lambda: False)
    return Desk(demo)


def read(address: str) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(address.partition(",")[2])))


def texts(part: Any) -> str:
    """All that a person reads in components."""
    if isinstance(part, str | int | float):
        return str(part)
    if isinstance(part, list | tuple):
        return " ".join(map(texts, part))
    return "" if part is None else texts(getattr(part, "children", None))


class TestInstances:
    def test_moving_goes_round(self) -> None:
        assert [move(1, "next", 3), move(2, "next", 3), move(0, "previous", 3), move(1, "stay", 3)] == [2, 0, 2, 1]

    def test_moving_among_some(self) -> None:
        some = np.array([2, 5, 7])
        assert [move(at, "next", 9, some) for at in (0, 2, 7)] == [2, 5, 2]
        assert [move(at, "previous", 9, some) for at in (2, 6, 8)] == [7, 5, 7]
        assert [move(at, "stay", 9, some) for at in (0, 5, 6, 8)] == [2, 5, 7, 7]

    def test_random_is_another_one(self) -> None:
        assert {move(1, "random", 3, seed=seed) for seed in range(20)} == {0, 2}
        assert move(0, "random", 1) == 0

    def test_none_to_choose(self) -> None:
        with pytest.raises(OptionError, match="no such instance"):
            move(0, "next", 5, np.zeros(0, np.int64))

    def test_a_mean_is_over_some_of_a_class(self) -> None:
        labels = np.arange(1000) % 4
        source = Source("d", "d", Dataset({"x": np.zeros((1000, 2))}, labels), labels, ())
        rows = mean_rows(source, 3, None)
        assert len(rows) == MEAN_OF
        assert {row % 4 for row in rows} == {3}
        assert (rows[0], rows[-1]) == (3, 999)
        assert len(mean_rows(source, None, 5e9)) == 4

    def test_what_a_step_gets_wrong(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            source = source_for(pruned, workspace, 2, None)
            assert source is not None
            wrong = wrong_rows(Documents(workspace), 2, source)
            found = evaluate(workspace.model(2), source.dataset)
            assert wrong is not None
            assert 1 - wrong.size / len(source) == pytest.approx(found.value("accuracy"))
            assert wrong_rows(Documents(workspace), 2, replace(source, dataset=source.dataset.select([0, 1]))) is None

    def test_a_table_row_is_its_numbers(self) -> None:
        source = Source("d", "d", Dataset({"x": np.arange(12, dtype=np.float32).reshape(2, 6)}), None, ())
        found = portrait(from_proto(mlp()), source, 1)
        assert (found.kind, found.more) == ("row", 0)
        assert found.cells[0] == ("x 0", "6")
        assert "x 5" in texts(portrait_of(found, source, Chosen((1,)), None))

    def test_a_picture_is_what_one_would_see(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            source = source_for(pruned, workspace, 2, None)
            assert source is not None
            found = portrait(workspace.model(2), source, 3)
        pixels = np.asarray(read(found.image).convert("L"))
        expected = np.asarray(source.dataset.inputs["x"][3:4])[0, 0]
        np.testing.assert_array_equal(pixels, np.rint(expected * 255))


class TestMaps:
    def test_units_are_matched_through_the_plan(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            source = source_for(pruned, workspace, 2, None)
            assert source is not None
            found = sides(pruned, workspace, source, ROW, (2, 1), "conv1")
            plan = workspace.plan(2)
        assert plan is not None
        assert found.match is not None
        assert found.match.gone.tolist() == plan.units["conv1"].tolist()
        shown = browser_maps(found, LIGHT, common=False)
        assert [fact["b"] for fact in shown["units"]] == list(range(24))
        assert [fact["b"] for fact in shown["units"] if fact["u"] is None] == plan.units["conv1"].tolist()
        assert [fact["u"] for fact in shown["units"] if fact["u"] is not None] == list(range(18))
        assert {fact["change"] for fact in shown["units"] if fact["u"] is not None} == {0.0}  # nothing in front of it
        later = sides_of(pruned, "conv4")
        old, new = later.before.values[later.match.before], later.after.values
        moved = np.sqrt(((new - old) ** 2).sum((1, 2), dtype=np.float64))
        size = np.sqrt((old**2).sum((1, 2), dtype=np.float64))
        np.testing.assert_allclose(later.change[size > 0], (moved / np.where(size > 0, size, 1))[size > 0], rtol=1e-5)
        assert (later.change > 0).sum() > 40

    def test_one_picture_holds_all_maps(self, pruned: Desk) -> None:
        found = sides_of(pruned, "conv1")
        shown = browser_maps(found, LIGHT, common=True)
        picture = read(shown["sheet"])
        high, wide = shown["tile"]
        assert picture.size == (shown["columns"] * wide, shown["rows"] * high)
        levels = np.asarray(picture)
        top = max(float(found.after.values.max()), float(found.before.values.max()))
        for index, values in ((4, found.after.values[4]), (18 + 2, found.before.values[2])):
            row, column = divmod(index, shown["columns"])
            tile = levels[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
            np.testing.assert_array_equal(tile, np.rint(254 * values / top))

    def test_a_unit_has_one_scale_before_and_after(self, pruned: Desk) -> None:
        found = sides_of(pruned, "conv4")
        shown = browser_maps(found, DARK, common=False)
        levels = np.asarray(read(shown["sheet"]))
        high, wide = shown["tile"]
        tiles = [
            levels[r * high : (r + 1) * high, c * wide : (c + 1) * wide].max()
            for r in range(shown["rows"]) for c in range(shown["columns"])
        ]  # fmt: skip
        for fact in shown["units"]:
            if fact["u"] is not None and fact["size"]:
                assert max(tiles[fact["u"]], tiles[shown["after"] + fact["b"]]) == 254

    def test_forms(self) -> None:
        def of(kind: str, *shape: int) -> tuple[str, tuple[int, ...], int]:
            values = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
            layer = Layer("a", "t", 1, 0, shape[0], np.arange(shape[0]), np.arange(shape[0]), kind=kind)
            found = FeatureMaps(layer, (0,), np.arange(shape[0]), values, statistics(values))
            form, shaped_values, notes = shaped(found)
            return form, shaped_values.shape, len(notes)

        assert of("filters", 5, 4, 3) == ("pictures", (5, 4, 3), 0)
        assert of("filters", 5, 1, 1) == ("bars", (5,), 0)
        assert of("neurons", 5) == ("bars", (5,), 0)
        assert of("cells", 5, 8) == ("lines", (5, 8), 0)
        assert of("cells", 5, 8, 2) == ("lines", (5, 16), 1)
        assert of("filters", 5, 1, 9) == ("lines", (5, 9), 0)
        assert of("heads", 4, 7, 7) == ("pictures", (4, 7, 7), 0)
        assert of("heads", 4, 7) == ("lines", (4, 7), 1)
        assert of("filters", 5, 2, 4, 3) == ("pictures", (5, 4, 3), 1)

    def test_colours(self) -> None:
        for theme in (LIGHT, DARK):
            plain, signed = palette(theme, signed=False), palette(theme, signed=True)
            assert len(plain) == len(signed) == 256
            assert plain[0] == signed[127]
            assert len({signed[0], signed[127], signed[254], signed[255]}) == 4

    def test_what_it_looks_at_has_the_shape_of_the_instance(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            source = source_for(pruned, workspace, 2, None)
            assert source is not None
            found = sides(pruned, workspace, source, Chosen((3,), sees=True), (2, 1), "conv4")
        assert found.after.values.shape == (48, 8, 8)
        assert "guided" in found.after.notes[0]

    def test_the_mean_of_a_class(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            source = source_for(pruned, workspace, 1, None)
            assert source is not None
            rows = mean_rows(source, 2, None)
            mean = sides(pruned, workspace, source, Chosen(rows, mean=True), (1, None), "conv1")
            single = [sides(pruned, workspace, source, Chosen((r,)), (1, None), "conv1").after.values for r in rows[:3]]
            three = sides(pruned, workspace, source, Chosen(rows[:3], mean=True), (1, None), "conv1")
        assert mean.before is None
        np.testing.assert_allclose(three.after.values, np.mean(single, axis=0), rtol=1e-4, atol=1e-6)


def sides_of(desk: Desk, group: str) -> Any:
    with desk.workspace() as workspace:
        source = source_for(desk, workspace, 2, None)
        assert source is not None
        return sides(desk, workspace, source, ROW, (2, 1), group)


class TestEffect:
    def test_the_draft_is_what_removing_comes_to(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            step = workspace.steps.get(2)
            pruned.edit(2, {"group": "conv1", "remove": [0, 5]}, None)
            state, _ = draft_of(pruned, workspace, step)
            source = source_for(pruned, workspace, 2, None)
            assert source is not None
            found = draft_effect(pruned, workspace, source, ROW, (step, 1), state)
            made = ACTIONS["edit"](workspace, 2, {"verify": False}, lambda *_: None, lambda: False)
            removed = outcome(workspace.model(made.number), source.dataset, ROW.rows)
        assert removed.values is not None
        for row in found.rows:
            assert row["draft"] == pytest.approx(removed.values[0, row["index"]], abs=1e-5)
        assert found.moved["draft"] > 0
        assert sum(row["label"] for row in found.rows) == 1

    def test_the_label_is_always_listed(self) -> None:
        labels = np.array([9])
        source = Source("d", "d", Dataset({"x": np.zeros((1, 2))}, labels), labels, tuple("abcdefghij"))
        values = np.linspace(0.3, 0.01, 10)[None]
        found = effect_of(source, Chosen((0,)), {"before": None, "after": Outcome("y", values, values, True)})
        assert [row["name"] for row in found.rows] == ["a", "b", "c", "d", "j"]
        assert found.rows[-1]["label"]
        assert found.more == 5
        assert "5 of 10" in texts(effect_table(found))

    def test_words(self) -> None:
        found = Effect(True, (), {"after": 0.5, "draft": 12.0}, {"before": 1.0, "after": 0.75})
        assert said_of(found) == [
            "The step moved the output by 50.0%.",
            "The draft moves it by 12 times its size more.",
            "Right: before 100%, now 75%.",
        ]
        assert said_of(Effect(True, (), {"draft": 0.01}, {"after": 1.0})) == ["The draft moves it by 1.0%."]


class TestView:
    def test_what_is_drawn(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            shown, key, state, hidden, instance, words = _drawn(pruned, workspace, FOCUS, ASK, "own", "light")
        assert (state, hidden, key["other"], key["rows"]) == (None, False, 1, [3])
        assert "18 filters of 8 × 8 · left #1, right #2, 6 of 24 gone" in texts(words).replace("  ", " ")
        assert "label" in texts(instance)
        assert shown["criterion"] == "l2"

    def test_a_group_that_is_not_there_gives_way_to_another(self, pruned: Desk) -> None:
        with pruned.workspace() as workspace:
            found = _drawn(pruned, workspace, {**FOCUS, "group": None}, ASK, "own", "light")
        assert found[1]["group"] == "conv4"
        assert "a layer of the drawing" in texts(found[5])

    def test_data_that_are_gone(self, pruned: Desk) -> None:
        (pruned.folder / "data" / "digits.npz").unlink()
        with pruned.workspace() as workspace:
            found = _drawn(pruned, workspace, {**FOCUS, "data": "data/digits.npz"}, ASK, "own", "light")
        assert found[0] is None
        assert "data/digits.npz is not there any longer" in texts(found[2])

    def test_no_data(self, pruned: Desk) -> None:
        (pruned.folder / "data" / "digits.npz").unlink()
        with pruned.workspace(scan=True) as workspace:
            found = _drawn(pruned, workspace, FOCUS, None, "own", "light")
        assert "There are no data for this model" in texts(found[2])
        assert found[3]

    def test_an_instance_that_the_model_cannot_take(self, pruned: Desk) -> None:
        np.savez(pruned.folder / "data" / "wide.npz", x=np.zeros((4, 1, 5, 9), np.float32), y=np.zeros(4, np.int64))
        with pruned.workspace(scan=True) as workspace:
            found = _drawn(pruned, workspace, {**FOCUS, "data": "data/wide.npz"}, ASK, "own", "light")
        assert found[0] is None
        assert "8" in texts(found[2])

    def test_too_many_gradients_are_refused(self, pruned: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dash_ui.rows.maps.GRADIENT_MACS", 1e6)
        with pruned.workspace() as workspace:
            found = _drawn(pruned, workspace, FOCUS, {**ASK, "mode": "sees"}, "own", "light")
        assert "too much to wait for here" in texts(found[2])
        assert "--layer conv1 --units 0-" in texts(found[2])
        assert not found[3]  # one can choose something else

    def test_its_place(self) -> None:
        assert (VIEW.area, VIEW.name, VIEW.order) == ("inspect", "maps", 10)
        assert "maps-units" in str(layout())
