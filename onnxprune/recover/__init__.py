"""Repairs without training: what was lost is won back layer by layer, from inputs alone; no labels, no gradients.

::

    run        the loop over the layers, measuring the original and the pruned model side by side
    ├── find       which layers a removal reaches
    ├── targets    what is fitted to what: layers, recurrences, BatchNorm statistics
    ├── moments    sums over samples, of a part to fit and a part to judge
    ├── inputs     made up, where there are no data
    ├── dual       ridge regression where inputs are more than samples
    └── solve      bias, ridge regression, and the same under a mask
"""

from __future__ import annotations

from onnxprune.recover.run import METHODS, Recovered, Repaired, check_method, recover

__all__ = ["METHODS", "Recovered", "Repaired", "check_method", "recover"]
