"""Scales of batch normalisations: their mean per unit, and what happens without them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score
from onnxprune.errors import OptionError
from onnxprune.model import from_proto
from tests.criteria.lookahead_reference import Net, model_of
from tests.nets import export
from tests.nets._spec import image


def test_the_mean_of_all_norms_of_a_unit() -> None:
    b = Net()
    x = b.norm(b.conv("x", 3, 4, name="a"), "n", 4)
    y = b.op("Add", x, b.norm(b.conv(b.op("Relu", x), 4, 4, name="d"), "m", 4))
    y = b.conv(b.op("Relu", b.conv(y, 4, 5, name="e")), 5, 2, name="c")
    model = model_of(b, y, image(3, 6, 6), 4)
    coupling = couple(model)
    found = score(model, coupling, "bn-scale")
    expected = (np.abs(b.arrays["n.0"]) + np.abs(b.arrays["m.0"])) / 2
    first, second = (g.name for g in coupling.groups)
    np.testing.assert_allclose(found[first], expected, rtol=1e-6)
    beyond = expected.max() + score(model, coupling, "l2")[second]
    np.testing.assert_allclose(found[second], beyond, rtol=1e-6)
    assert found.warnings == (f"units without BatchNorm are scored by magnitude, behind all others: {second}",)


def test_each_reader_of_a_concatenation_has_a_norm_of_its_own() -> None:
    model = from_proto(export("densenet", "torchscript", keep_batchnorm=True))
    coupling = couple(model)
    found = score(model, coupling, "bn-scale")
    values = {t: w.array() for t, w in coupling.graph.weights.items()}
    scales = {n.input(1) for n in coupling.graph.nodes if n.op == "BatchNormalization"}
    several = 0
    for group in coupling.groups:
        members = [m for m in group.weights if m.tensor in scales]
        several += len(members) > 1
        for unit in range(group.units if members else 0):
            entries = [abs(values[m.tensor][i]) for m in members for i in m.index[m.unit == unit]]
            np.testing.assert_allclose(found[group.name][unit], np.mean(entries), rtol=1e-6)
    assert several


def test_a_model_without_any_names_the_criteria_that_work() -> None:
    b = Net()
    model = model_of(b, b.conv(b.op("Relu", b.conv("x", 3, 4, name="a")), 4, 2, name="c"), image(3, 6, 6), 4)
    with pytest.raises(OptionError, match=r"(?s)'bn-scale' needs units with BatchNorm.*what they need: .*fpgm, lamp"):
        score(model, couple(model), "bn-scale", Settings())
