"""One graph for a step of training: what it learns, what stays, what comes back, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from onnxprune.data import Dataset, batches, fit
from onnxprune.errors import DataError, ModelError, OptionError, UnsupportedModel
from onnxprune.evaluate import evaluate
from onnxprune.losses import choose_objective
from onnxprune.model import Model, load
from onnxprune.runtime import model_inputs, providers, session
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
    feeds_of,
    graph_of,
    mlp,
    mlp_weights,
    objective_for,
    samples,
)

Array = NDArray[Any]
ROOT = Path(__file__).parents[2]
OPTIMIZERS = [
    Optimizer("sgd", nesterov=True, weight_decay=0.01),
    Optimizer("adam", weight_decay=0.01),
    Optimizer("adamw", weight_decay=0.01),
]


def step_for(model: Model, x: Array, y: Array | None, optimizer: Optimizer | None = None, **options: Any) -> Step:
    objective = objective_for(model, x, y)
    return Step(model, objective, optimizer or Optimizer("adam"), **({"provider": "cpu", "threads": 1} | options))


def trained(step: Step, feeds: dict[str, Array], count: int = 5, rate: float = 0.01) -> list[float]:
    return [step.run(feeds, rate) for _ in range(count)]


def fed(step: Step, x: Array, y: Array | None) -> dict[str, Array]:
    return feeds_of(step._objective, x, y)


def mean_loss(model: Model, x: Array, y: Array) -> float:
    """Cross-entropy of what the model puts out, in float64."""
    scores = torch.tensor(np.asarray(run(model, {"x": x})["y"], np.float64))
    return float(torch.nn.functional.cross_entropy(scores, torch.tensor(y)))


# -- what it learns ----------------------------------------------------------------------------------------------------


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


# -- what stays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.kind)
def test_masked_weights_stay_exactly_zero(optimizer: Optimizer) -> None:
    x, y = samples(24)
    masks = {"w1": np.random.default_rng(0).random((FEATURES, WIDTH)) < 0.4, "b2": np.array([True, False, False])}
    step = step_for(mlp(), x, y, optimizer, masks=masks, clip=0.5)
    before = step.weights()
    trained(step, fed(step, x, y), 20, 0.05)
    for name, mask in masks.items():
        for array in (value for key, value in step.state().items() if key.endswith(name)):
            assert not array[mask].any()
        after = step.weights()[name]
        assert not before[name][mask].any()
        assert (after[~mask] != before[name][~mask]).all()
        assert not step.model().array(name)[mask].any()
    assert step.weights()["w2"].all()


def test_frozen_weights_stay() -> None:
    x, y = samples(24)
    model = mlp()
    step = step_for(model, x, y, freeze=["b*", "w1"])
    assert step.parameters == ("w2",)
    assert set(step.state()) == {"w2", "optimizer/first/w2", "optimizer/second/w2", "optimizer/steps"}
    trained(step, fed(step, x, y))
    after = step.model()
    for name in ("w1", "b1", "b2"):
        np.testing.assert_array_equal(after.array(name), model.array(name))
    assert (after.array("w2") != model.array("w2")).all()


def test_what_belongs_to_a_formula_is_not_trained() -> None:
    """The 0.5 and 1.4142 of a GELU, an epsilon, a mask of minus infinity; a bias of one number is trained."""
    rng = np.random.default_rng(0)
    above = np.triu(np.ones((3, 3)), 1)
    constants = {
        "w": rng.standard_normal((4, 4)), "scale": np.full((4,), 0.5), "half": np.array(0.5),
        "root": np.array([1.4142]), "one": np.array(1.0), "mask": np.where(above, -np.inf, 0), "far": above * -1e9,
        "column": rng.standard_normal((4, 1)), "bias": np.array([0.1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Mul", ["q", "scale"], ["s"]),
        helper.make_node("Transpose", ["s"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["s", "k"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Add", ["masked", "far"], ["masked twice"]),
        helper.make_node("Softmax", ["masked twice"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "s"], ["v"]),
        helper.make_node("Div", ["v", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Mul", ["f", "half"], ["g"]),
        helper.make_node("Mul", ["g", "v"], ["h"]),
        helper.make_node("MatMul", ["h", "column"], ["c"]),
        helper.make_node("Add", ["c", "bias"], ["y"]),
    ]
    model = graph_of(nodes, ["n", 3, 4], {name: np.asarray(a, np.float32) for name, a in constants.items()})
    x, y = rng.standard_normal((6, 3, 4)).astype(np.float32), rng.standard_normal((6, 3, 1)).astype(np.float32)
    step = step_for(model, x, y)
    assert set(step.parameters) == {"w", "scale", "column", "bias"}
    losses = trained(step, fed(step, x, y), 100)
    assert losses[-1] < 0.9 * losses[0]


# -- what comes back ---------------------------------------------------------------------------------------------------


def test_the_model_is_the_one_that_was_given() -> None:
    """Its own opset, names and metadata; what it computes is what the training graph computes in inference."""
    x, y = samples(24)
    model = mlp(opset=11)
    step = step_for(model, x, y)
    trained(step, fed(step, x, y))
    after = step.model()
    assert after.metadata == {"made by": "a test"}
    before, now = model.to_proto(), after.to_proto()
    assert not any(np.array_equal(model.array(n), after.array(n)) for n in model.weights)
    for tensor, old in zip(now.graph.initializer, before.graph.initializer, strict=True):
        assert (tensor.name, tensor.dims, tensor.data_type) == (old.name, old.dims, old.data_type)
        tensor.CopyFrom(old)
    assert now == before
    assert step.loss(fed(step, x, y)) == pytest.approx(mean_loss(after, x, y), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_narrow_models_are_trained_in_float32(dtype: Any) -> None:
    """Steps too small for 16 bits add up; the result comes back in 16 bits."""
    x, y = samples(24)
    plain, narrow = mlp(), mlp(dtype)
    same = mlp(weights={name: narrow.array(name).astype(np.float64) for name in mlp_weights()})
    objective = objective_for(plain, x, y)
    steps = [Step(m, objective, Optimizer("sgd"), provider="cpu", threads=1) for m in (narrow, same)]
    for step in steps:
        trained(step, feeds_of(objective, x.astype(dtype), y), 40, 1e-4)
    for name, value in steps[0].weights().items():
        np.testing.assert_array_equal(value, steps[1].weights()[name])
        delivered = steps[0].model().weights[name]
        assert delivered.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(delivered.array(), value.astype(dtype))
    assert not np.array_equal(steps[0].model().array("w1"), narrow.array("w1"))


def test_a_float16_model_chooses_its_own_objective() -> None:
    x, y = samples(24, np.float16)
    step = step_for(mlp(np.float16), x, y)
    losses = trained(step, fed(step, x, y), 100, 0.05)
    assert losses[-1] < 0.3 * losses[0]
    assert session(step.model(), provider="cpu").run({"x": x})["y"].dtype == np.float16


def test_the_state_is_all_that_is_needed() -> None:
    x, y = samples(40)
    batches_of = [(x[k : k + 8], y[k : k + 8]) for k in range(0, 40, 8)]
    one = step_for(conv_like(), x, y, Optimizer("adamw", weight_decay=0.1), clip=1.0)
    for part in batches_of[:2]:
        one.run(fed(one, *part), 0.05)
    state = one.state()
    saved = {name: array.copy() for name, array in state.items()}
    for part in batches_of[2:]:
        one.run(fed(one, *part), 0.05)
    for name, array in saved.items():
        np.testing.assert_array_equal(array, state[name])  # a copy, not a view of what goes on
    two = step_for(conv_like(), x, y, Optimizer("adamw", weight_decay=0.1), clip=1.0)
    two.load(saved)
    for part in batches_of[2:]:
        two.run(fed(two, *part), 0.05)
    assert one.state().keys() == two.state().keys()
    for name, array in one.state().items():
        np.testing.assert_array_equal(array, two.state()[name])
    assert one.model().hash == two.model().hash


def conv_like() -> Model:
    return mlp(act="Relu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("w1"), r"for `w1` it has nothing, expected \[5, 8\]"),
        (lambda state: state.update(w1=np.zeros((5, 7))), r"for `w1` it has \[5, 7\], expected \[5, 8\]"),
        (lambda state: state.update(w9=np.zeros(3)), r"it has `w9`, which is not trained here"),
        (lambda state: state.pop("optimizer/second/b1"), r"for `optimizer/second/b1` it has nothing"),
    ],
)
def test_the_state_of_another_training(change: Any, words: str) -> None:
    x, y = samples(24)
    step = step_for(mlp(), x, y)
    trained(step, fed(step, x, y), 2)
    before, other = step.state(), step.state()
    change(other)
    with pytest.raises(DataError, match=words):
        step.load(other)
    for name, array in step.state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_weights(threads: int) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((16, 2, 6, 6)).astype(np.float32), rng.integers(0, CLASSES, 16)
    found = []
    for _ in range(2):
        step = step_for(conv_net(), x, y, batchnorm="batch", threads=threads)
        trained(step, fed(step, x, y), 10)
        found.append(step.state())
    for name, array in found[0].items():
        assert array.tobytes() == found[1][name].tobytes()


# -- Dropout -----------------------------------------------------------------------------------------------------------


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


# -- weights that layers share -----------------------------------------------------------------------------------------


def test_tied_matrices_are_one_parameter_and_fresh_biases_are_two() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["m"]),
        helper.make_node("Tanh", ["m"], ["t"]),
        helper.make_node("Gemm", ["t", "w", "b"], ["n"]),
        helper.make_node("Tanh", ["n"], ["u"]),
        helper.make_node("Gemm", ["u", "v", "b"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    square, other = (rng.standard_normal((FEATURES, FEATURES)).astype(np.float32) for _ in range(2))
    model = graph_of(nodes, ["n", FEATURES], {"w": square, "v": other, "b": np.zeros(FEATURES, np.float32)})
    x, _ = samples(24)
    y = rng.integers(0, FEATURES, 24)
    step = step_for(model, x, y, Optimizer("sgd"))
    weights = {name: torch.tensor(step.weights()[name], requires_grad=True) for name in step.parameters}
    assert len(weights) == 4
    assert {"w", "v", "b"} < set(weights)
    copy = next(name for name in weights if name not in ("w", "v", "b"))
    optimizer = torch.optim.SGD(weights.values(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        h = torch.tanh(torch.tensor(x) @ weights["w"] + weights["b"])
        h = torch.tanh(h @ weights["w"] + weights["b"])
        scores = h @ weights["v"] + weights[copy]
        torch.nn.functional.cross_entropy(scores, torch.tensor(y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step.run(fed(step, x, y), 0.1)
    for name, value in step.weights().items():
        assert_close(weights[name].detach().numpy(), value, 1e-5)
    after = step.model()
    assert len(after.weights) == 4
    assert [node.input[1] for node in after.proto.graph.node if node.op_type == "Gemm"] == ["w", "w", "v"]
    assert step.loss(fed(step, x, y)) == pytest.approx(mean_loss(after, x, y), rel=1e-5)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_quantised_weights() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["dw"]),
        helper.make_node("MatMul", ["x", "dw"], ["y"]),
    ]
    constants = {
        "w": np.ones((FEATURES, CLASSES), np.int8), "scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8),
    }  # fmt: skip
    x, y = samples(9)
    with pytest.raises(ModelError, match=r"weights are quantised(.|\n)*`w`(.|\n)*Train the float model"):
        step_for(graph_of(nodes, ["n", FEATURES], constants), x, y)


def test_nothing_to_train() -> None:
    x, y = samples(9)
    with pytest.raises(ModelError, match=r"nothing to train(.|\n)*All weights are frozen"):
        step_for(mlp(), x, y, freeze=["*"])
    empty = graph_of([helper.make_node("Neg", ["x"], ["y"])], ["n", FEATURES], {})
    with pytest.raises(ModelError, match=r"nothing to train(.|\n)*It has no floating-point weights"):
        step_for(empty, x, y)


def test_options_that_do_not_fit() -> None:
    x, y = samples(9)
    with pytest.raises(OptionError, match=r"no weight fits `w3`(.|\n)*Nearest: w"):
        step_for(mlp(), x, y, freeze=["w3"])
    with pytest.raises(OptionError, match=r"no weight `w_1`(.|\n)*Nearest: w1"):
        step_for(mlp(), x, y, masks={"w_1": np.ones(3, np.bool_)})
    with pytest.raises(OptionError, match=r"mask of `w1` has shape \[3\], the weight \[5, 8\]"):
        step_for(mlp(), x, y, masks={"w1": np.ones(3, np.bool_)})
    with pytest.raises(OptionError, match=r"batchnorm: got 'eval'"):
        step_for(mlp(), x, y, batchnorm="eval")
    step = step_for(mlp(), x, y)
    with pytest.raises(DataError, match=r"takes `targets_0`, which is not given"):
        step.run({"x": x}, 0.1)


def test_an_operator_without_gradients() -> None:
    """It is named, and so is what lies behind it."""
    support = {
        "kernel_type": "LINEAR",
        "kernel_params": [0.1, 0.0, 3.0],
        "coefficients": [0.5] * FEATURES,
        "rho": [0.1],
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("SVMRegressor", ["m"], ["s"], name="the machine", domain="ai.onnx.ml", **support),
        helper.make_node("MatMul", ["s", "v"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    constants = {"w": rng.standard_normal((FEATURES, FEATURES)), "v": rng.standard_normal((1, CLASSES))}
    weights = {name: value.astype(np.float32) for name, value in constants.items()}
    editor = graph_of(nodes, ["n", FEATURES], weights).edit()
    editor.proto.opset_import.add(domain="ai.onnx.ml", version=3)
    model = editor.build()
    x, y = samples(9)
    with pytest.raises(UnsupportedModel, match=r"'the machine' has no gradient rule(.|\n)*can: v"):
        step_for(model, x, y)
    step = step_for(model, x, y, freeze=["w"])
    losses = trained(step, fed(step, x, y), 20)
    assert losses[-1] < losses[0]
