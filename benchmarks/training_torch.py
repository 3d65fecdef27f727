"""torch's side of ``benchmarks.training``: plain eager training, in a process of its own."""

from __future__ import annotations

import sys

import torch
from torch.nn import functional

from benchmarks.serving import serve
from benchmarks.training_nets import MOMENTUM, NETS, RATE


def main(net: str, threads: int) -> None:
    """Train for as many steps as standard input says."""
    torch.set_num_threads(threads)
    module = NETS[net].module()
    x, y = map(torch.from_numpy, NETS[net].batch())
    optimizer = torch.optim.SGD(module.parameters(), RATE, MOMENTUM)

    def step() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(module(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    serve(step)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[3]))
