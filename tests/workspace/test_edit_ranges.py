"""Short forms for many weights in one entry of a draft: ranges of places, and a range of magnitudes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxprune import Coupling, Model
from onnxprune.errors import OptionError
from onnxprune.experiment import analyse
from onnxprune.model import from_proto
from onnxprune.workspace.edits import check_edit, draft_plan, edit_words
from tests.cli.conftest import cnn

WEIGHT = "fc.weight"


@pytest.fixture(scope="module")
def net() -> tuple[Model, Coupling]:
    return analyse(from_proto(cnn()))


def named(model: Model) -> str:
    """The largest matrix of the model."""
    return max(
        (name for name, w in model.weights.items() if len(w.shape) == 2), key=lambda n: np.prod(model.weights[n].shape)
    )


def test_ranges_are_the_same_as_a_list_of_places(net: tuple[Model, Coupling]) -> None:
    model, coupling = net
    name = named(model)
    short = draft_plan(model, coupling, [{"weight": name, "remove": [], "ranges": [[0, 3], [5, 6]]}])
    long = draft_plan(model, coupling, [{"weight": name, "remove": [0, 1, 2, 5]}])
    assert np.array_equal(short.weights[name], long.weights[name])
    back = draft_plan(model, coupling, [
        {"weight": name, "remove": [9], "ranges": [[0, 3]]}, {"weight": name, "restore": [], "ranges": [[1, 3]]},
    ])  # fmt: skip
    assert np.flatnonzero(back.weights[name]).tolist() == [0, 9]


def test_magnitudes_are_taken_from_low_to_below_high(net: tuple[Model, Coupling]) -> None:
    model, coupling = net
    name = named(model)
    size = np.abs(model.weights[name].array())
    low, high = float(np.sort(size, axis=None)[3]), float(np.sort(size, axis=None)[9])
    found = draft_plan(model, coupling, [{"weight": name, "remove": [], "magnitude": [low, high]}]).weights[name]
    assert np.array_equal(found, (size >= low) & (size < high))
    assert found.sum() == 6
    every = draft_plan(model, coupling, [{"weight": name, "remove": [], "magnitude": [low, None]}]).weights[name]
    assert every.sum() == size.size - 3


def test_a_range_beyond_the_weight_is_refused(net: tuple[Model, Coupling]) -> None:
    model, coupling = net
    size = int(np.prod(model.weights[named(model)].shape))
    with pytest.raises(OptionError, match=f"has no number {size}"):
        draft_plan(model, coupling, [{"weight": named(model), "remove": [], "ranges": [[0, size + 1]]}])


@pytest.mark.parametrize(
    "more",
    [
        {"ranges": [[3, 3]]}, {"ranges": [[-1, 3]]}, {"ranges": [[1, 2, 3]]}, {"ranges": "0-3"}, {"ranges": [[0, 1.5]]},
        {"magnitude": [1]}, {"magnitude": [0.2, 0.1]}, {"magnitude": [-1, 0.1]}, {"magnitude": [0, float("inf")]},
    ],
)  # fmt: skip
def test_what_is_no_range(more: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        check_edit({"weight": WEIGHT, "remove": [], **more})


def test_they_are_for_weights_only() -> None:
    with pytest.raises(OptionError, match="single weights"):
        check_edit({"group": "conv1", "remove": [], "ranges": [[0, 1]]})


def test_words() -> None:
    assert edit_words({"weight": WEIGHT, "remove": [], "ranges": [[0, 1000], [2000, 2234]]}) == (
        f"remove 1,234 weights of {WEIGHT}"
    )
    assert edit_words({"weight": WEIGHT, "remove": [], "magnitude": [0, 0.01]}) == (
        f"remove the weights of {WEIGHT} with |w| from 0 to 0.01"
    )
    assert edit_words({"weight": WEIGHT, "restore": [], "magnitude": [0.5, None]}) == (
        f"restore the weights of {WEIGHT} with |w| from 0.5 up"
    )
