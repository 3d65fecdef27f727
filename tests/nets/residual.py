"""Residual nets: basic and bottleneck blocks, with and without a projection on the shortcut."""

from __future__ import annotations

from torch import Tensor, nn

from tests.nets._blocks import conv_bn, head
from tests.nets._spec import NetSpec, image

__all__ = ["NETS", "Residual", "basic", "bottleneck"]


class Residual(nn.Module):
    """relu(body(x) + shortcut(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.relu = body, shortcut, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    same = inputs == outputs and stride == 1
    return nn.Identity() if same else conv_bn(inputs, outputs, 1, stride, act=None)


def basic(inputs: int, outputs: int, stride: int = 1) -> Residual:
    """The block of ResNet-18: two 3x3 convolutions."""
    body = nn.Sequential(conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs, act=None))
    return Residual(body, _shortcut(inputs, outputs, stride))


def bottleneck(inputs: int, width: int, stride: int = 1, expansion: int = 4) -> Residual:
    """The block of ResNet-50: 1x1 down, 3x3, 1x1 up."""
    outputs = width * expansion
    body = nn.Sequential(
        conv_bn(inputs, width, 1), conv_bn(width, width, 3, stride), conv_bn(width, outputs, 1, act=None)
    )
    return Residual(body, _shortcut(inputs, outputs, stride))


def _resnet_basic() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), basic(16, 16), basic(16, 24, 2), basic(24, 24), head(24))


def _resnet_bottleneck() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), bottleneck(16, 8), bottleneck(32, 8), bottleneck(32, 12, 2), head(48))


NETS = (
    NetSpec("resnet_basic", _resnet_basic, (image(3, 16, 16),)),
    NetSpec("resnet_bottleneck", _resnet_bottleneck, (image(3, 16, 16),)),
)
