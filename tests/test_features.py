"""docs/features.md claims nothing that does not exist, and leaves no row out."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "features.md"

# All rows of the three papers and our own; a row is never dropped.
ROW_IDS = [f"{letter}{number}" for letter, last in zip("VCDX", (21, 34, 10, 12), strict=True)
           for number in range(1, last + 1)]  # fmt: skip
STATES = ("open", "done")


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    state: str
    where: tuple[str, ...]
    tests: tuple[str, ...]


def read_rows(text: str) -> list[Row]:
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [_row([cell.strip() for cell in line.strip("|").split("|")]) for line in table]


def _row(cells: list[str]) -> Row:
    name, what, state, where, tests = cells
    return Row(name, what, state, _items(where), _items(tests))


def _items(cell: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in cell.split(";") if item.strip())


def problems(row: Row) -> Iterator[str]:
    """What the row claims and is not so."""
    if row.state not in STATES:
        yield f"{row.name}: state {row.state!r}, expected one of {', '.join(STATES)}"
    if row.state == "done" and not (row.where and row.tests):
        yield f"{row.name}: done, but without a place or without a test"
    for claim in row.where:
        kind, _, name = (part.strip() for part in claim.partition(":"))
        if kind not in CHECKS:
            yield f"{row.name}: {claim!r} is none of {', '.join(f'{kind}:' for kind in CHECKS)}"
        elif not CHECKS[kind](name):
            yield f"{row.name}: there is no {kind} {name!r}"
    for test in row.tests:
        if not names_a_test(test):
            yield f"{row.name}: there is no test {test!r}"


def command_exists(path: str) -> bool:
    """Whether the command line has the command ``prune``, or the sub-command ``plan show``."""
    command = typer.main.get_command(importlib.import_module("onnxprune.cli").app)
    for name in path.split():
        command = getattr(command, "commands", {}).get(name)
    return bool(path) and command is not None


def object_exists(path: str) -> bool:
    """Whether a dotted name can be imported: a module, or something in one."""
    parts = path.split(".") if path else []
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        for name in parts[cut:]:
            found = getattr(found, name, None)
        return found is not None
    return False


def view_exists(path: str) -> bool:
    return path.startswith("dash_ui.") and object_exists(path)


def names_a_test(path: str) -> bool:
    """Whether ``tests/test_x.py::Class::name`` is in the source; a parametrised test is named without its case."""
    file, *names = path.split("::")
    if not names or not (ROOT / file).is_file():
        return False
    place: ast.AST | None = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for name in names:
        inner = {node.name: node for node in getattr(place, "body", [])
                 if isinstance(node, ast.FunctionDef | ast.ClassDef)}  # fmt: skip
        place = inner.get(name)
    return place is not None and names[-1].lower().startswith("test")


CHECKS = {"command": command_exists, "function": object_exists, "view": view_exists}
ROWS = read_rows(PAGE.read_text(encoding="utf-8"))


def test_no_row_is_missing_and_none_is_there_twice() -> None:
    assert [row.name for row in ROWS] == ROW_IDS


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_row_claims_only_what_exists(row: Row) -> None:
    assert list(problems(row)) == []
    assert row.what


class TestTheCheckerItself:
    """A page that lies is found out."""

    @pytest.mark.parametrize(
        ("where", "test", "message"),
        [
            ("function: onnxprune.plan.explode", "", "V1: there is no function 'onnxprune.plan.explode'"),
            ("function: onnxprune.nowhere.at_all", "", "V1: there is no function 'onnxprune.nowhere.at_all'"),
            ("function:", "", "V1: there is no function ''"),
            ("view: dash_ui.views.nothing", "", "V1: there is no view 'dash_ui.views.nothing'"),
            ("view: onnxprune.plan", "", "V1: there is no view 'onnxprune.plan'"),
            ("button: red", "", "V1: 'button: red' is none of command:, function:, view:"),
            ("", "tests/test_plan.py::test_nothing", "V1: there is no test 'tests/test_plan.py::test_nothing'"),
            ("", "tests/test_none.py::test_it", "V1: there is no test 'tests/test_none.py::test_it'"),
            ("", "tests/test_plan.py", "V1: there is no test 'tests/test_plan.py'"),
            ("", "tests/test_plan.py::selection", "V1: there is no test 'tests/test_plan.py::selection'"),
        ],
    )
    def test_a_claim_without_substance(self, where: str, test: str, message: str) -> None:
        (row,) = read_rows(f"| row | what | state | where | test |\n|---|\n| V1 | x | open | {where} | {test} |")
        assert list(problems(row)) == [message]

    @pytest.mark.parametrize("path", ["explode", "plan explode", ""])
    def test_commands_that_do_not_exist(self, path: str) -> None:
        assert not command_exists(path)

    @pytest.mark.parametrize("path", ["inspect", "prune", "plan show", "plan diff", "plan apply", "convert"])
    def test_commands_that_exist(self, path: str) -> None:
        assert command_exists(path)

    def test_done_needs_a_place_and_a_test(self) -> None:
        (message,) = problems(Row("V1", "x", "done", (), ()))
        assert message == "V1: done, but without a place or without a test"

    def test_states(self) -> None:
        (message,) = problems(Row("V1", "x", "almost", (), ()))
        assert message == "V1: state 'almost', expected one of open, done"
