"""A step of training as one onnxruntime graph: forward pass, loss, gradients, clipping and the optimiser's update.

    feeds -> loss -> gradients g of the mean loss -> masks -> g min(1, clip / |g|) -> new weights and moments

Weights and moments are inputs and outputs of the graph and stay on the device between steps
(`onnxprune.runtime.stepping`). Nothing of this graph is delivered: `Step.model` puts the weights into the model that
was given. 16-bit models are trained in float32 and delivered in their own types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.errors import DataError, ModelError, OptionError
from onnxprune.losses import Objective, Written, write_objective
from onnxprune.model import Model, inline_functions
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape
from onnxprune.proof.precision import NARROW, float32_copy
from onnxprune.runtime.stepping import Reader, Stepper
from onnxprune.samples import assign
from onnxprune.train._parameters import (
    candidates,
    check_floats,
    delivered,
    homes_of,
    matching,
    nearest,
    spread,
)
from onnxprune.train.optimizers import Optimizer

__all__ = ["Step"]

Array = NDArray[Any]
DOUBLE = int(TensorProto.DOUBLE)
TINY = 1e-12
CLIP_FLOOR = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it
STEPS = "optimizer/steps"
SEEDS = 2**31 - 2**20  # each Dropout of a step takes the next one


@dataclass(frozen=True)
class Plan:
    """The graph of a step. ``state``: input -> output that replaces it; ``moments``: input -> the weight it is of."""

    model: Model
    state: Mapping[str, str]
    loss: str
    parameters: tuple[str, ...]
    statistics: tuple[str, ...]
    moments: Mapping[str, str]
    scalars: Mapping[str, str]


class Step:
    """Trains a model, step by step.

    ``freeze``: weights that stay, by name or pattern. ``masks``: weight -> True where it stays zero; names are those of
    the analysis view. ``batchnorm``: "frozen" uses the running statistics as they are, "batch" those of each batch, and
    updates the running ones. ``clip``: the largest norm of all gradients together. ``seed``: of Dropout.

    ``parameters``: what is trained. Raises OptionError, ModelError (quantised weights, nothing to train), and
    UnsupportedModel for an operator without gradients on the way.
    """

    def __init__(  # noqa: PLR0913 - each is one setting of a training
        self,
        model: Model,
        objective: Objective,
        optimizer: Optimizer,
        *,
        freeze: Sequence[str] = (),
        masks: Mapping[str, NDArray[np.bool_]] | None = None,
        batchnorm: str = "frozen",
        clip: float | None = None,
        seed: int = 0,
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        if batchnorm not in ("frozen", "batch"):
            raise OptionError(f"batchnorm: got {batchnorm!r}, expected frozen or batch", "Leave it out for frozen.")
        self._model = inline_functions(model)
        self._graph = assign(self._model)
        check_floats(self._graph, model.label)
        self._wide = float32_copy(self._model, NARROW)
        self.objective, self._optimizer = objective, optimizer
        self._provider, self._threads = provider, threads
        frozen = ("BatchNormalization",) if batchnorm == "frozen" else ()
        tape = open_tape(self._wide, training=True, frozen=frozen, seed=seed)
        self._homes = homes_of(self._graph, tape)
        names = self._trained(tape, freeze)
        gone = self._masks(masks or {}, names)
        self._plan = _write(tape, objective, optimizer, names, gone, clip)
        self.parameters = self._plan.parameters
        self._count = 0
        self._seed = seed if any(node.op_type == "Dropout" for node in self._plan.model.proto.graph.node) else None
        self._stepper = Stepper(
            self._plan.model, self._plan.state, self._start(tape, gone), provider=provider, threads=threads
        )
        self.provider = self._stepper.device

    def run(self, feeds: Mapping[str, Array], rate: float) -> float:
        """One update at this learning rate; returns the mean loss before it.

        ``feeds``: the model's inputs and what the objective adds. Raises DataError, and ModelError where the batch is
        too large for the memory.
        """
        numbers = self._optimizer.numbers(rate, self._count + 1)
        given = {self._plan.scalars[name]: np.array(number) for name, number in numbers.items()}
        found = self._stepper.run({**feeds, **given}, self._drawn())
        self._count += 1
        return float(found[self._plan.loss])

    def _drawn(self) -> int | None:
        """The seed of this step's Dropout: by its number, so that a training that goes on draws what it would have."""
        if self._seed is None:
            return None
        return int(np.random.default_rng([self._seed, self._count]).integers(1, SEEDS))

    def loss(self, feeds: Mapping[str, Array]) -> float:
        """The mean loss as in inference: frozen statistics, no Dropout. Nothing is updated."""
        reader, name = self._reader
        return float(reader.run(feeds, self._stepper.values())[name])

    def weights(self) -> dict[str, Array]:
        """Copies of what is trained, running statistics included where they are updated."""
        return {name: self._stepper.read(name) for name in (*self._plan.parameters, *self._plan.statistics)}

    def state(self) -> dict[str, Array]:
        """Everything that is needed to go on: weights, moments, and the number of steps."""
        moments = {name: self._stepper.read(name) for name in self._plan.moments}
        return {**self.weights(), **moments, STEPS: np.array(self._count, np.int64)}

    def load(self, state: Mapping[str, Array]) -> None:
        """Go on from a ``state``. Raises DataError for the state of another model or of another optimiser."""
        shapes = {name: array.shape for name, array in self.state().items()}
        for name, shape in shapes.items():
            if name not in state or np.shape(state[name]) != shape:
                there = f"{list(np.shape(state[name]))}" if name in state else "nothing"
                raise DataError(
                    f"the state is not that of this training: for `{name}` it has {there}, expected {list(shape)}",
                    "Load what the same model, optimizer and frozen weights wrote.",
                )
        more = state.keys() - shapes.keys()
        if more:
            raise DataError(
                f"the state is not that of this training: it has `{min(more)}`, which is not trained here",
                "Load what the same model, optimizer and frozen weights wrote.",
            )
        for name in shapes:
            if name != STEPS:
                self._stepper.write(name, np.asarray(state[name]))
        self._count = int(state[STEPS])

    def model(self) -> Model:
        """The model that was given, its own opset, names and types, with the present weights."""
        return delivered(self._model, self._graph, spread(self.weights(), self._homes))

    def _trained(self, tape: Tape, freeze: Sequence[str]) -> tuple[str, ...]:
        names = candidates(self._graph, tape)
        stay = matching(freeze, names)
        left = tuple(name for name in names if name not in stay)
        if not left:
            raise ModelError(
                f"{self._model.label}: there is nothing to train",
                "All weights are frozen: freeze fewer." if names else "It has no floating-point weights.",
            )
        return left

    def _masks(self, masks: Mapping[str, NDArray[np.bool_]], names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """By weight of the tape; those of weights that are not trained need none."""
        found: dict[str, NDArray[np.bool_]] = {}
        for name, mask in masks.items():
            if name not in self._graph.weights:
                raise OptionError(f"masks: the model has no weight `{name}`", nearest(name, list(self._homes)))
            shape = tuple(self._graph.weights[name].shape)
            if mask.shape != shape:
                raise OptionError(
                    f"masks: the mask of `{name}` has shape {list(mask.shape)}, the weight {list(shape)}",
                    "A mask is True where its weight stays zero.",
                )
            home = self._homes.get(name, name)
            if home in names:
                found[home] = found.get(home, np.zeros(shape, np.bool_)) | mask
        return found

    def _start(self, tape: Tape, gone: Mapping[str, NDArray[np.bool_]]) -> dict[str, Array]:
        weights = tape.graph.model.weights
        first = {name: weights[name].array() for name in (*self._plan.parameters, *self._plan.statistics)}
        first |= {name: np.where(mask, first[name].dtype.type(0), first[name]) for name, mask in gone.items()}
        return first | {name: np.zeros_like(first[of]) for name, of in self._plan.moments.items()}

    @cached_property
    def _reader(self) -> tuple[Reader, str]:
        """The graph of ``loss``."""
        tape = open_tape(self._wide)
        written = write_objective(tape, self.objective)
        loss = tape.sum(written.per_sample) / _count(tape, written)
        fed = [name for name in self._plan.state if name in tape.graph.model.weights]
        built = build(tape, [loss], parameters=fed)
        return Reader(built, provider=self._provider, threads=self._threads), loss.name


def _write(
    tape: Tape,
    objective: Objective,
    optimizer: Optimizer,
    names: Sequence[str],
    gone: Mapping[str, NDArray[np.bool_]],
    clip: float | None,
) -> Plan:
    """The graph of one step."""
    written = write_objective(tape, objective)
    count = _count(tape, written)
    loss, share = tape.sum(written.per_sample) / count, 1.0 / count
    seeds = {name: cotangent * tape.cast(share, cotangent.dtype) for name, cotangent in written.cotangents.items()}
    gradients = backward(tape, seeds, names)
    if not gradients:
        raise ModelError("the loss depends on none of the weights that are to be trained", "Freeze fewer of them.")
    masked = {
        name: tape.where(tape.const(gone[name]), 0.0, g) if name in gone and gone[name].any() else g
        for name, g in gradients.items()
    }
    if clip is not None:
        masked = _clipped(tape, masked, clip)
    scalars = {name: declared_input(tape, f"optimizer/{name}", DOUBLE, ()) for name in optimizer.scalars}
    kinds = {tape.tensor(name).dtype for name in masked}
    typed = {kind: {name: tape.cast(value, kind) for name, value in scalars.items()} for kind in kinds}
    state: dict[str, Value] = {}
    moments: dict[str, str] = {}
    for name, gradient in masked.items():
        weight = tape.tensor(name)
        mine = {m: declared_input(tape, f"optimizer/{m}/{name}", weight.dtype, weight.known) for m in optimizer.moments}
        updated = optimizer.update(tape, weight, gradient, mine, typed[weight.dtype])
        state[name] = updated.weight
        for moment, value in mine.items():
            state[value.name] = updated.moments[moment]
            moments[value.name] = name
    own = tape.graph.model.weights
    statistics = {name: tape.tensor(output) for name, output in tape.updates.items() if name in own}
    outputs = [loss, *state.values(), *statistics.values()]
    model = _unseeded(build(tape, outputs, parameters=[*masked, *statistics]))
    names_out = {name: value.name for name, value in {**state, **statistics}.items()}
    given = {name: value.name for name, value in scalars.items()}
    return Plan(model, names_out, loss.name, tuple(masked), tuple(statistics), moments, given)


def _unseeded(model: Model) -> Model:
    """Dropout that draws from the generator that is seeded for each step, not from one that runs through a session."""
    editor = model.edit()
    for node in editor.proto.graph.node:
        if node.op_type == "Dropout":
            kept = [attribute for attribute in node.attribute if attribute.name != "seed"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return editor.build()


def _count(t: Tape, written: Written) -> Value:
    """Where nothing counts, the sum is 0 as well, and so is the mean."""
    return t.binary("Max", written.count, TINY)


def _clipped(t: Tape, gradients: Mapping[str, Value], clip: float) -> dict[str, Value]:
    """g min(1, clip / |g|), with the norm over all gradients together."""
    kind = max((g.dtype for g in gradients.values()), key=lambda dtype: dtype == DOUBLE)
    squares = [t.cast(t.reduce("ReduceSumSquare", g), kind) for g in gradients.values()]
    total = squares[0] if len(squares) == 1 else t.op("Sum", *squares, sizes=())
    factor = t.binary("Min", clip / (t.unary("Sqrt", total) + CLIP_FLOOR), 1.0)
    return {name: g * t.cast(factor, g.dtype) for name, g in gradients.items()}
