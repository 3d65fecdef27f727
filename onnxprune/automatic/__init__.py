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
repeats     the same fine-tuning with several seeds, and the difference between two plans
=========== =========================================================================================================
"""

from __future__ import annotations

from onnxprune.automatic.estimator import Estimate, Suggestion, estimate, estimate_rows, suggest_count
from onnxprune.automatic.requirement import Requirement, Verdict, requirement_of
from onnxprune.automatic.rows import path_points, run_rows, tree_points, try_rows, verdicts
from onnxprune.automatic.units import units_by_step, units_of

__all__ = [
    "Estimate",
    "Requirement",
    "Suggestion",
    "Verdict",
    "estimate",
    "estimate_rows",
    "path_points",
    "requirement_of",
    "run_rows",
    "suggest_count",
    "tree_points",
    "try_rows",
    "units_by_step",
    "units_of",
    "verdicts",
]
