"""FPGM: sums of distances, one pair of units after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, geometry, score
from onnxprune.model import from_proto
from onnxprune.values import Coupling, Options
from tests.criteria.lookahead_reference import Net, model_of
from tests.criteria.reference import unit_entries
from tests.nets import export
from tests.nets._spec import image
from tests.random_graphs import build


def by_definition(coupling: Coupling, sides: str) -> dict[str, list[float]]:
    values = {t: w.array() for t, w in coupling.graph.weights.items()}
    result = {}
    for group in coupling.groups:
        entries = unit_entries(group, values, sides)
        vectors = [np.array(entries[unit], np.float64) for unit in range(group.units)]
        result[group.name] = [float(sum(np.linalg.norm(v - w) for w in vectors)) for v in vectors]
    return result


@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 17), min_size=1, max_size=3), st.sampled_from(["all", "producing"]))
def test_sums_of_distances(picks: list[int], sides: str) -> None:
    model = from_proto(build(picks))
    coupling = couple(model)
    found = score(model, coupling, "fpgm", Settings(sides=sides, normalise=False))
    for name, sums in by_definition(coupling, sides).items():
        np.testing.assert_allclose(found[name], sums, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["grouped_conv", "lstm_bidirectional", "encoder_prenorm"])
@pytest.mark.parametrize("attention", ["heads", "dims"])
def test_ragged_axes_and_heads(name: str, attention: str) -> None:
    model = from_proto(export(name, "dynamo"))
    coupling = couple(model, Options(attention=attention))
    found = score(model, coupling, "fpgm")
    for group, sums in by_definition(coupling, "all").items():
        np.testing.assert_allclose(found[group], np.array(sums) / len(sums), rtol=1e-5, err_msg=group)


def test_so_many_units_that_they_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = from_proto(build([0, 1]))
    coupling = couple(model)
    whole = score(model, coupling, "fpgm")
    monkeypatch.setattr(geometry, "TABLE", 20)
    monkeypatch.setattr(geometry, "STRETCH", 30)
    for name, sums in score(model, coupling, "fpgm").items():
        np.testing.assert_allclose(sums, whole[name], rtol=1e-6)


def filters(weight: np.ndarray) -> np.ndarray:
    b = Net()
    y = b.op("Relu", b.op("Conv", "x", b.const("w.weight", weight)))
    model = model_of(b, b.conv(y, len(weight), 2, name="c"), image(3, 4, 4), 4)
    return np.asarray(score(model, couple(model), "fpgm", Settings(sides="producing"))["w"])


def test_the_unit_in_the_middle_goes_first_and_offsets_do_not_matter() -> None:
    weight = np.zeros((5, 3, 1, 1))
    weight[:, 0, 0, 0] = [0, 1, 2, 3, 4]
    np.testing.assert_allclose(filters(weight), np.array([10, 7, 6, 7, 10]) / 5)
    np.testing.assert_allclose(filters(weight + 1000), np.array([10, 7, 6, 7, 10]) / 5, rtol=1e-5)


def test_broken_weights() -> None:
    weight = np.zeros((4, 3, 1, 1))
    weight[:3, 0, 0, 0] = [np.nan, np.inf, 2]
    assert filters(weight).tolist() == [0.5, np.inf, 1.5, 0.5]
