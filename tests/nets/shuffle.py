"""Grouped convolutions and channel shuffles: ShuffleNet v1 and v2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nets._blocks import conv_bn, head
from tests.nets._spec import NetSpec, image

__all__ = ["NETS", "ShuffleUnitV1", "ShuffleUnitV2", "shuffle"]


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` blocks."""
    _, channels, height, width = x.shape
    x = x.reshape(-1, groups, channels // groups, height, width).transpose(1, 2)
    return x.reshape(-1, channels, height, width)


class ShuffleUnitV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; added to, or at stride 2 appended to, its input."""

    def __init__(
        self, inputs: int, outputs: int, groups: int, stride: int = 1, first_groups: int | None = None
    ) -> None:
        super().__init__()
        self.groups, self.stride = groups, stride
        branch = outputs - inputs if stride == 2 else outputs
        middle = outputs // 4
        self.reduce = conv_bn(inputs, middle, 1, groups=first_groups or groups)
        self.depthwise = conv_bn(middle, middle, 3, stride, groups=middle, act=None)
        self.expand = conv_bn(middle, branch, 1, groups=groups, act=None)
        self.pool, self.relu = nn.AvgPool2d(3, 2, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(shuffle(self.reduce(x), self.groups)))
        return self.relu(torch.cat([self.pool(x), y], 1) if self.stride == 2 else x + y)


class ShuffleUnitV2(nn.Module):
    """Half of the channels pass by (stride 1), or both branches work on all of them (stride 2); then a shuffle."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.left = nn.Sequential()
        if stride == 2:
            self.left = nn.Sequential(conv_bn(inputs, inputs, 3, 2, groups=inputs, act=None), conv_bn(inputs, half, 1))
        self.right = nn.Sequential(
            conv_bn(inputs if stride == 2 else half, half, 1),
            conv_bn(half, half, 3, stride, groups=half, act=None),
            conv_bn(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)
        passed, worked = x.chunk(2, 1)
        return shuffle(torch.cat([passed, self.right(worked)], 1), 2)


def _shufflenet_v1() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 24), ShuffleUnitV1(24, 48, 3, 2, first_groups=1), ShuffleUnitV1(48, 48, 3),
        ShuffleUnitV1(48, 48, 3), head(48),
    )  # fmt: skip


def _shufflenet_v2() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 12), ShuffleUnitV2(12, 24, 2), ShuffleUnitV2(24, 24), ShuffleUnitV2(24, 24),
        ShuffleUnitV2(24, 40, 2), conv_bn(40, 48, 1), head(48),
    )  # fmt: skip


def _grouped() -> nn.Module:
    """ResNeXt-like: grouped 3x3 between dense 1x1, no shuffle."""
    return nn.Sequential(
        conv_bn(3, 16, 1), conv_bn(16, 24, 3, groups=4), conv_bn(24, 20, 1), conv_bn(20, 20, 3, groups=5),
        conv_bn(20, 12, 1), head(12),
    )  # fmt: skip


NETS = (
    NetSpec("shufflenet_v1", _shufflenet_v1, (image(3, 16, 16),)),
    NetSpec("shufflenet_v2", _shufflenet_v2, (image(3, 16, 16),)),
    NetSpec("grouped_conv", _grouped, (image(3, 10, 10),)),
)
