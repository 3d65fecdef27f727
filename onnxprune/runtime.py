"""Running models on onnxruntime: sessions, usable devices, its limits, and measured latency.

A session gets the model's small skeleton as bytes and the weights as arrays beside it, so that it needs no second
copy of the model and no temporary file, and works beyond 2 GiB. onnxruntime's messages do not reach the terminal;
its errors become UnsupportedModel (no kernel, unknown operator, too new) or ModelError.
"""

from __future__ import annotations

import ctypes
import io
import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from math import inf, prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxprune._feeds import TensorInfo, check_feeds, model_inputs
from onnxprune._graphs import keep_outputs
from onnxprune._messages import translated
from onnxprune._model import Model
from onnxprune._tensors import constants
from onnxprune._wire import MARKER
from onnxprune.errors import OptionError, UnsupportedModel
from onnxprune.weights import PACKED_BITS, dtype_of, type_of

__all__ = [
    "Latency",
    "Session",
    "TensorInfo",
    "check_install",
    "check_versions",
    "measure_latency",
    "model_inputs",
    "providers",
    "session",
]

Array = NDArray[Any]

NATIVE = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
IN_PLACE_FROM = 1 << 20  # bytes; onnxruntime may want to look into smaller weights while it loads a model
FATAL = 4  # onnxruntime's log level at which it is silent
UPDATE = "Update onnxruntime, or export the model for an older version."

# onnxruntime's errors have no base class of their own.
_OWN = vars(ort.capi.onnxruntime_pybind11_state).values()
ERRORS: tuple[type[Exception], ...] = (
    OSError,  # libraries of a device that cannot be loaded
    RuntimeError,
    ValueError,
    *(kind for kind in _OWN if isinstance(kind, type) and issubclass(kind, Exception)),
)


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call, measured: median, 10th and 90th percentile. ``threads`` None: onnxruntime's choice.

    ``batch`` is the first size of the first input.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    threads: int | None
    provider: str
    batch: int


class Session:
    """A model ready to run; made by ``session``.

    ``inputs``: what ``run`` takes. ``outputs``: names of what it gives. ``provider``: "cpu" or "cuda".
    """

    def __init__(self, native: ort.InferenceSession, model: Model, outputs: tuple[str, ...], kept: object) -> None:
        self.inputs = model_inputs(model)
        self.outputs = outputs
        self.provider = "cuda" if NATIVE["cuda"] in native.get_providers() else "cpu"
        self._label = model.label
        self._native = native
        self._kept = kept  # arrays that onnxruntime reads in place
        self._kinds = {output.name: output.type for output in native.get_outputs()}
        self._defaults = {value.name for value in native.get_overridable_initializers()}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array (a list, for an output that is a sequence).

        Raises DataError when the feeds do not fit the inputs, ModelError when onnxruntime fails.
        """
        check_feeds(self._label, self.inputs, self._defaults, feeds)
        names = list(self.outputs)
        try:
            if self._is_plain(feeds):
                found = self._native.run(names, dict(feeds))
            else:
                values = {name: _to_ort(np.asarray(value)) for name, value in feeds.items()}
                found = [_to_numpy(value) for value in self._native.run_with_ort_values(names, values)]
        except ERRORS as error:
            raise translated(error, f"{self._label} failed to run") from error
        return dict(zip(names, found, strict=True))

    def events(self) -> list[dict[str, Any]]:
        """End the profile and return onnxruntime's events; once, for a session made with ``profile=True``."""
        found: list[dict[str, Any]] = json.loads(Path(self._native.end_profiling()).read_text(encoding="utf-8"))
        return found

    def _is_plain(self, feeds: Mapping[str, Array]) -> bool:
        """Only types that NumPy itself knows; onnxruntime takes and gives the others in a roundabout way."""
        return not any(_is_odd(np.asarray(value).dtype) for value in feeds.values()) and not any(
            "float8" in self._kinds[name] or "bfloat16" in self._kinds[name] for name in self.outputs
        )


