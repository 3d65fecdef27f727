"""The tree of steps and the drafts, in a database that several programs may write."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnxprune.errors import StepNotFound, StoreDamaged, WorkspaceError
from onnxprune.workspace.database import Database
from onnxprune.workspace.migrations import MIGRATIONS, VERSION, migrate
from onnxprune.workspace.steps import Drafts, Steps
from onnxprune.workspace.values import NewStep

ORIGINAL = NewStep("original", "a" * 64, "h0", metrics={("accuracy", ""): 0.99, ("recall", "7"): 0.9})


def pruned(parent: int, **more: object) -> NewStep:
    return NewStep("prune", "b" * 64, "h1", parent=parent, plan="c" * 64, **more)  # type: ignore[arg-type]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "tree.sqlite")


@pytest.fixture
def steps(database: Database) -> Steps:
    return Steps(database)


def test_a_step_comes_back_as_it_was(steps: Steps) -> None:
    new = pruned(
        steps.add(ORIGINAL).number,
        dataset="digits.npz",
        seed=3,
        command=("onnxprune", "prune", "a b.onnx"),
        promise="close",
        seconds=1.5,
        versions={"onnx": "1.23"},
        metrics={("accuracy", ""): 0.5, ("loss", ""): 1.25},
        documents={"history": "d" * 64},
        name="first try",
    )
    step = steps.add(new)
    for field in ("kind", "model", "model_hash", "parent", "plan", "dataset", "seed", "command", "promise", "seconds"):
        assert getattr(step, field) == getattr(new, field)
    assert (step.number, step.root, step.name, step.metrics) == (2, 1, "first try", {"accuracy": 0.5, "loss": 1.25})
    assert step.versions == {"onnx": "1.23"}
    assert steps.documents(2) == {"history": "d" * 64}
    assert steps.class_metrics(1) == {("recall", "7"): 0.9}
    assert steps.all() == [steps.get(1), step]
    assert steps.path(2) == steps.all()
    assert steps.blobs() == {c * 64 for c in "abcd"}


def test_a_step_is_never_changed(steps: Steps, database: Database) -> None:
    steps.add(ORIGINAL)
    for table, column in (("step", "kind"), ("metric", "value"), ("document", "blob")):
        with database.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO document VALUES (1, 'log', 'x')")
        with pytest.raises(WorkspaceError, match=r"is never changed"), database.writing() as connection:
            connection.execute(f"UPDATE {table} SET {column} = 'edit'")  # noqa: S608 - our own names


def test_names_notes_and_one_pin(steps: Steps) -> None:
    steps.add(ORIGINAL)
    steps.add(pruned(1))
    assert steps.describe(2, name="half", note="try again").note == "try again"
    assert steps.describe(2, name="third").note == "try again"
    assert steps.pin(1).pinned
    assert steps.pin(2).pinned
    assert [s.pinned for s in steps.all()] == [False, True]


def test_trash_takes_what_was_made_of_a_step_and_gives_it_back(steps: Steps) -> None:
    steps.add(ORIGINAL)
    for parent in (1, 2, 3, 1):
        steps.add(pruned(parent))
    assert steps.trash(4) == [4]
    time.sleep(0.01)
    assert steps.trash(2) == [2, 3]
    assert [s.number for s in steps.all()] == [1, 5]
    assert [s.trashed for s in steps.all(trashed=True)] == [False, True, True, True, False]
    assert steps.restore(2) == [2, 3]
    assert [s.number for s in steps.all()] == [1, 2, 3, 5]
    steps.trash(2)
    assert steps.restore(4) == [2, 3, 4]
    with pytest.raises(WorkspaceError, match=r"step 4 is not in the trash"):
        steps.restore(4)
    with pytest.raises(WorkspaceError, match=r"step 1 is an original"):
        steps.trash(1)


def test_unknown_steps_are_named(steps: Steps) -> None:
    for call in (lambda: steps.get(7), lambda: steps.add(pruned(7)), lambda: steps.path(7), lambda: steps.pin(7)):
        with pytest.raises(StepNotFound, match=r"there is no step 7"):
            call()
    assert steps.all() == []


def test_a_number_is_never_used_again(steps: Steps, database: Database) -> None:
    steps.add(ORIGINAL)
    steps.add(pruned(1))
    with database.writing() as connection:
        connection.execute("DELETE FROM label WHERE step = 2")
        connection.execute("DELETE FROM step WHERE number = 2")
    assert steps.add(pruned(1)).number == 3


def test_drafts_are_undone_and_done_again_across_a_restart(steps: Steps, database: Database) -> None:
    steps.add(ORIGINAL)
    drafts = Drafts(database)
    assert drafts.undo(1) is None
    for units in ([1, 2], [3], [4]):
        drafts.add(1, {"group": "conv1", "remove": units})
    drafts.undo(1)
    undone = drafts.undo(1)
    assert undone is not None
    assert undone.edit == {"group": "conv1", "remove": [3]}
    again = Drafts(Database(database.path))
    assert [e.undone for e in again.entries(1)] == [False, True, True]
    redone = again.redo(1)
    assert redone is not None
    assert redone.edit["remove"] == [3]
    again.add(1, {"threshold": 0.5})
    assert [e.edit.get("remove", "threshold") for e in again.entries(1)] == [[1, 2], [3], "threshold"]
    assert again.redo(1) is None
    again.clear(1)
    assert drafts.entries(1) == []


def test_the_schema_is_what_the_migrations_come_to(database: Database) -> None:
    names = {row["name"] for row in database.rows("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
    assert names == {
        "step", "step_by_parent", "label", "metric", "document", "entry",
        "step_stays", "metric_stays", "document_stays",
        "file", "pair", "job", "job_by_state", "job_by_step", "job_by_result", "job_by_again", "job_stays", "line",
        "line_by_job", "kept", "kept_by_blob", "preview", "setting",
    }  # fmt: skip
    assert database.rows("PRAGMA user_version")[0][0] == VERSION == len(MIGRATIONS)


def test_a_store_of_the_first_version_keeps_its_metrics(tmp_path: Path) -> None:
    path = tmp_path / "tree.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
    connection.execute(
        "INSERT INTO step VALUES (1, NULL, 1, 'original', 0, 0, 'b', 'h', NULL, NULL, 0, '[]', 'close', '{}')"
    )
    connection.execute("INSERT INTO label (step, name) VALUES (1, 'old')")
    metrics = {"accuracy": 1 / 3, "loss": 1e-12, "parameters": 5.0}
    rows = [*((name, "", value) for name, value in metrics.items()), ("recall", "7", 0.5), ("kl", "", None)]
    connection.executemany("INSERT INTO metric VALUES (1, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    assert Steps(Database(path)).get(1).metrics == pytest.approx(metrics, rel=1e-15)


def test_what_is_measured_later_is_added_and_changes_nothing(steps: Steps) -> None:
    steps.add(ORIGINAL)
    later = {("accuracy", ""): 0.1, ("loss", ""): 2 / 3, ("recall", "7"): 0.1, ("kl", ""): float("nan")}
    assert steps.measured(1, later, {"predictions": "e" * 64}).metrics == {"accuracy": 0.99, "loss": 2 / 3}
    assert steps.class_metrics(1) == {("recall", "7"): 0.9}
    assert steps.documents(1) == {"predictions": "e" * 64}
    with pytest.raises(StepNotFound, match=r"there is no step 2"):
        steps.measured(2, later, {})


def test_steps_by_name(steps: Steps) -> None:
    steps.add(ORIGINAL)
    for name in ("half", "", "half"):
        steps.add(pruned(1, name=name))
    steps.trash(2)
    assert [step.number for step in steps.named("half")] == [2, 4]


def test_a_large_tree_is_listed(steps: Steps, database: Database) -> None:
    metrics = {
        ("accuracy", ""): 1 / 3,
        **{(f"m{k}", ""): k / 7 for k in range(9)},
        **{("recall", str(k)): 0.5 for k in range(10)},
    }
    with database.writing() as connection:
        steps.insert(connection, ORIGINAL)
        for k in range(1, 10_000):
            command = ("onnxprune", "ws", "prune", str(k), "--set", "ratio=0.5")
            steps.insert(connection, pruned((k + 1) // 2, command=command, versions={"onnx": "1.23"}, metrics=metrics))
    assert [step.number for step in steps.all()] == list(range(1, 10_001))
    assert (steps.get(9_999).metrics["accuracy"], len(steps.path(9_999))) == (1 / 3, 14)


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tree.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(WorkspaceError, match=rf"has version {VERSION + 1}, and this onnxprune knows up to {VERSION}"):
        Database(path)


def test_a_migration_that_breaks_off_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ("CREATE TABLE one (a INTEGER);\nCREATE TABLE one (a INTEGER);\n",)
    monkeypatch.setattr("onnxprune.workspace.migrations.MIGRATIONS", broken)
    connection = sqlite3.connect(tmp_path / "tree.sqlite", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match=r"already exists"):
        migrate(connection)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0


def test_damage_is_said_and_the_copy_named(database: Database) -> None:
    Steps(database).add(ORIGINAL)
    database.close()
    assert database.backup.exists()
    for extra in ("-wal", "-shm"):
        Path(f"{database.path}{extra}").unlink(missing_ok=True)
    database.path.write_bytes(b"no database at all" * 300)
    with pytest.raises(StoreDamaged, match=r"(?s)is damaged.*A copy is in .*tree.backup"):
        Database(database.path)


def test_a_folder_that_may_only_be_read_is_opened_for_reading(database: Database) -> None:
    Steps(database).add(ORIGINAL)
    database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    viewer = Database(database.path, readonly=True)
    assert [s.kind for s in Steps(viewer).all()] == ["original"]
    with pytest.raises(WorkspaceError, match=r"it may only be read"):
        Steps(viewer).add(ORIGINAL)


WRITER = """
import sys
from pathlib import Path
from onnxprune.workspace.database import Database
from onnxprune.workspace.steps import Steps
from onnxprune.workspace.values import NewStep
steps = Steps(Database(Path(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    print(steps.add(NewStep("prune", "b" * 64, sys.argv[3], parent=1)).number, flush=True)
"""


def test_several_programs_write_and_none_loses_a_step(database: Database) -> None:
    steps = Steps(database)
    steps.add(ORIGINAL)
    programs = [
        subprocess.Popen([sys.executable, "-c", WRITER, database.path, "40", str(k)], stdout=subprocess.PIPE, text=True)
        for k in range(3)
    ]
    told = [int(line) for program in programs for line in program.communicate()[0].split()]
    assert len(told) == len(set(told)) == 120
    assert {s.number for s in steps.all()} == {1, *told}


def test_what_was_told_survives_a_kill(database: Database) -> None:
    Steps(database).add(ORIGINAL)
    program = subprocess.Popen([sys.executable, "-c", WRITER, database.path, "100000", "k"], stdout=subprocess.PIPE)
    assert program.stdout is not None
    told = [int(program.stdout.readline()) for _ in range(20)]
    os.kill(program.pid, signal.SIGKILL)
    told += [int(line) for line in program.communicate()[0].split(b"\n") if line]
    again = Database(database.path)
    again.check()
    there = {s.number for s in Steps(again).all()}
    assert {1, *told} <= there
    assert len(there) <= len(told) + 2
