"""What a model computes behind a cut, from kept activations, is what it computes from its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxprune.allocate import Budget, allocate_units
from onnxprune.criteria import score
from onnxprune.data import Dataset, batches, fit, open_dataset
from onnxprune.errors import DataError
from onnxprune.evaluate import trimmed
from onnxprune.experiment import analyse
from onnxprune.frontier import Frontier, first_change, spare_memory
from onnxprune.graph import build_graph
from onnxprune.model import Model, from_proto, load
from onnxprune.plan import Plan
from onnxprune.runtime import model_inputs, session
from onnxprune.samples import generate
from onnxprune.surgery import remove
from onnxprune.values import Coupling
from tests.nets import export
from tests.oracle import assert_close

DEMO = Path(__file__).parent.parent / "onnxprune" / "demo_data"
SIZE = 3


def generated(model: Model, samples: int) -> Dataset:
    batch = dict.fromkeys((str(i.shape[0]) for i in model_inputs(model)), samples)
    return Dataset(generate(build_graph(model, batch)))


def whole(model: Model, dataset: Dataset) -> Iterator[dict[str, np.ndarray]]:
    run = session(model, cache=False)
    for batch in batches(fit(dataset, run.inputs), SIZE):
        yield trimmed(run.run(batch.feeds), batch)


def candidates(model: Model, coupling: Coupling) -> list[tuple[int, Plan]]:
    """Half of each group, in the order of the first change."""
    scores = score(model, coupling, "random")
    plans = [
        allocate_units(coupling, scores, Budget(group_ratios={group.name: 0.5}, round_to=1))[0]
        for group in coupling.groups
    ]
    return sorted(((first_change(coupling, plan), plan) for plan in plans), key=lambda pair: pair[0])


def check(model: Model, coupling: Coupling, dataset: Dataset) -> Frontier:
    """Every candidate gives on the frontier what it gives as a whole."""
    frontier = Frontier(model, dataset, size=SIZE)
    for position, plan in candidates(model, coupling):
        small = remove(model, coupling, plan)
        frontier.move(position)
        assert frontier.position <= position
        for (_, found), expected in zip(frontier.run(small), whole(small, dataset), strict=True):
            assert list(found) == list(expected)
            for name in expected:
                assert_close(found[name], expected[name])
    return frontier


@pytest.mark.parametrize(
    ("net", "exporter"),
    [
        ("resnet_basic", "torchscript"),
        ("vit", "torchscript"),
        ("lstm_bidirectional", "dynamo"),  # time comes before the batch
        ("encoder_bert", "torchscript"),
        ("encoder_torch_layer", "dynamo"),  # batch and heads are one axis
        ("unet", "torchscript"),
        ("inception", "dynamo"),
        ("attention_cross", "torchscript"),  # several inputs
        ("swin", "torchscript"),
    ],
)
def test_behind_the_cut_a_candidate_computes_what_it_computes_as_a_whole(net: str, exporter: str) -> None:
    model, coupling = analyse(from_proto(export(net, exporter)))
    frontier = check(model, coupling, generated(model, 7))
    assert frontier.position > 0, "it never moved"
    assert frontier.whole == 0


def test_a_size_that_is_computed_in_front_of_the_cut() -> None:
    """The first states of a torchscript LSTM come from the shape of its input: the cut is too late for some."""
    model, coupling = analyse(from_proto(export("lstm_bidirectional", "torchscript")))
    assert check(model, coupling, generated(model, 7)).whole > 0


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch(batch: int) -> None:
    """The last of three batches of four is filled up."""
    proto = export("resnet_basic", "torchscript")
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del proto.graph.value_info[:]
    model, coupling = analyse(from_proto(proto))
    shape = model_inputs(model)[0].shape[1:]
    rows = np.random.default_rng(0).standard_normal((10, *map(int, shape)), np.float32)  # type: ignore[arg-type]
    frontier = check(model, coupling, Dataset({"x": rows}))
    assert frontier.position > 0
    assert frontier.whole == 0


def test_control_flow() -> None:
    """The body of an If reads activations from outside, and weights that are cut."""
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[n, 4] x) => (float[n, 3] y) {
            one = MatMul (x, a)
            act = Relu (one)
            two = MatMul (act, b)
            total = ReduceSum <keepdims = 0> (x)
            zero = Constant <value_float = 0.0> ()
            large = Greater (total, zero)
            y = If (large) <
                then_branch = yes () => (float[n, 3] t) { r = Relu (two) t = MatMul (r, c) },
                else_branch = no () => (float[n, 3] e) { s = Tanh (two) e = MatMul (s, c) }
            >
        }""")
    rng = np.random.default_rng(0)
    for name, shape in (("a", (4, 6)), ("b", (6, 6)), ("c", (6, 3))):
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    model, coupling = analyse(from_proto(proto))
    assert len(coupling.groups) == 2
    assert check(model, coupling, Dataset({"x": rng.standard_normal((8, 4)).astype(np.float32)})).position > 0


