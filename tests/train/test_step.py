"""One graph for a step of training: what it learns, and how Dropout and padding go into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from onnxprune.data import Dataset, batches, fit
from onnxprune.evaluate import evaluate
from onnxprune.losses import choose_objective
from onnxprune.model import Model, load
from onnxprune.runtime import model_inputs, providers
from onnxprune.train.optimizers import Optimizer
from onnxprune.train.step import Step
from tests.oracle import assert_close, run
from tests.train.step_nets import (
    CLASSES,
    FEATURES,
    WIDTH,
    conv_in_torch,
    conv_net,
    conv_weights,
    fed,
    graph_of,
    mean_loss,
    mlp,
    mlp_weights,
    samples,
    step_for,
    trained,
)

Array = NDArray[Any]
ROOT = Path(__file__).parents[2]
OPTIMIZERS = [
    Optimizer("sgd", nesterov=True, weight_decay=0.01),
    Optimizer("adam", weight_decay=0.01),
    Optimizer("adamw", weight_decay=0.01),
]


@pytest.mark.parametrize("provider", providers())
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.kind)
def test_it_overfits_a_few_samples(optimizer: Optimizer, provider: str) -> None:
    x, y = samples(32)
    wide = {"w1": (FEATURES, 64), "b1": (64,), "w2": (CLASSES, 64), "b2": (CLASSES,)}
    rng = np.random.default_rng(0)
    model = mlp(weights={name: 0.4 * rng.standard_normal(shape) for name, shape in wide.items()}, act="Relu")
    plain = Optimizer(optimizer.kind, nesterov=optimizer.nesterov)
    step = step_for(model, x, y, plain, provider=provider)
    feeds = fed(step, x, y)
    first = step.loss(feeds)
    rate = 0.2 if optimizer.kind == "sgd" else 0.02
    assert trained(step, feeds, 400, rate)[0] == pytest.approx(first, rel=1e-5)
    assert first > 1
    assert step.loss(feeds) < 5e-3
    assert (run(step.model(), {"x": x})["y"].argmax(1) == y).all()


def test_the_digits_from_scratch() -> None:
    model = load(ROOT / "examples" / "nets" / "mlp.onnx")
    editor, rng = model.edit(), np.random.default_rng(0)
    for name, weight in model.weights.items():
        scale = np.sqrt(2 / weight.shape[1]) if len(weight.shape) == 2 else 0
        editor.set_weight(name, (scale * rng.standard_normal(weight.shape)).astype(np.float32))
    fresh = editor.build()
    with np.load(ROOT / "onnxprune" / "demo_data" / "digits.npz") as arrays:
        parts = {part: (arrays[f"x_{part}"].astype(np.float32), arrays[f"y_{part}"]) for part in ("train", "test")}
    data, test = (Dataset({"x": x}, y) for x, y in parts.values())
    assert evaluate(fresh, test, provider="cpu").metrics[0].value < 0.3
    objective = choose_objective(fresh, data, provider="cpu")
    step = Step(fresh, objective, Optimizer("adam"), provider="cpu", threads=1)
    for epoch in range(8):
        shuffled = data.select(np.random.default_rng(epoch).permutation(len(data)))
        for batch in batches(shuffled, 64):
            step.run({**batch.feeds, **objective.feeds(batch)}, 3e-3)
    assert evaluate(step.model(), test, provider="cpu").metrics[0].value > 0.95


@pytest.mark.parametrize("training", [False, True], ids=["frozen", "batch"])
def test_batch_normalization_as_torch_has_it(training: bool) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((7, 2, 6, 6)).astype(np.float32), rng.integers(0, CLASSES, 7)
    model = conv_net()
    step = step_for(model, x, y, Optimizer("sgd"), batchnorm="batch" if training else "frozen")
    weights = {name: torch.tensor(value) for name, value in conv_weights().items()}
    learned = [value.requires_grad_() for name, value in weights.items() if name not in ("mean", "variance")]
    optimizer = torch.optim.SGD(learned, 0.1, momentum=0.9)
    assert set(step.parameters) == set(weights) - {"mean", "variance"}
    for size in (7, 4, 5):
        optimizer.zero_grad()
        scores = conv_in_torch(weights, torch.tensor(x[:size]), training=training)
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(y[:size]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert step.run(fed(step, x[:size], y[:size]), 0.1) == pytest.approx(loss.item(), rel=1e-5)
    found = step.weights()
    assert ("mean" in found) == training
    for name, value in found.items():
        assert_close(weights[name].detach().numpy(), value, 1e-5)
    delivered = step.model()
    exact = conv_in_torch(weights, torch.tensor(x), training=False).detach().numpy()
    assert_close(exact, run(delivered, {"x": x})["y"], 1e-5)
    assert step.loss(fed(step, x, y)) == pytest.approx(mean_loss(delivered, x, y), rel=1e-5)


def test_any_batch_size() -> None:
    """The mean over a batch is the mean of its parts."""
    x, y = samples(12)
    model = mlp()
    whole, parts = (step_for(model, x, y, Optimizer("sgd", momentum=0)) for _ in range(2))
    losses = [parts.loss(fed(parts, x[rows], y[rows])) for rows in (slice(0, 1), slice(1, 12))]
    assert whole.run(fed(whole, x, y), 0.1) == pytest.approx((losses[0] + 11 * losses[1]) / 12, rel=1e-5)


def test_labels_that_do_not_count_move_nothing() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = graph_of(nodes, ["n", "t", 5], {"w": mlp_weights()["w1"].astype(np.float32)})
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 6, 5)).astype(np.float32), rng.integers(0, WIDTH, (4, 6))
    step = step_for(model, x, y, Optimizer("sgd"))
    before = step.weights()["w"]
    assert step.run(fed(step, x, np.full_like(y, -100)), 0.1) == 0
    np.testing.assert_array_equal(step.weights()["w"], before)
    assert step.run(fed(step, x, y), 0.1) > 1


def test_rows_that_fill_up_a_batch_do_not_count() -> None:
    """A model with a fixed batch learns from 3 rows of 4 what one with any batch learns from the 3."""
    x, y = samples(7)
    free = mlp()
    editor = free.edit()
    editor.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    fixed = editor.build()
    data = Dataset({"x": x}, y)
    weights = []
    for model in (free, fixed):
        objective = choose_objective(model, data, provider="cpu")
        step = Step(model, objective, Optimizer("sgd"), provider="cpu", threads=1)
        for batch in batches(fit(data, model_inputs(model)), 4):
            step.run({**batch.feeds, **objective.feeds(batch)}, 0.1)
        weights.append(step.weights())
    for name, value in weights[0].items():
        assert_close(value, weights[1][name], 1e-5)


def dropping() -> Model:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"]),
        helper.make_node("Dropout", ["m", "ratio"], ["d"]),
        helper.make_node("Gemm", ["d", "w2", "b2"], ["y"], transB=1),
    ]
    weights = mlp_weights()
    constants = {name: weights[name].astype(np.float32) for name in ("w1", "w2", "b2")}
    return graph_of(nodes, ["n", FEATURES], {**constants, "ratio": np.array(0.5, np.float32)})


@pytest.mark.parametrize("batchnorm", ["frozen", "batch"])
def test_dropout_drops_while_training_and_at_no_other_time(batchnorm: str) -> None:
    x, y = samples(24)
    losses = {}
    for seed in (0, 0, 1):
        step = step_for(dropping(), x, y, Optimizer("sgd"), seed=seed, batchnorm=batchnorm)
        plain = step.loss(fed(step, x, y))
        found = trained(step, fed(step, x, y), 3, 1e-9)
        assert step.loss(fed(step, x, y)) == pytest.approx(plain, rel=1e-4)
        assert mean_loss(step.model(), x, y) == pytest.approx(plain, rel=1e-4)
        assert len({round(loss, 4) for loss in [plain, *found]}) == 4
        assert losses.setdefault(seed, found) == found
    assert losses[0] != losses[1]
