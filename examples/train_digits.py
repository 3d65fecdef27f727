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
from torch.nn.functional import cross_entropy, pad

from converters.torch import convert
from onnxprune.model import save

HERE = Path(__file__).resolve().parent
PACKAGED = HERE.parent / "onnxprune" / "demo_data"
EPOCHS, BATCH, RATE = 20, 64, 2e-3
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


def shifted(x: Tensor, rng: torch.Generator) -> Tensor:
    """Every image moved by up to one pixel in each direction, the border filled with 0."""
    moves = torch.randint(0, 3, (len(x), 2), generator=rng)
    padded = pad(x, (1, 1, 1, 1))
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1)  # (samples, 1, 3, 3, 8, 8)
    return windows[torch.arange(len(x)), :, moves[:, 0], moves[:, 1]]


def train(split: Split) -> DigitsCnn:
    """Adam with a one-cycle learning rate on shifted images."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    x, y = torch.from_numpy(split.x_train)[:, None], torch.from_numpy(split.y_train)
    net = DigitsCnn()
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-2)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4 * RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=rng).split(BATCH):
            loss = cross_entropy(net(shifted(x[rows], rng)), y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def accuracy(net: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """Share of images whose highest score is the right one."""
    with torch.no_grad():
        return float((net(torch.from_numpy(x)[:, None]).argmax(1).numpy() == y).mean())


def main() -> None:
    """Train, check, write."""
    split = load_split()
    net = train(split)
    reached = accuracy(net, split.x_test, split.y_test)
    print(f"accuracy: {accuracy(net, split.x_train, split.y_train):.4f} training, {reached:.4f} test")
    if reached < REQUIRED:
        raise SystemExit(f"less than {REQUIRED}: nothing written")
    example = torch.from_numpy(split.x_test[:2])[:, None]
    converted = convert(net, example_inputs=example, exporter="torchscript", keep_batchnorm=True)
    PACKAGED.mkdir(exist_ok=True)
    save(converted.model, HERE / "digits_cnn.onnx")
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
