"""What a proof says: the `Proof` value, and the error that a failed one becomes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from onnxprune.errors import ProofError

__all__ = ["Proof", "assert_proven"]


@dataclass(frozen=True)
class Proof:
    """The outcome of comparing the masked and the removed model.

    ``error``: max over ``outputs`` (and ``compared_at``) of max|masked - removed| / max(max|masked|, 1e-6); infinite
    where NaN, Inf or other shapes came out. ``ok``: the error is within ``tolerance`` and the comparison counts.
    ``outputs``: the outputs that were compared. ``compared_at``: the tensors that were compared beside or instead of
    them, in front of operators that jump, or because an output does not vary. ``vacuous``: some output says nothing
    (it does not vary between inputs, or zeroing non-zero weights did not change anything). ``batches``: size of the
    leading axis in each run. ``renormalisation_effect``: for inexact groups, the same error between the plain mask
    and the corrected one; else None. ``decisions``: discrete values compared (indices, comparisons, quantised
    numbers); ``flips``: how many of them came out differently; ``steps``: the largest difference of a quantised one.
    ``segments``: pieces in which the model was run. ``memory_bytes``: estimated peak. ``reason``: why it is not ok.
    """

    ok: bool
    error: float
    tolerance: float
    outputs: tuple[str, ...]
    compared_at: tuple[str, ...]
    worst: str
    batches: tuple[int, ...]
    vacuous: bool
    renormalisation_effect: float | None
    decisions: int
    flips: int
    steps: int
    segments: int
    notes: tuple[str, ...]
    reason: str
    seconds: float
    provider: str
    memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The same as values that JSON can hold; an infinite error becomes None."""
        row = asdict(self)
        for key in ("error", "renormalisation_effect"):
            if row[key] is not None and not math.isfinite(row[key]):
                row[key] = None
        return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}


def assert_proven(proof: Proof) -> None:
    """Raise ProofError, naming the tensor that differs most and by how much, unless the proof holds."""
    if proof.ok:
        return
    raise ProofError(
        f"the removed model is not proven equal to the masked one: {proof.reason}",
        "Leave out the group that does it (--skip NAME), or write the file unproven (--no-verify); please report it.",
    )
