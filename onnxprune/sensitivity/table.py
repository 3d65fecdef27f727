"""A scan as a value and as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from onnxprune._atomic import replacing
from onnxprune.errors import DataError
from onnxprune.evaluate import Metric

__all__ = ["Failure", "Row", "Sensitivity", "load_sensitivity"]

FORMAT = 1
ROUNDING = 1e-9
AGAIN = "Run `onnxprune sensitivity` again."


@dataclass(frozen=True)
class Row:
    """One measurement: ``removed`` of ``units`` of a group went.

    ``loss``: by how much the metric is worse (below 0: better). ``parameters``, ``macs``: share of the model left.
    """

    group: str
    ratio: float
    removed: int
    units: int
    value: float
    loss: float
    parameters: float
    macs: float

    def within(self, loss: float) -> bool:
        """Whether it costs no more than that, but for rounding: one of a hundred samples is 0.010000000000000009."""
        return self.loss <= loss + ROUNDING


@dataclass(frozen=True)
class Failure:
    """A measurement that was not possible, and why."""

    group: str
    ratio: float
    reason: str


@dataclass(frozen=True)
class Sensitivity:
    """A whole scan. ``baseline``: the original's metric, with which all ``rows`` are compared; all losses are finite.

    ``agreement``: there were no labels, and the original's outputs took their place. ``fingerprint``: what model,
    scores and samples have in common with another scan whose rows may stand beside these.
    """

    model_hash: str
    criterion: str
    baseline: Metric
    samples: int
    rows: tuple[Row, ...] = ()
    failures: tuple[Failure, ...] = ()
    agreement: bool = False
    fingerprint: str = ""

    def of(self, group: str) -> tuple[Row, ...]:
        """The rows of one group, by ratio."""
        return tuple(sorted((r for r in self.rows if r.group == group), key=lambda r: r.ratio))

    @property
    def entries(self) -> tuple[Row | Failure, ...]:
        """Rows and failures."""
        return (*self.rows, *self.failures)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that were scanned, in their order."""
        return tuple(dict.fromkeys(entry.group for entry in self.entries))

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ladder."""
        return tuple(sorted({entry.ratio for entry in self.entries}))

    def headroom(self, loss: float) -> dict[str, float]:
        """Group -> the largest ratio of the ladder up to which the metric gets worse by no more than ``loss``.

        0 where the smallest ratio costs more already; a ratio that could not be measured counts as too much.
        """
        steps: dict[str, list[tuple[float, bool]]] = {group: [] for group in self.groups}
        for row in self.rows:
            steps[row.group].append((row.ratio, row.within(loss)))
        for failure in self.failures:
            steps[failure.group].append((failure.ratio, False))
        return {group: _up_to(sorted(each)) for group, each in steps.items()}

    def differences(self, other: Sensitivity) -> Iterator[str]:
        """What makes the rows of another scan no rows of this one, in words."""
        words = {"model_hash": "model", "criterion": "criterion", "agreement": "labels", "samples": "number of samples"}
        yield from (word for name, word in words.items() if getattr(self, name) != getattr(other, name))
        if self.baseline.name != other.baseline.name:
            yield "metric"
        if self.fingerprint != other.fingerprint:
            yield "data, scores or options"

    def to_json(self) -> str:
        """The scan as text; `load_sensitivity` reads it."""
        return json.dumps({"onnxprune_sensitivity": FORMAT, **asdict(self)}, indent=1)

    def save(self, path: str | Path) -> None:
        """Write the scan to a file, wholly or not at all; raises DataError."""
        try:
            with replacing(Path(path)) as file:
                file.write(self.to_json().encode("utf-8", "backslashreplace"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"{path}: cannot write the scan: {reason}", "Choose another place to save it.") from error


def _up_to(steps: list[tuple[float, bool]]) -> float:
    held = 0.0
    for ratio, fine in steps:
        if not fine:
            break
        held = ratio
    return held


def load_sensitivity(path: str | Path) -> Sensitivity:
    """Read a scan. Raises DataError for a file that is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("onnxprune_sensitivity") != FORMAT:
            raise DataError(f"{path}: a sensitivity scan of another version", AGAIN)
        rows = tuple(Row(**row) for row in content.pop("rows"))
        failures = tuple(Failure(**failure) for failure in content.pop("failures"))
        empty = Sensitivity(**{**content, "baseline": Metric(**content["baseline"])})
        return replace(empty, rows=rows, failures=failures)
    except OSError as error:
        raise DataError(f"{path}: cannot read the scan: {error.strerror or error}", AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a sensitivity scan: {error}", AGAIN) from error
