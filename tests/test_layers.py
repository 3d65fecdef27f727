"""Who may import whom, as docs/architecture.md section 3 draws it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A file imports from its own row and from the rows above it. A folder stands for all files in it.
ROWS: tuple[tuple[str, ...], ...] = tuple(
    tuple(row.split())
    for row in (
        "errors values plan _atomic _plan_fields _plan_json",
        "model runtime check weights _datafile _external _feeds _graphs _hash _ingest _messages _model _tensors _wire",
        "ops control flatten folding graph nodes shapes",
        (
            "coupling cuts grouping naming samples sizes solver store surgeon surgery tidy zeros "
            "proof autodiff losses cost stored data evaluate activations linear gram extract frontier single "
            "spread workplace"
        ),
        "criteria allocate alignment latency_table bench recover train explain dissect",
        "sensitivity instability drawing masks",
        (
            "schedule workspace automatic guidance experiment deploy figures "
            "charts sensitivity_charts explain_charts instability_charts training_charts"
        ),
        "__init__",
        "cli __main__",
    )
)
ROW_OF = {name: number for number, row in enumerate(ROWS) for name in row}

CORE = "onnxprune"
OUTSIDE = ("dash_ui", "converters")
ONNXRUNTIME_USERS = {"onnxprune.runtime", "onnxprune.deploy"}  # with the files in them, where they are packages
NEVER_IN_CORE = {*OUTSIDE, "dash", "torch", "tensorflow", "keras", "skl2onnx", "tf2onnx"}
DRAWING = {"plotly", "matplotlib"}  # for onnxprune.figures, inside functions
FRAMEWORKS = {"torch", "tensorflow", "keras", "sklearn", "skl2onnx", "tf2onnx", "onnxscript"}


def modules(root: Path, *packages: str) -> dict[str, Path]:
    """Dotted name -> file, a package under its own name."""
    files = (file for package in packages for file in sorted((root / package).rglob("*.py")))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """What a tree imports anywhere in it, the longest known module name first; relative imports are not allowed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides its row"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if longer in known else str(node.module)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    return {name: set(imported(parse(file), set(files))) for name, file in files.items()}


def row_of(module: str) -> int:
    parts = module.split(".")
    part = parts[1] if len(parts) > 1 else "__init__"
    assert part in ROW_OF, f"{module} has no row: give it one in {Path(__file__).name}"
    return ROW_OF[part]


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Imports of the core that go from a row to one below it."""
    return [
        f"{name} (row {row_of(name)}) imports {target} (row {row_of(target)})"
        for name, targets in edges.items()
        for target in sorted(targets & edges.keys())
        if row_of(target) > row_of(name)
    ]


def cycle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter({name: targets & edges.keys() - {name} for name, targets in edges.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def users(edges: dict[str, set[str]], packages: set[str]) -> dict[str, set[str]]:
    """Module -> those of the packages that it imports."""
    found = {name: {target.split(".")[0] for target in targets} & packages for name, targets in edges.items()}
    return {name: hits for name, hits in found.items() if hits}


@pytest.fixture(scope="module")
def core() -> dict[str, set[str]]:
    return graph(modules(ROOT, CORE))


@pytest.fixture(scope="module")
def everything() -> dict[str, set[str]]:
    return graph(modules(ROOT, CORE, *OUTSIDE))


def test_every_file_has_a_row(core: dict[str, set[str]]) -> None:
    assert {row_of(name) for name in core} <= set(range(len(ROWS)))


def test_imports_go_downwards_only(core: dict[str, set[str]]) -> None:
    assert upward(core) == []


def test_no_cycles(everything: dict[str, set[str]]) -> None:
    assert cycle(everything) == []


def test_only_two_parts_import_onnxruntime(everything: dict[str, set[str]]) -> None:
    found = {".".join(name.split(".")[:2]) for name in users(everything, {"onnxruntime"})}
    assert found <= ONNXRUNTIME_USERS


def test_the_core_needs_no_app_and_no_framework(core: dict[str, set[str]]) -> None:
    assert users(core, NEVER_IN_CORE) == {}


def test_only_figures_draw_and_import_what_draws_inside_functions(core: dict[str, set[str]]) -> None:
    found = {".".join(name.split(".")[:2]) for name in users(core, DRAWING)}
    assert found == {"onnxprune.figures"}
    top = {
        name: set(imported(ast.Module(_outside_functions(parse(file)), []), set()))
        for name, file in modules(ROOT, CORE).items()
    }
    assert users(top, DRAWING) == {}


def test_app_and_converters_use_the_public_api_only(everything: dict[str, set[str]]) -> None:
    outside = {name: targets for name, targets in everything.items() if not name.startswith(CORE)}
    private = {
        name: {target for target in targets if target.startswith(CORE) and "._" in target}
        for name, targets in outside.items()
    }
    assert {name: hits for name, hits in private.items() if hits} == {}
    for package, other in (OUTSIDE, OUTSIDE[::-1]):
        assert users({name: t for name, t in outside.items() if name.startswith(package)}, {other}) == {}


def test_views_do_not_import_each_other(everything: dict[str, set[str]]) -> None:
    views = {name for name in everything if name.startswith("dash_ui.views.")}
    assert [name for name in views if everything[name] & (views - {name})] == []


def test_frameworks_are_imported_inside_functions() -> None:
    files = modules(ROOT, *OUTSIDE)
    top = {name: set(imported(ast.Module(_outside_functions(parse(file)), []), set())) for name, file in files.items()}
    assert users(top, FRAMEWORKS) == {}


def _outside_functions(tree: ast.Module) -> list[ast.stmt]:
    """The statements that run, or are read for types, when the file is imported."""
    return [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)]


class TestTheCheckerItself:
    """It must find what is wrong: small trees that break one rule each."""

    def tree(self, root: Path, **files: str) -> dict[str, set[str]]:
        for name, text in files.items():
            file = root / CORE / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return graph(modules(root, CORE))

    def test_upward(self, tmp_path: Path) -> None:
        edges = self.tree(tmp_path, plan="from onnxprune import model", model="import onnxprune.errors", errors="")
        assert upward(edges) == ["onnxprune.plan (row 0) imports onnxprune.model (row 1)"]

    def test_upward_inside_a_function_and_into_a_package(self, tmp_path: Path) -> None:
        late = "def f():\n    from onnxprune.ops.conv import RULES\n"
        edges = self.tree(tmp_path, model=late, ops__conv="RULES = ()")
        assert upward(edges) == ["onnxprune.model (row 1) imports onnxprune.ops.conv (row 2)"]

    def test_cycle_within_a_row(self, tmp_path: Path) -> None:
        edges = self.tree(tmp_path, model="import onnxprune.runtime", runtime="from onnxprune.model import load")
        assert upward(edges) == []
        assert set(cycle(edges)) == {"onnxprune.model", "onnxprune.runtime"}

    def test_a_file_without_a_row(self, tmp_path: Path) -> None:
        edges = self.tree(tmp_path, newcomer="import onnxprune.errors", errors="")
        with pytest.raises(AssertionError, match=r"onnxprune.newcomer has no row"):
            upward(edges)

    def test_forbidden_packages(self, tmp_path: Path) -> None:
        edges = self.tree(tmp_path, cost="import torch.nn as nn", plan="from onnxruntime import InferenceSession")
        assert users(edges, NEVER_IN_CORE) == {"onnxprune.cost": {"torch"}}
        assert users(edges, {"onnxruntime"}) == {"onnxprune.plan": {"onnxruntime"}}
