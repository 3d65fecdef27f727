"""Units and drafts as rows for views."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dash_ui.desk import Desk
from dash_ui.figures.layers import layer_colours
from dash_ui.rows.draft import browser_units, draft_of, estimate, marks, payload, presets
from dash_ui.rows.units import (
    SENSITIVITY,
    GroupRow,
    NotMeasured,
    Units,
    choices,
    first_choice,
    source_of,
    units_of,
)
from dash_ui.theme import LIGHT
from onnxprune.cost import cost
from onnxprune.criteria import score
from onnxprune.guidance import ask, kept_instability, kept_scores
from onnxprune.guidance.preview import Preview
from onnxprune.surgery import remove
from onnxprune.workspace.edits import draft_plan
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.values import Step
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace


def rows(*sizes: int, scores: dict[str, Any] | None = None, **more: Any) -> Units:
    """Units of groups a, b, ... with scores 1, 2, 3 ... in each."""
    names = "abcdefghijklmnopqrstuvwxyz"[: len(sizes)]
    starts = np.cumsum([0, *sizes])
    groups = tuple(GroupRow(name, "filters", n, int(k)) for name, n, k in zip(names, sizes, starts, strict=False))
    found = {name: np.arange(1.0, n + 1) for name, n in zip(names, sizes, strict=True)} if scores is None else scores
    index = np.concatenate([np.arange(n) for n in sizes])
    given = {"criterion": "l2", "scale": "score", "parameters": np.full(index.size, 7), **more}
    return Units("hash", groups, np.repeat(np.arange(len(sizes)), sizes), index, scores=found, **given)


@pytest.fixture
def desk(small: Path) -> Iterator[Desk]:
    opened = Desk(small)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def here(desk: Desk) -> Iterator[tuple[Workspace, Step]]:
    with desk.workspace() as workspace:
        yield workspace, workspace.steps.all()[0]


class TestUnits:
    def test_scores_of_weights_are_there_at_once(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        units = units_of(desk, *here, "l2", "score")
        expected = score(*desk.analysis(*here), "l2")
        assert [group.name for group in units.groups] == ["conv1", "conv2"]
        assert units.x.tolist() == [*expected["conv1"], *expected["conv2"]]
        assert units.index.tolist() == [*range(8), *range(16)]
        assert units.groups[1].noun == "filter"
        assert "inputs of conv2" in units.groups[0].along
        assert units.instability is None

    def test_parameters_are_what_goes_with_a_unit_alone(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        model, coupling = desk.analysis(*here)
        units = units_of(desk, *here, "l2", "score")
        for group in units.groups:
            plan = draft_plan(model, coupling, [{"group": group.name, "remove": [1]}])
            less = cost(model).parameters - cost(remove(model, coupling, plan)).parameters
            assert units.parameters[group.start + 1] == less

    def test_normalised_scores_are_comparable(self) -> None:
        units = rows(2, 3, scores={"a": np.array([3.0, -4.0]), "b": np.array([0.0, 0.0, np.nan])})
        assert units.normalised.tolist() == [0.6, 0.8, 0, 0, 0]

    def test_measured_scores(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        workspace, step = here
        unknown = units_of(desk, workspace, step, SENSITIVITY, "layer")
        assert not unknown.measured
        assert np.isnan(unknown.x).all()
        edit = {"criterion": SENSITIVITY, "threshold": 0.1, "scores": unknown.options}
        with pytest.raises(NotMeasured, match="sensitivity was not measured"):
            source_of(desk, workspace, step)(edit)
        assert first_choice(workspace, step.number, None) == ("l2", "score")

        assert ask(workspace, step.number, "score", criterion=SENSITIVITY) is not None
        assert ask(workspace, step.number, "instability", runs=2) is not None
        work(workspace)
        assert [job.state for job in Jobs(workspace.database).all()] == ["done", "done"]
        units = units_of(desk, workspace, step, SENSITIVITY, "layer", runs=2)
        kept, spread = kept_scores(workspace, step.number), kept_instability(workspace, step.number, runs=2)
        assert kept is not None
        assert spread is not None
        assert units.flat(units.scores)[:8].tolist() == kept["conv1"].tolist()
        assert np.linalg.norm(units.x[:8]) == pytest.approx(1)
        assert units.instability is not None
        assert units.instability[8:].tolist() == list(spread.of("conv2").instability)
        assert units_of(desk, workspace, step, SENSITIVITY, "layer", runs=3).instability is None
        assert units.key != unknown.key
        assert first_choice(workspace, step.number, None) == (SENSITIVITY, "layer")

        workspace.drafts.add(step.number, units.entry(float(np.median(units.x))))
        state, _ = draft_of(desk, workspace, step)
        assert units.mask(state.gone).tolist() == (units.x < np.median(units.x)).tolist()

    def test_choices(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        _, coupling = desk.analysis(*here)
        assert choices(coupling, data=True)[0] == SENSITIVITY
        without = choices(coupling, data=False)
        assert SENSITIVITY not in without
        assert {"l1", "l2"} <= set(without)
        assert first_choice(*(here[0], here[1].number), None)[0] in without

    def test_the_draft_says_what_to_begin_with(self, here: tuple[Workspace, Step]) -> None:
        workspace, step = here
        workspace.drafts.add(step.number, {"criterion": "l1", "threshold": 0.2, "scale": "rank"})
        workspace.drafts.add(step.number, {"group": "conv1", "remove": [0]})
        assert first_choice(workspace, step.number, None) == ("l1", "rank")


class TestPresets:
    def test_a_share_of_the_units(self) -> None:
        units = rows(10, 10)
        found = presets(units)
        for name, share in (("10%", 0.1), ("20%", 0.2), ("30%", 0.3), ("50%", 0.5)):
            threshold = found[name]
            assert threshold is not None
            assert int((units.x < threshold).sum()) == round(share * 20)

    def test_ties_take_fewer_rather_than_more(self) -> None:
        units = rows(4, scores={"a": np.array([1.0, 2.0, 2.0, 2.0])})
        assert presets(units)["50%"] == 2.0
        assert presets(rows(4, scores={"a": np.ones(4)}))["50%"] is None

    def test_groups_left_alone_do_not_count(self) -> None:
        units = rows(10, 10, scores={"a": np.zeros(10), "b": np.arange(10.0)})
        assert presets(units, {"a"})["50%"] == 5.0
        assert presets(units, {"a", "b"})["50%"] is None

    def test_dead_units(self) -> None:
        units = rows(4, scores={"a": np.array([0.0, 3.0, 0.0, 2.0])})
        assert presets(units)["dead"] == 2.0
        assert presets(rows(4))["dead"] is None

    def test_the_knee_is_where_the_curve_turns(self) -> None:
        values = np.concatenate([np.linspace(0.01, 0.02, 15), np.linspace(0.5, 1, 5)])
        assert presets(rows(20, scores={"a": values}))["knee"] == pytest.approx(0.02)

    def test_nothing_measured(self) -> None:
        assert set(presets(rows(3, scores={})).values()) == {None}


class TestDraft:
    def test_the_browser_gets_what_holds(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        workspace, step = here
        units = units_of(desk, workspace, step, "l2", "score")
        threshold = presets(units)["30%"]
        assert threshold is not None
        order = np.argsort(units.x)
        lowest = int(order[0])
        group = units.groups[int(units.group[lowest])]
        for edit in (
            units.entry(threshold),
            {"group": group.name, "restore": [int(units.index[lowest])]},
            {"group": "conv2", "lock": True},
            {"criterion": "l2", "group": "conv1", "share": 0.25},
        ):
            workspace.drafts.add(step.number, edit)
        state, revision = draft_of(desk, workspace, step)
        found = payload(units, state, revision)
        assert found["threshold"] == threshold
        assert found["other"] == ""
        assert found["revision"] == workspace.drafts.revision(step.number)
        assert found["locked"] == [1]
        assert found["shares"] == {"0": 0.25}
        assert found["restored"] == [lowest]
        assert found["gone"] == np.flatnonzero(units.mask(state.gone)).tolist()
        assert not any(place >= 8 for place in found["gone"])
        assert not found["empty"]

    def test_a_threshold_on_another_scale_is_told_in_words(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        workspace, step = here
        workspace.drafts.add(step.number, {"criterion": "l1", "threshold": 0.5, "scale": "rank"})
        state, revision = draft_of(desk, workspace, step)
        found = payload(units_of(desk, workspace, step, "l2", "score"), state, revision)
        assert (found["threshold"], found["other"]) == (None, "l1 below 0.5 (rank)")
        assert len(found["automatic"]) == 12
        assert payload(units_of(desk, workspace, step, "l1", "rank"), state, revision)["threshold"] == 0.5

    def test_an_old_entry_without_a_scale(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        workspace, step = here
        workspace.drafts.add(step.number, {"criterion": "l2", "threshold": 0.25})
        state, revision = draft_of(desk, workspace, step)
        assert payload(units_of(desk, workspace, step, "l2", "score"), state, revision)["threshold"] == 0.25

    def test_an_entry_whose_scores_are_gone_is_told(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        workspace, step = here
        lost = {"criterion": SENSITIVITY, "threshold": 0.5, "scores": {"data": "data/bright.npz"}}
        workspace.drafts.add(step.number, lost)
        workspace.drafts.add(step.number, {"group": "conv1", "remove": [2]})
        state, _ = draft_of(desk, workspace, step)
        assert state.units == 1
        assert state.notes == ("1 entries by sensitivity do not count: the scores are not kept for this step",)

    def test_what_is_left_is_what_the_removed_model_costs(self, desk: Desk, here: tuple[Workspace, Step]) -> None:
        workspace, step = here
        model, coupling = desk.analysis(workspace, step)
        edits = [{"group": "conv1", "remove": [0, 3]}, {"group": "conv2", "remove": [1]}]
        state, _ = draft_of(desk, workspace, step, edits)
        left = estimate(desk, workspace, step, state, "l2")
        after = cost(remove(model, coupling, draft_plan(model, coupling, edits)))
        assert (left["parameters"], left["macs"], left["bytes"]) == (after.parameters, after.macs, after.bytes)
        assert left["parameters_left"] == after.parameters / cost(model).parameters
        assert (left["units"], left["of"]) == (3, 24)
        assert left["accuracy"] is None

    def test_previews_stand_on_the_axis(
        self, desk: Desk, here: tuple[Workspace, Step], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace, step = here
        units = units_of(desk, workspace, step, "l2", "score")
        common: dict[str, Any] = {
            "units": 24, "groups": {}, "parameters": 1, "macs": 1, "file_bytes": 1, "metric": "accuracy",
            "baseline": 0.9, "samples": 48, "metrics": {},
        }  # fmt: skip
        known = (
            Preview("a", 6, value=0.875, recipes=({"criterion": "l2", "ratio": 0.25},), **common),
            Preview("b", 9, value=0.5, recipes=({"criterion": "l2", "threshold": 0.31},), **common),
        )
        monkeypatch.setattr("dash_ui.rows.draft.previews", lambda *_, **__: known)
        near, exact = marks(workspace, step, units)
        assert (near["kind"], near["text"]) == ("near", "87.50%")
        assert int((units.x < near["x"]).sum()) == 6
        assert (exact["kind"], exact["x"]) == ("measured", 0.31)
        assert "9 of 24 units removed, on 48 samples, before training" in exact["title"]


def test_the_browser_compares_the_very_numbers() -> None:
    units = rows(3, scores={"a": np.array([0.1 + 0.2, 1 / 3, np.nan])})
    found = browser_units(units, layer_colours(LIGHT, 1), log=False, step=1, readonly=False)
    assert found["x"] == [0.1 + 0.2, 1 / 3, None]
    assert found["entry"] == {"criterion": "l2", "scale": "score", "view": "plan"}
    assert found["words"] == "filters"
    assert found["parameters"] == [7, 7, 7]
    assert not found["canvas"]
