"""Surgery on graphs small enough to say by hand what must come out, and on what must not change."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.coupling import couple
from onnxprune.cuts import AxisCut, cut_array, masks, zero_slices
from onnxprune.errors import PlanError, SurgeryError
from onnxprune.model import Model, from_proto
from onnxprune.plan import Plan
from onnxprune.proof import prove
from onnxprune.surgery import mask, remove
from onnxprune.tidy import live_tensors
from onnxprune.values import Coupling, Options
from tests.nets import export
from tests.oracle import assert_equal, assert_same, feeds_for, run
from tests.plans import half

RNG = np.random.default_rng(7)


def gemm_net() -> Model:
    arrays = {"a": RNG.standard_normal((4, 6)), "bias": RNG.standard_normal(6), "b": RNG.standard_normal((6, 3))}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "a", "bias"], ["h"], name="one", doc_string="first layer"),
            helper.make_node("Relu", ["h"], ["r"], name="act"),
            helper.make_node("Gemm", ["r", "b"], ["y"], name="two"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()],
        doc_string="a small net",
        value_info=[helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 6])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="me")
    helper.set_model_props(proto, {"author": "someone"})
    return from_proto(proto)


def plan_of(coupling: Coupling, *units: int, **weights: np.ndarray) -> Plan:
    name = coupling.groups[0].name
    return Plan(coupling.model_hash, {name: np.array(units)}, {name: coupling.groups[0].units}, weights=weights)


def test_exactly_the_named_units_go() -> None:
    model = gemm_net()
    coupling = couple(model)
    removed = remove(model, coupling, plan_of(coupling, 1, 4))
    keep = [0, 2, 3, 5]
    assert np.array_equal(removed.array("a"), model.array("a")[:, keep])
    assert np.array_equal(removed.array("bias"), model.array("bias")[keep])
    assert np.array_equal(removed.array("b"), model.array("b")[keep])


def test_mask_zeroes_both_sides_and_nothing_else() -> None:
    model = gemm_net()
    coupling = couple(model)
    masked = mask(model, coupling, plan_of(coupling, 1, 4))
    for name, axis in (("a", 1), ("bias", 0), ("b", 0)):
        kept = np.delete(masked.array(name), [1, 4], axis)
        assert not np.take(masked.array(name), [1, 4], axis).any()
        assert np.array_equal(kept, np.delete(model.array(name), [1, 4], axis))


def test_single_weights_become_zero_in_both_modes() -> None:
    model = gemm_net()
    coupling = couple(model)
    holes = np.zeros((4, 6), np.bool_)
    holes[2, 3] = holes[0, 1] = True
    plan = plan_of(coupling, 1, a=holes)
    assert mask(model, coupling, plan).array("a")[2, 3] == 0
    removed = remove(model, coupling, plan)
    assert removed.array("a").shape == (4, 5)
    assert removed.array("a")[2, 2] == 0
    assert np.count_nonzero(removed.array("a") == 0) == 1


def test_metadata_names_order_and_declared_shapes_survive() -> None:
    model = gemm_net()
    coupling = couple(model)
    removed = remove(model, coupling, plan_of(coupling, 0)).proto
    assert [n.name for n in removed.graph.node] == ["one", "act", "two"]
    assert removed.graph.node[0].doc_string == "first layer"
    assert removed.graph.doc_string == "a small net"
    assert removed.producer_name == "me"
    assert removed.ir_version == 8
    assert removed.opset_import[0].version == 17
    assert {p.key: p.value for p in removed.metadata_props}["author"] == "someone"
    dims = removed.graph.value_info[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value) == ("batch", 5)


def test_the_input_is_never_edited() -> None:
    model = gemm_net()
    before = model.proto.SerializeToString(), model.hash, {k: w.array().copy() for k, w in model.weights.items()}
    coupling = couple(model)
    plan = half(coupling)
    mask(model, coupling, plan)
    remove(model, coupling, plan)
    assert model.proto.SerializeToString() == before[0]
    assert from_proto(model.to_proto()).hash == before[1]
    assert all(np.array_equal(model.array(k), v) for k, v in before[2].items())


def test_an_axis_is_never_emptied_and_masks_must_fit() -> None:
    model = gemm_net()
    coupling = couple(model)
    with pytest.raises(SurgeryError, match="Nothing would be left of"):
        remove(model, coupling, plan_of(coupling, *range(6)))
    with pytest.raises(PlanError, match=r"`a` \(2, 2\)"):
        mask(model, coupling, plan_of(coupling, a=np.ones((2, 2), np.bool_)))


def test_unbalanced_groups_are_refused_with_the_counts() -> None:
    model = from_proto(export("grouped_conv"))
    coupling = couple(model)
    number = int(coupling.constraints[0].blocks[0][0, 0])
    group = coupling.groups[number]
    plan = Plan(model.hash, {group.name: np.array([0])}, {group.name: group.units})
    with pytest.raises(SurgeryError, match="different numbers of elements"):
        remove(model, coupling, plan)


def test_size_used_as_a_number_keeps_its_value() -> None:
    """Attention divides by the square root of the head size, computed from a shape: dimensions may go, it stays."""
    model = from_proto(export("fused_qkv", "torchscript"))
    coupling = couple(model, Options(attention="dims"))
    plan = half(coupling)
    feeds = feeds_for(model, 1)
    assert_equal(run(mask(model, coupling, plan), feeds), run(remove(model, coupling, plan), feeds))


def test_dynamic_dimensions_stay_dynamic() -> None:
    model = from_proto(export("encoder_prenorm", "torchscript"))
    coupling = couple(model)
    plan = half(coupling)
    masked, removed = mask(model, coupling, plan), remove(model, coupling, plan)
    for batch in (1, 4, 9):
        assert_same(masked, removed, feeds_for(model, batch, batch))


def test_what_the_cut_orphans_goes_and_what_was_dead_before_stays() -> None:
    """A channel shuffle becomes one Gather, and its shape constants have no reader any more."""
    model = from_proto(export("shufflenet_v1", "torchscript"))
    editor = model.edit()
    editor.proto.graph.node.append(helper.make_node("Relu", [editor.proto.graph.input[0].name], ["unread"]))
    model = editor.build()
    coupling = couple(model)
    removed = remove(model, coupling, half(coupling)).proto.graph
    assert "unread" in {o for n in removed.node for o in n.output}
    read = {i for n in removed.node for i in n.input} | {o.name for o in removed.output}
    assert {o for n in removed.node for o in n.output} - read == {"unread"}
    assert {t.name for t in removed.initializer} <= read


def test_graphsurgeon_is_asked_and_not_believed() -> None:
    """Its own export loses metadata and doc strings, which is why only its list of live nodes is used."""
    model = gemm_net()
    exported = gs.export_onnx(gs.import_onnx(model.to_proto()))
    assert not exported.graph.node[0].doc_string
    coupling = couple(model)
    removed = remove(model, coupling, plan_of(coupling, 0)).proto
    assert removed.graph.node[0].doc_string == "first layer"
    assert live_tensors(removed) == {"h", "r", "y"}


def test_ragged_axes_are_cut_block_by_block() -> None:
    array = np.arange(24).reshape(4, 6)
    gone = np.zeros((2, 6), np.bool_)
    gone[0, :2] = gone[1, 4:] = True
    result = cut_array(array, {1: AxisCut(gone, along=0)})
    assert result.tolist() == [[2, 3, 4, 5], [8, 9, 10, 11], [12, 13, 14, 15], [18, 19, 20, 21]]
    zeroed = zero_slices(array, {1: AxisCut(gone, along=0)})
    assert np.array_equal(zeroed == 0, np.repeat(gone, 2, axis=0) | (array == 0))
    (grid,) = masks((4, 6), {1: AxisCut(gone, along=0)})
    assert grid.shape == (4, 6)


def test_zero_is_the_zero_point_of_quantised_storage() -> None:
    result = zero_slices(np.full((2, 3), 9, np.int8), {0: AxisCut(np.array([True, False]))}, np.int8(4))
    assert result.tolist() == [[4, 4, 4], [9, 9, 9]]


def test_removed_models_pass_the_onnx_checker() -> None:
    for name in ("resnet_basic", "shufflenet_v1", "decoder_llama"):
        model = from_proto(export(name))
        coupling = couple(model)
        onnx.checker.check_model(remove(model, coupling, half(coupling)).to_proto(), full_check=True)


def test_sizes_that_are_divided_down_to_nothing() -> None:
    """Head size and scale are computed as width // heads; with fewer channels than heads both would become 0."""
    model = from_proto(export("swin", "torchscript"))
    options = Options(attention="dims", include_inexact=True)
    coupling = couple(model, options)
    width = max((g for g in coupling.groups if not g.exact), key=lambda g: g.units)
    plan = Plan(model.hash, {width.name: np.arange(4, width.units)}, {width.name: width.units}, options=options)
    removed = remove(model, coupling, plan)
    assert all(np.isfinite(v).all() for v in run(removed, feeds_for(model, 3)).values())
    assert prove(model, coupling, plan, removed).ok


def test_a_symbolic_size_that_was_cut_keeps_no_name() -> None:
    """`4*batch` rows are `2*batch` after the cut; onnxruntime reuses buffers of sizes that have one name."""
    model = from_proto(export("encoder_torch_layer", "dynamo"))
    coupling = couple(model)
    heads = next(g for g in coupling.groups if g.name.endswith("(heads)"))
    plan = Plan(model.hash, {heads.name: np.arange(heads.units // 2)}, {heads.name: heads.units})
    masked, removed = mask(model, coupling, plan), remove(model, coupling, plan)
    named = {d.dim_param for v in model.proto.graph.value_info for d in v.type.tensor_type.shape.dim}
    assert "4*batch" in named, "the exporter names it otherwise now"
    assert_same(masked, removed, feeds_for(model, 3))
