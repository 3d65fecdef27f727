"""Train the small CNN of the demo on scikit-learn's digits, and write it with its data.

    python examples/train_digits.py

Needs ``pip install 'onnxprune[torch]'``; what it writes needs neither. It writes ``examples/digits_cnn.onnx``, the
same file into the package (``onnxprune/demo_data``), and the split as ``digits.npz`` beside that. BatchNorm is kept
as operators of its own, not folded into the convolutions: the demo shows its entries pruned with the filters, and its
statistics can be measured again after pruning. Takes about a minute on two cores, seeded.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from digits import SEED, Split, load_split
from torch import Tensor, nn
from training import accuracy, train

from converters.torch import convert
from onnxprune.model import Model, save

HERE = Path(__file__).resolve().parent
PACKAGED = HERE.parent / "onnxprune" / "demo_data"
EPOCHS, RATE, SMOOTHING = 20, 8e-3, 0.05
REQUIRED = 0.98  # accuracy on the held-out quarter


class DigitsCnn(nn.Module):
    """Four blocks of convolution, BatchNorm and ReLU; global average pooling; ten scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.conv2, self.bn2 = nn.Conv2d(24, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)
        self.conv4, self.bn4 = nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.pool, self.gap = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.relu, self.fc = nn.ReLU(), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.pool(self.relu(self.bn2(self.conv2(x))))
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.relu(self.bn4(self.conv4(x)))
        return self.fc(self.gap(x).flatten(1))


def trained(split: Split, seed: int = SEED) -> tuple[Model, float, float]:
    """The net, trained and converted, and its accuracy on the training and on the held-out samples."""
    x_train, y_train = torch.from_numpy(split.x_train)[:, None], torch.from_numpy(split.y_train)
    x_test, y_test = torch.from_numpy(split.x_test)[:, None], torch.from_numpy(split.y_test)
    net = train(DigitsCnn, x_train, y_train, epochs=EPOCHS, rate=RATE, smoothing=SMOOTHING, seed=seed)
    converted = convert(net, example_inputs=x_test[:2], exporter="torchscript", keep_batchnorm=True)
    return converted.model, accuracy(net, x_train, y_train), accuracy(net, x_test, y_test)


def main() -> None:
    """Train, check, write."""
    split = load_split()
    model, fitted, reached = trained(split)
    print(f"accuracy: {fitted:.4f} training, {reached:.4f} test")
    if reached < REQUIRED:
        raise SystemExit(f"less than {REQUIRED}: nothing written")
    PACKAGED.mkdir(exist_ok=True)
    save(model, HERE / "digits_cnn.onnx")
    shutil.copyfile(HERE / "digits_cnn.onnx", PACKAGED / "digits_cnn.onnx")
    np.savez_compressed(
        PACKAGED / "digits.npz",
        x_train=split.x_train[:, None], y_train=split.y_train, x_test=split.x_test[:, None], y_test=split.y_test,
        class_names=np.array([str(i) for i in range(10)]),
    )  # fmt: skip
    for file in (HERE / "digits_cnn.onnx", PACKAGED / "digits_cnn.onnx", PACKAGED / "digits.npz"):
        print(f"{file.relative_to(HERE.parent)}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
