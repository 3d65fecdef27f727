"""Running models on onnxruntime (stop-gap until the real file lands)."""
from __future__ import annotations
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper
from onnxprune._model import Model
from onnxprune.errors import ModelError, UnsupportedModel

def check_versions(proto: onnx.ModelProto, label: str) -> None:
    return
@cache
def providers() -> tuple[str, ...]:
    return ("CPUExecutionProvider",)
@dataclass(frozen=True)
class TensorInfo:
    name: str; dtype: Any; shape: tuple[Any, ...]
class Session:
    def __init__(self, s: Any) -> None:
        self._s = s; self.provider = "cpu"
        self.inputs = tuple(TensorInfo(i.name, {"tensor(float)": np.dtype(np.float32), "tensor(int64)": np.dtype(np.int64),"tensor(float16)": np.dtype(np.float16), "tensor(double)": np.dtype(np.float64), "tensor(int32)": np.dtype(np.int32), "tensor(bool)": np.dtype(bool)}.get(i.type), tuple(i.shape)) for i in s.get_inputs())
        self.outputs = tuple(o.name for o in s.get_outputs())
    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return dict(zip(self.outputs, self._s.run(list(self.outputs), dict(feeds))))
        except Exception as e:
            raise ModelError(str(e)) from e
def session(model: Model, *, outputs: Sequence[str] | None = None, provider: str = "auto", threads: int | None = None, optimize: bool = True, profile: bool = False, **kw: Any) -> Session:
    so = ort.SessionOptions(); so.log_severity_level = 4
    if threads: so.intra_op_num_threads = threads
    if not optimize: so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = model.to_proto()
    if outputs is not None:
        have = {o.name: o for o in proto.graph.output}
        keep = [have[o] if o in have else helper.make_value_info(o, onnx.TypeProto()) for o in outputs]
        del proto.graph.output[:]
        proto.graph.output.extend(keep)
    try:
        return Session(ort.InferenceSession(proto.SerializeToString(), so, providers=["CPUExecutionProvider"]))
    except Exception as e:
        raise UnsupportedModel(str(e)) from e
@dataclass(frozen=True)
class Latency:
    median_ms: float; p10_ms: float; p90_ms: float; runs: int; threads: int; provider: str; batch: int | None
def measure_latency(model: Model, feeds: Mapping[str, Any], *, runs: int = 20, warmup: int = 3, threads: int | None = None, provider: str = "auto") -> Latency:
    s = session(model, threads=threads)
    t = []
    for i in range(runs + warmup):
        a = time.perf_counter(); s.run(feeds); t.append((time.perf_counter() - a) * 1e3)
    t = np.array(t[warmup:]); f = next(iter(feeds.values()))
    return Latency(float(np.median(t)), float(np.quantile(t, .1)), float(np.quantile(t, .9)), runs, threads or 2, "cpu", f.shape[0] if f.ndim else None)
def check_install() -> str | None:
    return None
