"""Export every net with every exporter and compare onnxruntime with torch: ``python -m tests.nets [NAME]...``."""

from __future__ import annotations

import sys
import time

import numpy as np
import onnx
import onnxruntime
import torch

from tests.nets import EXPORTERS, NETS, NetSpec, export

LIMIT = 1e-4


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model on onnxruntime's CPU provider."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


def expected(spec: NetSpec, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of the torch module."""
    with torch.no_grad():
        result = spec.build()(*(torch.from_numpy(v) for v in feeds.values()))
    return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]


def compare(spec: NetSpec, exporter: str) -> tuple[float, float, float]:
    """Largest relative difference, spread of the outputs between inputs, largest output."""
    proto = export(spec.name, exporter)
    worst, spread, largest = 0.0, np.inf, 0.0
    for seed, batch in ((1, 2), (2, 3)) if any(i.dynamic for i in spec.inputs) else ((1, 2),):
        feeds = spec.feeds(seed, batch=batch)
        for got, want in zip(run(proto, feeds), expected(spec, feeds), strict=True):
            scale = max(float(np.abs(want).max()), 1e-6)
            worst = max(worst, float(np.abs(got - want).max()) / scale)
            largest = max(largest, scale)
            spread = min(spread, float(np.ptp(want, axis=0).max()) / scale)
    return worst, spread, largest


def main(names: list[str]) -> int:
    """Print a table; the number of failures is the exit status."""
    failures = 0
    for spec in NETS.values():
        if names and spec.name not in names:
            continue
        for exporter in EXPORTERS:
            if exporter in spec.unsupported:
                print(f"{spec.name:24} {exporter:12} unsupported: {spec.unsupported[exporter]}")
                continue
            start = time.perf_counter()
            try:
                worst, spread, largest = compare(spec, exporter)
            except Exception as error:  # noqa: BLE001 - a table of everything that fails is the purpose
                failures += 1
                print(f"{spec.name:24} {exporter:12} FAILED {type(error).__name__}: {str(error)[:300]}")
                continue
            good = worst <= LIMIT and spread > 0.01
            failures += not good
            seconds = time.perf_counter() - start
            verdict = "ok" if good else "BAD"
            print(f"{spec.name:24} {exporter:12} {verdict:4} error {worst:.1e}  spread {spread:.2f}"
                  f"  max {largest:8.2f}  {seconds:5.1f} s", flush=True)  # fmt: skip
    return failures


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
