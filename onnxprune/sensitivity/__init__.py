"""How much each group can lose: every group on its own, at a ladder of ratios, measured on data.

For each group and ratio the units with the lowest scores are removed from the original, and the metric is measured.
Only what comes after the first changed node is run (`onnxprune.frontier`). Finished rows can be written to a file, from
which an interrupted scan goes on, and groups can be spread over the workers of a ``concurrent.futures.Executor``.
SparseML's one-shot sensitivity analysis of ONNX files is the prior art.

::

    run        which groups, which plans, in which order; here or over workers; resuming; the file
    ├── desk       one measurement after the other, on a frontier of kept activations
    └── table      the rows as a value and as a file
"""

from __future__ import annotations

from onnxprune.sensitivity.run import RATIOS, scan
from onnxprune.sensitivity.table import Failure, Row, Sensitivity, load_sensitivity

__all__ = ["RATIOS", "Failure", "Row", "Sensitivity", "load_sensitivity", "scan"]
