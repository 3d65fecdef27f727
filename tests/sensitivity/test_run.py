"""The scan: each number is what evaluating that removed model gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxprune.allocate import Budget, allocate_units
from onnxprune.criteria import UnitScores, score
from onnxprune.data import Dataset
from onnxprune.errors import DataError, GroupNotFound, NothingToPrune, OptionError, SurgeryError
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.model import Model, from_proto
from onnxprune.sensitivity import Sensitivity, load_sensitivity, scan
from onnxprune.sensitivity.run import tied_groups
from onnxprune.surgery import remove
from onnxprune.values import Options
from tests.nets import export
from tests.sensitivity.common import COUPLING, MODEL, RATIOS, SCORES, few


def test_rows_are_what_evaluating_the_removed_model_gives() -> None:
    found = scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS)
    assert found.baseline.value == evaluate(MODEL, few()).value("accuracy")
    assert [(r.group, r.ratio) for r in found.rows] == [(g.name, r) for g in COUPLING.groups for r in RATIOS]
    assert not found.failures
    for row in found.rows:
        budget = Budget(group_ratios={row.group: row.ratio}, round_to=1)
        plan, reached = allocate_units(COUPLING, SCORES, budget)
        small = remove(MODEL, COUPLING, plan)
        assert row.removed == reached.removed == len(plan.units[row.group])
        assert row.value == evaluate(small, few()).value("accuracy")
        assert row.loss == pytest.approx(found.baseline.value - row.value)
        assert row.parameters == pytest.approx(reached.params)
        assert row.macs == pytest.approx(reached.macs)


@pytest.mark.parametrize(
    "metric", ["loss", "macro_f1", "top_3", "mean_average_precision", "agreement", "kl", "largest_difference"]
)
def test_other_metrics(metric: str) -> None:
    found = scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5,), groups=["conv3"], metric=metric)
    plan, _ = allocate_units(COUPLING, SCORES, Budget(group_ratios={"conv3": 0.5}, round_to=1))
    small = remove(MODEL, COUPLING, plan)
    expected = evaluate(small, few(), original=MODEL, top_k=3).metric(metric)
    (row,) = found.rows
    assert found.baseline.name == metric
    assert row.value == pytest.approx(expected.value, rel=1e-6)
    sign = 1 if expected.direction == "lower" else -1
    assert row.loss == pytest.approx(sign * (expected.value - found.baseline.value), rel=1e-6)
    assert row.loss > 0


def test_without_labels_the_original_is_agreed_with() -> None:
    bare = few(labels=False)
    found = scan(MODEL, COUPLING, SCORES, bare, ratios=(0.5,), groups=["conv4"])
    assert found.agreement
    assert (found.baseline.name, found.baseline.value) == ("agreement", 1.0)
    plan, _ = allocate_units(COUPLING, SCORES, Budget(group_ratios={"conv4": 0.5}, round_to=1))
    expected = evaluate(remove(MODEL, COUPLING, plan), bare, original=MODEL)
    assert found.rows[0].value == expected.value("agreement") < 1


def test_a_ratio_at_which_no_unit_goes_costs_nothing_and_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.sensitivity.desk.remove", lambda *_: pytest.fail("nothing is to be removed"))
    found = scan(MODEL, COUPLING, SCORES, few(), ratios=(0.001,))
    assert {(row.removed, row.loss, row.parameters) for row in found.rows} == {(0, 0.0, 1.0)}
    assert len(found.rows) == len(COUPLING.groups)


def test_equal_plans_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("onnxprune.sensitivity.desk.remove", lambda *a: calls.append(1) or remove(*a))
    found = scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5, 0.501), groups=["conv4"])
    assert [row.ratio for row in found.rows] == [0.5, 0.501]
    assert len({(row.removed, row.value) for row in found.rows}) == len(calls) == 1


def test_groups_that_are_tied_go_together() -> None:
    """Every direction of every layer of a stacked GRU loses equally many: none can lose units alone."""
    model, coupling = analyse(from_proto(export("gru_stacked")))
    (tied,) = tied_groups(coupling)
    assert len(tied) == 3
    data = Dataset({"x": np.random.default_rng(0).standard_normal((20, 8, 6), np.float32)})
    scores = score(model, coupling)
    found = scan(model, coupling, scores, data, ratios=(0.5,), groups=tied, metric="cosine")
    plan, _ = allocate_units(coupling, scores, Budget(ratio=0.5, round_to=1))
    expected = evaluate(remove(model, coupling, plan), data, original=model).value("cosine")
    assert [row.value for row in found.rows] == pytest.approx([expected] * 3, rel=1e-6)
    assert all(row.removed > 0 for row in found.rows)


def test_classes_and_features_are_masked_so_that_the_data_still_fit() -> None:
    model, coupling = analyse(_net("y = MatMul (r, b)", a=(4, 6), b=(6, 3)), Options(allow_io=("x:1", "y:1")))
    data = Dataset({"x": np.random.default_rng(0).standard_normal((30, 4), np.float32)}, np.arange(30) % 3)
    found = scan(model, coupling, score(model, coupling), data, ratios=(0.5,), metric="loss")
    assert len(found.rows) == 3
    assert all(row.removed for row in found.rows)
    assert all(row.parameters < 1 for row in found.rows)


def _net(end: str, **weights: tuple[int, ...]) -> Model:
    """A hidden layer ``r`` = Relu(x a), and ``end``."""
    proto = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]> net (float[n, 4] x) => (float[n, 3] y) {{
            h = MatMul (x, a)
            r = Relu (h)
            {end}
        }}""")
    rng = np.random.default_rng(0)
    for name, shape in weights.items():
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return from_proto(proto)


