"""An objective as nodes behind the forward pass: the loss of each sample, and where gradients begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import TensorProto

from onnxprune.autodiff import declared_input
from onnxprune.errors import UnsupportedModel
from onnxprune.losses import formulas
from onnxprune.losses.formulas import Part
from onnxprune.losses.heads import Scores, plain, scores
from onnxprune.losses.objective import ROWS, Objective, Term
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape

__all__ = ["Written", "write_objective"]

FLOAT, INT64 = int(TensorProto.FLOAT), int(TensorProto.INT64)
TINY = 1e-12


@dataclass(frozen=True)
class Written:
    """What an objective became.

    ``per_sample``: (N,), the loss of each sample, 0 for rows that only fill up a fixed batch. ``cotangents``: tensor of
    the forward pass -> gradient of the *sum* over samples, for ``backward``. ``count``: a scalar, what that sum is
    divided by for the mean: samples that count, or the sum of their class weights.
    """

    per_sample: Value
    cotangents: Mapping[str, Value]
    count: Value


def write_objective(tape: Tape, objective: Objective) -> Written:
    """Write the losses and their gradients at the logits.

    The inputs that this declares are those that ``objective.feeds`` fills. Of several terms each is divided by its own
    count. Raises UnsupportedModel where the shape of an output is not known.
    """
    rows: Value | None = None
    if any(term.loss.kind in ROWS for term in objective.terms):
        batch = _known(tape, objective.terms[0].output)[0]
        rows = _input(tape, objective.rows, FLOAT, (batch,))
    total: Value | None = None
    count: Value | None = None
    cotangents: dict[str, Value] = {}
    for term in objective.terms:
        head = _scores(tape, term)
        part = _part(tape, term, head, rows)
        factor: Value | float = term.loss.weight
        if count is None:
            count = part.count
        else:
            factor = count / _at_least(tape, part.count) * term.loss.weight
        alone = term.loss.weight == 1 and total is None
        mine = part.per_sample if alone else part.per_sample * factor
        total = mine if total is None else total + mine
        name, cotangent = head.pull(part.gradient if alone else part.gradient * factor)
        cotangents[name] = cotangents[name] + cotangent if name in cotangents else cotangent
    if total is None or count is None:
        raise ValueError("an objective has at least one loss")
    return Written(total, cotangents, count)


def _part(t: Tape, term: Term, head: Scores, rows: Value | None) -> Part:
    loss, z = term.loss, head.value
    integers = loss.kind == "cross-entropy"
    sizes = _columns(t, z, term.axis if integers else None)
    targets = _input(t, term.feed, INT64 if integers else z.dtype, sizes)
    if loss.kind == "cross-entropy" and term.axis is not None:
        classes = term.layout.classes if term.layout else z.known[term.axis]
        return formulas.cross_entropy(
            t, z, term.axis, targets, classes, class_weights=loss.class_weights, smoothing=loss.label_smoothing
        )
    if loss.kind == "binary-cross-entropy":
        return formulas.binary_cross_entropy(t, z, targets)
    if rows is None:
        raise ValueError(f"{loss.kind} needs to know which rows count")
    rows = t.cast(rows, z.dtype)
    if loss.kind == "huber":
        return formulas.huber(t, z, targets, rows, loss.delta)
    if loss.kind == "mse" or term.axis is None:
        return formulas.squares(t, z, targets, rows)
    if term.axis < 0:
        return formulas.binary_divergence(t, z, targets, rows, loss.temperature)
    return formulas.divergence(t, z, term.axis, targets, rows, loss.temperature)


def _input(t: Tape, name: str, dtype: int, sizes: tuple[int, ...]) -> Value:
    """An input of exactly this name: that is what ``Objective.feeds`` fills."""
    value = declared_input(t, name, dtype, sizes)
    if value.name != name:
        raise ValueError(
            f"`{name}` is taken on this tape: an objective is written once, for the model it was chosen for"
        )
    return value


def _scores(t: Tape, term: Term) -> Scores:
    _known(t, term.output)
    if term.axis is None:
        return plain(t, term.output)
    return scores(t, term.output, term.axis, probable=term.probable)


def _known(t: Tape, output: str) -> tuple[int, ...]:
    sizes = t.tensor(output).sizes
    if sizes is None:
        raise UnsupportedModel(
            f"the shape of the output `{output}` is not known, and a loss needs it",
            "Give shapes for the inputs, or export the model with static shapes.",
        )
    return sizes


def _columns(t: Tape, z: Value, axis: int | None) -> tuple[int, int]:
    """Sizes of what is fed: rows, and numbers for each."""
    width = t.product([t.dim(z, a) for a in range(1, z.rank) if a != axis])
    return z.known[0], width if isinstance(width, int) else width.size


def _at_least(t: Tape, count: Value) -> Value:
    """Where nothing counts, the sum is 0 as well."""
    return t.binary("Max", count, TINY)