def session(
    model: Model,
    *,
    outputs: Sequence[str] | None = None,
    provider: str = "auto",
    threads: int | None = None,
    optimize: bool = True,
    profile: bool = False,
    prepack: bool = True,
) -> Session:
    """Make a model ready to run.

    ``outputs``: tensors of the main graph to give instead of the model's outputs; what they do not need is not run.
    ``provider``: "cpu", "cuda", or "auto" for the fastest usable one. ``threads``: None leaves it to onnxruntime.
    ``optimize``: let onnxruntime fuse and fold. ``prepack``: let it rearrange weights (faster runs, more memory).
    Without both, a session on the CPU takes next to no memory: it reads the weights where they are.

    Raises OptionError (no such tensor or device, no threads), UnsupportedModel and ModelError.
    """
    device = _device(provider)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    if outputs is not None:
        _check_outputs(model, outputs)
        keep_outputs(proto.graph, dict.fromkeys(outputs))
    options = _options(threads, optimize, prepack)
    kept = _hand_over(proto, model, options, in_place=device == "cpu" and not optimize)
    folder = tempfile.mkdtemp(prefix="onnxprune-") if profile else None
    if folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
    names = tuple(value.name for value in proto.graph.output)
    try:
        with _marker_file(options):
            native = _native(proto.SerializeToString(), options, device)
    except ERRORS as error:
        raise translated(error, f"onnxruntime {ort.__version__} cannot load {model.label}") from error
    made = Session(native, model, names, kept)
    if folder:
        weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    return made


def measure_latency(
    model: Model,
    feeds: Mapping[str, Array],
    *,
    runs: int = 30,
    warmup: int = 5,
    threads: int | None = None,
    provider: str = "auto",
) -> Latency:
    """Time ``runs`` calls after ``warmup`` untimed ones. Raises as ``session`` and ``Session.run`` do."""
    if runs < 1 or warmup < 0:
        raise OptionError(f"{runs} runs after {warmup} for warming up", "Ask for at least one run.")
    ready = session(model, provider=provider, threads=threads)
    for _ in range(warmup):
        ready.run(feeds)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        ready.run(feeds)
        times.append(1000 * (time.perf_counter() - start))
    p10, median, p90 = (float(value) for value in np.percentile(times, (10, 50, 90)))
    first = np.shape(feeds[ready.inputs[0].name]) if ready.inputs else ()
    return Latency(median, p10, p90, runs, threads, ready.provider, first[0] if first else 1)


@cache
def providers() -> tuple[str, ...]:
    """Devices that really work here, the fastest first: ("cuda", "cpu") or ("cpu",). Found out once per process."""
    return ("cuda", "cpu") if _cuda_works() else ("cpu",)


def check_versions(proto: onnx.ModelProto, label: str) -> None:
    """Raise UnsupportedModel when the IR version or an opset is newer than the installed onnxruntime knows."""
    if not _accepts(proto.ir_version, "", 1):
        _too_new(label, "has IR version", proto.ir_version, _newest(lambda ir: _accepts(ir, "", 1), proto.ir_version))
    imports = (*proto.opset_import, *(opset for function in proto.functions for opset in function.opset_import))
    for domain, version in dict.fromkeys(("" if o.domain == "ai.onnx" else o.domain, o.version) for o in imports):
        if not _accepts(OLD_IR, domain, version):
            newest = _newest(lambda v, d=domain: _accepts(OLD_IR, d, v), version)  # type: ignore[misc]
            _too_new(label, f"uses opset of domain {domain or 'ai.onnx'}", version, newest)


def check_install() -> str | None:
    """A warning when both builds of onnxruntime are installed: they share one folder and overwrite each other."""
    found = {name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)}
    if len(found) < 2:
        return None
    return (
        "Both onnxruntime and onnxruntime-gpu are installed; they overwrite each other's files, so that either may "
        "be broken. Uninstall both, then install one: pip uninstall onnxruntime onnxruntime-gpu && pip install "
        "onnxruntime-gpu"
    )


