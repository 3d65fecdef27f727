"""A graph that is run again and again on what it put out the time before: the steps of a training.

Every tensor of the state is an input and an output of the graph, and exists twice on the device: one run reads set A
and writes set B, the next one reads B and writes A. One and the same memory for both would let an update overtake a
node that still reads the old weight, which gives wrong numbers without any message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from onnxprune._feeds import TensorInfo, model_inputs
from onnxprune._messages import translated
from onnxprune._model import Model
from onnxprune.errors import DataError, ModelError
from onnxprune.runtime.arrays import Array
from onnxprune.runtime.devices import check_running, device_of
from onnxprune.runtime.native import ERRORS, Setup
from onnxprune.runtime.sessions import open_session

__all__ = ["Reader", "Stepper"]

FAILURES: tuple[type[Exception], ...] = (*ERRORS, MemoryError)
OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "OUT_OF_MEMORY", "bad allocation")


class Stepper:
    """A graph with state on one device.

    ``state``: input -> the output that is its value for the next run. ``start``: input -> its first value, copied.
    What else the graph takes is fed at each run; what else it gives, small things such as a loss, comes back from it.
    Raises OptionError for a device that does not work here, UnsupportedModel, ModelError.
    """

    def __init__(
        self,
        model: Model,
        state: Mapping[str, str],
        start: Mapping[str, Array],
        *,
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        check_running(provider, threads)
        self.device = device_of(provider)
        self.state = dict(state)
        self.label = model.label
        made = open_session(model, Setup(self.device, threads, training=True), cache=False)
        self._native: ort.InferenceSession = made.native
        self._fed = [info for info in model_inputs(model) if info.name not in self.state]
        written = set(self.state.values())
        self.outputs = tuple(name for name in made.outputs if name not in written)
        self._sets = tuple({name: self._value(start[name]) for name in self.state} for _ in range(2))
        self._bindings = tuple(self._bound(old, new) for old, new in (self._sets, self._sets[::-1]))
        self._turn = 0  # which set holds the present values

    def run(self, feeds: Mapping[str, Array], seed: int | None = None) -> dict[str, Array]:
        """One step; feeds of names that the graph does not take are left out.

        Floats are cast to the type that the graph takes. ``seed``: of what nodes without a seed of their own draw in
        this run; it is set for the process, since onnxruntime has one generator for all. Raises DataError for an input
        that is missing or does not fit, ModelError when onnxruntime fails; a batch that is too large for the memory is
        told as such.
        """
        binding = self._bindings[self._turn]
        given = _fitting(self.label, self._fed, feeds)
        if seed is not None:
            ort.set_seed(seed)
        try:
            for name, array in given.items():
                binding.bind_cpu_input(name, array)
            self._native.run_with_iobinding(binding)
            values = dict(zip([*self.outputs, *self.state], binding.get_outputs(), strict=True))
            found = {name: np.array(values[name].numpy()) for name in self.outputs}
        except FAILURES as error:
            raise failed(error, self.label, given) from error
        self._turn = 1 - self._turn
        return found

    def read(self, name: str) -> Array:
        """A copy of one tensor of the state."""
        return np.array(self._sets[self._turn][name].numpy())

    def write(self, name: str, array: Array) -> None:
        """Replace one tensor of the state by an array of its shape. Raises DataError for another shape."""
        value = self._sets[self._turn][name]
        if tuple(value.shape()) != array.shape:
            raise DataError(
                f"`{name}` has shape {list(value.shape())}, given {list(array.shape)}", "Give the values of this model."
            )
        value.update_inplace(np.ascontiguousarray(array, self.read(name).dtype).reshape(array.shape))

    def values(self) -> Mapping[str, ort.OrtValue]:
        """The present state where it is, for another graph that reads it."""
        return self._sets[self._turn]

    def _value(self, array: Array) -> ort.OrtValue:
        """Memory of its own, with a copy of the values."""
        copy = np.array(array, order="C", copy=True)
        if self.device == "cpu":
            return ort.OrtValue.ortvalue_from_numpy(copy)
        return ort.OrtValue.ortvalue_from_numpy(copy, self.device, 0)

    def _bound(self, old: Mapping[str, ort.OrtValue], new: Mapping[str, ort.OrtValue]) -> ort.IOBinding:
        binding = self._native.io_binding()
        for name in self.outputs:
            binding.bind_output(name, "cpu")
        for name, output in self.state.items():
            binding.bind_ortvalue_input(name, old[name])
            binding.bind_ortvalue_output(output, new[name])
        return binding


class Reader:
    """A graph without state of its own: it reads that of a ``Stepper`` where it is."""

    def __init__(self, model: Model, *, provider: str = "auto", threads: int | None = None) -> None:
        check_running(provider, threads)
        made = open_session(model, Setup(device_of(provider), threads, training=True), cache=False)
        self.label, self.outputs = model.label, made.outputs
        self._native: ort.InferenceSession = made.native
        self._infos = model_inputs(model)

    def run(self, feeds: Mapping[str, Array], state: Mapping[str, ort.OrtValue]) -> dict[str, Array]:
        """Outputs by name. Raises as ``Stepper.run`` does."""
        given = _fitting(self.label, [info for info in self._infos if info.name not in state], feeds)
        binding = self._native.io_binding()
        try:
            for info in self._infos:
                if info.name in state:
                    binding.bind_ortvalue_input(info.name, state[info.name])
            for name, array in given.items():
                binding.bind_cpu_input(name, array)
            for name in self.outputs:
                binding.bind_output(name, "cpu")
            self._native.run_with_iobinding(binding)
            return {n: np.array(v.numpy()) for n, v in zip(self.outputs, binding.get_outputs(), strict=True)}
        except FAILURES as error:
            raise failed(error, self.label, given) from error


def _fitting(label: str, infos: Sequence[TensorInfo], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the graph takes, in its types."""
    found: dict[str, Array] = {}
    for info in infos:
        if info.name not in feeds:
            raise DataError(
                f"{label} takes `{info.name}`, which is not given; given: {', '.join(feeds) or 'nothing'}",
                "Feed the inputs of the model and what the objective adds to them.",
            )
        array = np.asarray(feeds[info.name])
        sizes = zip(info.shape, array.shape, strict=False)
        wrong = len(info.shape) != array.ndim or any(isinstance(a, int) and a != b for a, b in sizes)
        if info.ranked and wrong:
            wanted = ", ".join("?" if size is None else str(size) for size in info.shape)
            raise DataError(
                f"{label}: `{info.name}` takes [{wanted}], given {list(array.shape)}", "Change the array's shape."
            )
        found[info.name] = np.ascontiguousarray(array, info.dtype).reshape(array.shape)
    return found


def failed(error: Exception, label: str, feeds: Mapping[str, Any]) -> ModelError:
    """The error to raise: too little memory is told as such."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        size = max((array.shape[0] for array in feeds.values() if array.ndim), default=0)
        smaller = f"Use a smaller batch, for example {size // 2}." if size > 1 else "The model is too large for it."
        return ModelError(f"{label}: the memory is too small for a step with a batch of {size}", smaller)
    return translated(error, f"{label} failed to run a step")
