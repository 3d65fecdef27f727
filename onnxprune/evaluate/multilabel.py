"""Multi-label tasks: any number of classes for one sample, each with a score of its own.

The scores are probabilities where all lie in [0, 1], else logits; a class is predicted from p = 0.5 on. The loss is the
mean binary cross-entropy over samples and classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import OptionError
from onnxprune.evaluate.curves import collector
from onnxprune.evaluate.layout import Asked, Layout
from onnxprune.evaluate.metric import measured
from onnxprune.evaluate.result import Evaluation
from onnxprune.evaluate.scores import are_probabilities, check_numbers, log_odds, log_probabilities
from onnxprune.evaluate.tally import Tally, mean_of, summary

__all__ = ["MultiLabel"]

Array = NDArray[Any]


class _Reading:
    """Counts under one reading of the scores."""

    def __init__(self, probable: bool, classes: int, how: str, samples: int) -> None:
        self.probable, self.tally = probable, Tally(classes)
        self.collector = collector(how, samples, classes)
        self.loss = 0.0
        self.right: list[NDArray[np.float32]] = []

    def add(self, scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> None:
        logs = log_probabilities(scores.reshape(-1, 1), self.probable)
        self.loss -= float(np.where(truth.reshape(-1), logs[:, 1], logs[:, 0]).sum())
        predicted = scores >= 0.5 if self.probable else scores >= 0
        self.tally.add_matrix(truth, predicted)
        self.right.append((truth == predicted).mean(axis=1).astype(np.float32))
        if self.collector is not None:
            odds = log_odds(scores.reshape(-1, 1), self.probable)[:, 1]
            self.collector.add(odds.reshape(scores.shape), truth)

    def merge(self, after: _Reading) -> None:
        self.tally.merge(after.tally)
        if self.collector is not None and after.collector is not None:
            self.collector.merge(after.collector)
        self.loss += after.loss
        self.right += after.right


class MultiLabel:
    """Accuracy over all labels, exact match, loss, per class precision, recall, F1, IoU, and curves."""

    def __init__(self, layout: Layout, asked: Asked, class_names: Sequence[str], samples: int) -> None:
        if asked.top_k is not None:
            raise OptionError(f"top-{asked.top_k} accuracy: a sample may have several classes here", "Leave it out.")
        self.layout = layout
        self.names = tuple(class_names) or tuple(str(i) for i in range(layout.classes))
        self.one_hot = True
        self.readings = {p: _Reading(p, layout.classes, asked.curves, samples) for p in (True, False)}

    def add(self, outputs: Mapping[str, Array], labels: Array, start: int) -> None:
        """``start``: number of the first sample."""
        output = outputs[self.layout.output]
        check_numbers(output, f"output `{self.layout.output}`", start, infinite=True)
        truth = self.layout.marks(labels, start)
        scores = output.reshape(truth.shape).astype(np.float64)
        self.one_hot = self.one_hot and bool((truth.sum(axis=1) == 1).all())
        if True in self.readings and not are_probabilities(scores.reshape(-1, 1)):
            del self.readings[True]
        for reading in self.readings.values():
            reading.add(scores, truth)

    def merge(self, after: MultiLabel) -> None:
        """Add what was counted on the samples that follow; a reading that one of both refuted is refuted."""
        self.one_hot = self.one_hot and after.one_hot
        self.readings = {how: reading for how, reading in self.readings.items() if how in after.readings}
        for how, reading in self.readings.items():
            reading.merge(after.readings[how])

    def finish(self) -> Evaluation:
        reading = self.readings.get(True) or self.readings[False]
        right = np.concatenate(reading.right)
        curves = reading.collector.curves(self.names) if reading.collector else ()
        reports = reading.tally.reports(self.names, [c.average_precision for c in curves] or None)
        support, predicted, hits = (int(n) for n in reading.tally.counts.sum(axis=1))
        metrics = [
            measured("accuracy", right.mean(dtype=np.float64)),
            measured("exact_match", float((right == 1).mean())),
            measured("loss", reading.loss / (right.size * self.layout.classes)),
            measured("micro_f1", 2 * hits / (support + predicted) if support + predicted else np.nan),
            *summary(reports),
        ]
        if curves:
            metrics.append(measured("mean_average_precision", mean_of([c.average_precision for c in curves])))
        return Evaluation(
            "multi-label",
            right.size,
            tuple(metrics),
            reports,
            None,
            curves,
            right=right,
            class_names=self.names,
            notes=tuple(self._notes(exact=not curves or curves[0].exact)),
        )

    def _notes(self, *, exact: bool) -> Iterator[str]:
        if self.one_hot:
            yield "every row of labels has a single 1: the task `classification` reads them as one-hot classes"
        if not exact:
            yield "precision-recall curves are made of scores in bins: there are too many to keep them all"
