"""Fidelity without any data: two models on made-up inputs. It says how far outputs moved on noise, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import ModelError, OptionError
from onnxprune.evaluate.meter import Meter
from onnxprune.evaluate.result import Evaluation
from onnxprune.evaluate.run import STAGE, Progress
from onnxprune.graph import Graph, dynamic_dims
from onnxprune.model import Model
from onnxprune.runtime import Session, session
from onnxprune.samples import assign, generate
from onnxprune.sizes import resized, size_variants

__all__ = ["evaluate_generated"]

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
ROWS = 64  # samples in one run where the model leaves the batch open


def evaluate_generated(
    before: Model,
    after: Model,
    *,
    samples: int = 256,
    seed: int = 0,
    shapes: Shapes | None = None,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, Evaluation]:
    """Both models on inputs of ``onnxprune.samples``; the second one's metrics are its fidelity to the first.

    ``shapes``: whole shapes of inputs. Raises DataError for inputs that cannot be made up (text), ModelError where
    the first model runs on none, OptionError.
    """
    if samples < 1:
        raise OptionError(f"{samples} samples", "Ask for at least one.")
    runs = [session(model, provider=provider, threads=threads) for model in (before, after)]
    meters = [Meter(samples=samples, name="generated inputs") for _ in runs]
    graph = assign(before, fixed=shapes)
    chosen = _accepted(graph, runs[0], samples, seed, fixed=bool(shapes))
    while meters[0].done < samples:
        feeds = generate(graph, seed=seed, shapes=chosen)
        found = [run.run(feeds) for run in runs]
        count = _rows(found[0], feeds)
        outputs = [_by_sample(some, count) for some in found]
        meters[0].add(outputs[0], None, count)
        meters[1].add(outputs[1], None, count, outputs[0])
        seed += 1
        if progress:
            progress(STAGE, min(meters[0].done, samples), samples)
    note = f"{meters[0].done} generated inputs and no data: this says how far the outputs moved on noise, and no more"
    first, second = (replace(meter.finish(runs[0].provider), notes=(note,)) for meter in meters)
    return first, second


def _accepted(graph: Graph, run: Session, samples: int, seed: int, *, fixed: bool) -> Shapes:
    """The first input shapes that the model runs on."""
    refusal: ModelError | None = None
    for shapes in _shapes_to_try(graph, min(samples, ROWS), fixed=fixed):
        try:
            run.run(generate(graph, seed=seed, shapes=shapes))
        except ModelError as error:
            refusal = refusal or error
        else:
            return shapes
    raise refusal or ModelError("the model has no inputs to make up", "Compare models that take inputs.")


def _shapes_to_try(graph: Graph, rows: int, *, fixed: bool) -> Iterator[Shapes]:
    dims = dynamic_dims(graph.model)
    for sizes in size_variants(graph):
        for batch in ({dims[0]: rows}, {}) if dims and not fixed else ({},):
            yield resized(graph, sizes | batch)
        if fixed:
            return


def _rows(outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> int:
    """Samples in a run: the size of axis 0 where all inputs and outputs share one, else the run is one sample."""
    sizes = {array.shape[:1] for array in (*feeds.values(), *outputs.values()) if isinstance(array, np.ndarray)}
    only = sizes.pop() if len(sizes) == 1 else ()
    return only[0] if only and only[0] else 1


def _by_sample(outputs: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Arrays with the samples on axis 0, which is made where a run is one sample."""
    arrays = {name: array for name, array in outputs.items() if isinstance(array, np.ndarray)}
    if count > 1:
        return arrays
    return {name: array if array.shape[:1] == (1,) else array[None] for name, array in arrays.items()}
