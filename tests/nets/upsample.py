"""Nets that grow their maps: U-Net with ConvTranspose, feature pyramid with Resize, PixelShuffle."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.nets._blocks import conv_bn
from tests.nets._spec import NetSpec, image

__all__ = ["NETS"]


class UNet(nn.Module):
    """Two levels; the skip connections are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv_bn(3, 8), conv_bn(8, 12), conv_bn(12, 20)
        self.up2 = nn.ConvTranspose2d(20, 12, 2, 2)
        self.join2 = conv_bn(24, 12)
        self.up1 = nn.ConvTranspose2d(12, 10, 4, 2, 1)
        self.join1 = conv_bn(18, 8)
        self.out = nn.Conv2d(8, 2, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(self.pool(one))
        bottom = self.bottom(self.pool(two))
        two = self.join2(torch.cat([two, self.up2(bottom)], 1))
        one = self.join1(torch.cat([one, self.up1(two)], 1))
        return self.out(one)


class Pyramid(nn.Module):
    """Three levels with lateral 1x1 convolutions; nearest and bilinear upsampling; three outputs."""

    def __init__(self, width: int = 14) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv_bn(3, 8), conv_bn(8, 12, stride=2), conv_bn(12, 20, stride=2)])
        self.lateral = nn.ModuleList([nn.Conv2d(c, width, 1) for c in (8, 12, 20)])
        self.smooth = nn.ModuleList([nn.Conv2d(width, 6, 3, padding=1) for _ in range(3)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        low, middle, high = (conv(f) for conv, f in zip(self.lateral, features, strict=True))
        middle = middle + F.interpolate(high, scale_factor=2.0, mode="nearest")
        low = low + F.interpolate(middle, size=low.shape[2:], mode="bilinear", align_corners=False)
        return self.smooth[0](low), self.smooth[1](middle), self.smooth[2](high)


def _pixelshuffle() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 4 * 7, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(7),
        nn.Conv2d(7, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 3 * 4, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip


def _pixel_unshuffle() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.PixelUnshuffle(2), nn.Conv2d(24, 10, 1), nn.ReLU(),
        nn.Conv2d(10, 4, 1),
    )  # fmt: skip


NETS = (
    NetSpec("unet", UNet, (image(3, 16, 16),)),
    NetSpec("fpn", Pyramid, (image(3, 16, 16),), outputs=("p1", "p2", "p3")),
    NetSpec("pixel_shuffle", _pixelshuffle, (image(3, 8, 8),)),
    NetSpec("pixel_unshuffle", _pixel_unshuffle, (image(3, 8, 8),)),
)
