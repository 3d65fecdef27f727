"""What gradients of criteria are gradients of: a loss that fits the labels, or without labels the size of the outputs.

Without labels the loss that training would take is distillation from the original model, but here the model *is* the
original, so that its gradient is zero. In its place stands half the squared norm of what the model puts out::

    L = 1/2 sum over outputs of |y|^2

whose gradient says how strongly the outputs depend on a tensor. Aljundi et al. (arXiv:1711.09601) measure the
importance of parameters without labels by the gradient of |y|^2. A warning says that it was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.autodiff import declared_input
from onnxprune.criteria.base import Settings
from onnxprune.criteria.measuring import sampled
from onnxprune.data import Batch, Dataset, fit
from onnxprune.errors import OptionError
from onnxprune.losses import Objective, choose_objective, write_objective
from onnxprune.model import Model
from onnxprune.ops.emitter import FLOATS, Value
from onnxprune.ops.tape import Tape
from onnxprune.runtime import model_inputs

__all__ = ["Goal", "OutputNorm", "Supervised", "goal_and_data"]

Array = NDArray[Any]

STAND_IN = (
    "there are no labels: gradients are those of half the squared norm of the outputs, not of a loss; give labels "
    "(`y`) for the criterion as it was published"
)


class Goal(Protocol):
    """``words`` says it to a person; ``warnings`` what they should know."""

    @property
    def words(self) -> str: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...

    def write(self, tape: Tape) -> Mapping[str, Value]:
        """Tensor of the forward pass -> gradient of the sum over samples."""

    def feeds(self, batch: Batch) -> dict[str, Array]:
        """What the graph takes beside the inputs of the model."""


@dataclass(frozen=True, eq=False)
class Supervised:
    """A loss that fits outputs and labels."""

    objective: Objective
    warnings: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return self.objective.words

    def write(self, tape: Tape) -> Mapping[str, Value]:
        return write_objective(tape, self.objective).cotangents

    def feeds(self, batch: Batch) -> dict[str, Array]:
        return self.objective.feeds(batch)


@dataclass(frozen=True, eq=False)
class OutputNorm:
    """Half the squared norm of the outputs. ``rows``: the input that says which rows of a batch are samples."""

    rows: str = "rows_that_count"
    words: str = "half the squared norm of the outputs"
    warnings: tuple[str, ...] = (STAND_IN,)

    def write(self, tape: Tape) -> Mapping[str, Value]:
        graph = tape.graph
        batch = tape.tensor(graph.inputs[0]).known[0]
        rows = declared_input(tape, self.rows, int(TensorProto.FLOAT), (batch,))
        found = {}
        for name in graph.outputs:
            y = tape.tensor(name)
            if name in graph.producer and y.dtype in FLOATS:
                counted = y.sizes is not None and y.rank > 0 and y.known[0] == batch
                mask = tape.unsqueeze(tape.cast(rows, y.dtype), range(1, y.rank)) if counted else None
                found[name] = y if mask is None else y * mask
        return found

    def feeds(self, batch: Batch) -> dict[str, Array]:
        size = len(next(iter(batch.feeds.values())))
        return {self.rows: (np.arange(size) < batch.count).astype(np.float32)}


def goal_and_data(model: Model, settings: Settings, most: int | None = None) -> tuple[Goal, Dataset]:
    """What is differentiated, and the samples (at most ``most`` unless the settings say) in the form of the model.

    Raises OptionError without a dataset and for distillation, which has no gradient here, DataError for labels that
    the loss does not fit.
    """
    dataset = sampled(settings, most)
    data = fit(dataset, model_inputs(model))
    if settings.losses is None and dataset.labels is None:
        return OutputNorm(), data
    if any(loss.kind == "distillation" for loss in settings.losses or ()):
        raise OptionError(
            "loss distillation: the model would learn from itself, and the gradient of that is zero",
            "Give labels and a loss that uses them, or leave the loss out.",
        )
    objective = choose_objective(model, dataset, settings.losses, provider=settings.provider, threads=settings.threads)
    return Supervised(objective), data
