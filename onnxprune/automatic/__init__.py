"""Automatic pruning: how far a model can go and still hold what is required of it.

=========== =========================================================================================================
requirement what has to hold, and when the model is small enough
amount      how many units of which group go when so many go in all
settings    the options of a run
run         one try: prune, repair, fine-tune, judge; recorded, and not done again when the run is taken up again
strategies  which counts are tried: a fixed ratio, a person's counts, the estimator's, bisection
action      the job
estimator   what so many units are expected to reach, and the fewest that are expected to hold; curve.py interpolates
rows        runs, tries and verdicts as plain rows; units.py counts units
compare     several strategies from the same step
repeats     the same fine-tuning with several seeds
spread      how far the seeds spread, and whether two plans differ by more
charts      what the estimator expects, drawn
=========== =========================================================================================================
"""

from __future__ import annotations

from onnxprune.automatic.action import auto
from onnxprune.automatic.charts import estimator_charts
from onnxprune.automatic.compare import compare_strategies, contenders
from onnxprune.automatic.estimator import Estimate, Suggestion, estimate, estimate_rows, metric_columns, suggest_count
from onnxprune.automatic.repeats import repeat, repeat_one, repeat_rows, repeat_seeds
from onnxprune.automatic.requirement import Requirement, Verdict, requirement_of
from onnxprune.automatic.rows import path_points, run_rows, tree_points, try_rows, verdicts
from onnxprune.automatic.settings import STRATEGIES, AutoSettings, settings_of
from onnxprune.automatic.spread import Difference, compare_spreads, difference, spread_rows
from onnxprune.automatic.units import units_by_step, units_of

__all__ = [
    "STRATEGIES",
    "AutoSettings",
    "Difference",
    "Estimate",
    "Requirement",
    "Suggestion",
    "Verdict",
    "auto",
    "compare_spreads",
    "compare_strategies",
    "contenders",
    "difference",
    "estimate",
    "estimate_rows",
    "estimator_charts",
    "metric_columns",
    "path_points",
    "repeat",
    "repeat_one",
    "repeat_rows",
    "repeat_seeds",
    "requirement_of",
    "run_rows",
    "settings_of",
    "spread_rows",
    "suggest_count",
    "tree_points",
    "try_rows",
    "units_by_step",
    "units_of",
    "verdicts",
]
