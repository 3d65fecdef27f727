"""The model as a value: a proto without its bulk, and the constants beside it.

``model.py`` reads and writes it; everything else works on ``Model`` and changes it through ``Model.edit()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune._graphs import all_names, used_names
from onnxprune._hash import model_hash
from onnxprune._tensors import Home, constants, resize
from onnxprune._wire import Filled, fill
from onnxprune.errors import ModelError
from onnxprune.weights import ArrayWeight, Weight, packed

__all__ = ["PROTOBUF_LIMIT", "Model", "ModelEditor"]

PROTOBUF_LIMIT = 2**31 - 1  # bytes of one protobuf message


@dataclass(frozen=True, eq=False)
class Model:
    """An ONNX model that nobody changes.

    ``proto``: the model without the data of large constants of the main graph (a marker stands in for them).
    ``weights``: the main graph's initializers and the outputs of its Constant nodes, by tensor name.
    ``path``: the file that it came from. ``external``: that file kept its weights in other files,
    which are ``data_files``.
    """

    proto: onnx.ModelProto = field(repr=False)
    weights: Mapping[str, Weight] = field(repr=False)
    path: Path | None = None
    external: bool = False
    data_files: tuple[Path, ...] = ()

    @cached_property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of what the model computes and of the names in it; not of how it is stored."""
        return model_hash(self.proto, self.weights)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(weight.nbytes for weight in self.weights.values())

    @property
    def metadata(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    def array(self, name: str) -> NDArray[Any]:
        """Values of the constant ``name``, read-only. Raises ModelError when there is none of that name."""
        if name not in self.weights:
            raise ModelError(f"{self.label} has no constant `{name}`", "`model.weights` lists the constants.")
        return self.weights[name].array()

    @property
    def label(self) -> str:
        """The file's name, or the graph's, for messages."""
        return str(self.path) if self.path else f"model `{self.proto.graph.name}`"

    def __reduce__(self) -> tuple[Any, ...]:
        """Models go to other processes; weights in files stay there."""
        return _restored, (self.proto, dict(self.weights), self.path, self.external, self.data_files)

    def edit(self) -> ModelEditor:
        """A copy to change."""
        return ModelEditor(self)

    def filled(self) -> Filled:
        """The model as one inline file: its exact size, and its bytes in pieces, one weight in memory at a time."""
        return fill(
            self.proto.SerializeToString(),
            lambda name: self.weights[name].nbytes,
            lambda name: (packed(self.weights[name]),),
        )

    def to_bytes(self) -> bytes:
        """The model as one inline file. Raises ModelError when that is not possible (2 GiB or more)."""
        filled = self.filled()
        if filled.size > PROTOBUF_LIMIT:
            raise ModelError(
                f"{self.label} takes {filled.size:,} bytes, and one ONNX message holds at most {PROTOBUF_LIMIT:,}",
                "Save it with external data: save(model, path, external=True).",
            )
        return b"".join(filled.chunks)

    def to_proto(self) -> onnx.ModelProto:
        """A full copy with all data inline. Raises ModelError when that is not possible (2 GiB or more)."""
        proto = onnx.ModelProto()
        proto.ParseFromString(self.to_bytes())
        return proto


class ModelEditor:
    """A copy of a model's proto and of its table of weights; ``build`` makes a model of them.

    Change ``proto`` freely, except for the data of constants: those are in ``weights`` (``set_weight``). A constant
    is removed by removing it from ``weights``, or its initializer or Constant node from ``proto``.
    """

    def __init__(self, model: Model) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(model.proto)
        self.weights: dict[str, Weight] = dict(model.weights)
        self._model = model
        self._homes = set(model.weights)  # names that had an initializer or a Constant node at some time
        self._used: set[str] | None = None

    def set_weight(self, name: str, value: NDArray[Any] | Weight) -> None:
        """Replace the values of a constant, or make a new initializer of that name.

        The ONNX type stays where the NumPy type does. The array is not copied: do not write to it afterwards.
        """
        if isinstance(value, np.ndarray):
            value = ArrayWeight(value)
        self.weights[name] = value

    def add_weight(self, base_name: str, array: NDArray[Any] | Weight) -> str:
        """A new initializer; returns its name, which is ``base_name`` or begins with it."""
        name = self.fresh(base_name)
        self.set_weight(name, array)
        return name

    def fresh(self, base: str) -> str:
        """A name that no tensor and no node has; it counts as used from now on."""
        if self._used is None:
            self._used = set(all_names(self.proto))
        name, number = base, 1
        while name in self._used or name in self.weights:
            number += 1
            name = f"{base}_{number}"
        self._used.add(name)
        return name

    def set_metadata(self, key: str, value: str) -> None:
        """Set one entry of the model's metadata."""
        for entry in self.proto.metadata_props:
            if entry.key == key:
                entry.value = value
                return
        self.proto.metadata_props.add(key=key, value=value)

    def build(self) -> Model:
        """The model as it is now; the editor may be used further. Initializers that nothing uses stay."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        weights = self._settle(proto)
        old = self._model
        return Model(proto, MappingProxyType(weights), old.path, old.external, old.data_files)

    def _settle(self, proto: onnx.ModelProto) -> dict[str, Weight]:
        """Make the constants in ``proto`` those of the table; returns the table of those that are there."""
        homes = constants(proto.graph)
        kept: dict[str, Weight] = {}
        for name, home in homes.items():
            if name in self.weights:
                kept[name] = self.weights[name]
                if self._changed(name):
                    home.store(kept[name])
            elif name not in self._homes:
                kept[name] = home.adopt()
        _remove(proto.graph, homes.keys() - kept.keys())
        for name in self._homeless(proto.graph, self.weights.keys() - homes.keys()):
            kept[name] = self.weights[name]
            Home(name, proto.graph.initializer.add(name=name)).store(kept[name])
        resize(proto.graph, {name: weight for name, weight in kept.items() if self._changed(name)})
        return kept

    def _changed(self, name: str) -> bool:
        return self.weights.get(name) is not self._model.weights.get(name)

    def _homeless(self, graph: onnx.GraphProto, names: set[str]) -> list[str]:
        """Those that need an initializer: new ones, and old ones that lost theirs and are still used."""
        used = set(used_names(graph)) if names & self._homes else set()
        return [name for name in self.weights if name in names and (name not in self._homes or name in used)]


def _remove(graph: onnx.GraphProto, names: set[str]) -> None:
    """Take the constants of these names out of the graph."""
    if not names:
        return
    initializers = [t for t in graph.initializer if t.name not in names]
    nodes = [n for n in graph.node if not (n.op_type == "Constant" and n.output[0] in names)]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(initializers)
    graph.node.extend(nodes)


def _restored(proto: onnx.ModelProto, weights: dict[str, Weight], *origin: Any) -> Model:
    return Model(proto, MappingProxyType(weights), *origin)
