"""Which loss fits a model and a dataset, and which do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune._graphs import all_names
from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate.fidelity import score_axis
from onnxprune.evaluate.layout import Asked, Layout, recognise
from onnxprune.evaluate.scores import are_probabilities, is_float
from onnxprune.evaluate.shards import trimmed
from onnxprune.graph import Graph
from onnxprune.losses.heads import activation_of, is_probability
from onnxprune.losses.loss import Loss, parse_loss
from onnxprune.losses.objective import Objective, Term
from onnxprune.model import Model
from onnxprune.runtime import session
from onnxprune.samples import assign

__all__ = ["choose_objective"]

Array = NDArray[Any]
PROBE = 16  # samples that the model is run on to see what it puts out
CHECKED = 1 << 24  # labels that are looked at beforehand; where there are more, each batch is looked at
CHUNK = 1 << 20
Losses = str | Loss | Sequence[Loss]

# What the labels may be taken for, in order, and whether a layout then is one that the loss can use
Fits = Callable[[Layout], bool]
READINGS: dict[str, tuple[tuple[str | None, ...], Fits]] = {
    "cross-entropy": (
        (None, "classification", "sequence", "segmentation"),
        lambda layout: layout.axis is not None and layout.axis > 0,
    ),
    "binary-cross-entropy": (
        (None, "multi-label", "binary", "sequence", "segmentation"),
        lambda layout: layout.axis == -1,
    ),
    "mse": (("regression",), lambda layout: layout.task == "regression"),
    "huber": (("regression",), lambda layout: layout.task == "regression"),
}
WANTS = {
    "cross-entropy": "a score for each class on one axis of the output, and class numbers for the rest of its shape",
    "binary-cross-entropy": "labels of 0 and 1 in the shape of the output",
    "mse": "numbers in the shape of the output",
    "huber": "numbers in the shape of the output",
}


@dataclass(frozen=True)
class Seen:
    """A first batch, and what the model and the teacher make of it."""

    model: Model
    dataset: Dataset
    batch: Batch
    outputs: Mapping[str, Array]
    ignore_label: int | None = None
    teacher: Model | None = None
    taught: Mapping[str, Array] | None = None

    @cached_property
    def graph(self) -> Graph:
        return assign(self.model)

    @property
    def labels(self) -> Array | None:
        return None if self.batch.labels is None else self.batch.labels[: self.batch.count]

    @cached_property
    def default(self) -> Layout | None:
        """What ``recognise`` finds; None without labels. Raises DataError."""
        return None if self.labels is None else self.read(self.outputs, self.labels, None)

    def read(self, outputs: Mapping[str, Array], labels: Array, task: str | None) -> Layout:
        asked = Asked(task, ignore_label=self.ignore_label)
        return recognise(outputs, labels, asked, (), self.dataset.name)


def choose_objective(
    model: Model,
    dataset: Dataset,
    losses: Losses | None = None,
    *,
    teacher: Model | None = None,
    ignore_label: int | None = None,
    provider: str = "auto",
    threads: int | None = None,
) -> Objective:
    """Hold losses against a model's outputs and the labels, on a first batch.

    ``losses``: a text as ``parse_loss`` takes it, one or more ``Loss``, or None for what the labels are: cross-entropy
    for classes, also for each pixel or word, binary cross-entropy for marks of 0 and 1, MSE for numbers; without
    labels distillation from ``teacher``. ``ignore_label``: positions with it do not count (-100 in segmentations and
    sequences). Raises DataError for a loss that does not fit, naming both shapes, OptionError, and ModelError.
    """
    run = session(model, provider=provider, threads=threads)
    data = fit(dataset, run.inputs)
    batch = next(batches(data, PROBE, PROBE))
    outputs = trimmed(run.run(batch.feeds), batch)
    taught = None
    if teacher is not None:
        guide = session(teacher, provider=provider, threads=threads)
        taught = trimmed(guide.run(_feeds_of(guide.inputs, batch, teacher)), batch)
    seen = Seen(model, data, batch, outputs, ignore_label, teacher, taught)
    chosen = _losses(losses, seen)
    taken = set(all_names(model.proto)) | set(model.weights)
    terms = tuple(_term(loss, seen, _free(f"targets_{number}", taken)) for number, loss in enumerate(chosen))
    for term in terms:
        _check_labels(term, data)
    words = " + ".join(_words(term) for term in terms)
    used = teacher if any(term.source for term in terms) else None
    return Objective(chosen, words, terms, _free("rows", taken), used, provider, threads)


def _losses(losses: Losses | None, seen: Seen) -> tuple[Loss, ...]:
    if isinstance(losses, str):
        return parse_loss(losses)
    if isinstance(losses, Loss):
        return (losses,)
    if losses is not None:
        if not losses:
            raise OptionError("no loss is given", "Leave it out for the one that the labels call for.")
        return tuple(losses)
    layout = seen.default
    if layout is not None:
        if layout.task == "regression":
            return (Loss("mse"),)
        return (Loss("binary-cross-entropy" if layout.axis == -1 else "cross-entropy"),)
    if seen.teacher is None:
        raise DataError(
            f"{seen.dataset.name}: it has no labels, and there is no model to learn from",
            "Give `y` in the dataset, or the original model as teacher: distillation needs no labels.",
        )
    return (Loss("distillation"),)


def _term(loss: Loss, seen: Seen, feed: str) -> Term:
    outputs = _outputs(loss, seen)
    if loss.kind == "distillation":
        return _distilled(loss, seen, outputs, feed)
    layout = _layout(loss, seen, outputs)
    if loss.class_weights is not None and len(loss.class_weights) != layout.classes:
        raise OptionError(
            f"class_weights: {len(loss.class_weights)} numbers, but the output `{layout.output}` has"
            f" {layout.classes} classes",
            "Give one for each class.",
        )
    axis = None if layout.task == "regression" else layout.axis
    output = outputs[layout.output]
    probable = axis is not None and _probable(output, axis, seen.graph, layout.output)
    return Term(loss, layout.output, feed, axis, layout, probable, dtype=_wide(output))


def _outputs(loss: Loss, seen: Seen) -> dict[str, Array]:
    if loss.output is None:
        return dict(seen.outputs)
    if loss.output not in seen.outputs:
        raise OptionError(
            f"loss {loss.kind}: {seen.model.label} has no output `{loss.output}` that is a tensor",
            f"Its outputs are {', '.join(seen.outputs)}.",
        )
    return {loss.output: seen.outputs[loss.output]}


def _layout(loss: Loss, seen: Seen, outputs: Mapping[str, Array]) -> Layout:
    """The first reading of the labels that the loss can use."""
    labels = seen.labels
    if labels is None:
        raise DataError(
            f"{seen.dataset.name}: it has no labels, which the loss {loss.kind} needs",
            "Give `y` in the dataset, or train by distillation from the original model.",
        )
    tasks, fits = READINGS[loss.kind]
    wrong: DataError | None = None
    for task in tasks:
        try:
            layout = seen.read(outputs, labels, task)
        except DataError:
            continue
        if fits(layout) and not layout.decided:
            try:
                _check(layout, labels, 0)
            except DataError as error:  # numbers that are no classes may be marks; floats may be targets
                wrong = error if wrong is None and labels.dtype.kind in "iub" else wrong
            else:
                return layout
    if wrong is not None:
        raise wrong
    raise _unfit(loss, seen, outputs, labels)


def _unfit(loss: Loss, seen: Seen, outputs: Mapping[str, Array], labels: Array) -> DataError:
    held = ", ".join(f"`{name}` {output.dtype.name} {output.shape}" for name, output in outputs.items())
    try:
        better = _losses(None, seen)[0].kind
    except DataError:
        better = ""
    return DataError(
        f"{seen.dataset.name}: the loss {loss.kind} wants {WANTS[loss.kind]}; the labels `y` are {labels.dtype.name}"
        f" {labels.shape} for one batch, the outputs are {held}",
        f"These labels call for {better}." if better not in ("", loss.kind) else "Choose another loss or other labels.",
    )


def _distilled(loss: Loss, seen: Seen, outputs: Mapping[str, Array], feed: str) -> Term:
    if seen.teacher is None or seen.taught is None:
        raise OptionError("the loss distillation needs a model to learn from", "Give the original model as teacher.")
    layout = _layout_or_none(seen, outputs)
    floats = {name: output for name, output in outputs.items() if is_float(output)}
    first = layout.output if layout is not None and layout.output in floats else next(iter(floats), "")
    same = [n for n, o in seen.taught.items() if first and is_float(o) and o.shape == floats[first].shape]
    if not same:
        raise DataError(
            f"the teacher has no output like the model's: {_shapes(seen.taught)}; the model has {_shapes(outputs)}",
            "Learn from the model that this one was made from, with the same classes.",
        )
    source = first if first in same else same[0]
    output = floats[first]
    if output.shape[:1] != (seen.batch.count,):
        raise DataError(
            f"the output `{first}` has shape {output.shape} for a batch of {seen.batch.count}: a loss needs one row for"
            " each sample",
            "Name another output, or export the model with the samples along axis 0 of its output.",
        )
    axis = _distilled_axis(layout, seen, first, output)
    probable = axis is not None and _probable(output, axis, seen.graph, first)
    teaching = axis is not None and _probable(seen.taught[source], axis, None, source, seen.teacher)
    return Term(loss, first, feed, axis, None, probable, source, teaching, _wide(output))


def _layout_or_none(seen: Seen, outputs: Mapping[str, Array]) -> Layout | None:
    try:
        layout = None if seen.labels is None else seen.read(outputs, seen.labels, None)
    except DataError:
        return None
    return None if layout is None or layout.decided else layout


def _distilled_axis(layout: Layout | None, seen: Seen, name: str, output: Array) -> int | None:
    """Where class scores are; without labels a vector is taken for them, a single number only behind a Sigmoid."""
    if layout is not None:
        return None if layout.task == "regression" else layout.axis
    found = activation_of(seen.graph, name)
    if found is not None and found[0].op == "Sigmoid":
        return -1
    return score_axis(output.shape)


def _probable(output: Array, axis: int, graph: Graph | None, name: str, model: Model | None = None) -> bool:
    """Probabilities: score vectors that sum to 1, single scores by the operator that they come from."""
    if axis >= 0:
        vectors = np.moveaxis(output, axis, -1).reshape(-1, output.shape[axis])
        return are_probabilities(vectors.astype(np.float64))
    if graph is None and model is not None:
        graph = assign(model)
    return graph is not None and is_probability(graph, name)


def _check_labels(term: Term, data: Dataset) -> None:
    """All labels, so that the row of a bad one is named before training begins."""
    rows, layout = data.labels, term.layout
    if rows is None or layout is None:
        return
    width = max(prod(rows.shape[1:]), 1)
    if len(data) * width > CHECKED:
        return
    step = max(CHUNK // width, 1)
    for start in range(0, len(data), step):
        _check(layout, np.asarray(rows[start : start + step]), start)


def _check(layout: Layout, labels: Array, start: int) -> None:
    """Raise DataError for a label that is no class. ``start``: number of the first row."""
    if layout.task == "multi-label":
        layout.marks(labels, start)
    elif layout.task != "regression":
        layout.class_numbers(labels, start)


def _words(term: Term) -> str:
    loss, layout = term.loss, term.layout
    told = loss.kind
    if loss.kind == "distillation":
        told += f" of `{term.output}` (" + ("MSE)" if term.axis is None else f"KL at temperature {loss.temperature:g})")
    else:
        told += f" of `{term.output}`"
        if layout is not None and loss.kind == "cross-entropy":
            told += f" ({layout.classes} classes{_per(layout.task)})"
    settings = [f"label smoothing {loss.label_smoothing:g}"] if loss.label_smoothing else []
    settings += ["class weights"] if loss.class_weights is not None else []
    settings += [f"delta {loss.delta:g}"] if loss.kind == "huber" else []
    told += ", " + ", ".join(settings) if settings else ""
    return told if loss.weight == 1 else f"{loss.weight:g} x {told}"


def _per(task: str) -> str:
    return {"segmentation": " for each pixel", "sequence": " for each position"}.get(task, "")


def _feeds_of(inputs: Iterable[Any], batch: Batch, teacher: Model) -> dict[str, Array]:
    """The batch as the teacher takes it. Raises DataError where it has other inputs."""
    wanted = list(inputs)
    missing = [info.name for info in wanted if info.name not in batch.feeds]
    if missing:
        raise DataError(
            f"the teacher {teacher.label} takes `{missing[0]}`, which the model does not: it takes"
            f" {', '.join(batch.feeds)}",
            "Learn from the model that this one was made from.",
        )
    return {info.name: batch.feeds[info.name].astype(info.dtype, copy=False) for info in wanted}


def _wide(output: Array) -> np.dtype[Any]:
    return np.dtype(np.float64 if output.dtype == np.float64 else np.float32)


def _free(base: str, taken: set[str]) -> str:
    """An input's name that nothing in the model has."""
    names = (base if not number else f"{base}_{number}" for number in range(len(taken) + 1))
    name = next(islice((n for n in names if n not in taken), 1))
    taken.add(name)
    return name


def _shapes(outputs: Mapping[str, Array]) -> str:
    return ", ".join(f"`{name}` {array.shape}" for name, array in outputs.items()) or "none"
