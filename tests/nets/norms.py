"""Nets around other normalisations: GroupNorm, InstanceNorm, LayerNorm over channels (ConvNeXt), LRN (AlexNet)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nets._blocks import head
from tests.nets._spec import NetSpec, image

__all__ = ["NETS"]


def _groupnorm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(),
        nn.Conv2d(16, 24, 3, padding=1), nn.GroupNorm(6, 24), nn.SiLU(), nn.Conv2d(24, 10, 1), nn.ReLU(), head(10),
    )  # fmt: skip


def _instancenorm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.InstanceNorm2d(10, affine=True), nn.ReLU(),
        nn.Conv2d(10, 14, 3, padding=1), nn.InstanceNorm2d(14), nn.ReLU(), nn.Conv2d(14, 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip


def _alexnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU(), nn.LocalResponseNorm(5, alpha=0.1, k=2.0), nn.MaxPool2d(3, 2),
        nn.Conv2d(12, 20, 3, padding=1), nn.ReLU(), nn.LocalResponseNorm(5, alpha=0.1, k=2.0),
        nn.Conv2d(20, 16, 3, padding=1, groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, 8),
    )  # fmt: skip


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm over channels (channels last), MLP, a learned scale, a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(nn.functional.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """LayerNorm over axis 1, in primitive operators (mean, variance, square root)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def _convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 4, 4), ChannelNorm(12), ConvNextBlock(12), ChannelNorm(12), nn.Conv2d(12, 20, 2, 2),
        ConvNextBlock(20), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(20), nn.Linear(20, 6),
    )  # fmt: skip


class BatchRenorm(nn.Module):
    """Normalises by the statistics of the map itself, per channel, written out; then a BatchNorm that cannot fold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 11, 3, padding=1), nn.Conv2d(11, 7, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(11), head(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x / torch.sqrt(x.pow(2).mean((2, 3), keepdim=True) + 1e-3)
        return self.out(torch.relu(self.conv2(self.norm(torch.sigmoid(x)))))


NETS = (
    NetSpec("groupnorm", _groupnorm, (image(3, 12, 12),)),
    NetSpec("instancenorm", _instancenorm, (image(3, 12, 12),)),
    NetSpec("alexnet_lrn", _alexnet, (image(3, 32, 32),)),
    NetSpec("convnext", _convnext, (image(3, 32, 32),)),
    NetSpec("batchnorm_after_sigmoid", BatchRenorm, (image(3, 10, 10),), notes="spatial norm, BatchNorm not foldable"),
)
