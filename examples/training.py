"""What the training scripts share: one loop, one augmentation, one measure.

AdamW under a one-cycle learning rate: from ``rate`` / 25 up to ``rate`` and down to nearly 0. Seeded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from digits import SEED
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

__all__ = ["accuracy", "shifted", "train"]

BATCH, DECAY = 64, 1e-2


def train(
    make: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    rate: float,
    smoothing: float = 0.0,
    moved: bool = True,
    seed: int = SEED,
) -> nn.Module:
    """A net that ``make`` makes after seeding, trained on samples ``x`` with classes ``y``; in evaluation mode.

    ``rate``: the highest learning rate. ``smoothing``: of the labels. ``moved``: images are moved by up
    to a pixel, anew for each batch. ``seed``: of the weights, the order and the moves.
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = make()
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * -(-len(x) // BATCH))
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=rng).split(BATCH):
            batch = shifted(x[rows], rng) if moved else x[rows]
            loss = cross_entropy(net(batch), y[rows], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def shifted(x: Tensor, rng: torch.Generator) -> Tensor:
    """Every image moved by up to one pixel in each direction, the border filled with 0."""
    moves = torch.randint(0, 3, (len(x), 2), generator=rng)
    padded = pad(x, (1, 1, 1, 1))
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1)  # (samples, 1, 3, 3, 8, 8)
    return windows[torch.arange(len(x)), :, moves[:, 0], moves[:, 1]]


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of samples whose highest score is the right one."""
    with torch.no_grad():
        return float((net(x).argmax(1) == y).numpy().mean())
