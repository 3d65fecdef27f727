"""What goes in which round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxprune.errors import OptionError
from onnxprune.schedule import Course


def test_one_shot() -> None:
    assert Course("one-shot", sparsity=0.7).levels() == (0.7,)


def test_gradual_is_cubic() -> None:
    levels = Course("gradual", sparsity=0.8, rounds=4).levels()
    np.testing.assert_allclose(levels, [0.8 - 0.8 * (1 - t / 4) ** 3 for t in (1, 2, 3, 4)])
    assert levels[-1] == 0.8
    steps = np.diff([0, *levels])
    assert (np.diff(steps) < 0).all()  # ever less
    assert len(Course("gradual", sparsity=0.8).levels()) == 5


def test_iterative_takes_a_share_of_what_is_left() -> None:
    np.testing.assert_allclose(Course("iterative", ratio=0.2, rounds=3).levels(), [0.2, 0.36, 0.488])
    np.testing.assert_allclose(Course("iterative", sparsity=0.488, rounds=3).levels(), [0.2, 0.36, 0.488])
    np.testing.assert_allclose(Course("iterative", sparsity=0.488, ratio=0.2).levels(), [0.2, 0.36, 0.488])
    np.testing.assert_allclose(Course("iterative", sparsity=0.4, ratio=0.2).levels(), [0.2, 0.36, 0.4])


def test_lottery_has_defaults() -> None:
    course = Course("lottery")
    np.testing.assert_allclose(course.levels(), 1 - 0.8 ** np.arange(1, 6))
    assert course.rewinds
    assert not Course("iterative", ratio=0.2, rounds=1).rewinds
    assert len(Course("lottery", sparsity=0.9).levels()) == 11


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"kind": "magic"}, "kind: got 'magic'"),
        ({"kind": "gradual", "sparsity": 0.5, "granularity": "bit"}, "granularity: got 'bit'"),
        ({"kind": "gradual"}, "no sparsity"),
        ({"kind": "gradual", "sparsity": 0.5, "ratio": 0.2}, "gradual has no ratio"),
        ({"kind": "gradual", "sparsity": 1.0}, "sparsity: got 1.0"),
        ({"kind": "gradual", "sparsity": 0.5, "rounds": 0}, "rounds: got 0"),
        ({"kind": "one-shot", "sparsity": 0.5, "rounds": 2}, "one-shot has one round"),
        ({"kind": "one-shot"}, "no sparsity"),
        ({"kind": "iterative", "ratio": 0.2}, "two of sparsity, ratio and rounds are needed, 1 are given"),
        ({"kind": "iterative", "ratio": 0.2, "rounds": 2, "sparsity": 0.3}, "3 are given"),
        ({"kind": "lottery", "ratio": 0.2, "rounds": 2, "sparsity": 0.3}, "one too many"),
    ],
)
def test_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Course(**wanted)
