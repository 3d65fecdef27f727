"""Samples whose labels models contradict."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune.data import Dataset
from onnxprune.errors import DataError, ModelError, OptionError
from onnxprune.evaluate import find_suspects, suspects_from
from onnxprune.model import Model, from_proto
from tests.evaluate.models import Array, dataset, deciding, passing, softmax

NAMES = ("sea", "forest", "street")


def one_wrong() -> tuple[Array, Array]:
    """Probabilities of 9 samples, three of each class; row 4 is labelled 1 and looks like 2."""
    labels = np.repeat([0, 1, 2], 3)
    found = np.full((9, 3), 0.05)
    found[np.arange(9), labels] = 0.9
    found[4] = 0.03, 0.02, 0.95
    return found, labels


def confident_joint(found: Array, labels: Array) -> set[int]:
    """Rows off the diagonal of the confident joint of arXiv:1911.00068, entry by entry."""
    thresholds = [found[labels == j, j].mean() for j in range(found.shape[1])]
    rows = set()
    for i in range(len(labels)):
        above = [j for j in range(found.shape[1]) if found[i, j] >= thresholds[j]]
        if above and labels[i] not in above:
            rows.add(i)
    return rows


def test_by_hand() -> None:
    found = suspects_from(*one_wrong(), names=NAMES)
    assert found.thresholds == pytest.approx((0.9, (0.9 + 0.02 + 0.9) / 3, 0.9))
    one, *others = found.found
    assert found.sure == 1
    assert one.sure
    assert not any(other.sure or other.against for other in others)
    assert [other.row for other in others] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (one.row, one.label, one.taken_for, one.against) == (4, 1, 2, 1)
    assert (one.own, one.other, one.margin) == pytest.approx((0.02, 0.95, 0.02 - 0.95))
    assert found.name(one.taken_for) == "street"
    assert found.as_dict()["suspects"][0]["row"] == 4


@pytest.mark.parametrize("seed", range(5))
def test_suspects_are_the_confident_joint_where_the_label_is_not_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 300)
    logits = rng.standard_normal((300, 4)) + 2.5 * np.eye(4)[labels]
    swapped = rng.choice(300, 30, replace=False)
    labels[swapped] = (labels[swapped] + 1) % 4
    probabilities = softmax(logits)
    found = suspects_from(probabilities, labels, top=300)
    first = probabilities.argmax(1) == labels
    sure = {one.row for one in found.found if one.sure}
    assert sure == {row for row in confident_joint(probabilities, labels) if not first[row]}
    assert found.sure == len(sure)
    assert [one.margin for one in found.found] == sorted(one.margin for one in found.found)
    assert suspects_from(probabilities, labels, top=7).found == found.found[:7]
    hits = sum(one.row in swapped for one in found.found[:15])
    assert hits >= 12  # by chance 1.5


def test_several_models_are_averaged_and_counted() -> None:
    probabilities, labels = one_wrong()
    logits = np.log(probabilities)
    found = find_suspects([passing(3), passing(3, op="Sinh")], dataset(logits, labels, NAMES), size=4)
    expected = suspects_from((probabilities + softmax(np.sinh(logits))) / 2, labels)
    assert found.models == 2
    assert [one.row for one in found.found if one.sure] == [one.row for one in expected.found if one.sure] == [4]
    assert found.found[0].own == pytest.approx(expected.found[0].own, rel=1e-5)
    assert found.found[0].against == 2
    assert found.thresholds == pytest.approx(expected.thresholds, rel=1e-5)


def test_probabilities_are_read_as_such() -> None:
    probabilities, labels = one_wrong()
    found = find_suspects([passing(3)], dataset(probabilities, labels))
    assert found.found[0].other == pytest.approx(0.95, abs=1e-6)


def test_one_score_is_that_of_the_second_of_two_classes() -> None:
    scores = np.array([-4.0, -3, -5, 4, 3, 5, 6, -4])[:, None]
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = find_suspects([passing(1)], dataset(scores, labels), top=2)
    assert {one.row for one in found.found} == {3, 7}
    second = 1 / (1 + np.exp(-scores[:, 0]))
    assert found.thresholds == pytest.approx((1 - second[:4].mean(), second[4:].mean()))


def test_a_class_that_nobody_has() -> None:
    probabilities, labels = one_wrong()
    mixed = np.hstack([probabilities * 0.4, np.full((9, 1), 0.6)])
    found = suspects_from(mixed, np.append(labels[:4], np.append([2], labels[5:])))
    assert np.isnan(found.thresholds[3])
    assert found.found[0].taken_for == 3
    assert found.sure == 0


def test_progress() -> None:
    told: list[tuple[str, int, int]] = []
    probabilities, labels = one_wrong()
    find_suspects([passing(3)] * 2, dataset(probabilities, labels), size=5, progress=lambda *one: told.append(one))
    assert [done for _, done, _ in told] == [5, 9, 14, 18]
    assert {total for *_, total in told} == {18}


def twice() -> Model:
    """Three inputs, six scores."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 3), ("y", 6)))
    graph = helper.make_graph([helper.make_node("Concat", ["x", "x"], ["y"], axis=1)], "twice", [x], [y])
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


class TestBadInput:
    def test_none_of_them(self) -> None:
        with pytest.raises(OptionError, match="top: got 0, expected at least 1"):
            suspects_from(*one_wrong(), top=0)

    def test_no_labels(self) -> None:
        with pytest.raises(DataError, match="it has no labels, so that none can be wrong"):
            find_suspects([passing(3)], dataset(np.zeros((4, 3))))

    def test_no_model(self) -> None:
        with pytest.raises(OptionError, match="no model is given"):
            find_suspects([], dataset(np.zeros((4, 3)), np.zeros(4, np.int64)))

    def test_targets(self) -> None:
        with pytest.raises(DataError, match="make a task `regression`"):
            find_suspects([passing(3)], dataset(np.zeros((4, 3)), np.zeros((4, 3), np.float32)))

    def test_class_numbers_without_scores(self) -> None:
        data = Dataset({"x": np.zeros(4, np.float32)}, np.zeros(4, np.int64))
        with pytest.raises(DataError, match="class numbers without scores"):
            find_suspects([deciding()], data)

    def test_outputs_that_are_no_numbers(self) -> None:
        x = np.zeros((4, 3))
        x[2, 1] = np.nan
        with pytest.raises(ModelError, match="is NaN in row 2"):
            find_suspects([passing(3)], dataset(x, np.zeros(4, np.int64)))

    def test_models_with_different_classes(self) -> None:
        data = dataset(np.zeros((4, 3)), np.zeros(4, np.int64))
        with pytest.raises(DataError, match="one model has 3 classes, another 6"):
            find_suspects([passing(3), twice()], data)