class TestFailures:
    def test_one_candidate_that_cannot_be_built(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object) -> Model:
            if "conv2" in args[2].units:  # type: ignore[attr-defined]
                raise SurgeryError("it cannot follow", "")
            return remove(*args)  # type: ignore[arg-type]

        monkeypatch.setattr("onnxprune.sensitivity.desk.remove", refuse)
        found = scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS)
        assert [(f.group, f.ratio, f.reason) for f in found.failures] == [
            ("conv2", r, "it cannot follow") for r in RATIOS
        ]
        assert len(found.rows) == (len(COUPLING.groups) - 1) * len(RATIOS)
        assert found.headroom(1.0)["conv2"] == 0.0

    def test_a_candidate_that_divides_zero_by_zero(self) -> None:
        """One hidden unit is positive, the others never are; without it their sum is 0."""
        axes = "axes = Constant <value_ints = [1]> () s = ReduceSum <keepdims = 1> (r, axes)"
        editor = _net(f"m = MatMul (r, b) {axes} y = Div (m, s)", a=(4, 4), b=(4, 3)).edit()
        editor.set_weight("a", np.array([[-1, -1, 1, -1]] * 4, np.float32))
        model, coupling = analyse(editor.build())
        (group,) = coupling.groups
        data = Dataset({"x": np.random.default_rng(0).random((30, 4), np.float32)}, np.arange(30) % 3)
        scores = UnitScores({group.name: [1, 2, 0, 3]}, "mine", coupling.model_hash)
        with pytest.raises(DataError, match="no candidate could be measured"):
            scan(model, coupling, scores, data, ratios=(0.25, 0.5))
        found = scan(model, coupling, scores, data, ratios=(0.1, 0.5))
        assert [(row.ratio, row.removed) for row in found.rows] == [(0.1, 0)]
        assert "NaN" in found.failures[0].reason

    def test_none_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> Model:
            raise SurgeryError("it cannot follow", "")

        monkeypatch.setattr("onnxprune.sensitivity.desk.remove", refuse)
        with pytest.raises(DataError, match=r"no candidate could be measured; conv1 at 50%: it cannot follow"):
            scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5,), groups=["conv1"])


