"""Small torch nets with random weights, as ONNX, and the same gradients by torch autograd."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxprune.coupling import couple
from onnxprune.data import Dataset
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling

__all__ = ["cnn", "contributions_by_hooks", "dataset", "exported", "mlp", "residual", "saliencies"]

Array = NDArray[np.float64]
CLASSES = 4


class Residual(nn.Module):
    """A stem and two blocks that add to it: its channels are read three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 6, 3, padding=1), nn.Tanh()
        self.first, self.second = self._branch(5), self._branch(7)
        self.head = nn.Linear(6, CLASSES)

    @staticmethod
    def _branch(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(6, width, 3, padding=1), nn.Tanh(), nn.Conv2d(width, 6, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = x + self.first(x)
        x = x + self.second(x)
        return self.head(x.mean((2, 3)))


def cnn(activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    """Two convolutions with BatchNorm, pooling, two linear layers. Groups are read behind layers 2, 6 and 10."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), activation(), nn.AvgPool2d(2),
        nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), activation(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(5, 8), activation(), nn.Linear(8, CLASSES),
    )  # fmt: skip


def residual() -> nn.Module:
    return Residual()


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 7), nn.Sigmoid(), nn.Linear(7, CLASSES))


def exported(module: nn.Module, *shape: int, batch: int | None = None, seed: int = 0) -> tuple[Model, Coupling]:
    """The net with random weights and statistics, its BatchNorm kept. ``batch``: fixed, dynamic where it is None."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in (*module.named_parameters(), *module.named_buffers()):
            if values.is_floating_point():
                drawn = torch.randn(values.shape, generator=generator)
                values.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn * 0.5)
    module.eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(batch or 2, *shape),), file, dynamo=False, opset_version=17, input_names=["x"],
            output_names=["y"], dynamic_axes=None if batch else {"x": {0: "n"}, "y": {0: "n"}},
            do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    model = from_proto(onnx.load_from_string(file.getvalue()))
    return model, couple(model)


def dataset(*shape: int, count: int = 10, seed: int = 3) -> Dataset:
    """Normal numbers and classes."""
    rng = np.random.default_rng(seed)
    return Dataset({"x": rng.standard_normal((count, *shape)).astype(np.float32)}, rng.integers(0, CLASSES, count))


def contributions_by_hooks(module: nn.Module, watched: Sequence[nn.Module], data: Dataset) -> list[Array]:
    """For each watched module: a * dL_n/da summed over positions, (examples, channels), in float64."""
    module = module.double()
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    hooks = [each.register_forward_hook(keep) for each in watched]
    loss(module, data).sum().backward()
    for hook in hooks:
        hook.remove()
    found = []
    for a in kept:
        assert a.grad is not None
        found.append((a * a.grad).flatten(2).sum(2).numpy(force=True) if a.ndim > 2 else (a * a.grad).numpy(force=True))
    module.float()
    return found


def loss(module: nn.Module, data: Dataset) -> Tensor:
    """Cross-entropy of every example."""
    x = torch.from_numpy(np.asarray(data.inputs["x"][:])).to(next(module.parameters()).dtype)
    return nn.functional.cross_entropy(module(x), torch.from_numpy(np.asarray(data.labels)), reduction="none")


def saliencies(module: nn.Module, data: Dataset) -> Mapping[str, Mapping[str, Array]]:
    """Criterion -> parameter -> score of every weight, by autograd in float64; ``data`` is one mini-batch."""
    module = module.double()
    names, weights = zip(*module.named_parameters(), strict=True)
    g = torch.autograd.grad(loss(module, data).mean(), weights, create_graph=True)
    flow = sum(((part * part.detach()).sum() for part in g), torch.zeros((), dtype=torch.float64))
    hg = torch.autograd.grad(flow, weights)
    squares = [torch.zeros_like(w) for w in weights]
    for row in range(len(data)):
        alone = torch.autograd.grad(loss(module, data)[row], weights)
        squares = [total + part**2 for total, part in zip(squares, alone, strict=True)]
    with torch.no_grad():
        found = {
            "taylor": [(w * part) ** 2 for w, part in zip(weights, g, strict=True)],
            "snip": [(w * part).abs() for w, part in zip(weights, g, strict=True)],
            "grasp": [w * part for w, part in zip(weights, hg, strict=True)],
            "crop": [(w * part).abs() for w, part in zip(weights, hg, strict=True)],
            "fisher": [w**2 * part / (2 * len(data)) for w, part in zip(weights, squares, strict=True)],
        }
    result = {
        name: {key: value.numpy(force=True).copy() for key, value in zip(names, values, strict=True)}
        for name, values in found.items()
    }
    module.float()
    return result
