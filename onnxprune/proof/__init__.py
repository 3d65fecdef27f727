"""The proof that the masked and the removed model agree, and that single weights alone became zero."""

from __future__ import annotations

from onnxprune.proof.judge import memory_needed, prove
from onnxprune.proof.verdict import Proof, assert_proven
from onnxprune.proof.zeros import Zeroed, assert_still_zero, assert_zeroed, masks_left

__all__ = [
    "Proof",
    "Zeroed",
    "assert_proven",
    "assert_still_zero",
    "assert_zeroed",
    "masks_left",
    "memory_needed",
    "prove",
]
