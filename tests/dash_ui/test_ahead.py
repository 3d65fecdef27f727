"""Likely plans are measured while nothing else runs, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from dash_ui.ahead import look_ahead
from dash_ui.desk import Desk
from dash_ui.state import Selection
from onnxprune.guidance import set_speculation
from onnxprune.workspace.job import BACKGROUND, Job
from onnxprune.workspace.jobs import Jobs

THRESHOLD = {"criterion": "l1", "threshold": 2.0, "scale": "score"}


@pytest.fixture
def desk(small: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder whose jobs nobody does."""
    monkeypatch.setattr(Jobs, "start_worker", lambda *_: 0)
    found = Desk(small)
    with found.workspace(scan=True):
        return found


def asked(job: Job | None) -> list[tuple[str, float | None, float | None]]:
    assert job is not None
    return [(r["criterion"], r.get("ratio"), r.get("threshold")) for r in job.options["recipes"]]


def test_ratios_of_the_criterion_that_is_shown(desk: Desk) -> None:
    job = look_ahead(desk, Selection(step=1, criterion="l1"))
    assert job is not None
    assert (job.action, job.step, job.priority) == ("preview", 1, BACKGROUND)
    assert asked(job)[0] == ("l1", 0.1, None)
    assert asked(look_ahead(desk, Selection(step=1)))[0] == ("l2", 0.1, None)


def test_scores_that_take_long_are_not_asked_for(desk: Desk) -> None:
    assert asked(look_ahead(desk, Selection(step=1, criterion="sensitivity")))[0][0] == "l2"


def test_what_a_person_looks_at_comes_first(desk: Desk) -> None:
    with desk.workspace() as workspace:
        workspace.drafts.add(1, THRESHOLD)
    assert asked(look_ahead(desk, Selection(step=1)))[0] == ("l1", None, 2.0)


def test_nothing_while_a_person_waits_for_something(desk: Desk) -> None:
    with desk.workspace() as workspace:
        Jobs(workspace.database).add("prune", 1, {"ratio": 0.5})
    assert look_ahead(desk, Selection(step=1)) is None


def test_nothing_where_it_is_turned_off_or_there_is_nothing(desk: Desk) -> None:
    assert look_ahead(desk, Selection()) is None
    with desk.workspace() as workspace:
        set_speculation(workspace, on=False)
    assert look_ahead(desk, Selection(step=1)) is None


def test_another_step_takes_the_place_of_one_before(desk: Desk) -> None:
    first, second = (look_ahead(desk, Selection(step=1, criterion=name)) for name in ("l1", "l2"))
    assert first is not None
    assert second is not None
    with desk.workspace() as workspace:
        jobs = Jobs(workspace.database)
        assert (jobs.get(first.number).state, jobs.get(second.number).state) == ("cancelled", "queued")
