"""What to do next: suggestions with their expected effect, and likely next steps measured before they are asked for.

::

    suggest        all suggestions for a step, ranked; into its draft
    ├── unstable     units that matter little, in an order that is not sure
    ├── idle         units that are never active, constant, or the same as another one
    ├── headroom     groups that can lose more, by the sensitivity scan
    ├── rounding     what a few units more or less do to the latency
    ├── shares       where the parameters and MACs are
    └── hints        what the history of a step calls for
    speculate      likely next plans, measured on some samples while nothing else runs
    ├── preview      one plan: what is left of the model, and how good it is
    └── effect       measured, or read off between two that were measured
    scores         what is slow to measure, kept for each model: scores, instability, scans, activity
    ├── activity     what units do on data
    ├── asked        what exactly is asked for, as a key
    └── kept         the table
    subject        a step's model in groups, and its data
"""

from __future__ import annotations

from onnxprune.guidance.activity import Activity, UnitActivity
from onnxprune.guidance.scores import (
    ask,
    is_quick,
    kept_activity,
    kept_instability,
    kept_scan,
    kept_scores,
    score_now,
)

__all__ = [
    "Activity",
    "UnitActivity",
    "ask",
    "is_quick",
    "kept_activity",
    "kept_instability",
    "kept_scan",
    "kept_scores",
    "score_now",
]
