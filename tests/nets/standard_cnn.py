"""Full-size standard convolutional nets at 224 x 224 with 1000 classes: the ones that the numbers are about."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tests.nets._blocks import conv_bn, head
from tests.nets._spec import NetSpec, image
from tests.nets.concat import DenseLayer, Inception, transition
from tests.nets.mobile import InvertedResidual
from tests.nets.residual import basic, bottleneck
from tests.nets.shuffle import ShuffleUnitV1, ShuffleUnitV2

__all__ = ["NETS"]


def _stem(channels: int, kernel: int = 7) -> list[nn.Module]:
    return [conv_bn(3, channels, kernel, 2), nn.MaxPool2d(3, 2, 1)]


def _resnet18() -> nn.Module:
    layers, inputs = _stem(64), 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [basic(inputs, width, stride), basic(width, width)]
        inputs = width
    return nn.Sequential(*layers, head(512, 1000))


def _resnet50() -> nn.Module:
    layers, inputs = _stem(64), 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(bottleneck(inputs, width, stride if i == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, head(2048, 1000))


def _densenet121() -> nn.Module:
    layers, channels = _stem(64), 64
    for number, count in enumerate((6, 12, 24, 16)):
        if number:
            layers.append(transition(channels, channels // 2))
            channels //= 2
        for _ in range(count):
            layers.append(DenseLayer(channels, 32))
            channels += 32
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), head(channels, 1000))


def _googlenet() -> nn.Module:
    pool = nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(
        *_stem(64), conv_bn(64, 64, 1), conv_bn(64, 192), pool,
        Inception(192, 64, (96, 128), (16, 32), 32), Inception(256, 128, (128, 192), (32, 96), 64), pool,
        Inception(480, 192, (96, 208), (16, 48), 64), Inception(512, 160, (112, 224), (24, 64), 64),
        Inception(512, 128, (128, 256), (24, 64), 64), Inception(512, 112, (144, 288), (32, 64), 64),
        Inception(528, 256, (160, 320), (32, 128), 128), pool,
        Inception(832, 256, (160, 320), (32, 128), 128), Inception(832, 384, (192, 384), (48, 128), 128),
        head(1024, 1000),
    )  # fmt: skip


def _vgg19() -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for width, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4096, 1000))


def _mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 32, stride=2, act=nn.ReLU6)]
    inputs = 32
    table: Sequence[tuple[int, int, int, int]] = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )  # fmt: skip
    for factor, outputs, count, stride in table:
        for i in range(count):
            layers.append(InvertedResidual(inputs, factor * inputs, outputs, stride if i == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, conv_bn(320, 1280, 1, act=nn.ReLU6), head(1280, 1000))


def _shufflenet_v1() -> nn.Module:
    layers, inputs = _stem(24, 3), 24
    for outputs, count in ((240, 3), (480, 7), (960, 3)):
        layers.append(ShuffleUnitV1(inputs, outputs, 3, 2, first_groups=1 if inputs == 24 else None))
        layers += [ShuffleUnitV1(outputs, outputs, 3) for _ in range(count)]
        inputs = outputs
    return nn.Sequential(*layers, head(960, 1000))


def _shufflenet_v2() -> nn.Module:
    layers, inputs = _stem(24, 3), 24
    for outputs, count in ((116, 3), (232, 7), (464, 3)):
        layers.append(ShuffleUnitV2(inputs, outputs, 2))
        layers += [ShuffleUnitV2(outputs, outputs) for _ in range(count)]
        inputs = outputs
    return nn.Sequential(*layers, conv_bn(464, 1024, 1), head(1024, 1000))


_IMAGE = (image(3, 224, 224),)

NETS = (
    NetSpec("resnet18", _resnet18, _IMAGE, slow=True),
    NetSpec("resnet50", _resnet50, _IMAGE, slow=True),
    NetSpec("densenet121", _densenet121, _IMAGE, slow=True),
    NetSpec("googlenet", _googlenet, _IMAGE, slow=True, notes="with BatchNorm, without auxiliary heads"),
    NetSpec("vgg19", _vgg19, _IMAGE, slow=True, notes="143 million parameters, 575 MB"),
    NetSpec("mobilenet_v2", _mobilenet_v2, _IMAGE, slow=True),
    NetSpec("shufflenet_v1_g3", _shufflenet_v1, _IMAGE, slow=True),
    NetSpec("shufflenet_v2_x1", _shufflenet_v2, _IMAGE, slow=True),
)
