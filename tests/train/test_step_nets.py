"""Steps on real networks: the examples, and what scikit-learn and Keras export."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from converters import convert
from onnxprune.data import Dataset, batches
from onnxprune.evaluate import evaluate
from onnxprune.losses import choose_objective
from onnxprune.model import Model, load
from onnxprune.runtime import session
from onnxprune.train.optimizers import Optimizer
from onnxprune.train.step import Step
from tests.oracle import assert_close

EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS = EXAMPLES.parent / "onnxprune" / "demo_data" / "digits.npz"
NETS = ("residual", "vgg", "mlp", "lstm", "vit")


def digits(part: str, count: int | None = None) -> Dataset:
    with np.load(DIGITS) as arrays:
        return Dataset({"x": arrays[f"x_{part}"].astype(np.float32)[:count]}, arrays[f"y_{part}"][:count])


def disturbed(model: Model) -> Model:
    """Every matrix with noise of the size of its own spread."""
    editor, rng = model.edit(), np.random.default_rng(0)
    for name, weight in model.weights.items():
        if weight.dtype == np.float32 and len(weight.shape) > 1:
            values = weight.array()
            editor.set_weight(name, (values + values.std() * rng.standard_normal(values.shape)).astype(np.float32))
    return editor.build()


@pytest.mark.parametrize("net", NETS)
def test_the_examples_recover_from_noise(net: str) -> None:
    model = load(EXAMPLES / "nets" / f"{net}.onnx")
    broken, train, test = disturbed(model), digits("train"), digits("test")
    objective = choose_objective(broken, train, provider="cpu")
    step = Step(broken, objective, Optimizer("adam"), batchnorm="batch", provider="cpu", threads=1)
    before = evaluate(broken, test, provider="cpu").metrics[0].value
    for epoch in range(3):
        shuffled = train.select(np.random.default_rng(epoch).permutation(len(train)))
        for batch in batches(shuffled, 64):
            loss = step.run({**batch.feeds, **objective.feeds(batch)}, 2e-3)
    after = evaluate(step.model(), test, provider="cpu").metrics[0].value
    assert before < 0.9
    assert after > max(0.93, before)
    assert np.isfinite(loss)
    weights = step.weights()
    assert all(name in weights for name, w in model.weights.items() if w.dtype == np.float32 and len(w.shape) > 1)


@pytest.mark.parametrize("net", NETS)
def test_the_loss_is_that_of_the_delivered_model(net: str) -> None:
    """The training graph in inference, and the delivered model run with constants, compute the same."""
    model, data = load(EXAMPLES / "nets" / f"{net}.onnx"), digits("train", 32)
    objective = choose_objective(model, data, provider="cpu")
    step = Step(model, objective, Optimizer("sgd"), batchnorm="batch", provider="cpu", threads=1)
    (batch,) = batches(data, 32)
    feeds = {**batch.feeds, **objective.feeds(batch)}
    step.run(feeds, 0.01)
    scores = session(step.model(), provider="cpu").run(batch.feeds)[model.proto.graph.output[0].name]
    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert step.loss(feeds) == pytest.approx(-logs[np.arange(32), batch.labels].mean(), rel=1e-4, abs=1e-6)


def test_distillation_brings_a_model_back_to_its_original() -> None:
    """Without labels."""
    model, data = load(EXAMPLES / "nets" / "mlp.onnx"), digits("train")
    broken, unlabelled = disturbed(model), Dataset(data.inputs)
    objective = choose_objective(broken, unlabelled, teacher=model, provider="cpu")
    step = Step(broken, objective, Optimizer("adam"), provider="cpu", threads=1)
    for _ in range(8):
        for batch in batches(unlabelled, 64):
            step.run({**batch.feeds, **objective.feeds(batch)}, 2e-3)
    test = digits("test")
    accuracy = [evaluate(m, test, provider="cpu").metrics[0].value for m in (model, broken, step.model())]
    assert accuracy[1] < accuracy[0] - 0.05
    assert accuracy[2] > accuracy[0] - 0.02


def test_a_keras_export() -> None:
    model, data = load(EXAMPLES / "keras_digits.onnx"), digits("train", 64)
    name = model.proto.graph.input[0].name
    x = np.asarray(data.inputs["x"][:])
    labelled = Dataset({name: x if session(model).inputs[0].shape[-1] != 1 else x.transpose(0, 2, 3, 1)}, data.labels)
    objective = choose_objective(model, labelled, provider="cpu")
    step = Step(model, objective, Optimizer("sgd"), provider="cpu", threads=1)
    (batch,) = batches(labelled, 64)
    feeds = {**batch.feeds, **objective.feeds(batch)}
    first = step.loss(feeds)
    for _ in range(20):
        step.run(feeds, 0.01)
    assert step.loss(feeds) < first


@pytest.mark.parametrize("task", ["two classes", "three classes", "marks", "numbers"])
def test_scikit_learn_exports(task: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 5)).astype(np.float32)
    y = {
        "two classes": (x[:, 0] > 0).astype(np.int64),
        "three classes": x[:, :3].argmax(1),
        "marks": (x[:, :3] > 0).astype(np.int64),
        "numbers": x[:, :2].astype(np.float32) ** 2,
    }[task]
    kind = MLPRegressor if task == "numbers" else MLPClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = kind(hidden_layer_sizes=(24,), max_iter=3, random_state=0).fit(x, y)
        model = convert(estimator).model
    data = Dataset({"x": x}, y)
    objective = choose_objective(model, data, provider="cpu")
    step = Step(model, objective, Optimizer("adam"), provider="cpu", threads=1)
    assert len(step.parameters) == 4
    (batch,) = batches(data, 120)
    feeds = {**batch.feeds, **objective.feeds(batch)}
    first = step.loss(feeds)
    for _ in range(200):
        step.run(feeds, 0.02)
    assert step.loss(feeds) < 0.2 * first
    after = step.model()
    assert [o.name for o in after.proto.graph.output] == [o.name for o in model.proto.graph.output]
    if task == "numbers":
        assert_close(y, session(after, provider="cpu").run({"x": x})[after.proto.graph.output[0].name], 0.5)
    else:
        assert evaluate(after, data, provider="cpu").metrics[0].value > 0.95
