"""Targets on bytes, memory and latency: met, with what they really come to beside them, alone and together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from onnxprune.allocate import Budget, allocate
from onnxprune.allocate.quantities import target
from onnxprune.cost import CostModel, cost
from onnxprune.coupling import couple
from onnxprune.errors import BudgetError, NothingToPrune, OptionError
from onnxprune.experiment import prune
from onnxprune.model import from_proto
from onnxprune.surgery import remove
from onnxprune.values import Coupling, Ints
from tests.allocate.nets import chain, residual, unit_scores
from tests.nets import export

MODEL = chain((20, 30, 40, 30))
COUPLING = couple(MODEL)
SCORES = unit_scores(MODEL, COUPLING)


def chosen(**options: Any) -> Any:
    return allocate(COUPLING, SCORES, Budget(**{"round_to": 1, **options}))


class Stairs:
    """Milliseconds that grow with the MACs in front of blocks of four channels, and count how often they were asked."""

    def __init__(self, coupling: Coupling, whole: float = 10.0) -> None:
        self.costs, self.whole, self.asked = CostModel(coupling), whole, 0

    def __call__(self, units: Mapping[str, Ints]) -> float:
        self.asked += 1
        up = {name: gone[: gone.size // 4 * 4] for name, gone in units.items()}
        return self.whole * (0.1 + 0.9 * self.costs.after(up).macs / self.costs.before.macs)


# -- bytes of the file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chain", "residual", "mobilenet_v3", "encoder_prenorm"])
@pytest.mark.parametrize("part", [0.9, 0.8])
def test_the_file_is_as_small_as_was_asked(name: str, part: float) -> None:
    made = {
        "chain": lambda: chain((60, 90, 80, 50)), "residual": residual,
        "mobilenet_v3": lambda: from_proto(export("mobilenet_v3", "dynamo")),
        "encoder_prenorm": lambda: from_proto(export("encoder_prenorm", "torchscript")),
    }  # fmt: skip
    model = made[name]()
    size = len(model.to_bytes())
    coupling = couple(model)
    budget = Budget(target_bytes=part, round_to=1, distribution="lamp")
    plan, reached = allocate(coupling, unit_scores(model, coupling), budget)
    written = len(prune(model, plan=plan, verify=False).model.to_bytes())
    found = reached.targets[0]
    assert (found.how, found.before) == ("counted", size)
    assert written <= part * size
    assert written == pytest.approx(found.after, abs=200)
    assert written > (part - 0.1) * size


def test_bytes_as_an_amount() -> None:
    model = chain((60, 90, 80, 50))
    coupling = couple(model)
    size = len(model.to_bytes())
    plan, reached = allocate(coupling, unit_scores(model, coupling), Budget(target_bytes="400KB", round_to=1))
    assert reached.targets[0].limit == pytest.approx(400_000 / size)
    assert reached.targets[0].after <= 400_000
    assert len(prune(model, plan=plan, verify=False).model.to_bytes()) <= 400_000


# -- memory of activations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["local", "global"])
def test_the_peak_of_the_activations(scope: str) -> None:
    plan, reached = chosen(target_memory=0.6, scope=scope)
    before, after = cost(MODEL).activation_bytes, cost(remove(MODEL, COUPLING, plan)).activation_bytes
    assert after <= 0.6 * before
    assert reached.targets[0].share == pytest.approx(after / before)
    plan, _ = chosen(target_memory=f"{before * 0.7:.0f}B", scope=scope)
    assert 0.6 * before < cost(remove(MODEL, COUPLING, plan)).activation_bytes <= round(0.7 * before)


# -- latency as a function --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [0.5, "5ms", "0.005s", "5000us"])
@pytest.mark.parametrize("distribution", ["uniform", "global", "knapsack", "lamp"])
def test_latency_by_an_estimate(asked: float | str, distribution: str) -> None:
    estimate = Stairs(COUPLING)
    plan, reached = allocate(
        COUPLING, SCORES, Budget(target_latency=asked, distribution=distribution, round_to=4), latency=estimate
    )
    found = reached.targets[0]
    assert estimate(plan.units) == found.after <= 5.0
    assert found.after > 4.0
    assert (found.name, found.how, found.before) == ("target_latency", "estimated", 10.0)
    assert found.limit == pytest.approx(0.5)
    assert estimate.asked < 200


def test_a_latency_out_of_reach_names_the_best() -> None:
    with pytest.raises(
        BudgetError, match=r"target_latency: 0.05 of the original is out of reach.* 0\.1\d* \(1\.\d+ ms\) remains"
    ) as error:
        allocate(COUPLING, SCORES, Budget(target_latency=0.05, round_to=1), latency=Stairs(COUPLING))
    assert "Ask for 0.1" in error.value.hint


def test_a_latency_that_is_met_already() -> None:
    with pytest.raises(NothingToPrune, match=r"within the target already"):
        allocate(COUPLING, SCORES, Budget(target_latency="11ms", round_to=1), latency=Stairs(COUPLING))


def test_a_latency_needs_an_estimate() -> None:
    with pytest.raises(OptionError, match=r"target_latency needs latencies, and none are given"):
        chosen(target_latency=0.5)


# -- together ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["uniform", "knapsack", "erk"])
def test_all_targets_hold_together(distribution: str) -> None:
    targets = {
        "target_params": 0.7, "target_macs": 0.6, "target_bytes": 0.75, "target_memory": 0.9, "target_latency": 0.65
    }  # fmt: skip
    plan, reached = allocate(
        COUPLING, SCORES, Budget(distribution=distribution, round_to=1, **targets), latency=Stairs(COUPLING)
    )
    assert [t.name for t in reached.targets] == list(targets)
    assert all(t.share <= t.limit == targets[t.name] for t in reached.targets)
    assert any(t.share > 0.95 * t.limit for t in reached.targets)
    document = reached.as_dict()
    assert [t["how"] for t in document["targets"]] == ["counted", "estimated", "counted", "estimated", "estimated"]
    assert plan.recipe["target_memory"] == 0.9


def test_the_error_names_the_target_that_is_out_of_reach() -> None:
    with pytest.raises(BudgetError, match=r"target_memory: 0.01 of the original"):
        chosen(target_params=0.9, target_memory=0.01)


# -- as written -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("target_bytes", "2.5MB", 2_500_000), ("target_bytes", "300 KB", 300_000), ("target_bytes", "1MiB", 2**20),
        ("target_bytes", "7k", 7000), ("target_memory", "1GB", 10**9), ("target_memory", 5000, 5000),
        ("target_latency", "5ms", 5.0), ("target_latency", "1.5s", 1500.0), ("target_latency", "800us", 0.8),
        ("target_latency", "0.5ms", 0.5),
    ],
)  # fmt: skip
def test_amounts_with_units(name: str, value: Any, expected: float) -> None:
    assert target(name, value) == (None, expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("target_latency", 5, r"target_latency: got 5, expected a share between 0 and 1, or a time with us, ms or s"),
        ("target_latency", "5MB", r"target_latency: got 5MB"),
        ("target_bytes", "5ms", r"target_bytes: got 5ms, expected a share between 0 and 1, or bytes with KB, MB or GB"),
        ("target_memory", -1, r"target_memory: got -1"),
        ("target_params", "2MB", r"target_params: got 2MB, .* or a number with K, M or G"),
    ],
)
def test_amounts_that_make_no_sense(name: str, value: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Budget(**{name: value})


def test_shares_have_no_unit() -> None:
    assert target("target_latency", 0.5) == (0.5, None)
    assert target("target_bytes", "0.25") == (0.25, None)
    assert np.isclose(target("target_latency", "0.3ms")[1] or 0, 0.3)