OLD_IR = 3  # any IR version that every onnxruntime knows


def _device(provider: str) -> str:
    if provider == "auto":
        return providers()[0]
    if provider not in NATIVE:
        raise OptionError(f"there is no provider `{provider}`", "Use auto, cpu or cuda.")
    if provider not in providers():
        raise OptionError(
            f"provider `{provider}` does not work on this machine",
            "Use cpu, or install onnxruntime-gpu with the CUDA and cuDNN libraries that it asks for.",
        )
    return provider


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


def _options(threads: int | None, optimize: bool, prepack: bool) -> ort.SessionOptions:
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads", "Ask for at least one, or leave the number to onnxruntime.")
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _hand_over(
    proto: onnx.ModelProto, model: Model, options: ort.SessionOptions, *, in_place: bool
) -> list[ort.OrtValue]:
    """Give onnxruntime the data of every marker: as an array beside the proto, or inline where it has no array type.

    It copies external initializers, and reads shared ones in place. But of a shared one it ignores what its optimizer
    made (a transposed weight, for one), so that ``in_place`` needs the optimizer off.
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
            (shared if large else copied)[name] = _to_ort(weight.array())
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


def _native(content: bytes, options: ort.SessionOptions, device: str) -> ort.InferenceSession:
    """A session that fails instead of falling back, and that does not hold on to ``content``."""
    _silence()
    chosen = [NATIVE["cpu"]] if device == "cpu" else [(NATIVE["cuda"], {"use_tf32": "0"}), NATIVE["cpu"]]
    return ort.InferenceSession(content, options, providers=chosen, enable_fallback=0)


@cache
def _silence() -> None:
    """onnxruntime's default logger writes to the terminal, from C++."""
    ort.set_default_logger_severity(FATAL)


@cache
def _cuda_works() -> bool:
    """The GPU build lists CUDA on machines that have none, so that only an attempt tells."""
    if NATIVE["cuda"] not in ort.get_available_providers():
        return False
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            ort.preload_dlls()
            return NATIVE["cuda"] in _native(_tiny(OLD_IR, "", 1), _options(1, False, True), "cuda").get_providers()
        except ERRORS:
            return False


@cache
def _accepts(ir_version: int, domain: str, version: int) -> bool:
    """Whether onnxruntime loads a model of that IR version that imports that opset."""
    try:
        _native(_tiny(ir_version, domain, version), _options(1, False, True), "cpu")
    except ERRORS:
        return False
    return True


def _tiny(ir_version: int, domain: str, version: int) -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "tiny", [x], [y])
    opsets = {"": 1, domain: version}
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()])
    proto.ir_version = ir_version
    content: bytes = proto.SerializeToString()
    return content


def _newest(accepted: Callable[[int], bool], refused: int) -> int:
    """The last accepted version below a refused one, by bisection; 0 where there is none."""
    low, high = 0, refused
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepted(middle) else (low, middle)
    return low


def _too_new(label: str, what: str, version: int, newest: int) -> NoReturn:
    raise UnsupportedModel(
        f"{label} {what} {version}; onnxruntime {ort.__version__}, which is installed, goes up to {newest}", UPDATE
    )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _is_odd(dtype: np.dtype[Any]) -> bool:
    """A type of ml_dtypes."""
    return dtype.kind == "V"


def _to_ort(values: Array) -> ort.OrtValue:
    """A tensor that shares the array's memory and keeps it alive."""
    values = np.ascontiguousarray(values).reshape(values.shape)
    if not _is_odd(values.dtype):
        return ort.OrtValue.ortvalue_from_numpy(values)
    plain = values.view(np.dtype(f"u{values.dtype.itemsize}"))
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(plain, type_of(values.dtype))


def _to_numpy(value: ort.OrtValue) -> Array:
    """A copy of a tensor, of types that NumPy lacks as well."""
    dtype = dtype_of(value.element_type())
    if not _is_odd(dtype):
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), prod(shape) * dtype.itemsize)
    return np.frombuffer(bytearray(raw), dtype).reshape(shape)
