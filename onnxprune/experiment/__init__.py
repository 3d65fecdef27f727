"""The composition of the parts: couple, score, allocate, mask or remove, prove, repair, and say what came of it.

``prune`` is the whole way from a model to a smaller one; ``analyse`` its beginning, for those who only look.

::

    run          prune(): options -> a request, a budget or plan
    ├── request    what is wanted, and what came of it, as values
    ├── work       the stages, each timed and announced
    ├── calibrate  which part of the data is for what
    └── signing    metadata of the result, changes of its signature
    analysis     a model in groups; weights that are broken
"""

from __future__ import annotations

from onnxprune.experiment.analysis import analyse, broken_weights
from onnxprune.experiment.request import GRANULARITIES, MODES, Progress, Pruned, Request
from onnxprune.experiment.run import prune
from onnxprune.experiment.signing import METADATA

__all__ = ["GRANULARITIES", "METADATA", "MODES", "Progress", "Pruned", "Request", "analyse", "broken_weights", "prune"]
