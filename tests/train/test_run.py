"""`train`: it learns, stops, delivers the best epoch, and refuses what makes no sense."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.data import Dataset
from onnxprune.errors import DataError, ModelError, OptionError, UnsupportedModel
from onnxprune.evaluate import evaluate
from onnxprune.experiment import prune
from onnxprune.experiment.signing import METADATA
from onnxprune.model import from_proto
from onnxprune.train import Optimizer, kept_zeros, train
from onnxprune.train import masks as masks_module
from onnxprune.train.run import Trained
from tests.train.nets import dataset, noisy, perceptron, same_weights

FAST: dict[str, Any] = {"threads": 1, "provider": "cpu", "batch": 20, "epochs": 3, "rate": 0.02}


def trained(**options: Any) -> Trained:
    return train(perceptron(), dataset(), **{"validation": dataset(60, 2), **FAST, **options})


class TestLearning:
    def test_it_learns_and_delivers_the_best_epoch(self) -> None:
        found = trained(epochs=8)
        history = found.history
        assert history.before is not None
        before, best = history.before.metrics[0], history.of(found.best_epoch).metrics[0]
        assert best.name == history.chosen == "accuracy"
        assert best.value > 0.9 > before.value
        assert best.value == max(row.metrics[0].value for row in history.epochs)
        assert evaluate(found.model, dataset(60, 2)).value("accuracy") == best.value
        assert found.stopped == "max epochs"
        assert "cross-entropy" in found.words

    def test_rows(self) -> None:
        found = trained(every=2, schedule="linear")
        assert [(row.epoch, row.step) for row in found.history.epochs] == [(0, 0), (1, 6), (2, 12), (3, 18)]
        assert [row.step for row in found.history.steps] == list(range(2, 19, 2))
        assert [row.epoch for row in found.history.steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
        losses = [row.loss for row in found.history.steps]
        assert found.history.of(1).loss == pytest.approx(np.mean(losses[:3]))
        assert found.history.steps[0].rate == pytest.approx(0.02 * (1 - 1 / 18))
        assert found.history.model_hash == perceptron().hash

    def test_seeded(self) -> None:
        one, same, other = trained(augment=noisy), trained(augment=noisy), trained(augment=noisy, seed=1)
        assert same_weights(one.model, same.model)
        assert not same_weights(one.model, other.model)
        assert not same_weights(one.model, trained().model)

    def test_without_anything_to_measure_on_the_loss_decides(self) -> None:
        found = trained(validation=None)
        assert found.history.before is None
        assert found.best_epoch == min(found.history.trained, key=lambda row: row.loss).epoch
        assert "lowest training loss" in " ".join(found.notes)

    def test_the_metric_that_decides(self) -> None:
        found = trained(metric="loss")
        values = {row.epoch: row.metrics[0].value for row in found.history.epochs}
        assert found.history.chosen == "loss"
        assert found.best_epoch == min(values, key=values.__getitem__)
        with pytest.raises(OptionError, match="no metric 'r2' was measured"):
            trained(metric="r2")

    def test_worse_than_before_is_not_delivered(self) -> None:
        good = trained(epochs=10).model
        found = train(good, dataset(), validation=dataset(60, 2), **{**FAST, "rate": 3.0, "epochs": 1})
        assert found.best_epoch == 0
        assert same_weights(found.model, good)
        assert "No epoch was better" in found.notes[-1]

    def test_distillation_without_labels(self) -> None:
        teacher = trained(epochs=10).model
        data = dataset(labels=False)
        held = dataset(60, 2, labels=False)
        found = train(perceptron(seed=5), data, validation=held, teacher=teacher, **{**FAST, "epochs": 15})
        assert found.history.chosen == "agreement"
        assert found.history.of(found.best_epoch).metrics[0].value > 0.9
        assert "distillation" in found.words

    def test_a_fixed_batch(self) -> None:
        found = train(perceptron(batch=16), dataset(), validation=dataset(60, 2), **FAST)
        assert found.history.of(1).step == 8
        assert found.history.of(found.best_epoch).metrics[0].value > 0.8

    def test_at_most_so_many_samples(self) -> None:
        assert trained(samples=40).history.of(1).step == 2

    def test_dropout_is_on_and_repeatable(self) -> None:
        model = perceptron(dropout=0.5)
        one, same = (train(model, dataset(), **FAST) for _ in range(2))
        assert same_weights(one.model, same.model)
        assert not same_weights(one.model, train(perceptron(dropout=0.0), dataset(), **FAST).model)

    def test_frozen_weights_stay(self) -> None:
        found = trained(freeze=("w1", "b*"))
        before = perceptron()
        changed = [name for name in before.weights if not np.array_equal(before.array(name), found.model.array(name))]
        assert changed == ["w2"]

    @pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
    def test_default_rates(self, kind: str) -> None:
        found = trained(optimizer=Optimizer(kind), rate=None, epochs=40)
        assert found.history.of(found.best_epoch).metrics[0].value > 0.8


class TestStopping:
    def test_target(self) -> None:
        found = trained(target=("accuracy", 0.8), epochs=50)
        assert found.stopped == "target accuracy"
        assert found.history.epochs[-1].metrics[0].value >= 0.8
        assert all(row.metrics[0].value < 0.8 for row in found.history.epochs[:-1])

    def test_delta_loss(self) -> None:
        found = trained(delta_loss=0.5, patience=1, epochs=50)
        assert found.stopped == "delta loss"
        assert len(found.history.trained) < 10

    def test_time_limit_inside_of_an_epoch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = iter(range(10_000))
        monkeypatch.setattr("onnxprune.train.running.time.monotonic", lambda: float(next(clock)))
        found = trained(time_limit=40.0, epochs=50)
        assert found.stopped == "time limit"
        assert [row.whole for row in found.history.trained].count(False) <= 1
        assert len(found.history.trained) < 10

    def test_cancelled_in_the_first_epoch(self) -> None:
        asked: list[int] = []

        def cancelled() -> bool:
            asked.append(1)
            return len(asked) > 4

        found = trained(cancelled=cancelled)
        assert found.stopped == "cancelled"
        (row,) = found.history.trained
        assert (row.step, row.whole) == (4, False)
        assert found.best_epoch in (0, 1)
        assert sum(step.step == 4 for step in found.history.steps) == 1

    def test_cancelled_before_the_first_step(self) -> None:
        found = trained(cancelled=lambda: True)
        assert (found.stopped, found.best_epoch, found.history.trained) == ("cancelled", 0, ())
        assert same_weights(found.model, perceptron())

    @pytest.mark.parametrize("rate", [1e4, 1e30])
    def test_divergence(self, rate: float) -> None:
        found = trained(rate=rate, optimizer=Optimizer("sgd"), epochs=30)
        assert found.stopped == "diverged"
        assert all(np.isfinite(found.model.array(name)).all() for name in found.model.weights)
        assert "Try a smaller learning rate" in found.notes[0]

    def test_weights_that_become_nan_in_the_last_step(self) -> None:
        found = trained(rate=1e38, optimizer=Optimizer("sgd"), batch=200, epochs=2)
        assert (found.stopped, found.best_epoch) == ("diverged", 0)

    def test_progress(self) -> None:
        told: list[tuple[str, int, int]] = []
        trained(progress=lambda *words: told.append(words))
        assert told[0] == ("measuring the model as it is", 0, 18)
        assert any(words.startswith("measuring after epoch 3 of 3") for words, _, _ in told)


class TestZeros:
    def masked(self, **options: Any) -> Any:
        return prune(perceptron(), mode="mask", ratio=0.5, round_to=1, **options)

    @pytest.mark.parametrize("granularity", ["unit", "weight"])
    def test_what_a_plan_masked_stays_zero(self, granularity: str) -> None:
        pruned = self.masked(granularity=granularity).model
        masks = kept_zeros(pruned)
        found = train(pruned, dataset(), validation=dataset(60, 2), **FAST)
        assert masks
        for name in ("w1", "w2"):
            assert np.array_equal(found.model.array(name) == 0, pruned.array(name) == 0)
            assert not np.array_equal(found.model.array(name), pruned.array(name))
        assert found.model.metadata["onnxprune.plan"] == pruned.metadata["onnxprune.plan"]
        assert found.model.metadata["onnxprune.hash"] == found.model.hash != pruned.hash

    def test_other_zeros_are_weights(self) -> None:
        pruned = self.masked().model
        masks = kept_zeros(pruned)
        assert 0 < masks["b1"].sum() < 16  # those of the units that went, though all are zero
        assert "b2" not in masks
        assert kept_zeros(perceptron()) == {}

    def test_all_zeros_on_request(self) -> None:
        assert sorted(kept_zeros(perceptron(), everything=True)) == ["b1", "b2"]
        found = trained(masks="zeros")
        assert not found.model.array("b1").any()
        assert found.model.array("w1").all()

    def test_masks_of_the_caller(self) -> None:
        mask = np.zeros((6, 16), np.bool_)
        mask[:, 3] = True
        found = trained(masks={"w1": mask})
        assert not found.model.array("w1")[:, 3].any()
        assert trained(masks=None).model.array("w1")[:, 3].all()

    def test_removed_units_leave_no_zeros(self) -> None:
        assert kept_zeros(prune(perceptron(), ratio=0.5, round_to=1).model) == {}

    def test_the_keys_are_those_that_pruning_writes(self) -> None:
        assert (METADATA["plan"], METADATA["parent"], METADATA["hash"]) == (
            masks_module.PLAN, masks_module.PARENT, masks_module.HASH,
        )  # fmt: skip


def half_integer() -> Any:
    """A Round with weights in front of it only: nothing can be trained through it."""
    node = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Round", ["a"], ["scores"]),
    ]
    graph = helper.make_graph(
        node, "rounded", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.ones((6, 3), np.float32), "w")],
    )  # fmt: skip
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return from_proto(proto)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"batch": 0}, "batch: got 0"),
            ({"rate": 0.0}, "learning rate: got 0.0, expected more than 0"),
            ({"rate": -1.0}, "learning rate: got -1.0"),
            ({"rate": math.nan}, "learning rate: got nan"),
            ({"epochs": 0}, "epochs: got 0"),
            ({"clip": 0.0}, "clip: got 0.0"),
            ({"schedule": "sine"}, "there is no schedule 'sine'"),
            ({"batchnorm": "off"}, "batchnorm: got 'off'"),
            ({"masks": "all"}, "masks: got 'all'"),
            ({"every": 0}, "every: got 0"),
            ({"seed": -1}, "seed: got -1"),
            ({"samples": 0}, "limit: got 0"),
            ({"checkpoint_seconds": 0.0}, "checkpoint seconds: got 0.0"),
            ({"keep_epochs": (4,)}, "keep epochs: got 4, expected 0 to 3"),
            ({"resume": True}, "no checkpoint is named"),
            ({"freeze": ("conv*",)}, r"no weight fits `conv\*`"),
            ({"losses": "crossentropy"}, "crossentropy"),
        ],
    )
    def test_options(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(OptionError, match=words):
            trained(**options)

    def test_an_optimizer_that_does_not_exist(self) -> None:
        with pytest.raises(OptionError, match="optimizer: got 'adagrad'"):
            Optimizer("adagrad")

    def test_everything_frozen(self) -> None:
        with pytest.raises(ModelError, match="nothing to train"):
            trained(freeze=("*",))

    def test_no_gradient_reaches_a_weight(self) -> None:
        with pytest.raises((ModelError, UnsupportedModel), match="depends on none of the weights"):
            train(half_integer(), dataset(), **FAST)

    def test_no_labels_and_no_teacher(self) -> None:
        with pytest.raises(DataError, match="no labels, and there is no model to learn from"):
            train(perceptron(), dataset(labels=False), **FAST)

    def test_a_loss_that_does_not_fit(self) -> None:
        with pytest.raises(DataError, match="the loss mse wants numbers"):
            trained(losses="mse")

    def test_data_that_do_not_fit(self) -> None:
        wrong = Dataset({"x": np.ones((8, 5), np.float32)}, np.zeros(8, np.int64))
        with pytest.raises(DataError, match=r"float32 \(8, 5\)"):
            train(perceptron(), wrong, **FAST)
        with pytest.raises(DataError, match=r"float32 \(8, 5\)"):
            trained(validation=wrong)

    def test_labels_that_are_no_class(self) -> None:
        with pytest.raises(DataError, match="label 9 in row 2"):
            train(perceptron(), replace(dataset(), labels=np.where(np.arange(120) == 2, 9, 0)), **FAST)
