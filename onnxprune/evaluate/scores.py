"""Scores as log-probabilities and log-odds, and the refusal of scores that are not numbers.

Score vectors are probabilities where every one of them lies in [0, 1] and sums to 1, else logits. One column of scores
is the second of two classes: p, or the logit of p.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logit

from onnxprune.errors import ModelError

__all__ = [
    "are_probabilities",
    "check_numbers",
    "chunks",
    "is_float",
    "log_odds",
    "log_probabilities",
    "probability",
    "ranks",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
TINY = 1e-12  # probabilities are not taken to be smaller, so that one sample cannot make the loss infinite
SMALLEST = 1e-300  # nor for ranking, where all that matters is which of two is larger
CHUNK = 1 << 22  # numbers that are worked on in double precision at a time


def is_float(array: Array) -> bool:
    """Whether the array holds floating-point numbers, those of ml_dtypes included."""
    return array.dtype.kind == "f" or array.dtype.name.startswith(("bfloat", "float"))


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows that keep the work on ``width`` numbers each within bounds."""
    step = max(1, CHUNK // max(width, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def check_numbers(array: Array, what: str, start: int, *, infinite: bool = False) -> None:
    """Refuse NaN and +inf in a model's output (-inf too, unless ``infinite``): raises ModelError with the row.

    ``start``: number of the first row.
    """
    values = array if array.dtype.kind == "f" else array.astype(np.float32)
    bad = np.isnan(values) | np.isposinf(values) if infinite else ~np.isfinite(values)
    if not bad.any():
        return
    row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1))) if values.ndim else 0
    value = values[bad].reshape(-1)[0]
    raise ModelError(
        f"{what} is {'NaN' if np.isnan(value) else value} in row {start + row}",
        "Look at that sample, and at the model's weights: `onnxprune inspect` names those that are not finite.",
    )


def are_probabilities(scores: Floats) -> bool:
    """Whether every row is a probability vector, or, with one column, a probability."""
    inside = bool(((scores >= -1e-6) & (scores <= 1 + 1e-6)).all())
    return inside and (scores.shape[1] == 1 or bool(np.allclose(scores.sum(axis=1), 1, atol=1e-2)))


def log_probabilities(scores: Floats, probable: bool) -> Floats:
    """Log-probabilities, shape (rows, classes); one column becomes two."""
    if scores.shape[1] == 1:
        both = np.hstack([1 - scores, scores]) if probable else np.hstack([-scores, scores])
        return np.asarray(np.log(np.clip(both, TINY, None)) if probable else log_expit(both))
    if probable:
        return np.asarray(np.log(np.clip(scores, TINY, None)))
    with np.errstate(invalid="ignore"):  # a row of nothing but -inf is NaN
        shifted = scores - scores.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def log_odds(scores: Floats, probable: bool) -> Floats:
    """log(p / (1 - p)) of every class, shape (rows, classes): orders samples by p without running into 0 and 1."""
    if scores.shape[1] == 1:
        second = logit(_inside(scores)) if probable else scores
        return np.hstack([-second, second])
    if probable:
        return np.asarray(logit(_inside(scores)))
    logs = log_probabilities(scores, probable=False)
    return np.asarray(np.maximum(logs, np.log(SMALLEST)) - np.log1p(-_inside(np.exp(logs))))


def _inside(p: Floats) -> Floats:
    return np.clip(p, SMALLEST, 1 - np.finfo(np.float64).epsneg)


def ranks(scores: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of the label's score, 0 for the first. Of equal scores the lower class number comes first, as in argmax."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    return np.asarray(((scores > own) | ((scores == own) & before)).sum(axis=1))


def probability(odds: Array) -> NDArray[np.float32]:
    """Back from log-odds."""
    return np.asarray(expit(odds.astype(np.float64)), np.float32)
