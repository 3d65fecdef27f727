"""Depthwise convolutions with squeeze-and-excitation gates, as in MobileNetV3."""

from __future__ import annotations

from torch import Tensor, nn

from tests.nets._blocks import conv_bn, head
from tests.nets._spec import NetSpec, image

__all__ = ["NETS", "InvertedResidual", "SqueezeExcite"]


class SqueezeExcite(nn.Module):
    """A gate per channel, computed from the channel means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class InvertedResidual(nn.Module):
    """1x1 up, depthwise, optional gate, 1x1 down; a shortcut where the shape allows."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        stride: int = 1,
        squeezed: int = 0,
        act: type[nn.Module] = nn.ReLU6,
    ) -> None:
        super().__init__()
        self.shortcut = stride == 1 and inputs == outputs
        expand = [conv_bn(inputs, hidden, 1, act=act)] if hidden != inputs else []
        gate = [SqueezeExcite(hidden, squeezed)] if squeezed else []
        depthwise = conv_bn(hidden, hidden, 3, stride, groups=hidden, act=act)
        self.body = nn.Sequential(*expand, depthwise, *gate, conv_bn(hidden, outputs, 1, act=None))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def _mobilenet_v3() -> nn.Module:
    swish = nn.Hardswish
    return nn.Sequential(
        conv_bn(3, 8, stride=2, act=swish),
        InvertedResidual(8, 20, 12, squeezed=6, act=swish),
        InvertedResidual(12, 28, 12, squeezed=8, act=swish),
        InvertedResidual(12, 32, 16, 2, act=nn.ReLU),
        conv_bn(16, 40, 1, act=swish),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 24), swish(), nn.Linear(24, 10),
    )  # fmt: skip


def _depth_multiplier() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 6), nn.Conv2d(6, 18, 3, padding=1, groups=6), nn.BatchNorm2d(18), nn.SiLU(),
        nn.Conv2d(18, 10, 1), nn.ReLU(), head(10),
    )  # fmt: skip


NETS = (
    NetSpec("mobilenet_v3", _mobilenet_v3, (image(3, 32, 32),)),
    NetSpec("depth_multiplier", _depth_multiplier, (image(3, 12, 12),), notes="depthwise with three outputs per input"),
)
