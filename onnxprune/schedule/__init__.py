"""Pruning in rounds: at once, gradually, iteratively, or as a search for lottery tickets.

::

    course = Course("gradual", sparsity=0.8, rounds=5)
    found = run_schedule(model, data, course, validation=test, folder=Path("rounds"), training={"epochs": 5})
    save(found.model, "small.onnx")

run          ``run_schedule``
├── course     how much goes in which round
├── cutting    one round's pruning; what is gone only grows
├── rewinding  earlier weights
└── journal    the folder: a model for each finished round, the rounds as JSON
charts       quality over sparsity
"""

from onnxprune.schedule.charts import schedule_charts
from onnxprune.schedule.course import KINDS, Course
from onnxprune.schedule.journal import Journal, Round
from onnxprune.schedule.rewinding import earlier, with_weights
from onnxprune.schedule.run import CANCELLED, Scheduled, run_schedule

__all__ = [
    "CANCELLED",
    "KINDS",
    "Course",
    "Journal",
    "Round",
    "Scheduled",
    "earlier",
    "run_schedule",
    "schedule_charts",
    "with_weights",
]
