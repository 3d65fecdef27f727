"""What to do next: suggestions with their expected effect, and likely next steps measured before they are asked for.

::

    suggest        all suggestions for a step, ranked; into its draft
    ├── unstable     units that matter little, in an order that is not sure
    ├── idle         units that are never active, constant, or the same as another one
    ├── headroom     groups that can lose more, by the sensitivity scan
    ├── rounding     what a few units more or less do to the latency
    ├── shares       where the parameters and MACs are
    ├── ahead        the largest ratio that was tried out and holds
    └── hints        what the history of a step calls for
    speculate      likely next plans, measured on some samples while nothing else runs
    ├── preview      one plan: what is left of the model, and how good it is
    └── effect       measured, or read off between two that were measured
    scores         what is slow to measure, kept for each model: scores, instability, scans, activity
    ├── activity     what units do on data
    ├── staircase    latency when single groups lose some units
    ├── asked        what exactly is asked for, as a key
    └── kept         the table
    subject        a step's model in groups, and its data
"""

from __future__ import annotations

from onnxprune.guidance.activity import Activity, UnitActivity
from onnxprune.guidance.effect import Foreseen, effect_of
from onnxprune.guidance.preview import Preview
from onnxprune.guidance.scores import (
    ask,
    is_quick,
    kept_activity,
    kept_instability,
    kept_latency,
    kept_scan,
    kept_scores,
    score_now,
)
from onnxprune.guidance.speculate import (
    Speculation,
    previews,
    set_speculation,
    speculate,
    speculation,
    stop_speculating,
)
from onnxprune.guidance.staircase import Staircase
from onnxprune.guidance.suggest import accept, ask_missing, measure_missing, missing, suggest
from onnxprune.guidance.suggestion import Action, Effect, Suggestion

__all__ = [
    "Action",
    "Activity",
    "Effect",
    "Foreseen",
    "Preview",
    "Speculation",
    "Staircase",
    "Suggestion",
    "UnitActivity",
    "accept",
    "ask",
    "ask_missing",
    "effect_of",
    "is_quick",
    "kept_activity",
    "kept_instability",
    "kept_latency",
    "kept_scan",
    "kept_scores",
    "measure_missing",
    "missing",
    "previews",
    "score_now",
    "set_speculation",
    "speculate",
    "speculation",
    "stop_speculating",
    "suggest",
]
