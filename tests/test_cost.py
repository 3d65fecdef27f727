"""Cost: figures worked out by hand, a slow reference, and what is predicted against what a removal gives."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnxprune.cost import CostModel, cost, cost_after, one_example
from onnxprune.coupling import couple
from onnxprune.graph import Graph, build_graph
from onnxprune.model import Model, from_proto
from onnxprune.ops.shuffle import shuffle_around
from onnxprune.samples import complete_shapes
from onnxprune.surgery import mask, remove
from onnxprune.values import Coupling
from tests.nets import NETS, export
from tests.nets.handmade import HANDMADE
from tests.nets.handmade._build import Build
from tests.plans import half
from tests.random_graphs import build, steps

FLOAT = TensorProto.FLOAT


def model_of(b: Build, y: str, shape: tuple[int | str, ...] = ("batch", 3, 6, 6)) -> Model:
    """The graph of ``b`` from input x to ``y``."""
    inputs = [helper.make_tensor_value_info("x", FLOAT, list(shape))]
    graph = helper.make_graph(b.nodes, "net", inputs, [helper.make_tensor_value_info(y, FLOAT, None)], b.initializers)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def small_cnn() -> Model:
    """Conv 3 -> 8 with bias, BatchNorm, Relu, MaxPool 2, Flatten, Gemm 72 -> 5 with bias."""
    b = Build()
    y = b.op("Conv", "x", b.weight("w", 8, 3, 3, 3), b.bias("b", 8), pads=[1] * 4)
    parameters = [b.scale("scale", 8), b.bias("shift", 8), b.bias("mean", 8), b.scale("var", 8)]
    y = b.op("Relu", b.op("BatchNormalization", y, *parameters))
    y = b.op("Flatten", b.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
    return model_of(b, b.op("Gemm", y, b.matrix("fc", 72, 5), b.bias("fb", 5)))


class TestByHand:
    def test_parameters_bytes_and_macs(self) -> None:
        found = cost(small_cnn())
        assert found.parameters == 8 * 3 * 9 + 8 + 4 * 8 + 72 * 5 + 5
        assert found.nonzero == found.parameters
        assert found.bytes == 4 * found.parameters
        assert found.macs == 36 * 8 * 3 * 9 + 72 * 5

    def test_peak_is_where_two_large_tensors_meet(self) -> None:
        assert cost(small_cnn()).activation_bytes == 2 * 8 * 36 * 4

    def test_the_batch_is_one_unless_shapes_say_otherwise(self) -> None:
        one, three = cost(small_cnn()), cost(small_cnn(), shapes={"x": (3, 3, 6, 6)})
        assert (three.macs, three.activation_bytes) == (3 * one.macs, 3 * one.activation_bytes)
        assert three.parameters == one.parameters

    def test_nonzero_is_not_counted_without_need(self) -> None:
        assert cost(small_cnn(), count_nonzero=False).nonzero is None

    def test_groups(self) -> None:
        model = CostModel(couple(small_cnn()))
        (group,) = model.groups
        assert group.parameters == 8 * 27 + 8 + 4 * 8 + 72 * 5
        assert group.bytes == 4 * group.parameters
        assert group.macs == model.before.macs


class TestWhatCounts:
    def test_shared_vectors_count_for_every_layer_and_shared_matrices_once(self) -> None:
        b = Build()
        w, bias = b.weight("w", 3, 3, 1, 1), b.bias("b", 3)
        y = b.op("Conv", b.op("Conv", "x", w, bias), w, bias)
        assert cost(model_of(b, y)).parameters == 9 + 2 * 3

    def test_settings_and_sizes_do_not_count(self) -> None:
        b = Build()
        y = b.op("Mul", b.op("Conv", "x", b.weight("w", 4, 3, 1, 1)), b.const("half", 0.5))
        y = b.op("Resize", y, "", b.const("scales", [1, 1, 2, 2]))
        y = b.op("Reshape", y, b.const("shape", [0, -1], np.int64))
        assert cost(model_of(b, y)).parameters == 12

    def test_factors_of_sizes_do_not_count(self) -> None:
        b = Build()
        size = b.op("Cast", b.op("Shape", "x", start=1, end=2), to=FLOAT)
        size = b.op("Mul", size, b.const("factor", [2.0]))
        y = b.op("Div", b.op("Conv", "x", b.weight("w", 4, 3, 1, 1)), size)
        assert cost(model_of(b, y)).parameters == 12

    def test_constants_that_nobody_reads_do_not_count(self) -> None:
        b = Build()
        b.weight("unused", 5, 5)
        assert cost(model_of(b, b.op("Conv", "x", b.weight("w", 4, 3, 1, 1)))).parameters == 12

    @pytest.mark.parametrize(
        ("dtype", "count"), [(np.float16, 24), (ml_dtypes.bfloat16, 24), (np.float64, 96), (np.float32, 48)]
    )
    def test_bytes_follow_the_type(self, dtype: type, count: int) -> None:
        b = Build()
        w = b.op("Cast", b.weight("w", 4, 3, 1, 1, dtype=dtype), to=FLOAT)
        found = cost(model_of(b, b.op("Conv", "x", w)))
        assert (found.parameters, found.nonzero, found.bytes) == (12, 12, count)

    @pytest.mark.parametrize(("onnx_type", "count"), [(TensorProto.INT8, 15), (TensorProto.INT4, 8)])
    def test_quantised_weights_count_and_scales_do_not(self, onnx_type: int, count: int) -> None:
        b = Build()
        values = np.array([3, 3, 4] * 5)  # the zero point is 3
        b.initializers.append(helper.make_tensor("w", onnx_type, (5, 3, 1, 1), values))
        b.initializers.append(helper.make_tensor("zero", onnx_type, (), [3]))
        w = b.op("DequantizeLinear", "w", b.const("scale", 0.1), "zero")
        found = cost(model_of(b, b.op("Conv", "x", w)))
        assert (found.parameters, found.nonzero, found.bytes) == (15, 5, count)

    def test_zero_point_per_channel(self) -> None:
        b = Build()
        w = b.const("w", np.arange(12).reshape(4, 3, 1, 1), np.int8)
        tables = [b.const("scale", np.ones(4)), b.const("zero", [0, 3, 0, 11], np.int8)]
        assert cost(model_of(b, b.op("Conv", "x", b.op("DequantizeLinear", w, *tables, axis=0)))).nonzero == 9

    def test_masked_models_keep_their_shapes_and_lose_nonzeros(self) -> None:
        model = small_cnn()
        coupling = couple(model)
        plan = half(coupling)
        before, after = cost(model), cost(mask(model, coupling, plan))
        assert (after.parameters, after.macs, after.bytes) == (before.parameters, before.macs, before.bytes)
        assert after.nonzero == before.parameters - 4 * (27 + 3 + 9 * 5)  # mean and variance are never zeroed


class TestBatchSymbols:
    def value(self, name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, FLOAT, shape)

    @pytest.mark.parametrize(
        ("shapes", "expected"),
        [
            ([("n", 3)], {"n": 1}),
            ([("seq", "batch_size", 4)], {"batch_size": 1}),
            ([("a", 3), ("b", "a")], {"a": 1, "b": 1}),
            ([(None, 3)], {"in0[0]": 1}),
            ([(4, "width")], {}),
        ],
    )
    def test_one_example(self, shapes: list[tuple[int | str, ...]], expected: dict[str, int]) -> None:
        b = Build()
        b.op("Identity", "in0", out="y")
        inputs = [self.value(f"in{i}", *shape) for i, shape in enumerate(shapes)]
        graph = helper.make_graph(b.nodes, "net", inputs, [self.value("y")])
        opsets = [helper.make_opsetid("", 17)]
        assert one_example(from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))) == expected


def alive_at_once(graph: Graph) -> int:
    """Peak activation bytes, the slow way: walk the nodes and look which buffers are still needed."""
    views = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
    buffer: dict[str, str] = {t: t for t in graph.inputs}
    for node in graph.nodes:
        if any(i in buffer for i in node.inputs):
            for output in node.outputs:
                if output not in graph.values:
                    source = node.inputs[0] if node.op in views else ""
                    buffer[output] = buffer.get(source, output)
    size = {t: int(np.prod(graph.shapes[t])) * 4 for t in buffer}
    peak = 0
    for step, node in enumerate(graph.nodes):
        made = {*graph.inputs, *(o for n in graph.nodes[: step + 1] for o in n.outputs)} & buffer.keys()
        needed = {t for n in graph.nodes[step:] for t in n.inputs} | set(graph.outputs) | set(node.outputs)
        peak = max(peak, sum(size[b] for b in {buffer[t] for t in made & needed}))
    return peak


PICKS = st.lists(st.integers(0, len(steps) - 1), min_size=1, max_size=6)


@settings(max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(PICKS)
def test_peak_memory_is_that_of_the_slow_way(picks: list[int]) -> None:
    model = from_proto(build(picks))
    graph = build_graph(model)
    assert cost(model, graph).activation_bytes == alive_at_once(graph)


def check_prediction(model: Model, coupling: Coupling, seed: int) -> None:
    plan = half(coupling, seed)
    predicted = cost_after(coupling, plan.units)
    removed = remove(model, coupling, plan)
    graph = complete_shapes(build_graph(removed, fixed=dict(coupling.options.shapes)))
    found = cost(removed, graph, count_nonzero=False)
    assert (found.parameters, found.bytes, found.macs) == (predicted.parameters, predicted.bytes, predicted.macs)
    if not any(shuffle_around(coupling.graph, node) for node in coupling.graph.nodes):
        assert found == predicted


@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(PICKS, st.booleans(), st.integers(0, 99))
def test_predicted_is_what_removal_gives(picks: list[int], dynamic: bool, seed: int) -> None:
    model = from_proto(build(picks, dynamic=dynamic))
    check_prediction(model, couple(model), seed)


@pytest.mark.parametrize("name", ["densenet", "shufflenet_v1", "grouped_conv", "siamese", "encoder_prenorm", "unet"])
def test_predicted_is_what_removal_gives_on_nets(name: str) -> None:
    for exporter in NETS[name].exporters:
        model = from_proto(export(name, exporter))
        check_prediction(model, couple(model), 1)


@pytest.mark.parametrize("name", [n for n in HANDMADE if n.startswith("qdq") or "nbits" in n])
def test_predicted_is_what_removal_gives_on_quantised_nets(name: str) -> None:
    model = from_proto(HANDMADE[name].build())
    check_prediction(model, couple(model), 2)


def test_removing_nothing_changes_nothing_and_removing_more_costs_less() -> None:
    coupling = couple(from_proto(build([0, 2, 3, 8])))
    model = CostModel(coupling)
    assert model.after({}) == model.before
    last = model.before
    for ratio in (0.2, 0.4, 0.6):
        now = model.after(half(coupling, 3, ratio).units)
        assert now.parameters < last.parameters
        assert now.macs < last.macs
        last = now
