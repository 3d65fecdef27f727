"""Which of two epochs is the better one, and what decides."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onnxprune.evaluate import measured
from onnxprune.train.history import EpochRow
from onnxprune.train.judge import Judge, is_better
from tests.train.nets import dataset, perceptron


def row(epoch: int, loss: float, /, **metrics: float) -> EpochRow:
    return EpochRow(epoch, epoch, loss, 0.1, tuple(measured(name, value) for name, value in metrics.items()))


class TestBetter:
    def test_by_the_first_metric(self) -> None:
        assert is_better(row(2, 9.0, accuracy=0.9, loss=3.0), row(1, 1.0, accuracy=0.8, loss=1.0))
        assert not is_better(row(2, 0.1, accuracy=0.7, loss=0.1), row(1, 1.0, accuracy=0.8, loss=1.0))
        assert is_better(row(2, 9.0, mae=0.1), row(1, 1.0, mae=0.2))

    def test_ties_go_by_the_loss_on_the_validation_data(self) -> None:
        assert is_better(row(2, 9.0, accuracy=0.9, loss=0.1), row(1, 1.0, accuracy=0.9, loss=0.2))
        assert not is_better(row(2, 0.1, accuracy=0.9, loss=0.3), row(1, 1.0, accuracy=0.9, loss=0.2))
        assert is_better(row(2, 9.0, agreement=0.9, kl=0.1), row(1, 1.0, agreement=0.9, kl=0.2))

    def test_the_earlier_one_where_nothing_tells(self) -> None:
        assert not is_better(row(2, 0.1, accuracy=0.9), row(1, 1.0, accuracy=0.9))

    def test_without_metrics_by_the_training_loss(self) -> None:
        assert is_better(row(2, 0.1), row(1, 1.0))
        assert not is_better(row(2, 1.0), row(1, 1.0))

    def test_what_is_not_defined_is_never_better(self) -> None:
        assert not is_better(row(2, 0.1, accuracy=math.nan), row(1, 1.0, accuracy=0.1))
        assert is_better(row(2, 0.1, accuracy=0.1), row(1, 1.0, accuracy=math.nan))


class TestMeasure:
    def test_the_deciding_metric_comes_first(self) -> None:
        assert Judge(dataset()).measure(perceptron())[0].name == "accuracy"
        assert Judge(dataset(), metric="macro_f1").measure(perceptron())[0].name == "macro_f1"

    def test_without_labels_by_the_classes_of_the_teacher(self) -> None:
        judge = Judge(replace(dataset(), labels=None), perceptron())
        assert judge.measure(perceptron())[0] == measured("agreement", 1.0)

    @pytest.mark.parametrize("judge", [Judge(None), Judge(None, perceptron()), Judge(dataset(labels=False))])
    def test_nothing_to_measure(self, judge: Judge) -> None:
        assert not judge.usable
        assert judge.measure(perceptron()) == ()
