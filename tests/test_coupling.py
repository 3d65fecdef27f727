"""What belongs together, on graphs small enough to say so by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.coupling import couple
from onnxprune.errors import OptionError
from onnxprune.graph import build_graph
from onnxprune.model import Model, from_proto
from onnxprune.surgery import remove
from onnxprune.values import Options
from tests.nets import export
from tests.plans import half

RNG = np.random.default_rng(0)


def tensor(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def make(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    x: list[int | str],
    y: list[int | str],
    domains: tuple[str, ...] = (),
) -> Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def mlp(last: str = "Relu", domain: str = "") -> Model:
    return make(
        [
            helper.make_node("Gemm", ["x", "a.weight", "a.bias"], ["h"], name="one"),
            helper.make_node(last, ["h"], ["r"], name="act", domain=domain),
            helper.make_node("Gemm", ["r", "b.weight"], ["y"], name="two"),
        ],
        [tensor("a.weight", 4, 6), tensor("a.bias", 6), tensor("b.weight", 6, 3)],
        ["n", 4],
        ["n", 3],
        (domain,) if domain else (),
    )


def test_a_neuron_is_its_column_its_bias_and_the_row_that_reads_it() -> None:
    coupling = couple(mlp())
    (group,) = coupling.groups
    assert (group.name, group.units, group.kind, group.exact) == ("a", 6, "neurons", True)
    weights = {(m.tensor, m.axis, m.linear, m.consumes) for m in group.weights}
    assert weights == {("a.weight", 1, True, False), ("a.bias", 0, True, False), ("b.weight", 0, True, True)}


def test_inputs_and_outputs_are_frozen_with_their_names() -> None:
    reasons = {(f.tensor, f.axis): f.reason for f in couple(mlp()).frozen}
    assert reasons == {("a.weight", 0): "graph input `x`", ("b.weight", 1): "graph output `y`"}


def test_an_operator_without_a_rule_freezes_what_it_touches_and_is_reported() -> None:
    coupling = couple(mlp("Frobnicate", "com.acme"))
    assert coupling.groups == ()
    assert coupling.unknown_ops == {"com.acme.Frobnicate": 1}
    assert "no rule for operator com.acme.Frobnicate" in {f.reason for f in coupling.frozen}


def test_softmax_freezes_its_axis() -> None:
    coupling = couple(mlp("Softmax"))
    assert coupling.groups == ()
    assert any("Softmax node 'act' runs along it" in f.reason for f in coupling.frozen)


def test_outputs_open_on_request_and_unknown_names_are_refused() -> None:
    opened = couple(mlp(), Options(allow_io=("y:1",)))
    assert [g.units for g in opened.groups] == [6, 3]
    assert len(couple(mlp(), Options(allow_io=("y",))).groups) == 2
    with pytest.raises(OptionError, match="no input or output of that name"):
        couple(mlp(), Options(allow_io=("z",)))
    with pytest.raises(OptionError, match="has 2 axes"):
        couple(mlp(), Options(allow_io=("y:2",)))


def test_a_removed_output_class_shows_in_the_declared_shape() -> None:
    model = mlp()
    coupling = couple(model, Options(allow_io=("y:1",)))
    smaller = remove(model, coupling, half(coupling))
    assert smaller.proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 2
    assert smaller.proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_shared_vectors_do_not_couple_layers_and_shared_matrices_do() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "a", "zero"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b", "zero"], ["i"]),
        helper.make_node("Relu", ["i"], ["s"]),
        helper.make_node("Gemm", ["s", "c"], ["y"]),
    ]
    weights = [tensor("a", 4, 6), tensor("b", 6, 6), tensor("c", 6, 3), tensor("zero", 6)]
    model = make(nodes, weights, ["n", 4], ["n", 3])
    coupling = couple(model)
    assert [g.units for g in coupling.groups] == [6, 6]
    removed = remove(model, coupling, half(coupling))
    assert sorted(tuple(w.shape) for w in removed.weights.values()) == [(3,), (3,), (3, 3), (3, 3), (4, 3)]
    assert len(couple(from_proto(export("siamese"))).groups) == 3


def test_dynamic_dimensions_get_distinct_primes() -> None:
    graph = build_graph(mlp())
    assert graph.shapes["h"] == (2, 6)
    assert build_graph(mlp(), {"n": 5}).shapes["y"] == (5, 3)


def test_residual_streams_are_one_group_and_inner_layers_their_own() -> None:
    coupling = couple(from_proto(export("resnet_basic")))
    assert len(coupling.groups) == len({g.name for g in coupling.groups})
    biggest = max(coupling.groups, key=lambda g: len(g.weights))
    assert len([m for m in biggest.weights if len(coupling.shapes[m.tensor]) == 4]) >= 4


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_attention_goes_by_heads_and_by_dimensions_on_request(exporter: str) -> None:
    model = from_proto(export("encoder_prenorm", exporter))
    heads = [g for g in couple(model).groups if g.kind == "heads"]
    assert [(g.units, g.channels) for g in heads] == [(4, 6), (4, 6)]
    assert heads[0].name == "blocks.0.attention.q (heads)"
    dims = [g for g in couple(model, Options(attention="dims")).groups if g.kind == "head dimensions"]
    assert [(g.units, g.channels) for g in dims] == [(6, 4)] * 4


def test_layer_norm_freezes_the_width_unless_asked() -> None:
    model = from_proto(export("encoder_prenorm"))
    plain, asked = couple(model), couple(model, Options(include_inexact=True))
    assert all(g.exact for g in plain.groups)
    assert any("the mean and variance" in f.reason for f in plain.frozen)
    (width,) = [g for g in asked.groups if not g.exact]
    assert width.units == 24


def test_grouped_convolutions_lose_equally_many_per_group() -> None:
    coupling = couple(from_proto(export("grouped_conv")))
    assert coupling.constraints
    for constraint in coupling.constraints:
        assert "channels" in constraint.reason
        assert len({len(block) for block in constraint.blocks}) == 1


def test_rows_picked_by_coordinates_keep_their_zeros() -> None:
    """Mixtures of experts collect rows with GatherND: a sum over features behind it is exact, as it is without."""
    rows = numpy_helper.from_array(np.array([[0], [1]], np.int64), "rows")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    model = make(
        [
            helper.make_node("Gemm", ["x", "a"], ["h"]),
            helper.make_node("GatherND", ["h", "rows"], ["picked"]),
            helper.make_node("ReduceSum", ["picked", "axes"], ["y"]),
        ],
        [tensor("a", 4, 6), rows, axes],
        ["n", 4],
        [2, 1],
    )
    (group,) = couple(model).groups
    assert (group.units, group.exact) == (6, True)
