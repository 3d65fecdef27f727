"""Ratios to begin with, by the kind of a layer and its place: those of arXiv:2002.04809 per iteration of pruning.

=========== ============ =============== ===== ======
family      convolutions fully connected first last
=========== ============ =============== ===== ======
``mlp``     .50          .50             .50   .25
``lenet``   .20          .30             .20   .15
``conv6``   .15          .20             .15   .10
``vgg``     .15          .15             .15   .10
``resnet``  .15          .15             0     .10
=========== ============ =============== ===== ======

(under "first" stands the ratio of the layer's kind, but for ``resnet``; ``wrn`` is another name of it). One-shot up to
step t removes 1 - (1 - p)^t. The paper prunes single weights; a group of units takes the ratio of the layers that
produce it, the smallest of several, and that of the fully connected layers where no layer does.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxprune.allocate.layers import Layer, layers_with_weights, producers
from onnxprune.errors import OptionError
from onnxprune.graph import Graph
from onnxprune.values import Coupling

__all__ = ["FAMILIES", "check_family", "family_of", "group_rates", "suggest_ratios", "weight_rates"]


@dataclass(frozen=True)
class _Family:
    conv: float
    fully: float
    last: float
    first: float | None = None


FAMILIES = {
    "mlp": _Family(0.5, 0.5, 0.25),
    "lenet": _Family(0.2, 0.3, 0.15),
    "conv6": _Family(0.15, 0.2, 0.1),
    "vgg": _Family(0.15, 0.15, 0.1),
    "resnet": _Family(0.15, 0.15, 0.1, first=0.0),
}
OTHER_NAMES = {"wrn": "resnet"}
FEW, SOME = 3, 7  # convolutions of a LeNet and of a Conv-6 at most; one with more is a VGG
SUMS = ("Add", "Sum")


def suggest_ratios(
    coupling: Coupling, family: str | None = None, step: int = 1, *, weights: bool = False
) -> dict[str, float]:
    """Group (or weight, with ``weights``) -> the ratio that is removed by ``step`` iterations, 1 - (1 - p)^step.

    ``family``: mlp, lenet, conv6, vgg, resnet or wrn; None chooses by the graph (`family_of`). Raises OptionError.
    """
    if step < 1:
        raise OptionError(f"step: got {step}, expected 1 or more", "Step 1 is the first one.")
    rates = weight_rates(coupling.graph, family) if weights else group_rates(coupling, family)
    return {name: 1 - (1 - rate) ** step for name, rate in rates.items()}


def family_of(graph: Graph) -> str:
    """The family that a model is nearest to.

    Sums of two computed tensors of one shape make it a ``resnet`` (residual nets, transformers); no convolution an
    ``mlp`` (recurrent nets as well); up to 3 convolutions a ``lenet``, up to 7 a ``conv6``, more a ``vgg``.
    """
    if any(_is_residual(graph, node.op, node.inputs) for node in graph.nodes):
        return "resnet"
    convolutions = sum(layer.convolves for layer in layers_with_weights(graph).values())
    if not convolutions:
        return "mlp"
    return "lenet" if convolutions <= FEW else "conv6" if convolutions <= SOME else "vgg"


def weight_rates(graph: Graph, family: str | None = None) -> dict[str, float]:
    """Weight -> p, the ratio per iteration."""
    chosen = _family(graph, family)
    return {name: _rate(layer, chosen) for name, layer in layers_with_weights(graph).items()}


def group_rates(coupling: Coupling, family: str | None = None) -> dict[str, float]:
    """Group -> p, the smallest of the layers that produce it."""
    rates = weight_rates(coupling.graph, family)
    otherwise = _family(coupling.graph, family).fully
    return {
        group: min((rates[t] for t in tensors), default=otherwise) for group, tensors in producers(coupling).items()
    }


def check_family(family: str | None) -> None:
    """Raise OptionError for a family that there is none of."""
    if family is not None and OTHER_NAMES.get(family, family) not in FAMILIES:
        known = ", ".join((*FAMILIES, *OTHER_NAMES))
        raise OptionError(f"preset: got {family!r}, expected one of {known}", "Leave it out to have it chosen.")


def _family(graph: Graph, family: str | None) -> _Family:
    check_family(family)
    name = family if family is not None else family_of(graph)
    return FAMILIES[OTHER_NAMES.get(name, name)]


def _rate(layer: Layer, family: _Family) -> float:
    if layer.last:
        return family.last
    if layer.first and family.first is not None:
        return family.first
    return family.conv if layer.convolves else family.fully


def _is_residual(graph: Graph, op: str, inputs: tuple[str, ...]) -> bool:
    """A sum of tensors that all depend on an input of the model, of the same shape."""
    if op not in SUMS or len(inputs) < 2:
        return False
    shapes = [graph.shapes.get(i) for i in inputs]
    computed = all(i not in graph.weights and i not in graph.values for i in inputs)
    return computed and shapes[0] is not None and len(shapes[0]) > 1 and all(s == shapes[0] for s in shapes)
