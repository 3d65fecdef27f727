"""Dividing a dataset into what is trained on and what is measured on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxprune.data import Dataset
from onnxprune.data.subsets import are_classes, stratified
from onnxprune.errors import OptionError

__all__ = ["hold_out"]


def hold_out(dataset: Dataset, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """The rest, and a share of the samples that is held out; of every class as much, where labels are classes.

    Raises OptionError for a share that leaves nothing on one of the sides.
    """
    count = round(share * len(dataset)) if 0 < share < 1 else 0
    if not 0 < count < len(dataset):
        raise OptionError(
            f"validation: a share of {share} of {len(dataset)} samples", "Give a share such as 0.1 that leaves some."
        )
    if seed < 0:
        raise OptionError(f"seed: got {seed}, expected 0 or more", "For example 0.")
    rng = np.random.default_rng(seed)
    if dataset.labels is not None and are_classes(dataset.labels):
        rows = stratified(dataset.labels, count, rng)
    else:
        rows = np.sort(rng.choice(len(dataset), count, replace=False, shuffle=False))
    rest = np.setdiff1d(np.arange(len(dataset)), rows)
    return (
        replace(dataset.select(rest), name=f"{dataset.name} without {count} samples"),
        replace(dataset.select(rows), name=f"{dataset.name}, {count} samples held out"),
    )
