"""What a test net is: a module, named inputs with symbolic sizes, and random numbers everywhere.

Every parameter and every BatchNorm statistic is drawn at random (no zeros, no ones), so that no two initializers are
equal by accident and no comparison is vacuous. BatchNorm statistics are those of random data, disturbed: activations
stay of order 1 however deep the net is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Input", "NetSpec", "ids", "image", "randomise"]

_FAN_IN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Bilinear, nn.RNNBase, nn.RNNCellBase)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCHNORM = nn.modules.batchnorm._BatchNorm  # the one public base is private in torch


@dataclass(frozen=True)
class Input:
    """One graph input; a string in ``shape`` is a dynamic axis of that name.

    ``kind``: "normal" (float32, standard normal), "half" (the same in float16), "bool", "ids" (int64 in [0, high)),
    "mask" (float32 ones, the last two positions of the first row are 0).
    """

    name: str
    shape: tuple[int | str, ...]
    kind: str = "normal"
    high: int = 0

    def sample(self, sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
        """A random value of this input, dynamic axes replaced by ``sizes``."""
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in self.shape)
        if self.kind == "ids":
            return rng.integers(0, self.high, shape, dtype=np.int64)
        if self.kind == "bool":
            return np.asarray(rng.random(shape) > 0.5)
        if self.kind == "mask":
            mask = np.ones(shape, np.float32)
            mask[0, ..., -2:] = 0
            return mask
        return rng.standard_normal(shape).astype(np.float16 if self.kind == "half" else np.float32)

    @property
    def dynamic(self) -> dict[int, str]:
        """Axis number -> name of each dynamic axis."""
        return {i: d for i, d in enumerate(self.shape) if isinstance(d, str)}


def image(channels: int, *size: int, name: str = "x") -> Input:
    """A batch of images (or sequences, or volumes), channels first."""
    return Input(name, ("batch", channels, *size))


def ids(high: int, *size: int | str, name: str = "ids") -> Input:
    """A batch of token sequences."""
    return Input(name, ("batch", *size), "ids", high)


@dataclass(frozen=True, eq=False)
class NetSpec:
    """A test net of the registry.

    ``make`` returns a new module (weights do not matter, ``build`` draws them), ``sizes`` the example size of each
    dynamic axis, ``unsupported`` the exporters that cannot do it, with the reason, ``slow`` marks full-size nets.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: tuple[Input, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    slow: bool = False
    seed: int = 0

    def build(self) -> nn.Module:
        """The module in eval mode, its numbers drawn from the seed."""
        module = self.make()
        randomise(module, self.seed)
        _calibrate(module, self.example_inputs(batch=8 if not self.slow else 3), self.seed)
        return module.eval().requires_grad_(requires_grad=False)

    def feeds(self, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
        """Random values of all inputs by name, e.g. ``feeds(1, batch=7)``."""
        rng = np.random.default_rng([self.seed, seed])
        actual = {"batch": 2, **self.sizes, **sizes}
        return {i.name: i.sample(actual, rng) for i in self.inputs}

    def example_inputs(self, seed: int = 0, **sizes: int) -> tuple[Tensor, ...]:
        """The same as torch tensors, in order."""
        return tuple(torch.from_numpy(v) for v in self.feeds(seed, **sizes).values())

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(i.name for i in self.inputs)

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Input name -> axis number -> symbol, for inputs that have any."""
        return {i.name: i.dynamic for i in self.inputs if i.dynamic}

    @property
    def exporters(self) -> tuple[str, ...]:
        """The exporters that can do this net."""
        return tuple(e for e in ("torchscript", "dynamo") if e not in self.unsupported)


def randomise(module: nn.Module, seed: int) -> None:
    """Draw every parameter and BatchNorm statistic of a module, in place."""
    rng = torch.Generator().manual_seed(1000 + seed)
    seen: set[int] = set()
    with torch.no_grad():
        for part in module.modules():
            for name, value in part.named_parameters(recurse=False):
                if id(value) not in seen:
                    seen.add(id(value))
                    _draw(part, name, value, rng)


def _draw(part: nn.Module, name: str, value: Tensor, rng: torch.Generator) -> None:
    """Weights keep the variance of what flows through them, scales lie in 0.6..1.4, biases are small."""
    if isinstance(part, nn.PReLU):
        value.uniform_(0.1, 0.4, generator=rng)
    elif "bias" in name:
        value.normal_(0, 0.2, generator=rng)
    elif isinstance(part, nn.Embedding):
        value.normal_(0, 1, generator=rng)
    elif isinstance(part, _TRANSPOSED):
        value.normal_(0, (2 / (value[:, 0].numel() / max(part.stride) ** (value.ndim - 2))) ** 0.5, generator=rng)
    elif isinstance(part, _FAN_IN) and value.ndim > 1:
        gain = 1 if value.ndim == 2 else 2
        value.normal_(0, (gain / value[0].numel()) ** 0.5, generator=rng)
    elif sum(d > 1 for d in value.shape) <= 1:
        value.uniform_(0.6, 1.4, generator=rng)
    else:
        value.normal_(0, value.shape[-1] ** -0.5, generator=rng)


def _calibrate(module: nn.Module, example: tuple[Tensor, ...], seed: int) -> None:
    """Give each BatchNorm the statistics of random data, disturbed so that they are not exactly right."""
    norms = [m for m in module.modules() if isinstance(m, _BATCHNORM)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        module.train()(*example)
    rng = torch.Generator().manual_seed(2000 + seed)
    for norm in norms:
        mean, var = norm.running_mean, norm.running_var
        var.clamp_(min=1e-2)
        mean.add_(0.2 * var.sqrt() * torch.randn(mean.shape, generator=rng))
        var.mul_(torch.empty(var.shape).uniform_(0.7, 1.4, generator=rng))
        norm.momentum = 0.1
