"""Gated convolutions, SAME padding, weight normalisation, weights shared by two branches, broadcast arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tests.nets._blocks import conv_bn, head
from tests.nets._spec import NetSpec, image

__all__ = ["NETS"]


def _glu() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(5, 24, 3, padding=1), nn.GLU(1), nn.Conv1d(12, 20, 3, padding=1), nn.GLU(1),
        nn.Flatten(), nn.Linear(10 * 12, 6),
    )  # fmt: skip


def _same_padded() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, padding="same"), nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(8, 12, 3), nn.ReLU(),
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(12, 10, 3, 2), nn.BatchNorm2d(10), nn.ReLU6(), head(10, 4),
    )  # fmt: skip


def _weight_norm() -> nn.Module:
    return nn.Sequential(
        weight_norm(nn.Conv1d(4, 12, 3, padding=1)), nn.ReLU(), weight_norm(nn.Conv1d(12, 9, 3, dilation=2)),
        nn.LeakyReLU(0.2), nn.Flatten(), weight_norm(nn.Linear(9 * 12, 5)),
    )  # fmt: skip


class Siamese(nn.Module):
    """One trunk applied to two inputs; the distance of its answers is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            conv_bn(3, 10), nn.MaxPool2d(2), conv_bn(10, 14, stride=2), nn.Flatten(), nn.Linear(14 * 9, 16), nn.Tanh()
        )
        self.out = nn.Linear(16, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.out((self.trunk(left) - self.trunk(right)).abs())


class Arithmetic(nn.Module):
    """Gates, broadcast scales, clipping, Where and channel attention over branches."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv_bn(3, 12), conv_bn(3, 12, act=None), conv_bn(3, 12, act=None)
        self.scale, self.shift = nn.Parameter(torch.ones(12, 1, 1)), nn.Parameter(torch.zeros(1, 12, 1, 1))
        self.mix, self.out = nn.Conv2d(12, 8, 1), head(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three = self.one(x), self.two(x), self.three(x)
        y = one * torch.sigmoid(two) + torch.maximum(two, three) * self.scale + self.shift
        y = torch.where(y > 0, y, 0.3 * three).clamp(-4, 4)
        return self.out(torch.relu(self.mix(y)))


class SelectiveKernel(nn.Module):
    """Two branches weighed per channel by a softmax over the branches."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = conv_bn(3, 12), conv_bn(3, 12, 5)
        self.squeeze = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 24))
        self.out = head(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([self.small(x), self.large(x)], 1)
        gates = self.squeeze(branches.sum(1).mean((2, 3))).reshape(-1, 2, 12, 1, 1)
        return self.out((branches * torch.softmax(gates, 1)).sum(1))


_PAIR = (image(3, 12, 12, name="left"), image(3, 12, 12, name="right"))

NETS = (
    NetSpec("glu", _glu, (image(5, 12),)),
    NetSpec("same_padded", _same_padded, (image(3, 14, 14),)),
    NetSpec("weight_norm", _weight_norm, (image(4, 16),)),
    NetSpec("siamese", Siamese, _PAIR, notes="every weight is used twice"),
    NetSpec("arithmetic", Arithmetic, (image(3, 8, 8),)),
    NetSpec("selective_kernel", SelectiveKernel, (image(3, 10, 10),)),
)
