"""Dividing a dataset into what is trained on and what is measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxprune.data import Dataset, Source, open_calibration, open_dataset, splits_of
from onnxprune.data.subsets import are_classes, stratified
from onnxprune.errors import OptionError

__all__ = ["HELD_OUT", "Division", "divided", "hold_out"]

HELD_OUT = 0.1  # of data without a part to choose by
NOTHING = "none"


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


@dataclass(frozen=True)
class Division:
    """What is trained on, what the epoch is chosen by (None: the loss), and what nothing is chosen by.

    ``words`` says what was held out where a person might not expect it; "" otherwise.
    """

    training: Dataset
    validation: Dataset | None
    test: Dataset | None
    words: str = ""


def divided(source: Source, validation: str | None = None, seed: int = 0) -> Division:
    """The parts of a source. ``validation``: a share to hold out ("0.1"), the name of a part, or "none".

    By default it is the part of that kind (val, dev ...), and where there is none a tenth of what is trained on. An
    epoch is chosen by the test part only where that is asked for by name. Raises DataError and OptionError.
    """
    splits = splits_of(source)
    training = open_calibration(source)
    test = open_dataset(source, "test") if {"train", "test"} <= set(splits) and validation != "test" else None
    if validation == NOTHING:
        return Division(training, None, test)
    share = _share(validation)
    if share is None and validation is not None:
        return Division(training, open_dataset(source, validation), test)
    others = [name for name in splits if name not in ("train", "test")]
    if share is None and "train" in splits and others:
        return Division(training, open_dataset(source, others[0]), test)
    if share is None and test is not None and round(HELD_OUT * len(training)) < 1:
        return Division(training, test, None)
    rest, held = hold_out(training, HELD_OUT if share is None else share, seed)
    why = "" if validation else "; --validation says otherwise"
    what = "to measure on" if test is None else "to choose the epoch by"
    return Division(rest, held, test, f"{len(held)} of {len(training)} samples are held out, {what}{why}.")


def _share(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
