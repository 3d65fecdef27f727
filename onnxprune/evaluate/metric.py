"""One record for every figure that is measured, and a table of what the figures mean.

A ``Metric`` is a value with all that is needed to show and to compare it; a ``MetricKind`` is what all metrics of one
name have in common. Tables, plots, floors and reports ask these two and hold no code for a single metric. A metric
that is not defined (the recall of a class without samples) has the value NaN, is shown as such and is never better.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from onnxprune.errors import OptionError

__all__ = ["KINDS", "Metric", "MetricKind", "better", "delta", "kind_of", "measured"]

UNDEFINED = "not defined"
TOP = re.compile(r"top_([1-9][0-9]*)")


@dataclass(frozen=True)
class Metric:
    """One figure with all that is needed to show it.

    ``direction``: "higher" or "lower" is better, "" for neither. ``format``: a format specification for ``value``.
    """

    name: str
    value: float
    unit: str = ""
    format: str = ".4g"
    direction: str = ""

    def __str__(self) -> str:
        if math.isnan(self.value):
            return UNDEFINED
        return f"{self.value:{self.format}}{f' {self.unit}' if self.unit else ''}"

    @property
    def label(self) -> str:
        """The name in words, as a table or an axis shows it."""
        kind = kind_of(self.name)
        return kind.label if kind else self.name

    def as_dict(self) -> dict[str, Any]:
        """For JSON: name, label, value (NaN where not defined), unit and direction."""
        return {
            "name": self.name,
            "label": self.label,
            "value": self.value,
            "unit": self.unit,
            "direction": self.direction,
        }


@dataclass(frozen=True)
class MetricKind:
    """What all metrics of one name share.

    ``needs``: "labels", "original" (a second model) or "" for neither. ``meaning``: the formula or what is counted.
    ``per_class``: the metric is told class by class.
    """

    name: str
    label: str
    meaning: str
    unit: str = ""
    format: str = ".4g"
    direction: str = "higher"
    needs: str = "labels"
    per_class: bool = False

    def of(self, value: float) -> Metric:
        """A metric of this kind."""
        return Metric(self.name, float(value), self.unit, self.format, self.direction)


def _share(name: str, label: str, meaning: str, needs: str = "labels", *, per_class: bool = False) -> MetricKind:
    return MetricKind(name, label, meaning, "", ".2%", "higher", needs, per_class)


def _error(name: str, label: str, meaning: str) -> MetricKind:
    return MetricKind(name, label, meaning, direction="lower")


def _cost(name: str, label: str, meaning: str, unit: str = "", shown: str = ",.0f") -> MetricKind:
    return MetricKind(name, label, meaning, unit, shown, "lower", "")


_ALL = (
    _share("accuracy", "accuracy", "labels met / labels; of pixels in a segmentation, of tokens in a sequence"),
    _share("top_k", "top-k accuracy", "share of labels among the k highest scores; equal scores rank by class number"),
    MetricKind("loss", "loss", "mean of -log p(label)", "nats", ".4f", "lower"),
    MetricKind("perplexity", "perplexity", "exp(loss)", format=".4g", direction="lower"),
    _share("exact_match", "exact match", "share of samples of which every label is met"),
    _share("macro_precision", "macro precision", "mean of the classes' precision"),
    _share("macro_recall", "macro recall", "mean of the classes' recall"),
    _share("macro_f1", "macro F1", "mean of the classes' F1"),
    _share("weighted_precision", "weighted precision", "mean of the classes' precision, weighted by support"),
    _share("weighted_recall", "weighted recall", "mean of the classes' recall, weighted by support"),
    _share("weighted_f1", "weighted F1", "mean of the classes' F1, weighted by support"),
    _share("micro_f1", "micro F1", "2 TP / (2 TP + FP + FN) over all labels together"),
    _share("mean_average_precision", "mean average precision", "mean of the classes' average precision"),
    _share("mean_iou", "mean IoU", "mean of the classes' intersection over union"),
    _error("mse", "mean squared error", "mean of (output - label)^2"),
    _error("rmse", "root mean squared error", "square root of the mean squared error"),
    _error("mae", "mean absolute error", "mean of |output - label|"),
    MetricKind("r2", "R2", "1 - residual / total sum of squares, mean over outputs", format=".4f"),
    _share("precision", "precision", "TP / (TP + FP)", per_class=True),
    _share("recall", "recall", "TP / (TP + FN): the share of the class's own labels that are met", per_class=True),
    _share("f1", "F1", "2 TP / (2 TP + FP + FN)", per_class=True),
    _share("iou", "IoU", "TP / (TP + FP + FN)", per_class=True),
    _share("average_precision", "average precision", "sum of (R_n - R_{n-1}) P_n over thresholds", per_class=True),
    MetricKind("support", "support", "labels of the class", format=",.0f", direction="", per_class=True),
    _share("agreement", "top-1 agreement", "share of equal top classes of model and original", "original"),
    MetricKind("kl", "KL to the original", "mean of KL(original || model)", "nats", ".4g", "lower", "original"),
    MetricKind("cosine", "cosine to the original", "mean cosine of the outputs", format=".6f", needs="original"),
    MetricKind(
        "largest_difference", "largest difference", "largest |output - original|", "", ".3g", "lower", "original"
    ),
    _cost("parameters", "parameters", "elements of weights"),
    _cost("nonzero", "non-zero parameters", "elements of weights that are not zero"),
    _cost("macs", "MACs", "multiply-accumulates for one sample, estimated from shapes"),
    _cost("file_bytes", "file", "bytes on the disk, weights beside the model included", "B"),
    _cost("activation_bytes", "activation memory", "peak over the execution order, estimated from shapes", "B"),
    _cost("memory_bytes", "peak memory", "of a run, measured here", "B"),
    _cost("latency", "latency", "median of measured runs on this machine", "ms", ".3g"),
)

# Every metric by name; "top_5" and its like are found by `kind_of`.
KINDS: Mapping[str, MetricKind] = MappingProxyType({kind.name: kind for kind in _ALL})


def kind_of(name: str) -> MetricKind | None:
    """The kind of a metric name, "top_5" included; None for a name that nobody knows."""
    top = TOP.fullmatch(name)
    if top:
        return replace(KINDS["top_k"], name=name, label=f"top-{top[1]} accuracy")
    return KINDS.get(name)


def measured(name: str, value: float) -> Metric:
    """A metric of a known kind. Raises OptionError for an unknown name."""
    kind = kind_of(name)
    if kind is None:
        raise OptionError(f"there is no metric {name!r}", f"Metrics: {', '.join(KINDS)}.")
    return kind.of(value)


def better(a: Metric, b: Metric) -> bool:
    """Whether ``a`` is better than ``b``: what is defined beats what is not; False where no direction is.

    Raises OptionError for metrics of different names.
    """
    if a.name != b.name:
        raise OptionError(f"{a.name!r} and {b.name!r} cannot be compared", "Compare two values of one metric.")
    if math.isnan(a.value) or not a.direction:
        return False
    if math.isnan(b.value):
        return True
    return a.value > b.value if a.direction == "higher" else a.value < b.value


def delta(before: Metric, after: Metric) -> str:
    """The change in words: "-1.20 points" of what is shown in percent, else a signed number with its unit."""
    change = after.value - before.value
    if math.isnan(change):
        return UNDEFINED
    if after.format.endswith("%"):
        return f"{100 * change:+{after.format[:-1]}f} points"
    return f"{change:+{after.format}}{f' {after.unit}' if after.unit else ''}"
