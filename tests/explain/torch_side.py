"""What torch says of the same nets: activations by forward hooks, guided back-propagation by backward hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxprune.coupling import couple
from onnxprune.explain import View, look_at
from onnxprune.model import from_proto
from tests.nets import NETS, export

__all__ = ["activations", "gradients", "net"]

Array = NDArray[Any]


def net(name: str) -> tuple[nn.Module, View, dict[str, Array]]:
    """The module, the view of its ONNX model, and inputs for five instances."""
    spec = NETS[name]
    model = from_proto(export(name))
    return spec.build(), look_at(model, couple(model)), spec.feeds(3, batch=5)


def activations(module: nn.Module, path: str, inputs: Sequence[Tensor]) -> Tensor:
    """What the part at ``path`` puts out (the first of several)."""
    seen: list[Tensor] = []
    part = module.get_submodule(path) if path else module
    handle = part.register_forward_hook(lambda _, __, y: seen.append(y[0] if isinstance(y, tuple) else y))
    module(*inputs)
    handle.remove()
    return seen[0]


def gradients(
    module: nn.Module, path: str, inputs: Sequence[Tensor], unit: tuple[int, int], *, at: str, guided: bool = False,
    by: str = "",
) -> Tensor:  # fmt: skip
    """The gradient of a unit (axis, number) of the part at ``path``, by the first input or by what ``by`` puts out."""
    handles = []
    if guided:
        for part in module.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = False
                handles.append(part.register_full_backward_hook(lambda _, given, __: (given[0].clamp(min=0),)))
    first = inputs[0].clone().requires_grad_() if inputs[0].is_floating_point() else inputs[0]
    start: list[Tensor] = [first]
    if by:
        handles.append(module.get_submodule(by).register_forward_hook(lambda _, __, y: _leaf(start, y)))
    y = activations(module, path, (first, *inputs[1:])).select(unit[0], unit[1]).reshape(len(first), -1)
    score = y.max(1).values.sum() if at == "max" else y.sum()
    (found,) = torch.autograd.grad(score, start[0])
    for handle in handles:
        handle.remove()
    return found


def _leaf(start: list[Tensor], y: Tensor) -> Tensor:
    start[0] = y.detach().requires_grad_()
    return start[0]


def close(a: Array, b: Tensor, rtol: float = 1e-5) -> None:
    """Equal up to a share of the largest value, which is not 0."""
    expected = b.detach().numpy()
    scale = np.abs(expected).max()
    assert scale > 0
    assert a.shape == expected.shape
    assert np.abs(a - expected).max() / scale <= rtol
