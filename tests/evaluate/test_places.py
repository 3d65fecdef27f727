"""A class for every pixel, every token; and several classes at once."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from onnxprune.evaluate import IGNORED
from tests.evaluate.models import cross_entropy, deciding, measure, passing

RNG = np.random.default_rng(1)


class TestSegmentation:
    SCORES, LABELS = RNG.standard_normal((9, 4, 3, 2)) + 1, RNG.integers(0, 4, (9, 3, 2))

    @pytest.mark.parametrize("first", [True, False], ids=["classes first", "classes last"])
    def test_against_scikit_learn(self, first: bool) -> None:
        scores = self.SCORES if first else np.moveaxis(self.SCORES, 1, -1)
        found = measure(passing(*scores.shape[1:]), scores, self.LABELS)
        flat, decided = self.LABELS.reshape(-1), self.SCORES.argmax(1).reshape(-1)
        assert found.task == "segmentation"
        assert found.value("accuracy") == pytest.approx((flat == decided).mean())
        assert found.value("loss") == pytest.approx(
            cross_entropy(np.moveaxis(self.SCORES, 1, -1), self.LABELS), rel=1e-5
        )
        iou = metrics.jaccard_score(flat, decided, average=None)
        assert [found.value("iou", cls=c) for c in range(4)] == pytest.approx(list(iou))
        assert found.value("mean_iou") == pytest.approx(iou.mean())
        assert np.array_equal(found.confusion, metrics.confusion_matrix(flat, decided))  # type: ignore[arg-type]
        assert found.curves == ()

    def test_pixels_that_do_not_count(self) -> None:
        labels = np.where(RNG.random(self.LABELS.shape) < 0.3, 255, self.LABELS)
        labels[0] = 255
        found = measure(passing(4, 3, 2), self.SCORES, labels, ignore_label=255)
        kept, decided = labels != 255, self.SCORES.argmax(1)
        assert found.value("accuracy") == pytest.approx((labels == decided)[kept].mean())
        iou = metrics.jaccard_score(labels[kept], decided[kept], average=None, labels=range(4))
        assert found.value("mean_iou") == pytest.approx(iou.mean())
        assert np.isnan(found.right[0])  # type: ignore[index]
        assert found.right[1] == pytest.approx((labels == decided)[1][kept[1]].mean())  # type: ignore[index]

    def test_a_class_that_nobody_sees_is_left_out_of_the_mean(self) -> None:
        scores = self.SCORES - 99 * (np.arange(4) == 3)[:, None, None]
        found = measure(passing(4, 3, 2), scores, self.LABELS % 3)
        assert str(found.metric("iou", cls=3)) == "not defined"
        assert found.value("mean_iou") == pytest.approx(
            metrics.jaccard_score((self.LABELS % 3).reshape(-1), scores.argmax(1).reshape(-1), average="macro")
        )

    def test_one_score_for_every_pixel(self) -> None:
        scores, labels = RNG.standard_normal((9, 1, 3, 2)), RNG.integers(0, 2, (9, 3, 2))
        found = measure(passing(1, 3, 2), scores, labels)
        assert (found.task, found.value("accuracy")) == (
            "segmentation",
            pytest.approx(((scores[:, 0] > 0) == labels).mean()),
        )

    def test_ready_made_classes(self) -> None:
        found = measure(deciding(3, 2), (self.LABELS + 1) % 4, self.LABELS)
        assert (found.value("accuracy"), found.value("mean_iou")) == (0, 0)

    def test_curves_when_asked(self) -> None:
        found = measure(passing(4, 3, 2), self.SCORES, self.LABELS, curves="exact")
        truth = np.eye(4)[self.LABELS.reshape(-1)]
        logits = np.moveaxis(self.SCORES, 1, -1).reshape(-1, 4)
        powers = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert found.value("mean_average_precision") == pytest.approx(
            metrics.average_precision_score(truth, powers), rel=1e-5
        )


class TestSequences:
    SCORES, LABELS = RNG.standard_normal((9, 6, 11)), RNG.integers(0, 11, (9, 6))

    @pytest.mark.parametrize("last", [True, False], ids=["classes last", "classes first"])
    def test_a_class_for_every_token(self, last: bool) -> None:
        scores = self.SCORES if last else np.moveaxis(self.SCORES, -1, 1)
        found = measure(passing(*scores.shape[1:]), scores, self.LABELS)
        loss = cross_entropy(self.SCORES, self.LABELS)
        assert found.task == "sequence"
        assert found.value("accuracy") == pytest.approx((self.SCORES.argmax(-1) == self.LABELS).mean())
        assert (found.value("loss"), found.value("perplexity")) == pytest.approx((loss, np.exp(loss)), rel=1e-5)
        assert found.value("top_5") == pytest.approx(
            metrics.top_k_accuracy_score(self.LABELS.reshape(-1), self.SCORES.reshape(-1, 11), k=5)
        )

    def test_as_many_classes_as_tokens(self) -> None:
        found = measure(passing(6, 6), self.SCORES[..., :6], self.LABELS % 6)
        assert found.value("accuracy") == pytest.approx((self.SCORES[..., :6].argmax(-1) == self.LABELS % 6).mean())

    def test_padding_does_not_count(self) -> None:
        labels = np.where(np.arange(6) < np.arange(1, 10)[:, None], self.LABELS, IGNORED)
        scores = self.SCORES + 9 * (np.eye(11)[self.LABELS]) * (np.arange(9) < 3)[:, None, None]
        found = measure(passing("length", 11), scores, labels)
        kept = labels != IGNORED
        assert found.value("accuracy") == pytest.approx((scores.argmax(-1) == labels)[kept].mean())
        assert found.value("loss") == pytest.approx(cross_entropy(scores[kept], labels[kept]), rel=1e-5)
        whole = ((scores.argmax(-1) == labels) | ~kept).all(1)
        assert found.value("exact_match") == pytest.approx(whole.mean())
        assert found.predictions is None


class TestMultiLabel:
    LOGITS, LABELS = RNG.standard_normal((30, 4)) * 2, RNG.integers(0, 2, (30, 4))

    @pytest.mark.parametrize("op", ["Identity", "Sigmoid"])
    def test_against_scikit_learn(self, op: str) -> None:
        found, decided = measure(passing(4, op=op), self.LOGITS, self.LABELS, tuple("abcd")), self.LOGITS > 0
        assert found.task == "multi-label"
        assert found.value("accuracy") == pytest.approx(1 - metrics.hamming_loss(self.LABELS, decided))
        assert found.value("exact_match") == pytest.approx(metrics.accuracy_score(self.LABELS, decided))
        for average in ("micro", "macro", "weighted"):
            assert found.value(f"{average}_f1") == pytest.approx(
                metrics.f1_score(self.LABELS, decided, average=average)
            )
        assert found.value("mean_average_precision") == pytest.approx(
            metrics.average_precision_score(self.LABELS, self.LOGITS), rel=1e-6
        )
        assert found.value("recall", cls="c") == pytest.approx(metrics.recall_score(self.LABELS[:, 2], decided[:, 2]))
        p = 1 / (1 + np.exp(-self.LOGITS))
        losses = [metrics.log_loss(self.LABELS[:, c], p[:, c]) for c in range(4)]
        assert found.value("loss") == pytest.approx(np.mean(losses), rel=1e-5)
        assert found.right == pytest.approx((decided == self.LABELS).mean(1))

    def test_floats_when_asked(self) -> None:
        found = measure(passing(4), self.LOGITS, self.LABELS.astype(float), task="multi-label")
        assert found.value("accuracy") == pytest.approx(((self.LOGITS > 0) == self.LABELS).mean())

    def test_what_looks_like_one_hot_is_said(self) -> None:
        found = measure(passing(4), self.LOGITS, np.eye(4, dtype=int)[np.arange(30) % 4])
        assert found.notes == (
            "every row of labels has a single 1: the task `classification` reads them as one-hot classes",
        )
        assert measure(passing(4), self.LOGITS, self.LABELS).notes == ()
