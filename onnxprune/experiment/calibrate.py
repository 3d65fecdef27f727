"""Which data are for what: scores and repair use the training part, metrics and the proof the test part."""

from __future__ import annotations

from dataclasses import dataclass

from onnxprune.allocate.floors import Values
from onnxprune.data import Dataset, Source, open_calibration, open_dataset, splits_of
from onnxprune.evaluate import Evaluation

__all__ = ["Calibration", "floor_values", "split_data"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """``fitted``: what criteria and repair look at; ``measured``: what metrics and the proof run on.

    ``same``: there is only one part, so that metrics are measured on what was fitted.
    """

    fitted: Dataset | None = None
    measured: Dataset | None = None
    same: bool = False


def split_data(source: Source | None, samples: int | None, seed: int) -> Calibration:
    """Open the data, in two parts where it has them. Raises DataError."""
    if source is None:
        return Calibration()
    fitted, measured = open_calibration(source, samples, seed), open_dataset(source)
    return Calibration(fitted, measured, same=len(splits_of(source)) < 2)


def floor_values(found: Evaluation) -> Values:
    """The metrics by name and class, as floors ask for them."""
    values = {(metric.name, ""): metric.value for metric in found}
    for report in found.per_class:
        for metric in report.metrics():
            values[metric.name, report.name] = metric.value
        values["accuracy", report.name] = report.recall
    return values
