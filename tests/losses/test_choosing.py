"""Which loss fits what, and what is said of those that do not."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.errors import DataError, OptionError
from onnxprune.losses import Loss, Objective, choose_objective
from onnxprune.model import Model
from onnxprune.runtime import model_inputs
from tests.losses.nets import net

Array = NDArray[Any]
RNG = np.random.default_rng(0)
SCORES, PIXELS, WORDS = (20, 4), (3, 4, 5, 2), (3, 5, 4)
CLASSES = RNG.integers(0, 4, 20)


def model_of(shape: tuple[int, ...], *tail: Any) -> Model:
    return net(("n", *shape[1:]), *tail, dtype=TensorProto.FLOAT)


def chosen(shape: tuple[int, ...], labels: Array | None, losses: Any = None, **options: Any) -> Objective:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return choose_objective(model_of(shape), Dataset({"x": x}, labels, name="mine"), losses, provider="cpu", **options)


@pytest.mark.parametrize(
    ("shape", "labels", "words"),
    [
        (SCORES, CLASSES, "cross-entropy of `y` (4 classes)"),
        (PIXELS, RNG.integers(0, 4, (3, 5, 2)), "cross-entropy of `y` (4 classes for each pixel)"),
        (WORDS, RNG.integers(0, 4, (3, 5)), "cross-entropy of `y` (4 classes for each position)"),
        ((20, 1), RNG.integers(0, 2, 20), "binary-cross-entropy of `y`"),
        (SCORES, RNG.integers(0, 2, (20, 4)), "binary-cross-entropy of `y`"),
        (SCORES, RNG.standard_normal((20, 4)), "mse of `y`"),
        ((20, 1), RNG.standard_normal(20), "mse of `y`"),
    ],
)
def test_the_labels_say_which_loss(shape: tuple[int, ...], labels: Array, words: str) -> None:
    assert chosen(shape, labels).words == words


def test_settings_are_told() -> None:
    found = chosen(
        SCORES,
        CLASSES,
        "cross-entropy(class_weights=[1,2,3,4], label_smoothing=0.1) + 0.5*distillation(temperature=4)",
        teacher=model_of(SCORES),
    )
    assert found.words == (
        "cross-entropy of `y` (4 classes), label smoothing 0.1, class weights"
        " + 0.5 x distillation of `y` (KL at temperature 4)"
    )
    assert found.losses == chosen(SCORES, CLASSES, found.losses, teacher=model_of(SCORES)).losses
    assert "delta 2" in chosen(SCORES, RNG.standard_normal((20, 4)), Loss("huber", delta=2.0)).words


def test_one_hot_labels_and_whole_floats_are_classes() -> None:
    classes, size = RNG.integers(0, 4, 20), Batch({"x": np.zeros((20, 4), np.float32)}, None, 20)
    for labels in (np.eye(4)[classes], np.eye(4, dtype=np.int64)[classes], classes.astype(np.float64)):
        found = chosen(SCORES, labels, "cross-entropy")
        fed = found.feeds(Batch(size.feeds, labels, 20))[found.terms[0].feed]
        np.testing.assert_array_equal(fed[:, 0], classes)


def test_marks_may_be_floats() -> None:
    labels = RNG.integers(0, 2, (20, 4)).astype(np.float32)
    assert chosen(SCORES, labels, "binary-cross-entropy").terms[0].axis == -1


def test_without_labels_a_teacher_is_imitated() -> None:
    assert chosen(SCORES, None, teacher=model_of(SCORES)).words == "distillation of `y` (KL at temperature 1)"
    assert chosen((20,), None, teacher=model_of((20,))).words == "distillation of `y` (MSE)"
    with pytest.raises(DataError, match=r"mine: it has no labels, and there is no model(.|\n)*teacher"):
        chosen(SCORES, None)


@pytest.mark.parametrize(
    ("shape", "labels", "losses", "words"),
    [
        (SCORES, CLASSES, "mse", r"loss mse wants numbers .* int64 \(16,\).*`y` float32 \(16, 4\)(.|\n)*cross-entropy"),
        (
            SCORES,
            CLASSES,
            "binary-cross-entropy",
            r"wants labels of 0 and 1 (.|\n)*These labels call for cross-entropy",
        ),
        ((20, 1), RNG.integers(0, 2, 20), "cross-entropy", r"wants a score for each class(.|\n)*binary-cross-entropy"),
        (SCORES, RNG.standard_normal((20, 4)), "cross-entropy", r"float64 \(16, 4\)(.|\n)*call for mse"),
        (SCORES, RNG.standard_normal((20, 3)), "huber", r"float64 \(16, 3\)(.|\n)*Choose another loss"),
        (SCORES, RNG.standard_normal((20, 3)), None, r"fit no output"),
        (SCORES, None, "cross-entropy", r"it has no labels, which the loss cross-entropy needs"),
        (SCORES, np.r_[np.zeros(18, np.int64), 7, 0], None, r"label 7 in row 18, but the output `y` has 4 classes"),
    ],
)
def test_a_loss_that_does_not_fit(shape: tuple[int, ...], labels: Array | None, losses: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        chosen(shape, labels, losses)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ("cross-entropy(class_weights=[1, 2])", r"2 numbers, but the output `y` has 4 classes"),
        ("cross-entropy(output=logits)", r"no output `logits`(.|\n)*Its outputs are y"),
        ("distillation", r"needs a model to learn from"),
        ([], "no loss is given"),
    ],
)
def test_an_option_that_does_not_fit(losses: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        chosen(SCORES, CLASSES, losses)


def test_a_teacher_of_another_shape() -> None:
    with pytest.raises(DataError, match=r"no output like the model's: `y` \(16, 5\); the model has `y` \(16, 4\)"):
        chosen(SCORES, CLASSES, "distillation", teacher=wider())
    other = net(("n", 4), dtype=TensorProto.FLOAT).edit()
    other.proto.graph.input[0].name = other.proto.graph.node[0].input[0] = "pixels"
    with pytest.raises(DataError, match=r"the teacher .* takes `pixels`, which the model does not: it takes x"):
        chosen(SCORES, CLASSES, "distillation", teacher=other.build())


def test_an_output_without_a_row_for_each_sample() -> None:
    x = np.zeros((3, 2, 4), np.float32)
    model = net(("n", 2, 4), ("Flatten", {"axis": 2}), dtype=TensorProto.FLOAT)
    with pytest.raises(DataError, match=r"the output `y` has shape \(6, 4\) for a batch of 3"):
        choose_objective(model, Dataset({"x": x}), teacher=model, provider="cpu")


def wider() -> Model:
    zero = np.zeros(1, np.float32)
    pads = {"pads": np.array([0, 0, 0, 1]), "zero": zero.reshape(())}
    return net(("n", 4), ("Pad", {}), dtype=TensorProto.FLOAT, inputs={"Pad": ["pads", "zero"]}, constants=pads)


def test_rows_that_fill_up_a_batch_do_not_count() -> None:
    x, labels = RNG.standard_normal((5, 4)).astype(np.float32), RNG.integers(0, 4, 5)
    model = net((4, 4), dtype=TensorProto.FLOAT)
    data = fit(Dataset({"x": x}, labels), model_inputs(model))
    found = choose_objective(model, data, "cross-entropy + distillation", teacher=model, provider="cpu")
    fed = [found.feeds(batch) for batch in batches(data)]
    assert [feeds[found.terms[0].feed][:, 0].tolist() for feeds in fed] == [
        labels[:4].tolist(),
        [labels[4], -1, -1, -1],
    ]
    assert [feeds[found.rows].tolist() for feeds in fed] == [[1, 1, 1, 1], [1, 0, 0, 0]]
    np.testing.assert_array_equal(fed[1][found.terms[1].feed], x[[4, 4, 4, 4]])


def test_a_batch_without_labels() -> None:
    found = chosen(SCORES, CLASSES)
    with pytest.raises(DataError, match="the loss cross-entropy needs labels"):
        found.feeds(Batch({"x": np.zeros((2, 4), np.float32)}, None, 2))


def test_inputs_get_names_that_the_model_does_not_have() -> None:
    model = net(("n", 4), dtype=TensorProto.FLOAT).edit()
    model.proto.graph.output[0].name = model.proto.graph.node[0].output[0] = "targets_0"
    x = RNG.standard_normal((9, 4)).astype(np.float32)
    found = choose_objective(model.build(), Dataset({"x": x}, RNG.integers(0, 4, 9)), provider="cpu")
    assert re.fullmatch(r"targets_0_\d+", found.terms[0].feed)


def test_an_objective_goes_to_other_processes() -> None:
    found = chosen(SCORES, None, teacher=model_of(SCORES, ("Neg", {})))
    batch = Batch({"x": np.ones((2, 4), np.float32)}, None, 2)
    before = found.feeds(batch)
    after = pickle.loads(pickle.dumps(found)).feeds(batch)  # noqa: S301 - written here
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])
