"""What a criterion is, what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnxprune.data import Dataset
from onnxprune.errors import OptionError
from onnxprune.losses import Loss
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["SCALES", "SIDES", "Criterion", "Pieces", "Scores", "Settings", "UnitScores", "WeightScores", "streamed"]

Floats = NDArray[np.float64]
Array = NDArray[Any]

SIDES = ("all", "producing")
SCALES = ("layer", "model", "none")


@dataclass(frozen=True)
class Settings:
    """How a criterion is applied.

    ``normalise``: True makes layers of different widths comparable in the way that belongs to the criterion (most
    divide by the number of elements), False leaves sums. "layer" and "model" do what True does, and then divide the
    scores of units by their L2 norm over the group or over the model; "none" is False.
    ``sides``: "all" linear parameter slices of a unit, or only the "producing" ones (not those that read it).
    ``seed``: for whatever is drawn at random. ``data``: a dataset, for criteria that need one; at most ``samples`` of
    it are looked at, ``batch`` at a time, on ``provider`` with so many ``threads``. ``progress``: called with the
    stage in words, how much of it is done, and out of how many. ``ratios``: the share that will be removed, of every
    weight or by name of the weight, for criteria that look at neighbours as they will be. ``losses``: what gradients
    are gradients of; None for the loss that the labels call for.
    """

    normalise: bool | str = True
    sides: str = "all"
    seed: int = 0
    data: Dataset | None = None
    samples: int | None = None
    batch: int = 64
    provider: str = "auto"
    threads: int | None = None
    progress: Callable[[str, int, int], None] | None = None
    ratios: Mapping[str, float] | float | None = None
    losses: tuple[Loss, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.normalise, str) and self.normalise not in SCALES:
            raise OptionError(
                f"normalise: got {self.normalise!r}, expected one of {', '.join(SCALES)}", "Leave it out."
            )
        if self.normalise == "none":
            object.__setattr__(self, "normalise", False)
        if self.sides not in SIDES:
            raise OptionError(f"sides: got {self.sides!r}, expected one of {', '.join(SIDES)}", "Leave it out for all.")
        given = self.ratios.items() if isinstance(self.ratios, Mapping) else {"all": self.ratios}.items()
        for name, ratio in given:
            if ratio is not None and not 0 <= ratio < 1:
                raise OptionError(
                    f"ratios: got {ratio} for {name}, expected 0 up to below 1", "It is the share that is removed."
                )

    def ratio_of(self, weight: str) -> float:
        """The share of this weight that will be removed; 0 where nothing is said."""
        if isinstance(self.ratios, Mapping):
            return self.ratios.get(weight, 0.0)
        return self.ratios or 0.0


@dataclass(frozen=True, eq=False)
class UnitScores(Mapping[str, Floats]):
    """Group name -> score per unit, float64 of shape (units,), read-only; higher = keep.

    ``warnings`` names what was found on the way, such as weights with NaN.
    """

    values_by_group: Mapping[str, ArrayLike]
    criterion: str = ""
    model_hash: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fixed = {name: _read_only(np.array(values, np.float64)) for name, values in self.values_by_group.items()}
        object.__setattr__(self, "values_by_group", fixed)

    def __getitem__(self, group: str) -> Floats:
        return np.asarray(self.values_by_group[group])

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_group)

    def __len__(self) -> int:
        return len(self.values_by_group)


@dataclass(frozen=True, eq=False)
class Pieces:
    """An array that comes piece by piece: ``parts`` are consecutive stretches of it in C order, of any shape."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: Iterator[Array]

    def whole(self) -> Array:
        """All of it in one array."""
        result = np.empty(prod(self.shape), self.dtype)
        start = 0
        for part in self.parts:
            result[start : start + part.size] = part.reshape(-1)
            start += part.size
        return result.reshape(self.shape)


@dataclass(frozen=True, eq=False)
class WeightScores(Mapping[str, Array]):
    """Constant name -> score per element, floating point, of the constant's shape; higher = keep, never NaN.

    An array is computed when it is asked for, or piece by piece (``pieces``) where ``stream`` is given, so that the
    scores of a large model need not fit into memory. Names are those of the analysis view: a vector shared by several
    layers has one entry for each.
    """

    names: tuple[str, ...]
    compute: Callable[[str], Array] = field(repr=False)
    criterion: str = ""
    model_hash: str = ""
    warnings: tuple[str, ...] = ()
    stream: Callable[[str], Pieces] | None = field(default=None, repr=False)

    def pieces(self, weight: str) -> Pieces:
        """The scores of one weight, piece by piece."""
        if self.stream is not None and weight in self.names:
            return self.stream(weight)
        values = self[weight]
        return Pieces(values.shape, values.dtype, iter((values,)))

    def __getitem__(self, weight: str) -> Array:
        if weight not in self.names:
            raise KeyError(weight)
        return self.compute(weight)

    def __contains__(self, weight: object) -> bool:
        return weight in self.names  # without computing it

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


Scores = UnitScores | WeightScores


def streamed(names: tuple[str, ...], stream: Callable[[str], Pieces], warnings: tuple[str, ...] = ()) -> WeightScores:
    """Scores that are computed piece by piece."""
    return WeightScores(names, lambda name: stream(name).whole(), warnings=warnings, stream=stream)


@dataclass(frozen=True)
class Criterion:
    """A way to score. ``needs``: what it must be given or find: "data", "labels", "batchnorm", "ratios", "gradients".

    ``units`` and ``weights`` do the work; None where the criterion has no such score. ``formula``, ``paper`` (arXiv
    id) and ``cost`` (in words: "one pass over the weights") are shown to people. ``recover`` names the repair that
    belongs to the criterion ("" for none); pruning with it applies that repair unless told otherwise.
    """

    name: str
    formula: str
    units: Callable[[Model, Coupling, Settings], UnitScores] | None
    weights: Callable[[Model, Coupling, Settings], WeightScores] | None = None
    needs: Sequence[str] = ()
    paper: str = ""
    cost: str = "one pass over the weights"
    recover: str = ""


def _read_only(values: Floats) -> Floats:
    values.flags.writeable = False
    return values
