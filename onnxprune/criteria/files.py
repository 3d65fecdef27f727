"""Score files: ``.npz`` with one array per group (or per weight), readable by ``numpy.load`` under those names.

Arrays are written as their pieces come and are not compressed: random-looking numbers shrink by a tenth and take
twenty times as long. The entry ``__onnxprune__`` holds, as JSON text, the kind of the scores, the criterion, the
model's hash, the warnings.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune._atomic import replacing
from onnxprune.criteria.base import Pieces, Scores, UnitScores, WeightScores
from onnxprune.errors import DataError

__all__ = ["load_scores", "save_scores"]

HEADER = "__onnxprune__"
AGAIN = "Make the file again with `onnxprune score MODEL -o FILE.npz`."


def save_scores(scores: Scores, path: str | Path) -> None:
    """Write the scores, one array at a time. Raises DataError; whatever was at ``path`` is then still there."""
    header = {
        "version": 1,
        "kind": "unit" if isinstance(scores, UnitScores) else "weight",
        "criterion": scores.criterion,
        "model_hash": scores.model_hash,
        "warnings": list(scores.warnings),
    }
    try:
        with replacing(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _put(archive, HEADER, _pieces(np.array(json.dumps(header))))
            for name in scores:
                _put(archive, name, scores.pieces(name) if isinstance(scores, WeightScores) else _pieces(scores[name]))
    except OSError as error:
        raise DataError(
            f"{path}: cannot write the scores: {error.strerror or error}", "Choose another place."
        ) from error


def _pieces(array: NDArray[Any]) -> Pieces:
    return Pieces(array.shape, array.dtype, iter((array,)))


def _put(archive: zipfile.ZipFile, name: str, pieces: Pieces) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy")  # the fixed date of ZipInfo: equal scores make equal files
    about = {"descr": np.lib.format.dtype_to_descr(pieces.dtype), "fortran_order": False, "shape": pieces.shape}
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, about)
        for part in pieces.parts:
            file.write(np.ascontiguousarray(part, pieces.dtype).reshape(-1).view(np.uint8).data)


def load_scores(path: str | Path) -> Scores:
    """Read a score file; the arrays of single weights are read when they are asked for. Raises DataError."""
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if HEADER not in file:
                raise DataError(f"{path}: not a score file: it has no entry {HEADER}", AGAIN)
            header = json.loads(str(file[HEADER]))
            names = tuple(name for name in file.files if name != HEADER)
            about = (header["criterion"], header["model_hash"], tuple(header["warnings"]))
            if header["kind"] == "unit":
                return UnitScores({name: file[name] for name in names}, *about)
    except OSError as error:
        raise DataError(f"{path}: cannot read the scores: {error.strerror or error}", AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a score file: {error}", AGAIN) from error
    return WeightScores(names, lambda name: _read(path, name), *about)


def _read(path: str | Path, name: str) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as file:
        return np.asarray(file[name])
