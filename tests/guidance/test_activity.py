"""What units do on data, held against activations that are fetched one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.activations import read_points, stream
from onnxprune.data import open_calibration
from onnxprune.errors import DataError
from onnxprune.experiment import analyse
from onnxprune.guidance.activity import Activity, activity, load_activity
from onnxprune.model import load
from onnxprune.values import Coupling
from onnxprune.workspace.workspace import Workspace
from tests.guidance.conftest import CONSTANT, DEAD, TWINS, quiet

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "onnxprune" / "demo_data" / "digits.npz"


def test_units_that_were_made_so(workspace: Workspace) -> None:
    model, coupling = analyse(workspace.model(1))
    found = activity(model, coupling, open_calibration(workspace.folder / "data/bright.npz"), progress=quiet)
    first, second = found.of("conv1"), found.of("conv2")
    assert first is not None
    assert second is not None
    assert np.flatnonzero(first.largest == 0).tolist() == [DEAD]
    assert np.flatnonzero(first.share == 0).tolist() == [DEAD]
    assert np.flatnonzero(first.deviation == 0).tolist() == [DEAD, CONSTANT]
    assert first.mean[CONSTANT] == 1
    assert first.twin[CONSTANT] == first.twin[DEAD] == -1
    assert second.likeness[list(TWINS)] == pytest.approx([1, 1], abs=1e-6)
    assert second.twin[list(TWINS)].tolist() == list(TWINS[::-1])
    assert found.of("fc") is None
    assert found.samples == 48


@pytest.mark.parametrize("name", ["vgg", "vit", "lstm", "residual"])
def test_it_is_what_the_activations_say(name: str) -> None:
    """vgg: maps that are flattened; vit: heads; lstm: cells; residual: units that are read at several places."""
    model, coupling = analyse(load(ROOT / "examples" / "nets" / f"{name}.onnx"))
    dataset = open_calibration(DIGITS, 100)
    found = activity(model, coupling, dataset, size=30)
    for group, points in read_points(coupling).items():
        one = found.of(group)
        assert one is not None
        tables = [_rows(model, coupling, dataset, group, number) for number in range(len(points))]
        np.testing.assert_allclose(one.largest, np.max([np.abs(t).max(axis=1) for t in tables], axis=0), rtol=1e-6)
        np.testing.assert_allclose(one.share, np.max([(t != 0).mean(axis=1) for t in tables], axis=0), rtol=1e-6)
        np.testing.assert_allclose(one.deviation, np.max([t.std(axis=1) for t in tables], axis=0), rtol=1e-4, atol=1e-6)
        likeness = np.min([_correlations(t) for t in tables], axis=0)
        np.testing.assert_allclose(one.likeness, likeness.max(axis=1), atol=1e-4)


def _rows(model: object, coupling: Coupling, dataset: object, group: str, number: int) -> np.ndarray:  # type: ignore[type-arg]
    """(units, values), in float64."""
    point = read_points(coupling)[group][number]
    parts = []
    for _, values in stream(model, dataset, (point.tensor,), size=30):  # type: ignore[arg-type]
        moved = np.moveaxis(values[point.tensor], point.axis, 0)
        flat = moved.reshape(moved.shape[0], -1).astype(np.float64)
        units = [flat[point.index[point.unit == unit]].reshape(-1) for unit in range(int(point.unit.max()) + 1)]
        parts.append(np.stack(units))
    return np.concatenate(parts, axis=1)


def _correlations(rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.abs(np.corrcoef(rows))
    still = rows.std(axis=1) <= 1e-6 * rows.std(axis=1).max()
    found[still] = found[:, still] = 0
    np.fill_diagonal(found, 0)
    return found


def test_it_is_read_back(tmp_path: Path, workspace: Workspace) -> None:
    model, coupling = analyse(workspace.model(1))
    found = activity(model, coupling, open_calibration(workspace.folder / "data/bright.npz"))
    file = tmp_path / "a.json"
    file.write_text(found.to_json())
    again = load_activity(file)
    assert (again.model_hash, again.samples, list(again.groups)) == (found.model_hash, 48, ["conv1", "conv2"])
    for name, one in found.groups.items():
        for key, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(again.groups[name], key))
    for text in ("{", '{"onnxprune_activity": 2}', '{"onnxprune_activity": 1, "groups": {"a": {}}}'):
        file.write_text(text)
        with pytest.raises(DataError, match=r"a.json"):
            load_activity(file)
    with pytest.raises(DataError, match=r"cannot be read"):
        load_activity(tmp_path / "absent.json")


def test_a_group_that_is_too_large_is_not_compared(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.guidance.activity.LARGEST", 10)
    model, coupling = analyse(workspace.model(1))
    found: Activity = activity(model, coupling, open_calibration(workspace.folder / "data/bright.npz"))
    second = found.of("conv2")
    assert second is not None
    assert (second.twin == -1).all()
    assert second.largest.max() > 0
