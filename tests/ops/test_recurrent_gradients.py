"""Gradients of recurrent layers against torch in float64, one graph for several lengths and batches.

Attributes that torch does not have are checked against central differences by ``cases_recurrent_gradients``; the
kernels that run there in float64 are held against onnxruntime here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from onnxprune.autodiff import build, open_tape
from onnxprune.errors import UnsupportedModel
from onnxprune.model import Model, from_proto
from tests.doubles import Runner, double, double_feeds
from tests.gradients import differentiated
from tests.ops.cases import Case, Net
from tests.ops.cases_recurrent_gradients import GRADIENT_CASES
from tests.ops.recurrent_kernels import RECURRENT
from tests.ops.test_recurrent import CASES, GATES, case
from tests.oracle import Array, Feeds, feeds_for, run

INPUTS, CELLS = 3, 4
GATE_ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}  # torch's gates by their number in ONNX
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def layer(op: str, directions: int) -> Model:
    """x (t, n, 3) and initial states -> all outputs, with dynamic length and batch."""
    net = Net()
    x, rows = net.input(("t", "n", INPUTS)), GATES[op] * CELLS
    states = [net.input((directions, "n", CELLS), name=s) for s in ("h0", "c0")[: 2 if op == "LSTM" else 1]]
    weights = [
        net.const(net.numbers(directions, *shape, low=-0.5, high=0.5), name=name)
        for name, shape in (("w", (rows, INPUTS)), ("r", (rows, CELLS)), ("b", (2 * rows,)))
    ]
    way = "bidirectional" if directions == 2 else "forward"
    more = {"linear_before_reset": 1} if op == "GRU" else {}
    count = 3 if op == "LSTM" else 2
    return net.model(*net.ops(op, x, *weights, "", *states, count=count, hidden_size=CELLS, direction=way, **more))


def by_torch(op: str, parts: Mapping[str, Array], feeds: Feeds, seeds: list[Array]) -> dict[str, Array]:
    """Gradients of all inputs and parameters, in ONNX's layout and float64."""
    directions, gates = len(parts["w"]), GATES[op]
    module = getattr(torch.nn, op)(INPUTS, CELLS, bidirectional=directions == 2).double()
    wx, wh = parts["b"][:, : gates * CELLS], parts["b"][:, gates * CELLS :]
    order = GATE_ORDER[op]
    for name, array in zip(PARTS, (parts["w"], parts["r"], wx, wh), strict=True):
        for d in range(directions):
            target = getattr(module, f"{name}_l0{'_reverse' * d}")
            moved = array[d].reshape(gates, CELLS, -1)[order].reshape(target.shape)
            target.data = torch.from_numpy(moved.astype(np.float64))
    tensors = {name: torch.from_numpy(a.astype(np.float64)).requires_grad_() for name, a in feeds.items()}
    state = (tensors["h0"], tensors["c0"]) if op == "LSTM" else tensors["h0"]
    y, final = module(tensors["x"], state)
    outputs = [y.reshape(*y.shape[:2], directions, CELLS).transpose(1, 2), *(final if op == "LSTM" else (final,))]
    sum((out * torch.from_numpy(seed)).sum() for out, seed in zip(outputs, seeds, strict=True)).backward()
    found = {name: tensor.grad.numpy() for name, tensor in tensors.items()}

    def gradient(name: str) -> Array:
        rows = []
        for d in range(directions):
            moved = getattr(module, f"{name}_l0{'_reverse' * d}").grad.numpy()
            back = np.empty_like(moved.reshape(gates, CELLS, -1))
            back[order] = moved.reshape(back.shape)
            rows.append(back.reshape(moved.shape))
        return np.stack(rows)

    w, r, bx, bh = map(gradient, PARTS)
    return {**found, "w": w, "r": r, "b": np.concatenate([bx, bh], 1)}


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", GATES)
def test_gradients_are_those_of_torch_at_any_length_and_batch(op: str, directions: int) -> None:
    model = layer(op, directions)
    exact, plain = differentiated(double(model)), differentiated(model)
    runners = [(exact, Runner(exact.model), np.float64, 1e-10), (plain, Runner(plain.model), np.float32, 1e-5)]
    rng = np.random.default_rng(0)
    for steps, batch in ((3, 2), (5, 4), (1, 1)):
        feeds = {
            name: rng.standard_normal((steps, batch, INPUTS) if name == "x" else (directions, batch, CELLS))
            for name in exact.tape.graph.inputs
        }
        shapes = [(steps, directions, batch, CELLS), *[(directions, batch, CELLS)] * (2 if op == "LSTM" else 1)]
        seeds = [rng.standard_normal(shape) for shape in shapes]
        expected = by_torch(op, exact.parameters, feeds, seeds)
        for made, runner, kind, tolerance in runners:
            given = {**feeds, **made.parameters, **dict(zip(made.seeds.values(), seeds, strict=True))}
            found = runner({name: np.asarray(a, kind) for name, a in given.items()})
            assert made.names.keys() == expected.keys()
            for name, output in made.names.items():
                error = np.abs(found[output] - expected[name]).max() / np.abs(expected[name]).max()
                assert error <= tolerance, f"{name} at {steps} steps, {batch} samples in {kind.__name__}"


@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm_that_keeps_its_gates_computes_the_same(directions: int) -> None:
    model = layer("LSTM", directions)
    made = differentiated(model)
    operators = {node.op_type for node in made.forward.proto.graph.node}
    assert "Scan" in operators
    assert "LSTM" not in operators
    feeds = feeds_for(model, 0)
    for ours, theirs in zip(
        Runner(made.forward)({**feeds, **made.parameters}).values(), run(model, feeds).values(), strict=True
    ):
        assert np.abs(ours - theirs).max() <= 2e-6


def test_the_kernel_stays_where_nothing_is_differentiated() -> None:
    tape = open_tape(layer("LSTM", 2))
    built = build(tape, [tape.tensor(name) for name in tape.graph.outputs])
    assert [node.op_type for node in built.proto.graph.node] == ["LSTM"]


FORMS = [
    pytest.param(form, id=f"{op}-{number}")
    for op in GATES
    for number, form in enumerate([*CASES["", op], *GRADIENT_CASES["", op]])
    if not form.kernels
]


@pytest.mark.parametrize("form", FORMS)
def test_the_kernels_in_float64_are_those_of_onnxruntime(form: Case) -> None:
    model = form.build()
    feeds = form.feeds(model, 0) if form.feeds else feeds_for(model, 0)
    exact = ReferenceEvaluator(double(model).to_proto(), new_ops=list(RECURRENT)).run(None, double_feeds(feeds))
    for ours, theirs in zip(exact, run(model, feeds).values(), strict=True):
        assert np.abs(ours - theirs).max() <= 2e-6 * np.abs(ours).max()


def test_an_unknown_activation_is_named() -> None:
    model = case("RNN").build().to_proto()
    node = next(n for n in model.graph.node if n.op_type == "RNN")
    node.attribute.add(name="activations", type=8, strings=[b"Sine"])
    with pytest.raises(UnsupportedModel, match="`sine` of a recurrent layer has no gradient"):
        differentiated(from_proto(model))
