"""The change of maps, and means that take the place of all maps."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.errors import OptionError
from onnxprune.explain import feature_maps, find_layer, map_change, mean_maps
from tests.explain.torch_side import net


def test_change_is_relative_to_what_was_there() -> None:
    before = np.zeros((1, 4, 2, 2), np.float32)
    before[0, 0], before[0, 1], before[0, 2] = 3, 2, 1
    after = before.copy()
    after[0, 1], after[0, 2], after[0, 3] = 0, 1.5, 1
    assert map_change(before, after).tolist() == [0, 1, 0.5, np.inf]


def test_change_of_nothing_is_none() -> None:
    nothing = np.zeros((2, 3))
    assert map_change(nothing, nothing).tolist() == [0, 0, 0]


def test_mean_is_that_of_all_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    _, view, feeds = net("plain_cnn")
    layer = find_layer(view, "1.0")
    whole = feature_maps(view, feeds, layer)
    monkeypatch.setattr("onnxprune.explain.compared.PART", 2)
    told: list[tuple[str, int, int]] = []
    found = mean_maps(view, feeds, layer, progress=lambda *at: told.append(at))
    count = len(whole.rows)
    assert (found.rows, told[-1][1:]) == (whole.rows, (count, count))
    assert count % 2, "the parts must be of different size"
    np.testing.assert_allclose(found.values[0], whole.values.mean(0), rtol=1e-5, atol=1e-6)
    for name in ("mean", "deviation", "smallest", "largest", "active"):
        np.testing.assert_allclose(
            getattr(found.statistics, name), getattr(whole.statistics, name), rtol=1e-5, atol=1e-6
        )


def test_mean_of_chosen_rows() -> None:
    _, view, feeds = net("plain_cnn")
    layer = find_layer(view, "1.0")
    whole = feature_maps(view, feeds, layer)
    found = mean_maps(view, feeds, layer, rows=[3, 0])
    np.testing.assert_allclose(found.values[0], whole.values[[3, 0]].mean(0), rtol=1e-5, atol=1e-6)
    with pytest.raises(OptionError, match="no instance 99"):
        mean_maps(view, feeds, layer, rows=[99])
