"""The proof that the masked and the removed model agree: ``prove`` and its verdict."""

from __future__ import annotations

from onnxprune.proof.judge import memory_needed, prove
from onnxprune.proof.verdict import Proof, assert_proven

__all__ = ["Proof", "assert_proven", "memory_needed", "prove"]
