"""The text form of a plan: readable JSON, checked field by field when it comes back.

::

    {
      "format": "onnxprune plan",
      "schema": 1,
      "model": {"hash": "...", "name": "net.onnx"},
      "options": {...},
      "recipe": {...},
      "groups": {
        "conv1": {"units": 64, "removed": [0, 5, 17]}
      },
      "weights": {
        "fc.weight": {"shape": [10, 64], "removed": 3, "mask": "..."}
      }
    }

A mask is the base64 of the zlib of ``np.packbits(mask, bitorder="little")`` in C order. Every refusal is a
:class:`PlanError` that names the row, written as a path into the document: ``groups["conv1"].removed[2]``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune._plan_fields import REWRITE, row
from onnxprune.errors import PlanError
from onnxprune.values import Options

__all__ = ["FORMAT", "SCHEMA", "decode", "encode"]

FORMAT = "onnxprune plan"
SCHEMA = 1
CHOICES = {"attention": ("heads", "dims"), "norm_groups": ("whole", "within")}

T = TypeVar("T")


def encode(
    *,
    model: Mapping[str, str],
    options: Options,
    recipe: Mapping[str, Any],
    groups: Mapping[str, tuple[int, list[int]]],
    weights: Mapping[str, NDArray[np.bool_]],
) -> str:
    """The document as text; ``groups`` maps a name to (number of units, removed units)."""
    document = {
        "format": FORMAT,
        "schema": SCHEMA,
        "model": dict(model),
        "options": {**asdict(options), "shapes": dict(options.shapes)},
        "recipe": dict(recipe),
        "groups": {name: {"units": units, "removed": removed} for name, (units, removed) in groups.items()},
        "weights": {name: _mask_to_json(mask) for name, mask in weights.items()},
    }
    return _pretty(document) + "\n"


def decode(text: str) -> dict[str, Any]:
    """The arguments of ``Plan`` out of the text; raises PlanError where the text is not a plan."""
    document = _object(_parse(text), "the document", ())
    _check_version(document)
    fields = ("format", "schema", "model", "options", "recipe", "groups", "weights")
    _object(document, "the document", fields)
    model = _object(document["model"], "model", ("hash", "name"))
    groups = {name: _group(name, entry) for name, entry in _object(document["groups"], "groups").items()}
    return {
        "model_hash": _typed(model["hash"], str, "model.hash"),
        "model_name": _typed(model["name"], str, "model.name"),
        "options": _options(document["options"]),
        "recipe": _object(document["recipe"], "recipe"),
        "units": {name: removed for name, (_, removed) in groups.items()},
        "group_sizes": {name: units for name, (units, _) in groups.items()},
        "weights": {name: _mask(name, entry) for name, entry in _object(document["weights"], "weights").items()},
    }


def _pretty(value: object, depth: int = 0) -> str:
    """JSON with the two outer levels spread over lines and everything below on one line, lists of indices too."""
    if not isinstance(value, dict) or not value or depth == 2:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = "  " * (depth + 1)
    lines = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_pretty(item, depth + 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"


def _parse(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        end = "it ends too early (truncated?)" if error.pos >= len(text.rstrip()) else error.msg
        _refuse(f"line {error.lineno}, column {error.colno}", f"not JSON: {end}")
    except RecursionError:
        _refuse("the document", "not a plan: nested too deeply")
    except ValueError as error:  # an integer of thousands of digits
        _refuse("the document", f"not JSON: {error}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(f'"{twice}"', "the name is there twice")
    return result


def _no_constant(name: str) -> NoReturn:
    _refuse("the document", f"{name} is not a number that JSON has")


def _check_version(document: Mapping[str, Any]) -> None:
    if document.get("format") != FORMAT:
        _refuse("format", f"not a plan: got {_short(document.get('format'))}, expected {FORMAT!r}")
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        _refuse("schema", f"got {_short(schema)}, expected a whole number from 1 to {SCHEMA}")
    if schema > SCHEMA:
        message = f"schema: version {schema} is newer than this onnxprune reads ({SCHEMA})"
        raise PlanError(message, "Upgrade onnxprune, or save the plan with the older version.")


def _group(name: str, entry: object) -> tuple[int, list[int]]:
    where = row("groups", name)
    fields = _object(entry, where, ("units", "removed"))
    removed = _typed(fields["removed"], list, f"{where}.removed")
    bad = next((i for i, unit in enumerate(removed) if type(unit) is not int), None)
    if bad is not None:
        _refuse(f"{where}.removed[{bad}]", f"got {_short(removed[bad])}, expected a whole number")
    return _typed(fields["units"], int, f"{where}.units"), removed


def _options(value: object) -> Options:
    names = tuple(Options.__dataclass_fields__)
    fields = _object(value, "options", names)
    for name, choices in CHOICES.items():
        if fields[name] not in choices:
            _refuse(f"options.{name}", f"got {_short(fields[name])}, expected one of {', '.join(choices)}")
    shapes = _object(fields["shapes"], "options.shapes")
    return Options(
        include_inexact=_typed(fields["include_inexact"], bool, "options.include_inexact"),
        attention=fields["attention"],
        norm_groups=fields["norm_groups"],
        allow_io=tuple(_items(fields["allow_io"], str, "options.allow_io")),
        shapes=tuple((name, _dims(dims, row("options.shapes", name))) for name, dims in shapes.items()),
    )


def _mask_to_json(mask: NDArray[np.bool_]) -> dict[str, Any]:
    packed = np.packbits(mask.ravel(), bitorder="little").tobytes()
    text = base64.b64encode(zlib.compress(packed)).decode("ascii")
    return {"shape": list(mask.shape), "removed": int(mask.sum()), "mask": text}


def _mask(name: str, entry: object) -> NDArray[np.bool_]:
    where = row("weights", name)
    fields = _object(entry, where, ("shape", "removed", "mask"))
    shape = _dims(fields["shape"], f"{where}.shape")
    size = math.prod(shape)
    packed = _unpacked(_typed(fields["mask"], str, f"{where}.mask"), (size + 7) // 8, f"{where}.mask")
    mask = np.unpackbits(packed, count=size, bitorder="little").astype(np.bool_).reshape(shape)
    removed, found = _typed(fields["removed"], int, f"{where}.removed"), int(mask.sum())
    if removed != found:
        _refuse(f"{where}.removed", f"says {removed} weights, but the mask removes {found}")
    return mask


def _unpacked(text: str, length: int, where: str) -> NDArray[np.uint8]:
    """The bytes of a mask; never more than one byte past ``length`` is unpacked, however the file was made."""
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), length + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        _refuse(where, f"not base64 of zlib: {error}")
    if len(data) != length or not (stream.eof or not length):
        got = f"more than {length}" if len(data) > length else str(len(data))
        _refuse(where, f"wrong length: got {got} bytes, expected {length} for this shape")
    return np.frombuffer(data, np.uint8)


def _dims(value: object, where: str) -> tuple[int, ...]:
    dims = _items(value, int, where)
    if any(dim < 0 for dim in dims):
        _refuse(where, f"got {_short(dims)}, expected sizes of 0 or more")
    return tuple(dims)


def _object(value: object, where: str, fields: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object; when ``fields`` are given it must have exactly these."""
    result = _typed(value, dict, where)
    expected = list(fields)
    missing = [name for name in expected if name not in result]
    if missing:
        _refuse(where, f"the field {missing[0]!r} is missing")
    unknown = [name for name in result if expected and name not in expected]
    if unknown:
        _refuse(where, f"unknown field {unknown[0]!r}, expected {', '.join(expected)}")
    return result


def _items(value: object, kind: type[T], where: str) -> list[T]:
    items = _typed(value, list, where)
    return [_typed(item, kind, f"{where}[{i}]") for i, item in enumerate(items)]


def _typed(value: object, kind: type[T], where: str) -> T:
    """The value, if it has exactly this type (a boolean is not a number)."""
    if type(value) is not kind:
        names = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
        _refuse(where, f"got {_short(value)}, expected {names[kind]}")
    return value


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse(where: str, why: str) -> NoReturn:
    raise PlanError(f"{where}: {why}", REWRITE)
