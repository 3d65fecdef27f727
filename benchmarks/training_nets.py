"""The nets of ``benchmarks.training`` in torch, with a batch of random data for each.

Run as a program it writes the ONNX file of a net, its BatchNorm kept, and the batch beside it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.nets import NETS as CATALOGUE
from tests.nets.residual import basic

__all__ = ["MOMENTUM", "NETS", "RATE", "Net"]

CLASSES = 10
RATE, MOMENTUM = 0.001, 0.9


@dataclass(frozen=True)
class Net:
    """``ids``: inputs are token numbers below this. ``frozen``: BatchNorm keeps its statistics."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    ids: int = 0
    frozen: bool = False

    def module(self) -> nn.Module:
        """With weights drawn from seed 0, in training mode."""
        torch.manual_seed(0)
        module = self.make().train()
        if self.frozen:
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return module

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels."""
        rng = np.random.default_rng(0)
        x = rng.integers(0, self.ids, self.shape) if self.ids else rng.standard_normal(self.shape).astype(np.float32)
        return x, rng.integers(0, CLASSES, self.shape[0])


def _cnn4() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if after == before else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, CLASSES))


def _resnet18() -> nn.Module:
    stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    blocks, width = [], 64
    for out in (64, 128, 256, 512):
        blocks += [basic(width, out, 1 if out == 64 else 2), basic(out, out)]
        width = out
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))


class Transformer(nn.Module):
    """Embedding, two encoder layers with GELU, mean over the positions."""

    def __init__(self, width: int = 256, heads: int = 4, depth: int = 2, length: int = 128) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, width), nn.Parameter(torch.randn(length, width) * 0.02)
        self.layers = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Block(nn.Module):
    """Attention and a feed-forward part, norms in front."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow, self.gelu = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(self.first(x)).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, length, width))
        return x + self.narrow(self.gelu(self.wide(self.second(x))))


class BiLstm(nn.Module):
    """A bidirectional LSTM whose last states are classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(64, 128, bidirectional=True, batch_first=True), nn.Linear(256, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].mean(1))


NETS = {
    "ResNet-18": Net(_resnet18, (64, 3, 32, 32)),
    "ResNet-18, BN frozen": Net(_resnet18, (64, 3, 32, 32), frozen=True),
    "4-layer CNN": Net(_cnn4, (64, 3, 32, 32)),
    "transformer": Net(Transformer, (32, 128), ids=1000),
    "bi-LSTM": Net(BiLstm, (32, 32, 64)),
    "MobileNetV2": Net(CATALOGUE["mobilenet_v2"].make, (16, 3, 96, 96)),
}


def export(net: str, path: Path) -> None:
    """Write the net, and a batch beside it."""
    module = NETS[net].module()
    x, y = NETS[net].batch()
    mode = torch.onnx.TrainingMode.PRESERVE if NETS[net].frozen else torch.onnx.TrainingMode.TRAINING
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.from_numpy(x),), str(path), dynamo=False, opset_version=18, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": {0: "n"}}, do_constant_folding=False, training=mode,
        )  # fmt: skip
    np.savez(path.with_suffix(".npz"), x=x, y=y, rate=RATE, momentum=MOMENTUM)


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
