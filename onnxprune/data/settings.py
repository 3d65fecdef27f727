"""``dataset.toml``: what a file of data does not say of itself (docs/datasets.md shows it).

Every key has a parser that returns the value or raises ValueError with what was expected; nothing else is accepted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.data.prepare import COLORS, LAYOUTS, MODES, Preprocess
from onnxprune.errors import DataError

__all__ = ["FILE", "Settings", "parse_settings", "read_settings"]

FILE = "dataset.toml"
Parser = Callable[[Any], Any]


@dataclass(frozen=True)
class Settings:
    """``labels``: the array that holds them. ``class_names``: in the order of the labels, or of the class folders.

    ``splits``: name -> how the data call this split, or its first row and the one behind its last. ``inputs``:
    preprocessing by input name, "" for all others. ``allow_nan``: missing values are meant to be there.
    """

    labels: str = "y"
    class_names: tuple[str, ...] = ()
    splits: Mapping[str, str | tuple[int, int]] = field(default_factory=dict)
    inputs: Mapping[str, Preprocess] = field(default_factory=dict)
    allow_nan: bool = False


def read_settings(data: Path) -> Settings:
    """The settings for a file or folder of data: those in a folder, or beside a file, there NAME.toml first.

    Raises DataError for what is not TOML, for a key that is not known and for a value that makes no sense.
    """
    candidates = [data / FILE] if data.is_dir() else [data.with_suffix(".toml"), data.with_name(FILE)]
    for path in candidates:
        if path.is_file():
            try:
                values = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise DataError(
                    f"{path}: cannot be read as TOML: {error}", "docs/datasets.md shows examples."
                ) from error
            return parse_settings(values, str(path))
    return Settings()


def parse_settings(values: Mapping[str, Any], where: str = FILE) -> Settings:
    """The settings that a mapping holds; ``where`` begins each message. Raises DataError as the file does."""
    common = {key: value for key, value in values.items() if key in PREPROCESS}
    own = _table(values.get("inputs", {}), "inputs", where)
    rest = _parsed({k: v for k, v in values.items() if k not in PREPROCESS and k != "inputs"}, GENERAL, where, "inputs")
    inputs = {
        name: Preprocess(**_parsed({**common, **_table(keys, f"inputs.{name}", where)}, PREPROCESS, where))
        for name, keys in own.items()
    }
    if common:
        inputs[""] = Preprocess(**_parsed(common, PREPROCESS, where))
    if "split" in rest:
        rest["splits"] = rest.pop("split")
    return Settings(**rest, inputs=inputs)


def _parsed(values: Mapping[str, Any], parsers: Mapping[str, Parser], where: str, *others: str) -> dict[str, Any]:
    result = {}
    for key, value in values.items():
        if key not in parsers:
            known = [*parsers, *others, *(PREPROCESS if others else ())]
            near = get_close_matches(key, known, 2) or known
            raise DataError(f"{where}: there is no key `{key}`", f"Nearest: {', '.join(near)}.")
        try:
            result[key] = parsers[key](value)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise DataError(f"{where}: {key} = {value!r}: {error}", "docs/datasets.md shows examples.") from error
    return result


def _table(value: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: {name} = {value!r}, expected a table [{name}]", "docs/datasets.md shows examples.")
    return value


def _number(value: Any) -> float:
    """A number, or a fraction as text: "1/255"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('expected a number, or a fraction such as "1/255"')
    try:
        number = float(Fraction(value)) if isinstance(value, str) else float(value)
    except ValueError:
        raise ValueError('expected a number, or a fraction such as "1/255"') from None
    if not isfinite(number):
        raise ValueError("expected a finite number")
    return number


def _numbers(value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("expected a number, or one for each channel")
    return tuple(_number(v) for v in values)


def _divisors(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    if min(numbers) <= 0:
        raise ValueError("expected numbers above 0")
    return numbers


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(v) is int and v > 0 for v in value):
        raise ValueError("expected a list of sizes above 0")
    return tuple(value)


def _height_width(value: Any) -> tuple[int, ...]:
    sizes = _sizes([value, value] if type(value) is int else value)
    if len(sizes) != 2:
        raise ValueError("expected [height, width]")
    return sizes


def _one_of(options: tuple[str, ...], value: Any) -> str:
    for option in options:
        if isinstance(value, str) and value.lower() == option.lower():
            return option
    raise ValueError(f"expected one of {', '.join(options)}")


def _dtype(value: Any) -> str:
    try:
        return np.dtype(str(value)).name
    except TypeError:
        raise ValueError("expected a type such as float32 or int64") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected a name")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value) or len(set(value)) != len(value):
        raise ValueError("expected a list of different names")
    return tuple(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _splits(value: Any) -> dict[str, str | tuple[int, int]]:
    """Name -> what the data call it, or [first row, the row behind the last]."""
    if not isinstance(value, dict):
        raise ValueError("expected a table [split]")
    result: dict[str, str | tuple[int, int]] = {}
    for name, what in value.items():
        if isinstance(what, list):
            if len(what) != 2 or not all(type(row) is int for row in what) or not 0 <= what[0] < what[1]:
                raise ValueError(f"{name}: expected [first row, row behind the last]")
            result[name] = (what[0], what[1])
        else:
            result[name] = _text(what)
    return result


GENERAL: Mapping[str, Parser] = {
    "labels": _text,
    "class_names": _names,
    "split": _splits,
    "allow_nan": _truth,
}
PREPROCESS: Mapping[str, Parser] = {
    "scale": _number,
    "mean": _numbers,
    "std": _divisors,
    "reshape": _sizes,
    "layout": partial(_one_of, LAYOUTS),
    "model_layout": partial(_one_of, LAYOUTS),
    "dtype": _dtype,
    "resize": _height_width,
    "resize_mode": partial(_one_of, MODES),
    "crop": _height_width,
    "color": partial(_one_of, COLORS),
}
