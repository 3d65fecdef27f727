"""Sessions: a model ready to run.

A session gets the model's small skeleton as bytes and the weights as arrays beside it, so that it needs no second
copy of the model and no temporary file, and works beyond 2 GiB. onnxruntime's messages do not reach the terminal;
its errors become UnsupportedModel (no kernel, unknown operator, too new) or ModelError.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

from onnxprune._feeds import check_feeds, model_inputs
from onnxprune._graphs import keep_outputs
from onnxprune._messages import translated
from onnxprune._model import Model
from onnxprune._tensors import constants
from onnxprune._wire import MARKER
from onnxprune.errors import OptionError
from onnxprune.runtime.arrays import Array, call_of, gives_odd, to_numpy, to_ort
from onnxprune.runtime.cache import FED_MOST, LARGEST, sessions
from onnxprune.runtime.devices import check_running, device_of
from onnxprune.runtime.native import ERRORS, Setup, native, runs_on, version
from onnxprune.weights import PACKED_BITS

__all__ = ["Session", "open_session", "session"]

IN_PLACE_FROM = 1 << 20  # bytes; onnxruntime may want to look into smaller weights while it loads a model


class Session:
    """A model ready to run; made by ``session``.

    ``inputs``: what ``run`` takes. ``outputs``: names of what it gives. ``provider``: "cpu" or "cuda".
    ``native``: onnxruntime's own session, which may be shared by several of these.
    """

    def __init__(self, made: ort.InferenceSession, model: Model, kept: object = None) -> None:
        self.inputs = model_inputs(model)
        self.outputs = tuple(output.name for output in made.get_outputs())
        self.provider = runs_on(made)
        self.native = made
        self._label = model.label
        self._kept = kept  # arrays that onnxruntime reads in place
        self._odd = gives_odd(made)
        self._defaults = {value.name for value in made.get_overridable_initializers()}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array (a list, for an output that is a sequence).

        Raises DataError when the feeds do not fit the inputs, ModelError when onnxruntime fails.
        """
        check_feeds(self._label, self.inputs, self._defaults, feeds)
        if sum(np.asarray(value).nbytes for value in feeds.values()) > FED_MOST:
            sessions.forget(self.native)
        try:
            found = call_of(self.native, self.outputs, feeds, odd=self._odd)()
        except ERRORS as error:
            raise translated(error, f"{self._label} failed to run") from error
        return dict(zip(self.outputs, map(to_numpy, found), strict=True))

    def call(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """A function that runs these feeds without checking them again, for measuring; they ran once by then.

        It raises onnxruntime's own errors.
        """
        self.run(feeds)
        return call_of(self.native, self.outputs, feeds, odd=self._odd)

    def events(self) -> list[dict[str, Any]]:
        """End the profile and return onnxruntime's events; once, for a session made with ``profile=True``."""
        found: list[dict[str, Any]] = json.loads(Path(self.native.end_profiling()).read_text(encoding="utf-8"))
        return found


def session(  # noqa: PLR0913 - one argument for each thing that a session can be asked for, most of them never
    model: Model,
    *,
    outputs: Sequence[str] | None = None,
    provider: str = "auto",
    threads: int | None = None,
    optimize: bool = True,
    profile: bool = False,
    prepack: bool = True,
    tf32: bool = False,
    cache: bool = True,
) -> Session:
    """Make a model ready to run, or take what an equal model was made into under the same arguments.

    ``outputs``: tensors of the main graph to give instead of the model's outputs; what they do not need is not run.
    ``provider``: "cpu", "cuda", or "auto" for the fastest usable one. ``threads``: None leaves it to onnxruntime.
    ``optimize``: let onnxruntime fuse and fold. ``prepack``: let it rearrange weights (faster runs, more memory).
    Without both, a session on the CPU takes next to no memory: it reads the weights where they are. ``tf32``: let a
    GPU round the factors of products to 10 bits of mantissa. ``cache``: False for a model that is run once and
    forgotten; large models (over 128 MB), profiles and sessions without ``optimize`` are never kept.

    Raises OptionError (no such tensor or device, no threads), UnsupportedModel and ModelError.
    """
    check_running(provider, threads)
    setup = Setup(device_of(provider), threads, optimize, prepack, tf32)
    return open_session(model, setup, outputs, profile=profile, cache=cache)


def open_session(
    model: Model, setup: Setup, outputs: Sequence[str] | None = None, *, profile: bool = False, cache: bool = True
) -> Session:
    """As ``session``, for a ``Setup``."""
    if outputs is not None:
        _check_outputs(model, outputs)
    if not (cache and setup.optimize and not profile and model.nbytes <= LARGEST):
        return _make(model, setup, outputs, profile=profile)
    names = outputs if outputs is not None else [value.name for value in model.proto.graph.output]
    key = (model.hash, model.proto.ir_version, outputs is None, *dict.fromkeys(names), setup)
    found = sessions.get(key)
    if found is not None:
        return Session(found, model)
    made = _make(model, setup, outputs)
    sessions.put(key, made.native, model.nbytes)
    return made


def _make(model: Model, setup: Setup, outputs: Sequence[str] | None, *, profile: bool = False) -> Session:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    if outputs is not None:
        keep_outputs(proto.graph, dict.fromkeys(outputs))
    options = setup.options()
    in_place = setup.device == "cpu" and not setup.optimize
    kept = _hand_over(proto, model, options, in_place=in_place)
    folder = tempfile.mkdtemp(prefix="onnxprune-") if profile else None
    if folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
    try:
        with _marker_file(options):
            made = native(proto.SerializeToString(), setup, options)
    except ERRORS as error:
        raise translated(error, f"onnxruntime {version()} cannot load {model.label}") from error
    ready = Session(made, model, kept if in_place else None)
    if folder:
        weakref.finalize(ready, shutil.rmtree, folder, ignore_errors=True)
    return ready


def _check_outputs(model: Model, names: Sequence[str]) -> None:
    graph = model.proto.graph
    known = {name for node in graph.node for name in node.output}
    known.update(model.weights, (value.name for value in graph.input))
    for name in names:
        if name not in known or not name:
            close = get_close_matches(name, known, n=3)
            raise OptionError(
                f"{model.label} has no tensor `{name}`",
                f"Did you mean {', '.join(close)}?" if close else "Name a tensor of the main graph.",
            )
    if not names:
        raise OptionError("no outputs are asked for", "Name at least one tensor.")


def _hand_over(
    proto: onnx.ModelProto, model: Model, options: ort.SessionOptions, *, in_place: bool
) -> list[ort.OrtValue]:
    """Give onnxruntime the data of every marker: as an array beside the proto, or inline where it has no array type.

    It copies external initializers while it makes the session, and reads shared ones in place as long as the session
    lives. But of a shared one it ignores what its optimizer made (a transposed weight, for one), so that ``in_place``
    needs the optimizer off.
    """
    copied: dict[str, ort.OrtValue] = {}
    shared: dict[str, ort.OrtValue] = {}
    for name, home in constants(proto.graph).items():
        if home.tensor is None or home.tensor.data_location != TensorProto.EXTERNAL:
            continue
        weight = model.weights[name]
        if weight.onnx_type in PACKED_BITS:
            home.store(weight, limit=inf)
        else:
            large = in_place and weight.nbytes >= IN_PLACE_FROM
            (shared if large else copied)[name] = to_ort(weight.array())
    if copied:
        options.add_external_initializers(list(copied), list(copied.values()))
    for name, value in shared.items():
        options.add_initializer(name, value)
    return [*copied.values(), *shared.values()]


@contextmanager
def _marker_file(options: ort.SessionOptions) -> Iterator[None]:
    """An empty file under the name in the markers: onnxruntime looks whether there is one, and does not read it."""
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        Path(folder, MARKER).touch()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        yield
