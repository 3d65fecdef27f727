"""Reading and writing ONNX files: the only door between the file system and the rest.

``load`` parses a file without its bulk (``_wire.py``), checks it (``check.py``), and leaves the weights where they
are until somebody reads them. ``save`` writes one weight after the other. Neither needs memory for the whole model.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from onnx import TensorProto, inliner

from onnxprune import runtime
from onnxprune._atomic import replacing
from onnxprune._datafile import DataFile, MemoryFile
from onnxprune._ingest import check_structure, ingest
from onnxprune._model import PROTOBUF_LIMIT, Model, ModelEditor
from onnxprune._tensors import constants
from onnxprune._wire import WireError, slim
from onnxprune.errors import ModelError, ModelLoadError, ModelSaveError
from onnxprune.weights import ArrayWeight, DerivedWeight, MappedWeight, TensorWeight, Weight, packed

__all__ = [
    "ArrayWeight",
    "DerivedWeight",
    "MappedWeight",
    "Model",
    "ModelEditor",
    "TensorWeight",
    "Weight",
    "check",
    "from_proto",
    "inline_functions",
    "load",
    "save",
]

EXTERNAL_FROM = 1_900_000_000  # bytes of a file from which on weights go into a file of their own
ALIGNMENT = 64  # bytes; where each tensor begins in a data file

# First bytes of files that people mistake for ONNX, at their position, and what they are.
OTHER_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive, as PyTorch (.pt, .pt2) and Keras (.keras) write them"),
    (0, b"\x89HDF", "an HDF5 file, as older Keras writes them"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "a model in onnxruntime's own format"),
    (0, b"\x80\x02", "a pickle, as scikit-learn, joblib and old PyTorch write them"),
    (0, b"\x80\x04", "a pickle, as scikit-learn, joblib and old PyTorch write them"),
    (0, b"\x80\x05", "a pickle, as scikit-learn, joblib and old PyTorch write them"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded"),
    (0, b"<", "a web page or an XML file, not a model: the download went wrong"),
)


def load(path: str | os.PathLike[str]) -> Model:
    """Read and check an ONNX file.

    Raises ModelLoadError (no such file, not ONNX, truncated, weights missing, a cycle, ...) and UnsupportedModel
    (IR version or opset newer than the installed onnxruntime).
    """
    path = Path(path)
    file = _open(path)
    whole = file.whole()
    try:
        proto = onnx.ModelProto.FromString(slim(whole))
    except (WireError, DecodeError, ValueError) as error:
        raise _not_onnx(path, whole[:64], str(error)) from error
    if not proto.HasField("graph"):
        raise _not_onnx(path, whole[:64], "it holds no graph")
    whole.close()
    return ingest(proto, path, file)


def from_proto(proto: onnx.ModelProto, path: str | os.PathLike[str] | None = None) -> Model:
    """A model from a proto in memory, which is copied.

    ``path`` is where it came from: external data are looked for in that folder. Raises as ``load`` does.
    """
    try:
        content = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelLoadError(
            f"model `{proto.graph.name}` cannot be serialised: {error}",
            "A proto of 2 GiB or more cannot: save it with external data and load the file.",
        ) from error
    skeleton = onnx.ModelProto.FromString(slim(content))
    return ingest(skeleton, Path(path) if path is not None else None, MemoryFile(content))


def check(model: Model) -> None:
    """Check wiring and versions. Raises ModelError or UnsupportedModel."""
    check_structure(model.proto, model.label, ModelError)
    runtime.check_versions(model.proto, model.label)


def save(model: Model, path: str | os.PathLike[str], *, external: bool | None = None) -> None:
    """Write a model; the file is either wholly the new one or still the old one.

    ``external``: weights go to ``<path>.data``; None does so where the model came from such files or is larger than
    one protobuf message holds. Parent folders are not made. Raises ModelSaveError.
    """
    path = Path(os.path.realpath(path))
    check_structure(model.proto, model.label, ModelSaveError)
    filled = model.filled()
    if external is None:
        external = model.external or filled.size > EXTERNAL_FROM
    if not external and filled.size > PROTOBUF_LIMIT:
        raise ModelSaveError(
            f"{path}: the model takes {filled.size:,} bytes, and a file without external data holds at most "
            f"{PROTOBUF_LIMIT:,}",
            "Save it with external data.",
        )
    try:
        _check_target(path)
        if external:
            _write_external(model, path)
        else:
            with replacing(path) as file:
                file.writelines(filled.chunks)
    except OSError as error:
        raise _cannot_write(path, error) from error


def inline_functions(model: Model) -> Model:
    """The model with calls of its local functions replaced by their bodies; itself where it has none.

    Raises ModelError when a function cannot be inlined.
    """
    if not model.proto.functions:
        return model
    editor = model.edit()
    try:
        editor.proto = inliner.inline_local_functions(model.proto)
        if editor.proto.functions:  # those for other opsets than the model's
            editor.proto = inliner.inline_local_functions(model.proto, convert_version=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{model.label}: its local functions cannot be inlined: {error}",
            "Export the model without local functions.",
        ) from error
    return editor.build()


def _open(path: Path) -> DataFile:
    if not path.exists():
        near = _near(path)
        raise ModelLoadError(
            f"{path} does not exist", f"Did you mean {near}?" if near else "Check the spelling and the folder."
        )
    if path.is_dir():
        inside = sorted(path.glob("*.onnx"))
        raise ModelLoadError(
            f"{path} is a folder, not an ONNX file",
            f"It holds {inside[0]}: name that file." if inside else "Name the .onnx file.",
        )
    if not path.is_file():
        raise ModelLoadError(f"{path} is not a regular file", "Name the .onnx file.")
    try:
        file = DataFile(path)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from error
    if file.size == 0:
        raise ModelLoadError(f"{path} is empty (0 bytes)", "The copy or download did not finish: fetch it again.")
    return file


def _near(path: Path) -> str:
    names = [p.name for p in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
    close = get_close_matches(path.name, names, n=1)
    return str(path.with_name(close[0])) if close else ""


def _not_onnx(path: Path, head: bytes, reason: str) -> ModelLoadError:
    for position, magic, words in OTHER_FORMATS:
        if head[position:].startswith(magic):
            return ModelLoadError(
                f"{path} is not an ONNX file: it is {words}", "Export it to ONNX, or use `onnxprune convert`."
            )
    return ModelLoadError(
        f"{path} is not an ONNX file, or it is truncated: {reason}",
        "If it is ONNX, the copy or download was cut off: fetch it again.",
    )


def _check_target(path: Path) -> None:
    if not path.parent.is_dir():
        raise ModelSaveError(f"{path} cannot be written: there is no folder {path.parent}", "Make the folder first.")
    if path.is_dir():
        raise ModelSaveError(f"{path} cannot be written: it is a folder", "Name a file in it.")
    if path.exists() and not os.access(path, os.W_OK):
        raise ModelSaveError(f"{path} cannot be written: it is write-protected", "Choose another name.")


def _cannot_write(path: Path, error: OSError) -> ModelSaveError:
    return ModelSaveError(
        f"{path} cannot be written: {error.strerror or error}",
        "What was there before is unchanged. Check the free space and the permissions of the folder.",
    )


def _write_external(model: Model, path: Path) -> None:
    """Both files are complete on the disk before the first of them takes its place."""
    data_path = path.with_name(f"{path.name}.data")
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    with replacing(path) as file, replacing(data_path) as data:
        for name, home in constants(proto.graph).items():
            if home.tensor is not None and home.tensor.data_location == TensorProto.EXTERNAL:
                _append(data, model.weights[name], home.tensor, data_path.name)
        file.write(proto.SerializeToString())
        file.flush()
        os.fsync(file.fileno())


def _append(data: BinaryIO, weight: Weight, tensor: onnx.TensorProto, location: str) -> None:
    data.write(b"\0" * (-data.tell() % ALIGNMENT))
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", data.tell()), ("length", weight.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    data.write(packed(weight))
