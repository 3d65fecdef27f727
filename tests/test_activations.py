"""Streaming and reducing activations; where the units of a group are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.activations import Firing, Moments, read_points, reduce, stream
from onnxprune.data import open_dataset
from onnxprune.errors import OptionError
from onnxprune.experiment import analyse
from onnxprune.model import from_proto, load
from onnxprune.runtime import session
from tests.nets import export
from tests.oracle import assert_close

DEMO = Path(__file__).parent.parent / "onnxprune" / "demo_data"
MODEL = load(DEMO / "digits_cnn.onnx")
DATA = open_dataset(DEMO / "digits.npz")


def test_batches_together_are_the_whole() -> None:
    inlined, coupling = analyse(MODEL)
    tensor = read_points(coupling)[coupling.groups[1].name][0].tensor
    whole = session(inlined, outputs=[tensor]).run(
        {inlined.proto.graph.input[0].name: np.asarray(next(iter(DATA.inputs.values())))}
    )
    parts = [values[tensor] for _, values in stream(inlined, DATA, [tensor], size=50)]
    assert len(parts) == -(-len(DATA) // 50)
    assert_close(np.concatenate(parts), whole[tensor])


def test_moments_and_firing_of_batches_are_those_of_all() -> None:
    inlined, coupling = analyse(MODEL)
    point = read_points(coupling)[coupling.groups[0].name][0]
    moments, firing = Moments(), Firing()
    reduce(inlined, DATA, {point.tensor: (moments, firing)}, size=37, limit=100)
    (values,) = (v[point.tensor] for _, v in stream(inlined, DATA, [point.tensor], size=100, limit=100))
    assert moments.count == values.size // values.shape[1]
    assert_close(moments.mean, values.mean(axis=(0, 2, 3), dtype=np.float64))
    assert_close(moments.variance, values.var(axis=(0, 2, 3), dtype=np.float64))
    assert_close(firing.share, (values > 0).mean(axis=(0, 2, 3)), rtol=0)
    assert 0 < firing.share.mean() < 1


def test_a_graph_input_can_be_asked_for() -> None:
    name = MODEL.proto.graph.input[0].name
    found = np.concatenate([v[name] for _, v in stream(MODEL, DATA, [name], size=100)])
    np.testing.assert_array_equal(found, np.asarray(next(iter(DATA.inputs.values()))))


def test_an_unknown_tensor_is_named() -> None:
    with pytest.raises(OptionError, match="no tensor `nowhere`"):
        next(stream(MODEL, DATA, ["nowhere"]))


def test_units_are_read_behind_norm_and_activation() -> None:
    """conv -> BatchNorm -> Relu -> next conv: the input of the next convolution, not the output of the first."""
    _, coupling = analyse(MODEL)
    graph = coupling.graph
    for group, points in read_points(coupling).items():
        assert points, group
        for point in points:
            assert any(node.op in ("Conv", "Gemm", "MatMul") for node, _ in graph.consumers[point.tensor])


@pytest.mark.parametrize("net", ["vit", "lstm_bidirectional", "encoder_bert", "shufflenet_v1"])
def test_per_unit_means_over_the_positions_of_a_unit(net: str) -> None:
    _, coupling = analyse(from_proto(export(net)))
    sizes = {g.name: g.units for g in coupling.groups}
    for name, points in read_points(coupling).items():
        for point in points:
            size = coupling.shapes[point.tensor][point.axis]
            ones = point.per_unit(np.ones(size), sizes[name])
            assert set(np.unique(ones)) <= {0.0, 1.0}
            assert ones.any()
