"""Classes, against scikit-learn on whole arrays and against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from onnxprune.data import Batch
from onnxprune.errors import OptionError
from onnxprune.evaluate import Asked, Evaluation, Meter, trimmed
from tests.evaluate.models import Array, cross_entropy, deciding, measure, passing, softmax, values

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.standard_normal((60, 7)) * 2, RNG.integers(0, 7, 60)
NAMES = tuple("abcdefg")


class TestScores:
    @pytest.mark.parametrize("op", ["Identity", "Softmax", "LogSoftmax"])
    def test_logits_and_probabilities_give_the_same(self, op: str) -> None:
        found = values(measure(passing(7, op=op), LOGITS, LABELS))
        assert found["accuracy"] == pytest.approx((LOGITS.argmax(1) == LABELS).mean())
        assert found["loss"] == pytest.approx(cross_entropy(LOGITS, LABELS), rel=1e-5)
        assert found["mean_average_precision"] == pytest.approx(
            metrics.average_precision_score(np.eye(7)[LABELS], softmax(LOGITS)), rel=1e-5
        )

    @pytest.mark.parametrize("k", [1, 2, 3, 6])
    def test_top_k(self, k: int) -> None:
        found = measure(passing(7), LOGITS, LABELS, top_k=k)
        assert found.value(f"top_{k}") == pytest.approx(metrics.top_k_accuracy_score(LABELS, LOGITS, k=k))
        assert found.value("top_1" if k == 1 else "accuracy") == found.value("accuracy")

    def test_top_5_where_there_are_more_classes(self) -> None:
        assert measure(passing(7), LOGITS, LABELS).value("top-5 accuracy") == pytest.approx(
            metrics.top_k_accuracy_score(LABELS, LOGITS, k=5)
        )
        assert "top_5" not in values(measure(passing(5), LOGITS[:, :5], LABELS % 5))

    def test_a_collapsed_model_is_not_right_by_ties(self) -> None:
        found = measure(passing(7), np.zeros((7, 7)), np.arange(7), top_k=3)
        assert found.value("accuracy") == pytest.approx(1 / 7)
        assert found.value("top_3") == pytest.approx(3 / 7)

    def test_classes_that_are_ruled_out_have_minus_infinity(self) -> None:
        ruled_out = np.arange(7) == (LABELS[:, None] + 1) % 7
        logits, far = np.where(ruled_out, -np.inf, LOGITS), np.where(ruled_out, -99, LOGITS)
        found = measure(passing(7), logits, LABELS)
        assert found.value("loss") == pytest.approx(cross_entropy(far, LABELS), rel=1e-5)

    def test_one_hot_labels_when_asked(self) -> None:
        found = measure(passing(7), LOGITS, np.eye(7)[LABELS], task="classification")
        assert values(found) == pytest.approx(values(measure(passing(7), LOGITS, LABELS)))


class TestBinary:
    @pytest.mark.parametrize("op", ["Identity", "Sigmoid"])
    @pytest.mark.parametrize("shape", [(20, 1), (20,)])
    def test_one_score_for_two_classes(self, op: str, shape: tuple[int, ...]) -> None:
        scores, labels = RNG.standard_normal((20, 1)) * 2, RNG.integers(0, 2, shape)
        found = measure(passing(1, op=op), scores, labels)
        flat, decided = labels.reshape(-1), (scores[:, 0] > 0).astype(int)
        assert found.task == "binary"
        assert found.value("accuracy") == pytest.approx((decided == flat).mean())
        assert found.value("loss") == pytest.approx(
            cross_entropy(np.hstack([np.zeros_like(scores), scores]), flat), rel=1e-4
        )
        assert found.value("precision", cls=1) == pytest.approx(metrics.precision_score(flat, decided))
        assert found.curves[1].average_precision == pytest.approx(metrics.average_precision_score(flat, scores))
        assert found.curves[0].average_precision == pytest.approx(metrics.average_precision_score(1 - flat, -scores))

    def test_two_scores(self) -> None:
        logits, labels = LOGITS[:, :2], LABELS % 2
        found = measure(passing(2), logits, labels, task="binary")
        assert (found.task, found.value("accuracy")) == ("binary", pytest.approx((logits.argmax(1) == labels).mean()))


class TestPerClass:
    def test_against_scikit_learn(self) -> None:
        found, decided = measure(passing(7), LOGITS, LABELS, NAMES), LOGITS.argmax(1)
        rows = metrics.precision_recall_fscore_support(LABELS, decided, zero_division=0)
        for name, row in zip(("precision", "recall", "f1", "support"), rows, strict=True):
            assert [found.value(name, cls=c) for c in NAMES] == pytest.approx(list(row)), name
        for average in ("macro", "weighted"):
            kwargs = {"average": average, "zero_division": 0}
            precision, recall, f1, _ = metrics.precision_recall_fscore_support(LABELS, decided, **kwargs)
            told = [found.value(f"{average}_{name}") for name in ("precision", "recall", "f1")]
            assert told == pytest.approx([precision, recall, f1])
        assert np.array_equal(found.confusion, metrics.confusion_matrix(LABELS, decided))  # type: ignore[arg-type]
        scores = metrics.average_precision_score(np.eye(7)[LABELS], softmax(LOGITS), average=None)
        assert [found.value("average_precision", cls=c) for c in NAMES] == pytest.approx(list(scores), rel=1e-5)

    def test_a_class_that_never_occurs_is_not_defined_and_not_averaged(self) -> None:
        labels = LABELS % 6
        found = measure(passing(7), LOGITS, labels, NAMES)
        assert np.isnan(
            [found.value(name, cls="g") for name in ("precision", "recall", "f1", "average_precision")]
        ).all()
        assert str(found.metric("recall", cls="g")) == "not defined"
        _, recall, _, _ = metrics.precision_recall_fscore_support(labels, LOGITS.argmax(1), labels=range(6))
        assert found.value("macro_recall") == pytest.approx(recall.mean())

    def test_a_class_that_is_never_predicted_has_precision_0(self) -> None:
        logits = LOGITS - 99 * (np.arange(7) == 2)
        found = measure(passing(7), logits, LABELS, NAMES)
        assert (found.value("precision", cls="c"), found.value("f1", cls="c")) == (0, 0)
        kwargs = {"average": "macro", "zero_division": 0}
        assert found.value("macro_precision") == pytest.approx(
            metrics.precision_score(LABELS, logits.argmax(1), **kwargs)
        )

    def test_one_class_only(self) -> None:
        found = measure(passing(7), LOGITS, np.full(60, 3), NAMES)
        assert str(found.metric("mean_average_precision")) == "not defined"
        assert found.value("macro_recall") == found.value("accuracy")
        assert found.notes == ("only class d occurs in the labels: average precision is not defined",)
        assert found.curves[3].precision.size == 0


class TestLookUp:
    FOUND = measure(passing(7), LOGITS, LABELS, NAMES)

    def test_the_accuracy_of_a_class_is_its_recall(self) -> None:
        assert self.FOUND.value("accuracy", cls="b") == self.FOUND.value("recall", cls="b")

    def test_classes_go_by_name_and_by_number(self) -> None:
        assert self.FOUND.value("f1", cls="c") == self.FOUND.value("f1", cls=2) == self.FOUND.value("f1", cls="2")

    def test_iterating_gives_the_metrics(self) -> None:
        assert [metric.name for metric in self.FOUND][:3] == ["accuracy", "top_5", "loss"]

    @pytest.mark.parametrize(
        ("name", "cls", "message"),
        [
            (
                "sparkle",
                None,
                r"no metric 'sparkle' was measured \(task: classification\)\nThere are: accuracy, top_5,",
            ),
            ("recall", None, r"no metric 'recall'(.|\n)*name a class"),
            ("recall", "z", r"no class 'z'(.|\n)*Classes: a, b, c"),
            ("loss", "a", r"no metric 'loss' of class 'a'(.|\n)*There are: precision, recall"),
        ],
    )
    def test_what_is_not_there(self, name: str, cls: str | None, message: str) -> None:
        with pytest.raises(OptionError, match=message):
            self.FOUND.value(name, cls)


class TestInstances:
    def test_labels_predictions_and_hits(self) -> None:
        found = measure(passing(7), LOGITS, LABELS)
        assert found.predictions is not None
        assert (found.predictions.dtype, found.samples) == (np.int32, 60)
        assert np.array_equal(found.predictions, LOGITS.argmax(1))
        assert np.array_equal(found.labels, LABELS)  # type: ignore[arg-type]
        assert np.array_equal(found.right, LOGITS.argmax(1) == LABELS)  # type: ignore[arg-type]

    def test_a_limit(self) -> None:
        found = measure(passing(7), LOGITS, LABELS, limit=10)
        assert (found.samples, found.value("accuracy")) == (10, (LOGITS.argmax(1) == LABELS)[:10].mean())

    def test_a_fixed_batch_counts_every_sample_once(self) -> None:
        fixed = measure(passing(7, batch=4), LOGITS[:10], LABELS[:10])
        assert values(fixed) == pytest.approx(values(measure(passing(7), LOGITS[:10], LABELS[:10])))


class TestDecided:
    def test_ready_made_classes(self) -> None:
        labels = np.arange(12) % 3
        found = measure(deciding(), labels + (labels == 2), labels)
        assert found.value("accuracy") == pytest.approx(8 / 12)
        assert np.array_equal(found.confusion, np.diag([4, 4, 0, 0]) + 4 * np.eye(4, k=1, dtype=int)[2, :, None].T * (  # type: ignore[arg-type]
            np.arange(4) == 2)[:, None])  # fmt: skip
        assert "loss" not in values(found)

    def test_what_is_no_array_is_left_aside(self) -> None:
        """scikit-learn's exporter gives a list of dictionaries beside the classes."""
        outputs = {"label": np.arange(4), "map": [{0: 0.5}] * 4, "total": np.ones(())}
        kept = trimmed(outputs, Batch({"x": np.zeros((4, 2))}, None, 3))  # type: ignore[arg-type]
        assert {name: array.shape for name, array in kept.items()} == {"label": (3,), "total": ()}

    def test_classes_turn_up_late(self) -> None:
        labels = np.repeat(np.arange(4), 5)
        found = measure(deciding(), labels[::-1].copy(), labels, size=5)
        assert np.array_equal(found.confusion, 5 * np.eye(4)[::-1])  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 6),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from(["logits", "softmax", "sigmoid"]),
    st.integers(0, 10_000),
)
def test_in_batches_as_in_one(classes: int, sizes: list[int], kind: str, seed: int) -> None:
    """However the samples are cut into batches: logits may look like probabilities in some of them."""
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    logits, labels = rng.standard_normal((count, classes)).astype(np.float32), rng.integers(0, classes, count)
    if kind == "sigmoid":
        logits = rng.uniform(-0.2, 1, (count, 1)).astype(np.float32)
        labels %= 2
    scores: Array = softmax(logits) if kind == "softmax" else logits
    whole, parts = _metered(scores, labels, [count]), _metered(scores, labels, sizes)
    assert values(parts) == pytest.approx(values(whole), rel=1e-9, nan_ok=True)
    assert np.array_equal(parts.confusion, whole.confusion)  # type: ignore[arg-type]
    assert np.array_equal(parts.right, whole.right)  # type: ignore[arg-type]
    for one, other in zip(parts.curves, whole.curves, strict=True):
        assert np.array_equal(one.precision, other.precision)


def _metered(scores: Array, labels: Array, sizes: list[int]) -> Evaluation:
    meter = Meter(Asked(), samples=len(scores))
    ends = np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        meter.add({"y": scores[start:end]}, labels[start:end], int(end - start))
    return meter.finish()
