"""What is trained on, what an epoch is chosen by, and what nothing is chosen by."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.errors import DataError, OptionError
from onnxprune.train import divided

X, Y = np.arange(80, dtype=np.float32).reshape(40, 2), np.arange(40) % 4


def source(*parts: str) -> dict[str, np.ndarray]:
    """Arrays for these parts."""
    return {key: value for part in parts for key, value in ((f"x_{part}", X), (f"y_{part}", Y))}


def sizes(*parts: str, validation: str | None = None) -> tuple[int | None, ...]:
    found = divided(source(*parts) if parts else {"x": X, "y": Y}, validation)
    return tuple(None if part is None else len(part) for part in (found.training, found.validation, found.test))


def test_a_part_for_validation_is_taken() -> None:
    assert sizes("train", "val", "test") == (40, 40, 40)
    assert sizes("train", "val") == (40, 40, None)


def test_otherwise_a_tenth_of_the_training_part() -> None:
    assert sizes("train", "test") == (36, 4, 40)
    assert sizes() == (36, 4, None)
    assert "4 of 40 samples are held out, to choose the epoch by" in divided(source("train", "test")).words
    assert "to measure on" in divided({"x": X, "y": Y}).words


def test_what_is_asked_for() -> None:
    assert sizes("train", "test", validation="0.25") == (30, 10, 40)
    assert sizes("train", "test", validation="none") == (40, None, 40)
    assert sizes("train", "test", validation="test") == (40, 40, None)
    assert divided(source("train", "test"), "0.25").words == "10 of 40 samples are held out, to choose the epoch by."


def test_too_few_to_hold_any_out() -> None:
    few = {key: value[:3] for key, value in source("train", "test").items()}
    found = divided(few)
    assert (len(found.training), found.validation is not None and len(found.validation), found.test) == (3, 3, None)


def test_refused() -> None:
    with pytest.raises(OptionError, match=r"a share of 2.0"):
        divided(source("train", "test"), "2")
    with pytest.raises(DataError, match=r"no split 'dev'"):
        divided(source("train", "test"), "dev")
    with pytest.raises(OptionError, match=r"seed: got -1"):
        divided(source("train", "test"), seed=-1)
