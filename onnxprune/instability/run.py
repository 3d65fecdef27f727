"""One run: from the weights of the model through one epoch in an order of its own, sensitivity measured on the way.

At every step the graph puts out both the contributions of all units to the loss of every example and the gradients of
the weights, so that one forward and one backward pass serve both. The weights then move by SGD with
momentum, v <- m v + g and w <- w - rate v, with g the gradient of the mean loss of the batch; BatchNormalization keeps
its statistics. What the run has made of the weights is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.autodiff import build
from onnxprune.coupling import couple
from onnxprune.criteria import Settings
from onnxprune.criteria.gradient_goal import Goal, goal_and_data
from onnxprune.criteria.gradient_runs import trainable, write_units
from onnxprune.criteria.gradient_sensitivity import absolute
from onnxprune.criteria.measuring import listed
from onnxprune.criteria.scale import scaled
from onnxprune.data import Batch, Dataset, batches
from onnxprune.errors import OptionError, UnsupportedModel
from onnxprune.losses import Loss
from onnxprune.model import Model
from onnxprune.runtime import session
from onnxprune.values import Coupling, Options

__all__ = ["Desk", "Training", "Work"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """SGD: learning rate, momentum, samples in a batch; ``steps`` of a run, None for one epoch. Raises OptionError."""

    rate: float = 1e-3
    momentum: float = 0.9
    batch: int = 64
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("rate", 0 < self.rate < float("inf"), "a number above 0"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("batch", self.batch >= 1, "at least 1"),
            ("steps", self.steps is None or self.steps >= 1, "at least 1"),
        ):
            if not good:
                raise OptionError(f"{name}: got {getattr(self, name)}, expected {expected}", "Leave it out.")


@dataclass(frozen=True, eq=False)
class Work:
    """What all runs have in common: sent once to each worker."""

    model: Model
    options: Options
    dataset: Dataset
    training: Training = field(default_factory=Training)
    losses: tuple[Loss, ...] | None = None
    normalise: str = "layer"
    seed: int = 0
    provider: str = "auto"
    threads: int | None = None


class Desk:
    """Makes the graph once, and runs from the same weights as often as is asked.

    Raises DataError and OptionError for data and losses that do not fit, UnsupportedModel where there are no gradients.
    """

    def __init__(self, work: Work, coupling: Coupling | None = None) -> None:
        self.work = work
        self.coupling = coupling or couple(work.model, work.options)
        settings = Settings(data=work.dataset, losses=work.losses, provider=work.provider, threads=work.threads)
        goal, self.data = goal_and_data(work.model, settings)
        self.goal: Goal = goal
        written = write_units(work.model, self.coupling, goal, trainable(self.coupling))
        sums = {name: absolute(written.tape, value) for name, value in written.values.items()}
        self.blocked = written.blocked
        self._units = {group.name: group.units for group in self.coupling.groups}
        self._sums = {name: value.name for name, value in sums.items()}
        if not self._sums:
            why = next((f": {node} has no gradient rule" for node in self.blocked.values()), "")
            raise UnsupportedModel(
                f"no group of {work.model.label} has a gradient{why}", "Instability needs the gradients of some group."
            )
        self._gradients = {name: value.name for name, value in written.weights.items()}
        self._start = {name: written.tape.graph.weights[name].array() for name in self._gradients}
        outputs = [*sums.values(), *written.weights.values()]
        built = build(written.tape, outputs, parameters=list(self._gradients))
        self._session = session(built, provider=work.provider, threads=work.threads, cache=False)
        self._taken = {info.name for info in self._session.inputs}

    @property
    def steps(self) -> int:
        """Of one run."""
        epoch = ceil(len(self.data) / (self.data.fixed or self.work.training.batch))
        return epoch if self.work.training.steps is None else self.work.training.steps

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is left out, and why."""
        left = [g.name for g in self.coupling.groups if g.name not in self._sums]
        nodes = dict.fromkeys(str(self.blocked[name]) for name in left if name in self.blocked)
        why = f" ({', '.join(nodes)} without a gradient rule)" if nodes else ""
        return (*self.goal.warnings, *([f"no gradient says anything about {listed(left)}{why}"] if left else []))

    def run(self, number: int, stepped: Callable[[int, int], None] | None = None) -> dict[str, Floats]:
        """Group name -> sensitivity of every unit in run ``number``.

        ``stepped``: told how many steps are done, and how many there are. Raises OptionError where the loss diverges.
        """
        weights = {name: self._start[name].astype(np.float32) for name in self._gradients}
        speed = {name: np.zeros_like(w) for name, w in weights.items()}
        totals = {name: np.zeros(self._units[name]) for name in self._sums}
        how, count = self.work.training, 0
        for step, batch in enumerate(self._shuffled(number)):
            if stepped:
                stepped(step, self.steps)
            found = self._at(batch, weights)
            count += batch.count
            for name, output in self._sums.items():
                totals[name] += found[output]
            for name, output in self._gradients.items():
                speed[name] = how.momentum * speed[name] + found[output].astype(np.float32) / np.float32(batch.count)
                weights[name] -= np.float32(how.rate) * speed[name]
        if not all(np.isfinite(total).all() for total in totals.values()):
            raise OptionError(
                f"the loss diverged in run {number + 1} at learning rate {how.rate:g}",
                f"Take a lower rate, {how.rate / 10:g} for instance.",
            )
        return scaled({name: total / count for name, total in totals.items()}, self.work.normalise)

    def _at(self, batch: Batch, weights: Mapping[str, Array]) -> dict[str, Array]:
        """What the graph puts out with these weights."""
        given = {name: w.astype(self._start[name].dtype, copy=False) for name, w in weights.items()}
        feeds = {**batch.feeds, **self.goal.feeds(batch), **given}
        return self._session.run({name: array for name, array in feeds.items() if name in self._taken})

    def _shuffled(self, number: int) -> Iterator[Batch]:
        """The batches of a run, epoch after epoch until there were as many as it has steps."""
        rng = np.random.default_rng((self.work.seed, number))
        left = self.steps
        while left:
            order = self.data.select(rng.permutation(len(self.data)))
            for batch in islice(batches(order, self.work.training.batch), left):
                left -= 1
                yield batch
