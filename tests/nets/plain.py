"""Straight convolutional nets in one, two and three dimensions, and an MLP."""

from __future__ import annotations

from torch import nn

from tests.nets._blocks import conv_bn
from tests.nets._spec import Input, NetSpec, image

__all__ = ["NETS"]


def _plain() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 12), conv_bn(12, 20, stride=2), conv_bn(20, 16), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 4 * 4, 24), nn.ReLU(), nn.Linear(24, 10),
    )  # fmt: skip


def _conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 10, 5, padding=2), nn.BatchNorm1d(10), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(10, 14, 3, padding=1), nn.BatchNorm1d(14), nn.LeakyReLU(0.1), nn.AvgPool1d(2),
        nn.Conv1d(14, 12, 3, dilation=2), nn.ELU(), nn.Flatten(), nn.Linear(12 * 4, 6),
    )  # fmt: skip


def _conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(8, 12, 3, padding=1), nn.BatchNorm3d(12), nn.PReLU(12),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(9, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 18), nn.Tanh(), nn.Linear(18, 4),
    )  # fmt: skip


NETS = (
    NetSpec("plain_cnn", _plain, (image(3, 16, 16),)),
    NetSpec("conv1d", _conv1d, (image(4, 32),)),
    NetSpec("conv3d", _conv3d, (image(2, 6, 8, 8),)),
    NetSpec("mlp", _mlp, (Input("x", ("batch", 9)),)),
)
