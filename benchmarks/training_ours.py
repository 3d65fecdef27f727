"""Our side of ``benchmarks.training``: the exported file, trained by onnxruntime, in a process without torch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.serving import serve
from onnxprune.data import Batch, Dataset
from onnxprune.losses import choose_objective
from onnxprune.model import load
from onnxprune.train import Optimizer, Step


def main(net: str, path: Path, threads: int) -> None:
    """Train for as many steps as standard input says."""
    with np.load(path.with_suffix(".npz")) as file:
        x, y, rate, momentum = file["x"], file["y"], float(file["rate"]), float(file["momentum"])
    model = load(path)
    name = model.proto.graph.input[0].name
    objective = choose_objective(model, Dataset({name: x}, y))
    stepper = Step(
        model,
        objective,
        Optimizer("sgd", momentum=momentum),
        batchnorm="frozen" if "frozen" in net else "batch",
        provider="cpu",
        threads=threads,
    )
    batch = Batch({name: x}, y, len(x))
    feeds = {**batch.feeds, **objective.feeds(batch)}
    serve(lambda: stepper.run(feeds, rate))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
