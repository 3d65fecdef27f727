"""``onnxprune suggest``: what it lists, measures and accepts, and what it says where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxprune.guidance import Speculation, previews, speculation
from onnxprune.runtime import session
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import Call, save
from tests.guidance.conftest import UNREAD, peculiar
from tests.workspace.conftest import write_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    save(peculiar(), place / "net.onnx")
    write_data(place / "data" / "bright.npz")
    return place


def test_it_lists_what_can_be_done(call: Call, folder: Path) -> None:
    found = call("suggest", "1", "--folder", folder)
    assert found.code == 0, found.err
    assert "What to do next with step 1" in found.out
    assert "1. Filter 2: all weights that make them, or all that read them, are zero." in found.out
    assert "not measured" in found.out
    assert "`onnxprune suggest 1 --measure` measures it" in found.out


def test_json_and_accepting(call: Call, folder: Path) -> None:
    listed = call("suggest", "net", "--folder", folder, "--json").json
    dead = next(one for one in listed["suggestions"] if one["kind"] == "dead")
    assert dead["units"] == {"conv1": [UNREAD]}
    assert dead["action"] is None
    effects = {effect["name"]: effect for effect in dead["effects"]}
    assert effects["parameters"]["basis"] == "counted"
    assert effects["parameters"]["change"] < 0
    assert (listed["accepted"], listed["job"], listed["speculation"]) == ([], None, True)
    found = call("suggest", "1", "--folder", folder, "--accept", str(dead["number"]))
    assert found.code == 0, found.err
    assert "1 edits are new in the draft of step 1" in found.out
    drafted = call("ws", "draft", "1", "--folder", folder, "--json").json
    assert [entry["edit"]["remove"] for entry in drafted["draft"]] == [[UNREAD]]


def test_measuring(call: Call, folder: Path) -> None:
    found = call("suggest", "1", "--folder", folder, "--measure", "--loss", "0.3", "--json")
    assert found.code == 0
    assert "latency could not be measured" in found.err
    listed = found.json
    assert list(listed["not_measured"]) == ["latency"]
    assert {one["kind"] for one in listed["suggestions"]} >= {"dead", "constant", "twin", "headroom"}
    tried = [preview for preview in listed["previews"] if preview["removed"]]
    assert len(tried) == 3
    assert all(preview["recipes"] == [{"suggestion": preview["recipes"][0]["suggestion"]}] for preview in tried)
    assert "Nothing to suggest" not in call("suggest", "1", "--folder", folder).out


def test_measuring_ahead(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Jobs, "start_worker", lambda *_: 1)
    found = call("suggest", "1", "--folder", folder, "--ahead", "--criterion", "l1")
    assert found.code == 0, found.err
    assert "Job 1 measures likely next steps" in found.out
    ended = call("jobs", "run", "--folder", folder, "--json").json
    assert [job["state"] for job in ended["jobs"]] == ["done"]
    with Workspace.open(folder) as workspace:
        assert len([p for p in previews(workspace, 1, "l1") if p.removed]) == 7
    found = call("suggest", "1", "--folder", folder, "--ahead", "--criterion", "l1")
    assert "Measured ahead, on 12 samples" in found.out
    assert "l1 50%" in found.out
    assert "Nothing is left to be measured ahead" in found.out


def test_turning_it_off(call: Call, folder: Path) -> None:
    found = call("suggest", "1", "--folder", folder, "--speculation", "off", "--ahead")
    assert "Measuring ahead is off" in found.out
    with Workspace.open(folder) as workspace:
        assert speculation(workspace) == Speculation(on=False)
    assert call("suggest", "1", "--folder", folder, "--speculation", "on", "--json").json["speculation"]


def test_without_data(call: Call, folder: Path) -> None:
    (folder / "data" / "bright.npz").unlink()
    found = call("suggest", "1", "--folder", folder, "--measure")
    assert found.code == 0
    assert "Put data that fit this model into data/" in found.out


def test_a_pruned_step_is_told_to_be_trained(call: Call, folder: Path) -> None:
    """Labels that the net agrees with, so that a cut can only hurt."""
    predicted = _agreeing(folder)
    call("ws", "prune", "1", "--ratio", "0.8", "--folder", folder, "--json")
    listed = call("suggest", "2", "--folder", folder, "--json").json
    actions = [one["action"]["name"] for one in listed["suggestions"] if one["kind"] == "history" and one["action"]]
    assert "fine-tune" in actions
    assert predicted == 1
    assert "`onnxprune ws finetune 2` does it" in call("suggest", "2", "--folder", folder).out


def _agreeing(folder: Path) -> float:
    """Make the net's own answers the labels of the test data; returns its accuracy on them."""
    with Workspace.open(folder) as workspace:
        run = session(workspace.model(1))
        path = folder / "data" / "bright.npz"
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        for part in ("train", "test"):
            (scores,) = run.run({"x": arrays[f"x_{part}"]}).values()
            arrays[f"y_{part}"] = scores.argmax(axis=1)
        np.savez(path, **arrays)
        workspace.scan()
        return float(workspace.measure(1).metrics["accuracy"])


def test_bad_input(call: Call, folder: Path) -> None:
    for arguments, message in (
        (("9",), "there is no step 9"),
        (("1", "--accept", "99"), "--accept 99: there are"),
        (("1", "--accept", "0"), "--accept 0: there are"),
        (("1", "--speculation", "maybe"), "--speculation maybe: expected on or off"),
        (("1", "--loss", "-1"), "loss: got -1.0"),
        (("1", "--data", "dark"), "there are no data 'dark'"),
        (("1", "--ahead", "--criterion", "l3"), "no criterion 'l3'"),
    ):
        found = call("suggest", *arguments, "--folder", folder)
        assert found.code == 2
        assert message in found.err
    listed = call("suggest", "1", "--folder", folder, "--json").json["suggestions"]
    number = next(one["number"] for one in listed if one["kind"] == "measure")
    found = call("suggest", "1", "--folder", folder, "--accept", str(number))
    assert found.code == 2
    assert "is no edit of a draft" in found.err
    assert json.loads(call("ws", "draft", "1", "--folder", folder, "--json").out)["draft"] == []