def test_outputs_in_front_of_the_cut_are_kept() -> None:
    model = load(DEMO / "digits_cnn.onnx")
    graph = build_graph(model)
    editor = model.edit()
    early = model.proto.graph.node[1].output[0]
    editor.proto.graph.output.append(helper.make_tensor_value_info(early, graph.dtypes[early], None))
    model, coupling = analyse(editor.build())
    dataset = Dataset({"x": np.asarray(open_dataset(DEMO / "digits.npz").inputs["x"])[:10]})
    frontier = check(model, coupling, dataset)
    assert early in frontier.kept
    tail = frontier.tail(model)
    assert early not in {value.name for value in tail.proto.graph.output}
    assert model.proto.graph.node[0].output[0] not in {o for node in tail.proto.graph.node for o in node.output}


def test_the_tail_is_shorter_and_never_longer_again() -> None:
    model, dataset = load(DEMO / "digits_cnn.onnx"), open_dataset(DEMO / "digits.npz")
    frontier = Frontier(model, dataset)
    nodes = len(model.proto.graph.node)
    frontier.move(nodes - 1)
    assert len(frontier.tail(model).proto.graph.node) < nodes / 2
    before = frontier.position
    frontier.move(0)
    assert frontier.position == before


def test_a_candidate_that_changes_what_is_kept_is_run_as_a_whole() -> None:
    model, coupling = analyse(load(DEMO / "digits_cnn.onnx"))
    dataset = Dataset({"x": np.asarray(open_dataset(DEMO / "digits.npz").inputs["x"])[:10]})
    _, first = candidates(model, coupling)[0]
    small = remove(model, coupling, first)
    frontier = Frontier(model, dataset, size=SIZE)
    frontier.move(len(model.proto.graph.node) - 1)
    for (_, found), expected in zip(frontier.run(small), whole(small, dataset), strict=True):
        for name in expected:
            assert_close(found[name], expected[name])
    assert frontier.whole == 1


def test_memory() -> None:
    """Activations that do not fit are passed over; rows that do not fit are read again each time."""
    model, digits = load(DEMO / "digits_cnn.onnx"), open_dataset(DEMO / "digits.npz")
    dataset = Dataset({"x": np.asarray(digits.inputs["x"], np.float64)}, digits.labels)  # cast when it is read
    frontier = Frontier(model, dataset, memory=1000)
    frontier.move(5)
    assert (frontier.position, frontier.kept, frontier._stored) == (0, (), None)
    labels = [batch.labels for batch, _ in frontier.run(model)]
    assert np.array_equal(np.concatenate(labels), np.asarray(dataset.labels))
    roomy = Frontier(model, dataset)
    roomy.move(5)
    assert roomy.position == 5
    assert roomy._stored is not None


def test_a_container_has_less_memory_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.frontier.LIMITS", tmp_path)
    whole = spare_memory()
    assert whole > 1 << 20
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert spare_memory() == 100_000
    (tmp_path / "memory.max").write_text("max\n")
    assert spare_memory() > 1 << 20


def test_data_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="takes float32"):
        Frontier(load(DEMO / "digits_cnn.onnx"), Dataset({"x": np.zeros((5, 3), np.float32)}))
