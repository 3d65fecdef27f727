"""What is selected, as the page's address and the browser's store hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Any
from urllib.parse import parse_qs, urlencode

__all__ = ["Selection", "from_query", "opened", "to_query"]

LARGEST = 2**31  # no tree has so many steps


@dataclass(frozen=True)
class Selection:
    """``step``: the selected step; ``other``: the one that it is compared with; ``group``: the selected group.

    ``criterion``: what the units are judged by; ``threshold``: units that score lower are to go. ``tab``: the open tab
    of each area as ``area:view`` words, separated by blanks; ``drawer:view`` for the drawer that is open. ``data``:
    path of the dataset to work with, in place of the step's own.
    """

    step: int | None = None
    other: int | None = None
    group: str | None = None
    criterion: str | None = None
    threshold: float | None = None
    tab: str | None = None
    data: str | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Selection:
        """From a store; what it does not know is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in (stored or {}).items() if name in known})

    def changed(self, **changes: Any) -> dict[str, Any]:
        """The store's value after a change."""
        return asdict(replace(self, **changes))


def opened(tab: str | None) -> dict[str, str]:
    """Area -> the view whose tab is open there, as the word ``tab`` of a selection has it."""
    parts = [word.partition(":") for word in (tab or "").split()]
    return {area: view for area, colon, view in parts if colon}


def to_query(selection: Selection) -> str:
    """``?step=3&group=conv1``: what is not given is left out."""
    given = {name: value for name, value in asdict(selection).items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def from_query(text: str | None) -> Selection:
    """The opposite of `to_query`; what cannot be read is left out, because people edit addresses."""
    found: dict[str, Any] = {}
    for name, (value, *_) in parse_qs((text or "").removeprefix("?")).items():
        try:
            if name in ("step", "other"):
                found[name] = int(value) if 0 < int(value) < LARGEST else None
            elif name == "threshold":
                found[name] = float(value) if isfinite(float(value)) else None
            else:
                found[name] = value
        except ValueError:
            continue
    return Selection.of(found)
