"""``onnxprune auto`` and ``onnxprune repeat``."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import Call, Result, cnn, one_layer, save
from tests.workspace.conftest import write_data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a trained step 2, which is the current directory."""
    place = tmp_path / "work"
    place.mkdir()
    save(cnn(), place / "cnn.onnx")
    write_data(place / "data" / "bright.npz")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def trained(call: Call, folder: Path) -> Path:
    result = call("ws", "finetune", "1", "--epochs", "20", "--rate", "0.02", "--set", "batch=16", "--deterministic")
    assert result.code == 0, result.err
    return folder


def well(result: Result) -> Result:
    assert result.code == 0, result.err
    return result


def test_tries_are_listed_and_the_smallest_that_holds_is_named(call: Call, trained: Path) -> None:
    found = well(call("auto", "2", "--min", "accuracy=0.5", "--epochs", "0", "--ratio", "0.3", "--name", "small"))
    assert "accuracy is 33.33%" not in found.out
    assert "required 0.5" in found.out
    assert "holds: 17 units" in found.out
    assert "small" in well(call("ws", "tree")).out
    again = well(call("auto", "2", "--iterations", "1", "--epochs", "0", "--json")).json
    assert [row["units"] for row in again["tries"]] == [16]
    assert again["result"] == again["tries"][0]["step"] == again["summary"]["result"]
    with Workspace.open(trained) as workspace:
        assert workspace.steps.named("small")[0].number == 3


def test_nothing_smaller_holds(call: Call, trained: Path) -> None:
    assert trained.is_dir()
    found = well(call("auto", "2", "--min", "accuracy=1", "--epochs", "0", "--ratio", "0.9"))
    assert "Nothing smaller than step 2 holds: accuracy is" in found.out


def test_a_run_goes_on_by_its_key(call: Call, trained: Path) -> None:
    assert trained.is_dir()
    first = well(call("auto", "2", "--iterations", "2", "--epochs", "0", "--run", "k", "--json")).json
    second = well(call("auto", "2", "--iterations", "2", "--epochs", "0", "--run", "k", "--json")).json
    assert first == second
    other = call("auto", "2", "--iterations", "3", "--epochs", "0", "--run", "k")
    assert other.code == 2
    assert "begun with other options" in other.err


def test_strategies_side_by_side(call: Call, trained: Path) -> None:
    assert trained.is_dir()
    arguments = ("auto", "2", "--min", "accuracy=0.5", "--epochs", "0", "--compare")
    found = well(call(*arguments, "--json")).json
    plans = [row["plan"] for row in found["strategies"]]
    assert plans == ["auto 1/3", "auto 1/8", "auto 1/3 + estimator", "bisect from 1/2"]
    shown = well(call(*arguments)).out
    assert "epochs per unit gone" in shown
    assert "auto 1/3 + estimator" in shown


def test_as_a_job(call: Call, trained: Path) -> None:
    assert trained.is_dir()
    job = well(call("jobs", "add", "auto", "2", "--set", "iterations=1", "--set", "epochs=0", "--json")).json["number"]
    done = well(call("jobs", "run", "--json")).json["jobs"][0]
    assert (done["number"], done["state"], done["result"]) == (job, "done", 3)


