"""Nodes to layers: nothing is lost, nothing is counted twice, and what a person takes for one thing is one box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from onnx import TensorProto, helper

from onnxprune.cost import cost, example_graph
from onnxprune.drawing import Box, Sketch, sketch
from onnxprune.experiment import analyse
from onnxprune.model import from_proto
from tests.cli.conftest import cnn, model_of, weight
from tests.drawing.conftest import analysed
from tests.nets import export
from tests.nets.handmade import HANDMADE

Net = Callable[..., Sketch]
SMALL_NETS = (
    "plain_cnn conv1d resnet_basic resnet_bottleneck densenet inception mobilenet_v3 shufflenet_v1 shufflenet_v2 unet "
    "fpn convnext groupnorm lstm_bidirectional gru_stacked rnn_tanh conv_lstm seq2seq encoder_bert encoder_prenorm vit "
    "decoder_gpt2 decoder_llama swin fused_qkv glu attention_linear attention_einsum siamese selective_kernel "
    "weight_norm arithmetic pixel_shuffle"
).split()


def heavy(found: Sketch) -> list[Box]:
    return [box for box in found.boxes if box.heavy]


def ops(box: Box) -> list[str]:
    return [node.partition(" ")[0] for node in box.nodes]


def before(found: Sketch, box: Box) -> set[int]:
    return {edge.source for edge in found.edges if edge.target == box.id}


def check(proto: object) -> None:
    """Costs add up to those of the model, edges go forwards, every box but an output leads on, no node is in two."""
    model, coupling = analyse(from_proto(proto))  # type: ignore[arg-type]
    found, total = sketch(model, coupling), cost(model, example_graph(model), count_nonzero=False)
    assert sum(box.parameters for box in found.boxes) == total.parameters
    assert sum(box.macs for box in found.boxes) == total.macs
    assert all(edge.source < edge.target for edge in found.edges)
    assert [box.id for box in found.boxes] == list(range(len(found.boxes)))
    assert max(Counter(number for box in found.boxes for number in box.numbers).values()) == 1
    assert set(found.producers) <= set(coupling.by_name)
    assert found == sketch(model, coupling)


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", SMALL_NETS)
def test_costs_add_up(name: str, exporter: str) -> None:
    check(export(name, exporter, keep_batchnorm=True))


@pytest.mark.parametrize("name", sorted(HANDMADE))
def test_costs_add_up_of_what_no_exporter_writes(name: str) -> None:
    check(HANDMADE[name].build())


def test_a_chain() -> None:
    _, coupling, found = analysed(cnn())
    assert [(b.kind, b.name, b.units, b.unit_word) for b in found.boxes] == [
        ("end", "x", None, ""),
        ("convolution", "conv1", 8, "filters"),
        ("convolution", "conv2", 16, "filters"),
        ("pooling", "pool", None, ""),
        ("linear", "fc", 3, "outputs"),
        ("end", "scores", None, ""),
    ]
    conv1 = found.boxes[1]
    assert (conv1.word, conv1.shape, conv1.extent) == ("convolution 3×3", (1, 8, 8, 8), 8.0)
    assert (conv1.parameters, conv1.macs, ops(conv1)) == (8 * 9 + 8, 64 * 8 * 9, ["Conv", "Relu"])
    assert found.producers == {"conv1": (1,), "conv2": (2,)}
    assert found.carriers["conv1"] == (1, 2)
    assert [(e.source, e.target) for e in found.edges] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert coupling.by_name.keys() == {"conv1", "conv2"}


def test_residual_blocks(net: Net) -> None:
    found = net("resnet_basic")
    joins = [box for box in found.boxes if box.kind == "join"]
    assert {box.mark for box in joins} == {"+"}
    assert all(len(before(found, box)) == 2 for box in joins)
    assert all("Relu" in ops(box) for box in joins)


def test_channel_shuffles_are_hidden(net: Net) -> None:
    found = net("shufflenet_v2")
    assert {box.kind for box in found.boxes} <= {"convolution", "depthwise", "join", "pooling", "linear", "end"}
    assert {box.mark for box in found.boxes if box.kind == "join"} == {"∥"}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize(("name", "count"), [("vit", 2), ("decoder_gpt2", 2), ("decoder_llama", 2), ("swin", 3)])
def test_attention_is_one_box(net: Net, name: str, count: int, exporter: str) -> None:
    found = [box for box in net(name, exporter).boxes if box.kind == "attention"]
    assert len(found) == count
    assert all(box.unit_word == "heads" for box in found)
    assert all("Softmax" in ops(box) and ops(box).count("MatMul") + ops(box).count("Gemm") >= 4 for box in found)


def test_normalisations_in_single_steps_are_one_box(net: Net) -> None:
    found = net("decoder_llama")
    norms = [box for box in found.boxes if box.kind == "normalisation"]
    assert len(norms) == 5
    assert all({"ReduceMean", "Sqrt"} <= set(ops(box)) for box in norms)
    assert not [box for box in found.boxes if box.kind in ("pooling", "activation", "other")]


def test_linear_attention_stays_apart_and_joins_are_right(net: Net) -> None:
    found = net("attention_linear")
    assert [box for box in found.boxes if box.word == "matrix product"]


def test_recurrent_cells(net: Net) -> None:
    lstm = [box for box in net("lstm_bidirectional").boxes if box.kind == "recurrent"]
    assert lstm
    assert all(box.unit_word == "cells" and box.word == "LSTM" for box in lstm)


def test_a_body_of_control_flow_is_one_box() -> None:
    _, _, found = analysed(HANDMADE["loop"].build())
    (loop,) = [box for box in found.boxes if box.kind == "control"]
    assert loop.mark == "Loop"
    assert len(loop.nodes) > 1


def test_gates_that_contain_layers_stay_branches(net: Net) -> None:
    found = net("mobilenet_v3")
    gates = [box for box in found.boxes if box.kind == "join" and box.mark == "×"]
    assert gates
    assert all(len(before(found, box)) == 2 for box in gates)


def test_a_mask_goes_with_its_input() -> None:
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="dense1"),
        helper.make_node("Mul", ["a", "m"], ["b"], name="masked"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="dense2"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])
    mask = helper.make_tensor_value_info("mask", TensorProto.INT64, [1, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    weights = [weight("w1", 6, 12), weight("w2", 12, 4)]
    _, _, found = analysed(model_of(helper.make_graph(nodes, "masked", [x, mask], [y], weights)))
    assert [box.kind for box in found.boxes] == ["end", "end", "linear", "join", "linear", "end"]


@pytest.mark.parametrize(
    ("name", "repeats"),
    [("vit", [(2, 7)]), ("decoder_llama", [(2, 9)]), ("densenet", [(2, 3), (2, 3)]), ("unet", []), ("plain_cnn", [])],
)
def test_repeats(net: Net, name: str, repeats: list[tuple[int, int]]) -> None:
    found = net(name)
    assert [(len(repeat.copies), len(repeat.copies[0])) for repeat in found.repeats] == repeats


def test_all_that_leaves_a_copy_comes_from_its_last_box(net: Net) -> None:
    for name in ("vit", "decoder_llama", "densenet", "shufflenet_v1"):
        found = net(name)
        for copy in (copy for repeat in found.repeats for copy in repeat.copies):
            leaving = {e.source for e in found.edges if e.source in copy and e.target not in copy}
            assert leaving == {copy[-1]}


def test_an_unknown_operator_is_a_box_of_its_own() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="dense1"),
        helper.make_node("Foo", ["a"], ["b"], name="foo", domain="com.acme"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="dense2"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    proto = model_of(helper.make_graph(nodes, "custom", [x], [y], [weight("w1", 6, 12), weight("w2", 12, 4)]))
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    _, _, found = analysed(proto)
    assert [box.word for box in found.boxes] == ["input", "linear", "com.acme.Foo", "linear", "output"]
