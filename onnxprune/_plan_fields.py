"""The fields of a plan in their one true form: sorted, read-only, checked.

What is refused raises :class:`PlanError` with the row in front: ``groups["conv1"].removed[2]: ...``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnxprune.errors import PlanError
from onnxprune.values import Ints

__all__ = ["REWRITE", "indices", "json_values", "read_only", "row", "size"]

REWRITE = "Write the plan again with this version of onnxprune, or correct the row by hand."


def row(section: str, name: str, tail: str = "") -> str:
    """Name an entry as messages show it: ``groups["conv1"].removed``."""
    return f"{section}[{json.dumps(name, ensure_ascii=False)}]{tail}"


def size(name: str, units: int) -> int:
    """Check the number of units of a group: 1 or more."""
    if int(units) != units or units < 1:
        raise PlanError(f"{row('groups', name)}.units: got {units}, expected 1 or more", REWRITE)
    return int(units)


def indices(name: str, units: Sequence[int] | Ints, sizes: Mapping[str, int]) -> Ints:
    """Sort the removed units of a group into a read-only int64 array; each must be there once and in range."""
    where = row("groups", name, ".removed")
    if name not in sizes:
        raise PlanError(f"{row('groups', name)}: no size given", "Give the number of units of every group named.")
    values = _whole_numbers(units, where)
    bad = np.flatnonzero((values < 0) | (values >= sizes[name]))
    if bad.size:
        what = f"unit {values[bad[0]]} is out of range, the group has {sizes[name]} units (from 0)"
        raise PlanError(f"{where}[{bad[0]}]: {what}", REWRITE)
    result: Ints = np.sort(values.astype(np.int64))
    twice = result[1:][result[1:] == result[:-1]]
    if twice.size:
        raise PlanError(f"{where}: unit {twice[0]} is there twice", REWRITE)
    result.setflags(write=False)
    return result


def read_only(name: str, mask: ArrayLike) -> NDArray[np.bool_]:
    """Copy a mask, unless nobody can change it any more; it must be boolean already."""
    result = np.asarray(mask)
    if result.dtype != np.bool_:
        raise PlanError(f"{row('weights', name)}: the mask is {result.dtype}, not boolean", "True means removed.")
    if result.base is not None or result.flags.writeable or not result.flags.c_contiguous:
        result = np.array(result, order="C")
    result.setflags(write=False)
    return result


def json_values(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a recipe as JSON gives it back: lists for tuples, text for keys, plain numbers for NumPy's."""
    try:
        text = json.dumps(dict(recipe), allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise PlanError(f"recipe: {error}", "A recipe holds texts, numbers, lists and objects of these.") from None
    except RecursionError:
        raise PlanError("recipe: nested too deeply", "Keep it flat.") from None
    values: dict[str, Any] = json.loads(text)
    return values


def _whole_numbers(units: Sequence[int] | Ints, where: str) -> NDArray[Any]:
    """Return a list as an array; numbers past 64 bits arrive as objects, to be found out of range."""
    values = np.asarray(units if len(units) else np.zeros(0, np.int64))
    objects = values.dtype.kind == "O" and all(isinstance(value, int) for value in values.flat)
    if values.ndim != 1 or not (values.dtype.kind in "iu" or objects):
        raise PlanError(f"{where}: got {values.ndim}-D {values.dtype}, expected a list of whole numbers", REWRITE)
    return values


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
