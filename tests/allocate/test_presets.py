"""Ratios to begin with: by family, kind and place of a layer, and by step."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.allocate import Budget, allocate, family_of, prunable_weights, suggest_ratios
from onnxprune.allocate.presets import FAMILIES, group_rates, weight_rates
from onnxprune.coupling import couple
from onnxprune.errors import NothingToPrune, OptionError
from onnxprune.model import Model, from_proto
from tests.allocate.nets import chain, layers_net, mlp, residual, unit_scores, weight_scores
from tests.nets import export


def deep(convolutions: int) -> Model:
    return chain([4] * convolutions)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        (mlp(), "mlp"), (deep(1), "lenet"), (deep(3), "lenet"), (deep(4), "conv6"), (deep(7), "conv6"),
        (deep(8), "vgg"), (residual(), "resnet"), (layers_net(), "lenet"),
    ],
)  # fmt: skip
def test_the_family_is_read_off_the_graph(model: Model, family: str) -> None:
    assert family_of(couple(model).graph) == family


@pytest.mark.parametrize(
    ("name", "exporter", "family"),
    [
        ("resnet_basic", "torchscript", "resnet"), ("encoder_prenorm", "torchscript", "resnet"),
        ("lstm_bidirectional", "torchscript", "mlp"), ("plain_cnn", "dynamo", "lenet"),
    ],
)  # fmt: skip
def test_the_family_of_exported_nets(name: str, exporter: str, family: str) -> None:
    assert family_of(couple(from_proto(export(name, exporter))).graph) == family


# the table of arXiv:2002.04809: weights of a net of that family, in order, and what goes in the first iteration
EXPECTED = {
    "mlp": (mlp((6, 9, 8, 7, 5, 4)), [0.5, 0.5, 0.5, 0.5, 0.25]),
    "lenet": (deep(2), [0.2, 0.2, 0.15]),
    "conv6": (deep(6), [0.15] * 6 + [0.1]),
    "vgg": (deep(9), [0.15] * 9 + [0.1]),
    "resnet": (residual(), [0.0, 0.15, 0.15, 0.15, 0.15, 0.1]),
}


@pytest.mark.parametrize("family", EXPECTED)
def test_weights_have_the_ratios_of_the_paper(family: str) -> None:
    model, expected = EXPECTED[family]
    coupling = couple(model)
    assert list(weight_rates(coupling.graph).values()) == expected
    assert suggest_ratios(coupling, weights=True) == pytest.approx(weight_rates(coupling.graph))
    for step in (2, 5):
        found = suggest_ratios(coupling, family, step, weights=True)
        np.testing.assert_allclose(list(found.values()), [1 - (1 - p) ** step for p in expected], rtol=1e-12)


def test_fully_connected_layers_behind_convolutions() -> None:
    coupling = couple(layers_net())
    for family, conv, fully, last in (("lenet", 0.2, 0.3, 0.15), ("conv6", 0.15, 0.2, 0.1), ("vgg", 0.15, 0.15, 0.1)):
        rates = weight_rates(coupling.graph, family)
        assert rates == {"plain": conv, "grouped": conv, "turned": conv, "product": fully, "gemm": last}


def test_a_group_has_the_smallest_ratio_of_the_layers_that_produce_it() -> None:
    coupling = couple(residual())
    rates = group_rates(coupling)
    weights = weight_rates(coupling.graph)
    for group in coupling.groups:
        mine = {m.tensor for m in group.weights if not m.consumes}
        assert rates[group.name] == min(weights[t] for t in mine)
    stream = next(g for g in coupling.groups if any(m.tensor == "stem" and not m.consumes for m in g.weights))
    assert rates[stream.name] == 0.0
    assert sorted(rates.values()) == [0.0, 0.15, 0.15]
    assert suggest_ratios(coupling, "wrn") == suggest_ratios(coupling, "resnet") == pytest.approx(rates)


@pytest.mark.parametrize("step", [1, 3])
def test_a_plan_by_preset(step: int) -> None:
    model = chain((20, 30, 40, 50))
    coupling = couple(model)
    budget = Budget(distribution="preset", preset_step=step, round_to=1)
    plan, reached = allocate(coupling, unit_scores(model, coupling), budget)
    share = 1 - (1 - 0.15) ** step
    assert {n: u.size for n, u in plan.units.items()} == {g.name: int(share * g.units) for g in coupling.groups}
    assert reached.asked == {"distribution": "preset", "round_to": 1} | ({"preset_step": 3} if step == 3 else {})
    weights, _ = allocate(coupling, weight_scores(model, coupling), Budget(distribution="preset", preset_step=step))
    for name, ratio in suggest_ratios(coupling, step=step, weights=True).items():
        assert weights.weights[name].sum() == int(ratio * weights.weights[name].size + 1e-9)


def test_a_preset_with_a_ratio_takes_as_many_steps_as_it_needs() -> None:
    model = residual()
    coupling = couple(model)
    plan, _ = allocate(coupling, unit_scores(model, coupling), Budget(ratio=0.4, distribution="preset", round_to=1))
    free = sum(g.units for g in coupling.groups)
    assert plan.removed_units == int(0.4 * free)
    assert len(plan.units) == 2  # the stream of the stem never loses anything
    masks, reached = allocate(coupling, weight_scores(model, coupling), Budget(ratio=0.5, distribution="preset"))
    assert reached.removed == int(0.5 * reached.total)
    assert "stem" not in masks.weights
    steps = {
        n: np.log(1 - m.mean()) / np.log(1 - p) for n, m in masks.weights.items() if (p := 0.15 - 0.05 * (n == "last"))
    }
    assert max(steps.values()) - min(steps.values()) < 0.3  # of 40 weights, one is a tenth of a step


def test_a_preset_with_ratios_of_its_own_for_some() -> None:
    model = mlp()
    coupling = couple(model)
    first, second = (g.name for g in coupling.groups)
    budget = Budget(distribution="preset", group_ratios={first: 0.1}, skip=(second,), round_to=1)
    plan, _ = allocate(coupling, unit_scores(model, coupling), budget)
    assert {n: u.size for n, u in plan.units.items()} == {first: 2}


def test_a_first_layer_that_stays_whole_is_nothing_to_prune() -> None:
    model = residual()
    coupling = couple(model)
    others = tuple(n for n, p in group_rates(coupling).items() if p)
    with pytest.raises(NothingToPrune):
        allocate(coupling, unit_scores(model, coupling), Budget(distribution="preset", skip=others, round_to=1))


def test_presets_that_make_no_sense() -> None:
    coupling = couple(mlp())
    with pytest.raises(
        OptionError, match=r"preset: got 'alexnet', expected one of mlp, lenet, conv6, vgg, resnet, wrn"
    ):
        suggest_ratios(coupling, "alexnet")
    with pytest.raises(OptionError, match=r"step: got 0"):
        suggest_ratios(coupling, step=0)
    for options, message in (
        ({"distribution": "preset", "preset": "x"}, r"preset: got 'x'"),
        ({"ratio": 0.5, "preset": "mlp"}, r"a preset is chosen, but not the distribution preset"),
        ({"distribution": "preset", "preset_step": 0}, r"preset_step: got 0"),
        ({"distribution": "preset", "preset_step": 2, "ratio": 0.5}, r"both preset_step and a ratio are given"),
    ):
        with pytest.raises(OptionError, match=message):
            Budget(**options)  # type: ignore[arg-type]
    assert set(FAMILIES) == {"mlp", "lenet", "conv6", "vgg", "resnet"}


def test_every_prunable_weight_has_a_ratio() -> None:
    graph = couple(layers_net()).graph
    assert list(weight_rates(graph)) == list(prunable_weights(graph))
