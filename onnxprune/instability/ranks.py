"""From the sensitivities of several runs to ranks and their spread, as a value and as a file.

With rank_i(f) the rank of unit f in run i of n (1 for the least sensitive, the average rank for equal ones)::

    instability(f) = 1/n sum over i of |rank_i(f) - mean rank(f)|

the mean absolute deviation of its ranks (equation 4 of CNNPruner). Ranks count over all units of the model, or within
each group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from onnxprune._atomic import replacing
from onnxprune.errors import DataError, OptionError

__all__ = ["WITHIN", "GroupRanks", "Instability", "check_within", "load_instability", "ranked"]

Floats = NDArray[np.float64]

WITHIN = ("model", "layer")
FORMAT = 1
AGAIN = "Run `onnxprune instability` again."


@dataclass(frozen=True)
class GroupRanks:
    """The units of one group: each tuple has a number for each of them, ``ranks`` such a tuple for each run.

    ``sensitivity``: the mean over the runs. ``instability``: in ranks.
    """

    name: str
    sensitivity: tuple[float, ...]
    ranks: tuple[tuple[float, ...], ...]

    @property
    def mean_rank(self) -> tuple[float, ...]:
        """Average of the ranks of all runs."""
        return tuple(float(r) for r in np.mean(self.ranks, axis=0))

    @property
    def instability(self) -> tuple[float, ...]:
        """Mean absolute deviation of the ranks."""
        ranks = np.asarray(self.ranks)
        return tuple(float(r) for r in np.abs(ranks - ranks.mean(axis=0)).mean(axis=0))


@dataclass(frozen=True)
class Instability:
    """All groups that have gradients. ``within``: what ranks count over; ``goal``: what gradients were gradients of.

    ``normalise``: what sensitivities were divided by, the norm over the "layer", over the "model", or "none". ``seed``,
    ``rate``, ``momentum``, ``batch`` and ``steps`` (of each run) say how each run was trained, on ``samples``.
    ``warnings``: what was left out.
    """

    model_hash: str
    goal: str
    within: str
    normalise: str
    runs: int
    samples: int
    steps: int
    batch: int
    rate: float
    momentum: float
    seed: int
    groups: tuple[GroupRanks, ...]
    warnings: tuple[str, ...] = ()

    def of(self, group: str) -> GroupRanks:
        """One group. Raises OptionError where it is not there."""
        for found in self.groups:
            if found.name == group:
                return found
        raise OptionError(f"no group {group!r} in these ranks", f"There are {', '.join(g.name for g in self.groups)}.")

    @property
    def units(self) -> int:
        """Number of units in all groups."""
        return sum(len(group.sensitivity) for group in self.groups)

    def to_json(self) -> str:
        """The result as text; `load_instability` reads it. Mean ranks and instability are there for other programs."""
        groups = [
            {**asdict(group), "mean_rank": group.mean_rank, "instability": group.instability} for group in self.groups
        ]
        return json.dumps({"onnxprune_instability": FORMAT, **asdict(self), "groups": groups}, indent=1)

    def save(self, path: str | Path) -> None:
        """Write the result to a file, wholly or not at all; raises DataError."""
        try:
            with replacing(Path(path)) as file:
                file.write(self.to_json().encode("utf-8", "backslashreplace"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(
                f"{path}: cannot write the ranks: {reason}", "Choose another place to save them."
            ) from error


def ranked(runs: Sequence[Mapping[str, Floats]], within: str = "model") -> tuple[GroupRanks, ...]:
    """The groups with the ranks of their units in every run. Raises OptionError for an unknown ``within``."""
    check_within(within)
    names = list(runs[0]) if runs else []
    ranks = [_ranks(run, names, within) for run in runs]
    return tuple(
        GroupRanks(
            name,
            tuple(float(v) for v in np.mean([run[name] for run in runs], axis=0)),
            tuple(tuple(float(r) for r in each[name]) for each in ranks),
        )
        for name in names
    )


def check_within(within: str) -> None:
    """Raises OptionError."""
    if within not in WITHIN:
        raise OptionError(f"within: got {within!r}, expected one of {', '.join(WITHIN)}", "Leave it out for the model.")


def _ranks(run: Mapping[str, Floats], names: Sequence[str], within: str) -> dict[str, Floats]:
    if within == "layer":
        return {name: rankdata(run[name]) for name in names}
    whole = rankdata(np.concatenate([run[name] for name in names])) if names else np.zeros(0)
    ends = np.cumsum([len(run[name]) for name in names])
    return dict(zip(names, np.split(whole, ends[:-1]), strict=True))


def load_instability(path: str | Path) -> Instability:
    """Read a result. Raises DataError for a file that is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("onnxprune_instability") != FORMAT:
            raise DataError(f"{path}: ranks of another version", AGAIN)
        groups = tuple(
            GroupRanks(g["name"], tuple(g["sensitivity"]), tuple(tuple(r) for r in g["ranks"]))
            for g in content.pop("groups")
        )
        warnings = tuple(content.pop("warnings"))
        return Instability(**content, groups=groups, warnings=warnings)
    except OSError as error:
        raise DataError(f"{path}: cannot read the ranks: {error.strerror or error}", AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no ranks of `onnxprune instability`: {error}", AGAIN) from error
