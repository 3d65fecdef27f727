"""Weights in files beside the model: found, and refused where they are not what the model says."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from onnxprune._datafile import DataFile, MemoryFile
from onnxprune._wire import MARKER
from onnxprune.errors import ModelLoadError
from onnxprune.weights import MappedWeight, nbytes_of

__all__ = ["ExternalFiles"]

FAULTY = "The file is damaged or was written by a faulty exporter: export it again."
TOGETHER = "Keep the model and its data files together: copy or download them into one folder."


class ExternalFiles:
    """The files that the tensors of one model name, each opened once.

    ``model``: the model's path (None for one that was made in memory). ``source``: where the data of markers is.
    """

    def __init__(self, model: Path | None, source: DataFile | MemoryFile | None) -> None:
        self.model, self.source = model, source
        self.used = False
        self._files: dict[str, DataFile] = {}

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that were opened, as absolute paths."""
        return tuple(file.path for file in self._files.values())

    def weight(self, name: str, tensor: onnx.TensorProto) -> MappedWeight:
        """The tensor's data. Raises ModelLoadError where they are missing, too few, or in a forbidden place."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        shape, kind = tuple(tensor.dims), tensor.data_type
        if kind == TensorProto.STRING:
            raise ModelLoadError(f"tensor `{name}` keeps strings in another file, which ONNX does not allow", FAULTY)
        location = entries.get("location", "")
        needed = nbytes_of(kind, shape)
        offset = _number(entries, "offset", name, 0)
        length = _number(entries, "length", name, needed)
        if length != needed:
            raise ModelLoadError(
                f"tensor `{name}` has {length:,} bytes of data, expected {needed:,} for shape {list(shape)}", TOGETHER
            )
        file = self._open(location, name, "offset" in entries)
        if offset + length > file.size:
            raise ModelLoadError(
                f"external data file `{location}` is too short: tensor `{name}` needs bytes {offset:,} to "
                f"{offset + length:,}, the file has {file.size:,}",
                "The copy or download was probably cut off: fetch the file again.",
            )
        return MappedWeight(file, offset, shape, kind)

    def _open(self, location: str, name: str, placed: bool) -> DataFile | MemoryFile:
        if location == MARKER:
            if self.source is not None and placed:
                return self.source
            raise ModelLoadError(
                f"the data of tensor `{name}` is not in this proto", "Model.to_proto() gives one with all data."
            )
        self.used = True
        if location not in self._files:
            self._files[location] = self._open_beside(location, name)
        return self._files[location]

    def _open_beside(self, location: str, name: str) -> DataFile:
        what = f"external data file `{location}` of tensor `{name}`"
        if not location:
            raise ModelLoadError(f"tensor `{name}` keeps its data in another file, but does not name it", FAULTY)
        if _leaves(location):
            raise ModelLoadError(
                f"{what} points outside the model's folder: refused",
                "Put the data file beside the model and name it without a folder, or export the model again.",
            )
        if self.model is None:
            raise ModelLoadError(f"{what}: there is no folder to look in", "Pass the path that the model came from.")
        here, behind_link = self.model.parent / location, self.model.resolve().parent / location
        path = here if here.exists() else behind_link
        if not path.is_file():
            fault = "is not a file" if path.exists() else "is missing"
            raise ModelLoadError(f"{what} {fault}: expected at {here}", TOGETHER)
        roots = {self.model.parent.resolve(), self.model.resolve().parent}
        if not any(path.resolve().is_relative_to(root) for root in roots):
            raise ModelLoadError(
                f"{what} is a link to {path.resolve()}, outside the model's folder: refused",
                "Put the data file itself beside the model.",
            )
        try:
            return DataFile(path)
        except OSError as error:
            raise ModelLoadError(f"{what} cannot be read: {os.strerror(error.errno or 0)}", TOGETHER) from error


def _leaves(location: str) -> bool:
    """Whether a location could lie outside the folder, on any operating system."""
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    return bool(windows.anchor or posix.is_absolute() or ".." in windows.parts or "\0" in location)


def _number(entries: dict[str, str], key: str, name: str, default: int) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelLoadError(
            f"tensor `{name}`: the {key} of its external data is `{text}`, expected a number of bytes", FAULTY
        )
    return int(text)
