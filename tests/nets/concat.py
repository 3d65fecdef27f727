"""Nets that join branches by concatenation: dense blocks and inception modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nets._blocks import conv_bn, head
from tests.nets._spec import NetSpec, image

__all__ = ["NETS", "DenseLayer", "Inception", "transition"]


class DenseLayer(nn.Module):
    """BN, ReLU, 1x1, BN, ReLU, 3x3; its output is appended to its input."""

    def __init__(self, inputs: int, growth: int, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), conv_bn(inputs, width * growth, 1),
            nn.Conv2d(width * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def transition(inputs: int, outputs: int) -> nn.Sequential:
    """BN, ReLU, 1x1 and pooling, between two dense blocks."""
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.AvgPool2d(2))


class Inception(nn.Module):
    """Four branches side by side: 1x1, 3x3, 5x5 and pooling."""

    def __init__(self, inputs: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([
            conv_bn(inputs, one, 1),
            nn.Sequential(conv_bn(inputs, three[0], 1), conv_bn(three[0], three[1])),
            nn.Sequential(conv_bn(inputs, five[0], 1), conv_bn(five[0], five[1], 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(inputs, pool, 1)),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _densenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), DenseLayer(12, 6), DenseLayer(18, 6), transition(24, 14),
        DenseLayer(14, 6), DenseLayer(20, 6), nn.BatchNorm2d(26), nn.ReLU(), head(26),
    )  # fmt: skip


def _inception() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16), Inception(16, 8, (6, 10), (4, 6), 5), Inception(29, 7, (8, 9), (3, 5), 4), head(25)
    )


NETS = (
    NetSpec("densenet", _densenet, (image(3, 16, 16),)),
    NetSpec("inception", _inception, (image(3, 16, 16),)),
)
