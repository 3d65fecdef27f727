"""Which columns of which layers are which unit: zeroing a unit's columns is zeroing what it is read as."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from onnxprune.coupling import couple
from onnxprune.criteria.readers import RecurrentLayer, measurable, readers, spread
from onnxprune.errors import UnsupportedModel
from onnxprune.model import from_proto
from onnxprune.runtime import session
from tests.criteria.measured import cnn, finish
from tests.nets import export
from tests.nets.handmade._build import Build
from tests.oracle import assert_close

RNG = np.random.default_rng(0)


def members_by_hand(coupling, name: str, weight: str) -> dict[int, set[tuple[int, ...]]]:
    """Unit -> the entries of the stored weight that read it, entry by entry."""
    group = coupling.groups[coupling.by_name[name]]
    found: dict[int, set[tuple[int, ...]]] = {}
    for m in group.weights:
        if m.tensor != weight or not m.consumes:
            continue
        shape = coupling.shapes[weight]
        for k, (index, unit) in enumerate(zip(m.index, m.unit, strict=True)):
            for place in np.ndindex(*shape):
                block = place[m.along] // (shape[m.along] // m.blocks) if m.block is not None else None
                if place[m.axis] == index and (m.block is None or m.block[k] == block):
                    found.setdefault(int(unit), set()).add(place)
    return found


@pytest.mark.parametrize(
    "net", ["grouped_conv", "lstm_bidirectional", "vit", "unet", "conv_lstm", "shufflenet_v1", "gru_stacked", "siamese"]
)
def test_columns_are_the_entries_of_the_members(net: str) -> None:
    coupling = couple(from_proto(export(net)))
    count = 0
    for name, found in readers(coupling).items():
        for reader in found:
            shape = coupling.shapes[reader.layer.weight]
            rows = np.prod(shape, dtype=int) // reader.unit.size
            matrix = np.broadcast_to(reader.unit[:, None], (len(reader.unit), rows, reader.unit.shape[1]))
            stored = reader.layer.stored(np.ascontiguousarray(matrix), shape)
            assert_same_spread(reader.layer, reader.unit, stored, shape)
            expected = members_by_hand(coupling, name, reader.layer.weight)
            for unit, places in expected.items():
                assert {tuple(map(int, p)) for p in np.argwhere(stored == unit)} == places
            assert set(np.unique(stored)) - {-1} == set(expected)
            count += 1
    assert count >= len(coupling.groups)


def assert_same_spread(layer, unit, stored, shape) -> None:
    np.testing.assert_array_equal(np.broadcast_to(spread(layer, unit, shape), shape), stored)


def test_a_weight_behind_a_transpose() -> None:
    b = Build()
    y = b.op("Relu", b.op("Gemm", "x", b.weight("w1", 5, 8, fan_in=5)))
    y = b.op("MatMul", y, b.op("Transpose", b.weight("w2", 4, 8), perm=[1, 0]))
    model, coupling = finish(b, y, "batch", 5)
    ((reader,),) = readers(coupling).values()
    assert (reader.layer.weight, model.weights["w2"].shape) == ("w2", (4, 8))
    np.testing.assert_array_equal(reader.unit, [range(8)])


def recurrent(op: str, direction: str, layout: int = 0) -> tuple[Build, str]:
    gates, directions = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1
    b = Build()
    w, r = b.weight("w", directions, gates * 5, 3, fan_in=3), b.weight("r", directions, gates * 5, 5, fan_in=5)
    y = b.op(op, "x", w, r, hidden_size=5, direction=direction, layout=layout, out="y")
    return b, y


@pytest.mark.parametrize(("op", "direction"), [("LSTM", "forward"), ("GRU", "bidirectional"), ("RNN", "reverse")])
def test_recurrent_layers_read_their_input_and_their_states(op: str, direction: str) -> None:
    b, y = recurrent(op, direction)
    model, coupling = finish(b, y, 7, "batch", 3)
    (w,), (r,) = (measurable(coupling.graph)[name] for name in ("w", "r"))
    assert isinstance(w, RecurrentLayer)
    x = RNG.normal(size=(7, 2, 3)).astype(np.float32)
    states = session(model).run({"x": x})["y"]
    directions = states.shape[1]
    for d in range(directions):
        assert_close(x.reshape(-1, 3), w.columns(x)[d])
        assert_close(states[:, d].reshape(-1, 5), r.columns(states)[d])
    assert w.columns(x).shape == (directions, 14, 3)
    with pytest.raises(UnsupportedModel, match="gates add up"):
        w.outputs(states)


def test_a_recurrent_layer_that_gives_its_last_state_only() -> None:
    b = Build()
    w, r = b.weight("w", 1, 20, 3, fan_in=3), b.weight("r", 1, 20, 5, fan_in=5)
    b.nodes.append(helper.make_node("LSTM", ["x", w, r], ["", "last"], hidden_size=5))
    _, coupling = finish(b, "last", 7, "batch", 3)
    (layer,) = measurable(coupling.graph)["r"]
    assert layer.input == "last"
    assert layer.columns(np.ones((1, 4, 5))).shape == (1, 4, 5)


def test_flattened_maps() -> None:
    _, coupling = cnn()
    found = readers(coupling)
    (conv,), (fc,) = (found[g.name] for g in coupling.groups)
    np.testing.assert_array_equal(conv.unit, [np.repeat(np.arange(6), 9)])
    np.testing.assert_array_equal(fc.unit, [np.repeat(np.arange(4), 30)])
