"""The lowest layer over onnxruntime: options, and sessions that fail aloud in Python and are silent elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import onnxruntime as ort
from onnx import TensorProto, helper

__all__ = ["ERRORS", "NATIVE", "OLD_IR", "Setup", "native", "runs_on", "tiny", "version"]

NATIVE = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
FATAL = 4  # onnxruntime's log level at which it is silent
OLD_IR = 3  # any IR version that every onnxruntime knows

# onnxruntime's errors have no base class of their own.
_OWN = vars(ort.capi.onnxruntime_pybind11_state).values()
ERRORS: tuple[type[Exception], ...] = (
    OSError,  # libraries of a device that cannot be loaded
    RuntimeError,
    ValueError,
    *(kind for kind in _OWN if isinstance(kind, type) and issubclass(kind, Exception)),
)


@dataclass(frozen=True)
class Setup:
    """How a session runs.

    ``device``: "cpu" or "cuda". ``threads``: None leaves it to onnxruntime. ``optimize``: fuse and fold. ``prepack``:
    rearrange weights (faster runs, more memory). ``tf32``: let a GPU round the factors of products to 10 bits of
    mantissa, which is faster, and wrong by 1e-3. ``rest``: threads go to sleep at the end of a call instead of
    spinning for the next one, for which they take a core away from whatever else runs. ``training``: for a graph that
    is run again and again with other weights: a fifth less memory for the same time, threads that never spin, and the
    same result at every run.
    """

    device: str
    threads: int | None = None
    optimize: bool = True
    prepack: bool = True
    tf32: bool = False
    rest: bool = False
    training: bool = False

    def options(self) -> ort.SessionOptions:
        """A new set of onnxruntime's options."""
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = self.threads or 0
        options.inter_op_num_threads = 1
        if not self.optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if not self.prepack:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if self.training:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.enable_mem_pattern = False
            options.use_deterministic_compute = True
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self.rest:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        return options


def native(content: bytes | str, setup: Setup, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """A session of a file, or of bytes, which it does not hold on to; it fails instead of falling back."""
    _silence()
    chosen: list[str | tuple[str, dict[str, str]]] = [NATIVE["cpu"]]
    if setup.device == "cuda":
        chosen.insert(0, (NATIVE["cuda"], {"use_tf32": str(int(setup.tf32))}))
    return ort.InferenceSession(content, options or setup.options(), providers=chosen, enable_fallback=0)


def runs_on(made: ort.InferenceSession) -> str:
    """The device that a session was made on."""
    return "cuda" if NATIVE["cuda"] in made.get_providers() else "cpu"


@cache
def _silence() -> None:
    """onnxruntime's default logger writes to the terminal, from C++."""
    ort.set_default_logger_severity(FATAL)


def tiny(ir_version: int = OLD_IR, domain: str = "", version: int = 1) -> bytes:
    """A model of one node, to try out what onnxruntime accepts."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "tiny", [x], [y])
    opsets = {"": 1, domain: version}
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()])
    proto.ir_version = ir_version
    content: bytes = proto.SerializeToString()
    return content


def version() -> str:
    """Of the installed onnxruntime."""
    return str(ort.__version__)
