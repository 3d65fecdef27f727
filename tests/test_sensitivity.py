"""The scan: each number is what evaluating that removed model gives; it can be interrupted, spread, saved."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from onnxprune.allocate import Budget, allocate_units
from onnxprune.criteria import score
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import DataError, GroupNotFound, OptionError
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.model import load
from onnxprune.sensitivity import answers_of, load_sensitivity, scan
from onnxprune.surgery import remove

DEMO = Path(__file__).parent.parent / "onnxprune" / "demo_data"
MODEL, COUPLING = analyse(load(DEMO / "digits_cnn.onnx"))
DATA = open_dataset(DEMO / "digits.npz")
SCORES = score(MODEL, COUPLING)
RATIOS = (0.25, 0.5)


def few(count: int = 100) -> Dataset:
    return Dataset({k: np.asarray(v)[:count] for k, v in DATA.inputs.items()}, np.asarray(DATA.labels)[:count])


def test_rows_are_what_evaluating_the_removed_model_gives() -> None:
    found = scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS)
    assert found.baseline.value == evaluate(MODEL, few()).value("accuracy")
    assert [(r.group, r.ratio) for r in found.rows] == [(g.name, r) for g in COUPLING.groups for r in RATIOS]
    for row in found.rows:
        budget = Budget(group_ratios={row.group: row.ratio}, round_to=1)
        plan, reached = allocate_units(COUPLING, SCORES, budget)
        small = remove(MODEL, COUPLING, plan)
        assert row.removed == reached.removed == len(plan.units[row.group])
        assert row.value == evaluate(small, few()).value("accuracy")
        assert row.loss == pytest.approx(found.baseline.value - row.value)
        assert row.parameters == pytest.approx(reached.params)
        assert row.macs == pytest.approx(reached.macs)


def test_without_labels_the_original_is_agreed_with() -> None:
    bare = Dataset(few().inputs)
    found = scan(MODEL, COUPLING, SCORES, bare, ratios=(0.5,), groups=["conv4"])
    assert found.agreement
    assert found.baseline.value == 1.0
    assert 0 < found.rows[0].value < 1
    assert answers_of(MODEL, bare).labels is not None


def test_an_interrupted_scan_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scan.json"
    whole = scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS)

    def stop(*progress: str | int) -> None:
        if progress[1] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, file=file, progress=stop)
    left = load_sensitivity(file)
    assert 0 < len(left.rows) < len(whole.rows)
    calls: list[int] = []
    monkeypatch.setattr("onnxprune.sensitivity.remove", lambda *a: calls.append(1) or remove(*a))
    again = scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, file=file)
    assert len(calls) == len(whole.rows) - len(left.rows)
    assert again == whole == load_sensitivity(file)


def test_spread_over_processes_it_is_the_same() -> None:
    here = scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5,))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        there = scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5,), executor=pool, workers=2, threads=1)
    assert there == here


def test_headroom_is_the_last_ratio_before_the_first_that_costs_too_much() -> None:
    found = scan(MODEL, COUPLING, SCORES, few(), ratios=(0.25, 0.5, 0.75))
    for group, ratio in found.headroom(0.05).items():
        rows = found.of(group)
        held = [r for r in rows if r.ratio <= ratio]
        assert all(r.loss <= 0.05 for r in held)
        after = [r for r in rows if r.ratio > ratio]
        assert not after or after[0].loss > 0.05


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected numbers between 0 and 1"):
        scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5, 1.0))
    with pytest.raises(GroupNotFound, match="conv9"):
        scan(MODEL, COUPLING, SCORES, few(), groups=["conv9"])
    with pytest.raises(OptionError, match="no metric 'speed'"):
        scan(MODEL, COUPLING, SCORES, few(), metric="speed")
    other = tmp_path / "other.json"
    scan(MODEL, COUPLING, SCORES, few(), ratios=(0.5,), groups=["conv4"]).save(other)
    with pytest.raises(DataError, match="another model, criterion, metric or dataset"):
        scan(MODEL, COUPLING, SCORES, few(50), ratios=(0.5,), file=other)
    other.write_text("{}")
    with pytest.raises(DataError, match="not a sensitivity scan"):
        load_sensitivity(other)
    with pytest.raises(DataError, match="cannot read the scan"):
        load_sensitivity(tmp_path / "missing.json")