class TestGoingOn:
    def interrupted(self, file: Path, after: int) -> Sensitivity:
        def stop(stage: str, done: int, _: int) -> None:
            if " at " in stage and done == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, file=file, progress=stop)
        return load_sensitivity(file)

    def test_nothing_is_measured_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "scan.json"
        whole = scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS)
        left = self.interrupted(file, 3)
        assert len(left.rows) == 3
        calls: list[int] = []
        seen: list[tuple[int, int]] = []
        monkeypatch.setattr("onnxprune.sensitivity.desk.remove", lambda *a: calls.append(1) or remove(*a))
        again = scan(
            MODEL, COUPLING, SCORES, few(), ratios=RATIOS, file=file,
            progress=lambda stage, done, total: seen.append((done, total)) if " at " in stage else None,
        )  # fmt: skip
        assert again == whole == load_sensitivity(file)
        assert len(calls) == len(whole.rows) - 3
        assert seen == [(n, len(whole.rows)) for n in range(4, len(whole.rows) + 1)]

    def test_more_ratios_and_groups_join_those_that_are_there(self, tmp_path: Path) -> None:
        file = tmp_path / "scan.json"
        scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5,), groups=["conv3"], file=file)
        both = scan(MODEL, COUPLING, SCORES, few(), ratios=(0.25,), groups=["conv2"], file=file)
        assert [(row.group, row.ratio) for row in both.rows] == [("conv2", 0.25), ("conv3", 0.5)]

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            ({"dataset": few(50)}, "another number of samples"),
            ({"dataset": few(labels=False)}, "another labels, metric"),
            ({"metric": "loss"}, "another metric"),
            ({"scores": score(MODEL, COUPLING, "l1")}, "another criterion"),
            ({"dataset": Dataset({"x": np.asarray(few().inputs["x"])[::-1]}, few().labels)}, "data, scores or options"),
        ],
    )
    def test_a_file_of_another_scan(self, other: dict[str, object], words: str, tmp_path: Path) -> None:
        file = tmp_path / "scan.json"
        scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5,), groups=["conv4"], file=file)
        before = file.read_text()
        arguments = {"scores": SCORES, "dataset": few(), **other}
        with pytest.raises(DataError, match=words):
            scan(MODEL, COUPLING, ratios=(0.5,), file=file, **arguments)  # type: ignore[arg-type]
        assert file.read_text() == before

    def test_the_file_is_not_written_for_every_row(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        times: list[int] = []
        monkeypatch.setattr("onnxprune.sensitivity.run.PAUSE", 1000.0)
        save = Sensitivity.save
        monkeypatch.setattr(Sensitivity, "save", lambda self, path: times.append(len(self.rows)) or save(self, path))
        scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, file=tmp_path / "scan.json")
        assert times == [0, 2 * len(COUPLING.groups)]


class TestBadInput:
    @pytest.mark.parametrize("ratios", [(), (0.5, 1.0), (0.0,), (-0.1,), (float("nan"),)])
    def test_ratios(self, ratios: tuple[float, ...]) -> None:
        with pytest.raises(OptionError, match="expected numbers between 0 and 1"):
            scan(MODEL, COUPLING, SCORES, few(), ratios=ratios)

    def test_group(self) -> None:
        with pytest.raises(GroupNotFound, match="conv9"):
            scan(MODEL, COUPLING, SCORES, few(), groups=["conv9"])

    def test_metrics(self) -> None:
        with pytest.raises(OptionError, match="no metric 'speed'"):
            scan(MODEL, COUPLING, SCORES, few(), metric="speed")
        with pytest.raises(OptionError, match=r"'mse' was not measured \(task: classification\)"):
            scan(MODEL, COUPLING, SCORES, few(), metric="mse")
        with pytest.raises(DataError, match="no labels, which the metric 'accuracy' needs"):
            scan(MODEL, COUPLING, SCORES, few(labels=False), metric="accuracy")

    def test_nan_in_the_data(self) -> None:
        x = np.array(few().inputs["x"])
        x[7, 0, 0, 0] = np.nan
        with pytest.raises(DataError, match=r"`x` holds NaN or Inf in 1 rows.*: 7"):
            scan(MODEL, COUPLING, SCORES, Dataset({"x": x}, few().labels))

    def test_outputs_that_do_not_fit_into_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onnxprune.sensitivity.original.spare_memory", lambda: 100)
        with pytest.raises(DataError, match="take more memory than there is to spare, after 64 of 100 samples"):
            scan(MODEL, COUPLING, SCORES, few(labels=False))

    def test_nothing_to_scan(self) -> None:
        with pytest.raises(NothingToPrune, match="no group has a unit to spare"):
            scan(MODEL, COUPLING, SCORES, few(), groups=[])

    def test_a_file_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot write the scan"):
            scan(MODEL, COUPLING, SCORES, few(), file=tmp_path / "nowhere" / "scan.json")
