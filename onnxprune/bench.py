"""What models cost here: sizes counted, MACs estimated, latency and memory measured, side by side.

Latency is measured in turns (`runtime.compare_latency`), so that the models can be compared; memory in a process of its
own for each (`runtime.measure_memory`). All of them run on inputs of the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnxprune.cost import Cost, cost, example_graph, one_example
from onnxprune.data import Source, batches, fit, open_dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.model import Model, inline_functions, load
from onnxprune.runtime import (
    Latency,
    Memory,
    TensorInfo,
    check_running,
    compare_latency,
    measure_memory,
    model_inputs,
)
from onnxprune.samples import assign, generate

__all__ = ["Bench", "Measured", "bench", "feeds_of"]

Array = NDArray[Any]
Shapes = Mapping[str, Sequence[int]]
Progress = Callable[[str, int, int], None]
RUNS = 30


@dataclass(frozen=True)
class Measured:
    """One model on inputs of one batch: milliseconds per call, and bytes of main memory (None: not asked for)."""

    batch: int
    latency: Latency
    memory: Memory | None


@dataclass(frozen=True)
class Bench:
    """One model.

    ``cost``: for one example; its MACs and activations are estimates. ``file_bytes``: external data included; of a
    model in memory, what its file would take. ``measured``: one for each batch, in the order asked for.
    """

    name: str
    cost: Cost
    file_bytes: int
    measured: tuple[Measured, ...]


def bench(  # noqa: PLR0913 - one argument for each option of the command
    models: Sequence[Model | str | Path],
    *,
    sizes: Sequence[int] = (),
    data: Source | None = None,
    shapes: Shapes | None = None,
    runs: int = RUNS,
    memory: bool = True,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Bench, ...]:
    """Count and measure models, all on the same terms; one ``Bench`` for each, in their order.

    ``sizes``: batches to measure on; by default one example, or as many as a model insists on. ``data``: what to run
    on, else inputs are made up. ``shapes``: whole shapes of inputs, for the models that have such inputs. ``runs``: at
    least so many timed calls of each. ``memory=False`` leaves out the processes that measure memory.

    Raises OptionError (a batch that a model does not take, no such input), DataError, and what loading and running
    raise.
    """
    check_running(provider, threads)
    if not models or runs < 1 or any(size < 1 for size in sizes):
        raise OptionError(
            f"{len(models)} models, {runs} runs, batches of {', '.join(map(str, sizes)) or 1}",
            "Ask for at least one of each.",
        )
    loaded = [_load(model, progress) for model in models]
    _check_names(loaded, shapes or {})
    costs = [_cost(model, shapes or {}, provider, threads) for model in loaded]
    measured: list[list[Measured]] = [[] for _ in loaded]
    for size in sizes or (None,):
        feeds = [feeds_of(m, size, data, shapes, provider=provider, threads=threads) for m in loaded]
        latencies = compare_latency(loaded, feeds, runs=runs, provider=provider, threads=threads, progress=progress)
        for number, (latency, mine, given) in enumerate(zip(latencies, feeds, models, strict=True)):
            if progress and memory:
                progress("measuring memory", number, len(models))
            used = measure_memory(given, mine, provider=provider, threads=threads) if memory else None
            measured[number].append(Measured(latency.batch, latency, used))
    return tuple(
        Bench(_name(given), price, _file_bytes(given, model), tuple(found))
        for given, model, price, found in zip(models, loaded, costs, measured, strict=True)
    )


def feeds_of(
    model: Model,
    size: int | None = None,
    data: Source | None = None,
    shapes: Shapes | None = None,
    *,
    provider: str = "auto",
    threads: int | None = None,
) -> dict[str, Array]:
    """``size`` samples for a model (None: one, or as many as it insists on), of the data or made up.

    Raises OptionError where the model does not take so many, DataError where the data do not hold or fit them.
    """
    inputs = model_inputs(model)
    insists = next((info.shape[0] for info in inputs if info.shape and isinstance(info.shape[0], int)), None)
    batch = one_example(model)
    if size is not None and insists not in (None, size) and (data is not None or not batch):
        raise OptionError(
            f"{model.label} takes batches of {insists} only, not of {size}",
            "Leave out --batch, or export the model with a dynamic batch.",
        )
    if data is not None:
        return _rows(model, inputs, size or 1, data)
    inlined = inline_functions(model)
    fixed = {info.name: _shape(info, shapes[info.name], size) for info in inputs if shapes and info.name in shapes}
    graph = assign(inlined, dict.fromkeys(batch, size or 1), fixed=fixed, provider=provider, threads=threads)
    return generate(graph)


def _rows(model: Model, inputs: Sequence[TensorInfo], size: int, data: Source) -> dict[str, Array]:
    dataset = fit(open_dataset(data), inputs)
    first = next(batches(dataset, size))
    if first.count < size:
        raise DataError(
            f"{dataset.name} holds {len(dataset)} samples, fewer than a batch of {size} for {model.label}",
            "Ask for a smaller batch, or leave out the data: inputs are made up then.",
        )
    return dict(first.feeds)


def _shape(info: TensorInfo, shape: Sequence[int], size: int | None) -> tuple[int, ...]:
    """The given shape, with as many samples as are asked for where the model leaves their number open."""
    is_open = bool(info.shape) and not isinstance(info.shape[0], int)
    return (size, *shape[1:]) if size is not None and is_open and len(shape) else tuple(shape)


def _load(model: Model | str | Path, progress: Progress | None) -> Model:
    if progress:
        progress("reading", 0, 0)
    return model if isinstance(model, Model) else load(model)


def _check_names(models: Sequence[Model], shapes: Shapes) -> None:
    known = {info.name for model in models for info in model_inputs(model)}
    for name in shapes:
        if name not in known:
            raise OptionError(f"no model has an input `{name}`", f"Inputs: {', '.join(sorted(known))}.")


def _cost(model: Model, shapes: Shapes, provider: str, threads: int | None) -> Cost:
    inlined = inline_functions(model)
    mine = {info.name: shapes[info.name] for info in model_inputs(model) if info.name in shapes}
    return cost(inlined, example_graph(inlined, mine, provider=provider, threads=threads))


def _name(given: Model | str | Path) -> str:
    return given.label if isinstance(given, Model) else str(given)


def _file_bytes(given: Model | str | Path, model: Model) -> int:
    if isinstance(given, Model):
        return given.filled().size
    return sum(path.stat().st_size for path in (Path(given), *model.data_files))
