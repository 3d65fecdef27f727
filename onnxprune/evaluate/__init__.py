"""Metrics of a model on a dataset: classes, numbers, pictures, sequences, and fidelity to the original model.

    found = evaluate(model, open_dataset("digits.npz", "test"))
    found.value("accuracy"), found.value("recall", cls="7")
    compare(found, evaluate(smaller, ...)).degenerated

One pass over the data, whatever is measured, in constant memory. See ``layout`` for how the task is recognised.
"""

from onnxprune.evaluate.compare import Change, ClassChange, Comparison, compare
from onnxprune.evaluate.generated import evaluate_generated
from onnxprune.evaluate.layout import CURVES, IGNORED, TASKS, Asked
from onnxprune.evaluate.meter import Meter
from onnxprune.evaluate.metric import KINDS, Metric, MetricKind, better, delta, kind_of, measured
from onnxprune.evaluate.result import ClassReport, Curve, Evaluation
from onnxprune.evaluate.run import evaluate, evaluate_pair
from onnxprune.evaluate.shards import trimmed
from onnxprune.evaluate.suspects import Suspect, Suspects, find_suspects, suspects_from

__all__ = [
    "CURVES",
    "IGNORED",
    "KINDS",
    "TASKS",
    "Asked",
    "Change",
    "ClassChange",
    "ClassReport",
    "Comparison",
    "Curve",
    "Evaluation",
    "Meter",
    "Metric",
    "MetricKind",
    "Suspect",
    "Suspects",
    "better",
    "compare",
    "delta",
    "evaluate",
    "evaluate_generated",
    "evaluate_pair",
    "find_suspects",
    "kind_of",
    "measured",
    "suspects_from",
    "trimmed",
]
