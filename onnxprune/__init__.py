"""Prune any ONNX model: find what can go together, remove it, and prove that nothing else changed.

::

    from onnxprune import load, prune, save

    pruned = prune(load("model.onnx"), ratio=0.5)
    save(pruned.model, "small.onnx")

Names are imported when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxprune.cost import Cost
    from onnxprune.coupling import couple
    from onnxprune.criteria import score, score_weights
    from onnxprune.data import open_dataset
    from onnxprune.errors import OnnxPruneError
    from onnxprune.experiment import Pruned, analyse, prune
    from onnxprune.model import Model, from_proto, load, save
    from onnxprune.plan import Plan
    from onnxprune.proof import Proof, prove
    from onnxprune.surgery import mask, remove
    from onnxprune.values import Coupling, Group, Options

_HOMES = {
    "Cost": "cost",
    "Coupling": "values",
    "Group": "values",
    "Model": "model",
    "OnnxPruneError": "errors",
    "Options": "values",
    "Plan": "plan",
    "Proof": "proof",
    "Pruned": "experiment",
    "analyse": "experiment",
    "couple": "coupling",
    "from_proto": "model",
    "load": "model",
    "mask": "surgery",
    "open_dataset": "data",
    "prove": "proof",
    "prune": "experiment",
    "remove": "surgery",
    "save": "model",
    "score": "criteria",
    "score_weights": "criteria",
}

__all__ = [
    "Cost",
    "Coupling",
    "Group",
    "Model",
    "OnnxPruneError",
    "Options",
    "Plan",
    "Proof",
    "Pruned",
    "analyse",
    "couple",
    "from_proto",
    "load",
    "mask",
    "open_dataset",
    "prove",
    "prune",
    "remove",
    "save",
    "score",
    "score_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