def test_queued_for_a_worker(call: Call, trained: Path) -> None:
    assert trained.is_dir()
    job = well(call("auto", "2", "--iterations", "1", "--epochs", "0", "--queue", "--json")).json["job"]
    done = well(call("jobs", "wait", str(job), "--json")).json["jobs"][0]
    assert (done["state"], done["result"]) == ("done", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing says when to stop"),
        (("--ratio", "1.5", "--iterations", "1"), "ratio: got 1.5, expected a share between 0 and 1"),
        (("--min", "accuracy"), "--min accuracy: expected NAME=VALUE"),
        (("--min", "acc=0.9"), "there is no metric 'acc'"),
        (("--min", "recall:nine=-1%"), "recall of class 'nine' was not measured"),
        (("--min", "accuracy=0.9"), "the original does not hold what is required"),
        (("--budget", "units=100"), "the original is within the budget already"),
        (("--budget", "speed=0.5"), "there is no budget 'speed'"),
        (("--units", "10,12", "--strategy", "manual"), "expected fewer each time"),
        (("--iterations", "1", "--prune", "ratio=0.5"), "prune has no option 'ratio' here"),
        (("--iterations", "1", "--tune", "ratee=1"), "Nearest: rate"),
        (("--iterations", "1", "--compare", "--strategy", "auto"), "--compare runs several strategies"),
        (("--iterations", "1", "--criterion", "l3"), "l3"),
        (("--iterations", "1", "--data", "nowhere"), "there are no data 'nowhere'"),
    ],
)
def test_bad_input(call: Call, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert folder.is_dir()
    found = call("auto", "1", *arguments)
    assert found.code == 2, found.out
    assert message in found.err


def test_models_that_cannot_be_pruned_or_tuned(call: Call, folder: Path) -> None:
    save(one_layer(), folder / "line.onnx")
    nothing = call("auto", "line", "--budget", "units=0.5", "--epochs", "0")
    assert nothing.code == 2
    assert "can be removed" in nothing.err
    assert call("auto", "line", "--budget", "units=0.5").code == 2
    assert call("auto", "7", "--iterations", "1").code == 2


class TestRepeat:
    def test_one_plan(self, call: Call, trained: Path) -> None:
        assert trained.is_dir()
        well(call("ws", "prune", "2", "--ratio", "0.5", "--name", "half"))
        found = well(call("repeat", "half", "--seeds", "3", "--tune", "epochs=1", "--tune", "batch=16", "--json")).json
        (row,) = found["steps"]
        assert (row["runs"], row["seeds"], row["name"], found["difference"]) == (3, [0, 1, 2], "half", None)
        shown = well(call("repeat", "half", "--seeds", "3", "--tune", "epochs=1", "--tune", "batch=16")).out
        assert "Fine-tunings with different seeds" in shown

    def test_two_plans(self, call: Call, trained: Path) -> None:
        for ratio, name in (("0.5", "half"), ("0.25", "less")):
            well(call("ws", "prune", "2", "--ratio", ratio, "--name", name))
        with Workspace.open(trained) as workspace:
            assert len(workspace.steps.all()) == 4
        found = well(call("repeat", "half", "less", "--seeds", "2", "--tune", "epochs=1", "--json")).json
        assert [row["units"] for row in found["steps"]] == [12, 18]
        assert found["difference"]["test"] == "paired t-test"
        assert found["difference"]["words"]
        again = well(
            call("repeat", "half", "less", "--seeds", "2", "--tune", "epochs=1", "--metric", "recall:1", "--json")
        )
        with Workspace.open(trained) as workspace:
            assert len(workspace.steps.all()) == 8, "nothing was made again"
            for row in again.json["steps"]:
                values = [workspace.steps.class_metrics(step)["recall", "1"] for step in row["steps"]]
                assert (row["metric"], row["values"]) == ("recall:1", values)

    def test_bad_input(self, call: Call, trained: Path) -> None:
        assert trained.is_dir()
        for arguments, message in (
            (("2", "2"), "expected one, or two different ones"),
            (("2", "--seeds", "x"), "seeds: got 'x'"),
            (("1", "2", "--seeds", "2"), "both steps are fine-tunings of step 1"),
            (("2", "--metric", "recall:9"), "--metric recall:9: it was not measured on step 1"),
            (("2", "--metric", "speed"), "--metric speed: it was not measured on step 1"),
            (("1", "--workers", "2", "--scheduler", "tcp://x:1"), "--workers and --scheduler"),
        ):
            found = call("repeat", *arguments)
            assert found.code == 2
            assert message in found.err
