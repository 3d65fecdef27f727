"""Jobs, guidance, import and export: what the drawers are made of."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dash import Dash, html
from dash.development.base_component import Component

from dash_ui import files
from dash_ui.desk import Desk
from dash_ui.rows.queue import job_rows, queue, words_of
from dash_ui.rows.uploads import receive
from dash_ui.views.export import commands
from dash_ui.views.guidance import card, effect_text, is_planned
from dash_ui.views.jobs import job_card, news
from dash_ui.views.settings import command_line, pruned_to, usual
from onnxprune.errors import DataError, ModelError, OnnxPruneError, OptionError, PlanError, WorkspaceError
from onnxprune.guidance import Action, Effect, Suggestion
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.drafting import DraftState
from onnxprune.workspace.jobs import Jobs

DEMO = Path(__file__).parents[2] / "onnxprune" / "demo_data"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    shutil.copy(DEMO / "digits_cnn.onnx", folder)
    shutil.copy(DEMO / "digits.npz", folder / "data")
    found = Desk(folder)
    with found.workspace(scan=True):
        return found


def texts(component: Any) -> str:
    """All text in a component."""
    if isinstance(component, Component):
        return texts(component.children) if hasattr(component, "children") else ""
    if isinstance(component, list | tuple):
        return " ".join(map(texts, component))
    return "" if component is None else str(component)


def sent(data: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"


class TestJobs:
    def test_rows_show_how_far_a_job_is(self, desk: Desk) -> None:
        with desk.workspace() as workspace:
            jobs = Jobs(workspace.database)
            jobs.add("prune", 1, {"ratio": 0.5})
            job = jobs.claim()
            assert job is not None
            jobs.beat(job, "scoring", job.started or 0.0, 3, 4)
            jobs.add("fine-tune", 1)
            running, waiting = sorted(job_rows(workspace), key=lambda row: row["number"])
        assert (running["state"], running["share"], running["stage"]) == ("running", 0.75, "scoring")
        assert running["eta"] is not None
        assert (waiting["what"], waiting["state"], waiting["share"]) == ("Fine-tune step 1", "queued", None)
        assert "scoring" in texts(job_card(running))
        assert "Cancel" in texts(job_card(waiting))

    def test_news_are_told_once_and_lead_to_what_was_made(self, desk: Desk) -> None:
        with desk.workspace() as workspace:
            jobs = Jobs(workspace.database)
            job = jobs.add("prune", 1, {"ratio": 0.5})
        done = replace(job, state="done", result=2)
        assert news(None, [done], 1) == (None, None)
        assert news([], [done], 1) == (None, None)
        message, step = news([job.number], [done], 1)
        assert message is not None
        assert (message["text"], step) == ("Prune step 1 is done. It made step 2.", 2)
        assert news([job.number], [done], 7)[1] is None
        failed = replace(job, state="failed", error="no data", hint="Bring some.")
        message, step = news([job.number], [failed], 1)
        assert message == {"kind": "error", "text": "Prune step 1 failed: no data", "hint": "Bring some."}
        assert step is None
        quiet = replace(done, priority=0)
        assert news([job.number], [quiet], 1) == (None, None)

    def test_a_queued_action_is_done_by_a_worker(self, desk: Desk) -> None:
        job = queue(desk, "prune", 1, {"ratio": 0.5})
        assert words_of(job) == "Prune step 1"
        with desk.workspace() as workspace:
            jobs = Jobs(workspace.database)
            while jobs.get(job.number).state in ("queued", "running"):
                jobs.mark_lost()
            assert jobs.get(job.number).state == "done"
            assert workspace.steps.get(2).parent == 1

    def test_wrong_options_never_reach_the_queue(self, desk: Desk) -> None:
        with pytest.raises(OptionError, match="prune has no option 'ratoi'"):
            queue(desk, "prune", 1, {"ratoi": 0.5})
        with desk.workspace() as workspace:
            assert Jobs(workspace.database).all() == []


class TestGuidance:
    def test_a_card_says_what_why_and_what_it_does(self) -> None:
        effects = (Effect("parameters", 100.0, 90.0, "counted"), Effect("accuracy", 0.99, 0.985, "measured", "on 512"))
        found = Suggestion(
            "dead", "Two dead units", "Never active.", 0.9, {"conv1": (1, 2)}, effects, ({"group": "c"},)
        )
        words = texts(card(found))
        for part in (
            "Two dead units",
            "Never active.",
            "parameters -10.0% (counted)",
            "(measured)",
            "Put into the plan",
        ):
            assert part in words
        asked = Suggestion("measure", "Measure: scan", "It would tell.", 0.05, action=Action("scan", 1))
        assert "Measure" in texts(card(asked))

    def test_what_the_draft_has_is_in_the_plan(self) -> None:
        gone = {"c": np.array([True, True, False])}
        others = ("automatic", "by_hand", "restored", "added", "kept", "fixed")
        nothing: dict[str, Any] = {name: {} for name in others}
        state = DraftState(gone, **nothing)
        edits = [{"criterion": "l2", "threshold": 0.5, "by": "suggestion"}]
        two = Suggestion("dead", "Two", "", 0.9, {"c": (0, 1)}, (), ({"group": "c", "remove": [0, 1]},))
        third = Suggestion("dead", "Third", "", 0.9, {"c": (1, 2)}, (), ({"group": "c", "remove": [1, 2]},))
        below = Suggestion("share", "Below", "", 0.9, {}, (), ({"criterion": "l2", "threshold": 0.5},))
        higher = Suggestion("share", "Below", "", 0.9, {}, (), ({"criterion": "l2", "threshold": 0.7},))
        asks = Suggestion("measure", "Measure", "", 0.1)
        assert [is_planned(one, state, edits) for one in (two, third, below, higher, asks)] == [
            True, False, True, False, False,
        ]  # fmt: skip
        assert "In the plan" in texts(card(two, planned=True))
        assert "Put into the plan" not in texts(card(two, planned=True))

    def test_an_effect_that_changes_nothing(self) -> None:
        assert effect_text(Effect("macs", 10.0, 10.0, "estimated")) == "MACs unchanged (estimated)"


class TestUploads:
    @pytest.mark.parametrize(
        ("name", "place"),
        [("net.onnx", "models/net.onnx"), ("C:\\x\\net.onnx", "models/net.onnx"), ("d.npz", "data/d.npz")],
    )
    def test_files_enter_the_folder(self, desk: Desk, name: str, place: str) -> None:
        source = DEMO / ("digits.npz" if name.endswith("npz") else "digits_cnn.onnx")
        with desk.workspace() as workspace:
            assert receive(workspace, name, sent(source.read_bytes())).path == place
        assert (desk.folder / place).read_bytes() == source.read_bytes()

    def test_a_plan_becomes_a_blob(self, desk: Desk) -> None:
        with desk.workspace() as workspace:
            made = ACTIONS["prune"](workspace, 1, {"ratio": 0.5}, lambda *_: None, lambda: False)
            plan = workspace.plan(made.number)
            assert plan is not None
            found = receive(workspace, "plan.json", sent(plan.to_json().encode()))
            assert (found.kind, workspace.blobs.read(found.path)) == ("plan", plan.to_json().encode())

    @pytest.mark.parametrize(
        ("name", "data", "error", "words"),
        [
            ("net.exe", b"MZ", OptionError, "net.exe: not a kind of file"),
            ("../../net.onnx", b"no model", ModelError, "net.onnx"),
            (".onnx", b"", OptionError, "not a kind of file"),
            ("..onnx", b"", OptionError, "is not a name for a file here"),
            ("d.npz", b"no archive", DataError, "d.npz"),
            ("p.json", b"{}", PlanError, "p.json"),
        ],
    )
    def test_what_is_no_use_is_refused(
        self, desk: Desk, name: str, data: bytes, error: type[OnnxPruneError], words: str
    ) -> None:
        before = sorted(path for path in desk.folder.rglob("*") if "sqlite" not in path.name)
        with desk.workspace() as workspace, pytest.raises(error, match=words.replace(".", r"\.")):
            receive(workspace, name, sent(data))
        assert sorted(path for path in desk.folder.rglob("*") if "sqlite" not in path.name) == before

    def test_nothing_is_replaced(self, desk: Desk) -> None:
        with desk.workspace() as workspace:
            data = sent((DEMO / "digits.npz").read_bytes())
            with pytest.raises(WorkspaceError, match=r"there is a data/digits\.npz already"):
                receive(workspace, "digits.npz", data)

    def test_what_did_not_arrive_whole(self, desk: Desk) -> None:
        with desk.workspace() as workspace, pytest.raises(DataError, match="did not arrive whole"):
            receive(workspace, "net.onnx", "data:;base64,abc")


class TestDownloads:
    @pytest.fixture
    def client(self, desk: Desk) -> Any:
        app = Dash("test")
        app.layout = html.Div()
        files.register(app, desk)
        return app.server.test_client()

    def test_every_file_of_a_step(self, desk: Desk, client: Any) -> None:
        with desk.workspace() as workspace:
            made = ACTIONS["prune"](workspace, 1, {"ratio": 0.5, "name": "half of it"}, lambda *_: None, lambda: False)
            there = [name for name, _ in files.files_of(workspace, made)]
            assert there == ["model.onnx", "plan.json", "report.json", "path.csv", "classes.csv", "confusion.csv"]
            for name in there:
                answer = client.get(files.address(made.number, name), buffered=True)
                assert answer.status_code == 200
                assert f"half-of-it-step2-{name}" in answer.headers["Content-Disposition"]
            model = client.get(files.address(made.number, "model.onnx"), buffered=True).data
            assert model == workspace.blobs.read(made.model)
        report = json.loads(client.get(files.address(2, "report.json"), buffered=True).data)
        assert [step["step"] for step in report["path"]] == [1, 2]

    @pytest.mark.parametrize("address", ["/download/9/model.onnx", "/download/1/tree.sqlite", "/download/1/plan.json"])
    def test_what_is_not_there(self, client: Any, address: str) -> None:
        assert client.get(address, buffered=True).status_code == 404


def test_command_lines(desk: Desk) -> None:
    assert command_line("prune", 3, {"ratio": 0.5, "skip": ["a b"]}) == (
        """onnxprune ws prune 3 --set ratio=0.5 --set 'skip=["a b"]'"""
    )
    assert command_line("auto", 3, {"max_loss": 0.01}) == "onnxprune jobs add auto 3 --set max_loss=0.01 --start"
    with desk.workspace() as workspace:
        ACTIONS["prune"](workspace, 1, {"ratio": 0.5}, lambda *_: None, lambda: False)
        assert commands(workspace.steps.path(2)).startswith("onnxprune ws prune 1 --set ratio=0.5")
        assert commands(workspace.steps.path(1)) == "onnxprune ws open"


def test_what_the_estimator_asks_for_takes_the_place_of_other_amounts(desk: Desk) -> None:
    with desk.workspace() as workspace:
        _, coupling = desk.analysis(workspace, workspace.steps.get(1))
    wanted = {"step": 1, "units": 121, "of": 168, "ratio": 47 / 168, "asked": 1}
    set_before = {"criterion": "l1", "target_macs": 0.5, "distribution": "knapsack", "skip": ["conv1"], "ratio": 0.5}
    found = pruned_to(wanted, set_before, coupling)
    assert set(found) == {"criterion", "skip", "round_to", "group_ratios"}
    assert set(found["group_ratios"]) == {"conv2", "conv3", "conv4"}
    with desk.workspace() as workspace:
        made = ACTIONS["prune"](workspace, 1, found, lambda *_: None, lambda: False)
        assert desk.analysis(workspace, made)[1].units == 121
    scattered = pruned_to(wanted, {"distribution": "global", "criterion": "l2"}, coupling)
    assert scattered == {"distribution": "global", "criterion": "l2", "round_to": 1, "ratio": 47 / 168}


@pytest.mark.parametrize("action", ["prune", "fine-tune", "auto"])
def test_buttons_have_usual_options(action: str) -> None:
    assert isinstance(usual(action), dict)
