"""What goes along with a unit: the rows name exactly the slices that surgery takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxprune.cost import cost, example_graph
from onnxprune.drawing import preview, singular
from onnxprune.errors import GroupNotFound, OptionError
from onnxprune.plan import Plan
from onnxprune.surgery import remove
from tests.cli.conftest import cnn
from tests.drawing.conftest import Analysed, analysed
from tests.nets import export

Net = Callable[..., Analysed]


def test_rows() -> None:
    _, coupling, _ = analysed(cnn())
    found = preview(coupling, "conv1", [3])
    assert [(r.layer, r.role, r.tensor, r.axis, r.index.tolist(), r.parameters) for r in found.rows] == [
        ("conv1", "produces", "conv1.weight", 0, [3], 9),
        ("conv1", "goes along", "conv1.bias", 0, [3], 1),
        ("conv2", "reads", "conv2.weight", 1, [3], 16 * 9),
    ]
    assert (found.parameters, found.macs) == (9 + 1 + 16 * 9, 64 * (9 + 16 * 9))
    assert found.words == "Removing filter 3 of conv1 also removes inputs of conv2: 154 parameters in all."
    assert found.carried == ("a", "b")


@pytest.mark.parametrize("name", ["resnet_basic", "vit", "shufflenet_v2", "lstm_bidirectional", "densenet"])
def test_it_is_what_surgery_does(name: str) -> None:
    model, coupling, _ = analysed(export(name, keep_batchnorm=True))
    balanced = {
        int(number) for constraint in coupling.constraints for block in constraint.blocks for number in block[:, 0]
    }
    alone = [group for number, group in enumerate(coupling.groups) if number not in balanced]
    assert alone
    for group in alone[:4]:
        found = preview(coupling, group.name, [0])
        plan = Plan(coupling.model_hash, {group.name: np.array([0])}, {g.name: g.units for g in coupling.groups},
                    options=coupling.options)  # fmt: skip
        small = remove(model, coupling, plan)
        before, after = (cost(m, example_graph(m), count_nonzero=False) for m in (model, small))
        assert found.parameters == before.parameters - after.parameters, group.name
        assert found.macs == before.macs - after.macs
        for row in found.rows:
            if row.tensor in small.weights and row.blocks == 1:
                lost = model.weights[row.tensor].shape[row.axis] - small.weights[row.tensor].shape[row.axis]
                assert lost == row.index.size


def test_a_whole_head(net_with_groups: Net) -> None:
    _, coupling, _ = net_with_groups("vit")
    name = next(group.name for group in coupling.groups if group.kind == "heads")
    found = preview(coupling, name, [1])
    assert "Removing head 1 of" in found.words
    assert {row.role for row in found.rows} == {"produces", "goes along", "reads"}


def test_wrong_names_and_numbers() -> None:
    _, coupling, _ = analysed(cnn())
    with pytest.raises(GroupNotFound, match="there is no group 'conv9'"):
        preview(coupling, "conv9", [0])
    with pytest.raises(OptionError, match="`conv1` has no unit 8") as raised:
        preview(coupling, "conv1", [2, 8])
    assert raised.value.hint == "Its filters are 0 to 7."
    with pytest.raises(OptionError, match="no unit of `conv1`"):
        preview(coupling, "conv1", [])


def test_one_of_them() -> None:
    assert [singular(kind) for kind in ("filters", "neurons", "heads", "cells")] == ["filter", "neuron", "head", "cell"]
