"""How sure the order is in which sensitivity ranks units: several rankings, each from training in another order.

::

    found = instability(model, coupling, dataset)
    found.of("conv1").instability            # of every unit, in ranks

run      one epoch of training, sensitivity measured at every step
ranks    from the sensitivities of all runs to ranks and their spread; the result as a value and as a file
measure  all runs, here or in other processes
"""

from onnxprune.instability.measure import RUNS, Training, instability
from onnxprune.instability.ranks import WITHIN, GroupRanks, Instability, load_instability, ranked

__all__ = [
    "RUNS",
    "WITHIN",
    "GroupRanks",
    "Instability",
    "Training",
    "instability",
    "load_instability",
    "ranked",
]
