"""Peak memory: it holds the weights and the activations, whichever way the model is given, and says what failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from onnxprune.errors import ModelError, OptionError, UnsupportedModel
from onnxprune.model import Model, from_proto, save
from onnxprune.runtime import measure_memory, memory
from onnxprune.runtime.probe import OtherGauge, gauge
from tests.protos import mlp, node, proto, value, values

MB = 1_000_000
X = {"x": values(4, 20)}
WEIGHTS = from_proto(mlp(width=400_000))  # 38 MB


def chain() -> Model:
    """Hardly a weight, and activations of 4 n bytes."""
    nodes = [node("Sin", ["x"], ["a"]), node("Cos", ["a"], ["b"]), node("ReduceSum", ["b"], ["y"], keepdims=0)]
    return from_proto(proto(nodes, [value("x", ["n"])], [value("y", [])]))


def test_weights_count(tmp_path: Path) -> None:
    save(WEIGHTS, tmp_path / "inline.onnx")
    save(WEIGHTS, tmp_path / "external.onnx", external=True)
    for given in (WEIGHTS, tmp_path / "inline.onnx", str(tmp_path / "external.onnx")):
        found = measure_memory(given, X, threads=1, provider="cpu", repeats=1)
        assert WEIGHTS.nbytes < found.load_bytes < 4.5 * WEIGHTS.nbytes
        assert found.peak_bytes == max(found.load_bytes, found.run_bytes)
        assert 0.9 * WEIGHTS.nbytes < found.kept_bytes <= found.peak_bytes
        assert (found.runs, found.threads, found.provider) == (2, 1, "cpu")


def test_activations_count() -> None:
    size = 10_000_000
    small, large = (measure_memory(chain(), {"x": np.ones(n, np.float32)}, threads=1, repeats=1) for n in (10, size))
    assert small.peak_bytes < 10 * MB
    assert large.load_bytes < 10 * MB
    # Two activations at a time, and once more: onnxruntime allocates them anew when it has seen how they are used.
    assert 4 * size < large.run_bytes < 6 * 4 * size


def test_again_and_again_it_is_much_the_same() -> None:
    found = [measure_memory(WEIGHTS, X, threads=1, repeats=1).peak_bytes for _ in range(3)]
    assert max(found) < 1.25 * min(found)


def test_the_median_of_repeats_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = iter([300, 100, 200])
    answer = {"baseline": 50, "run": 60, "kept": 10, "method": "VmHWM", "provider": "cpu"}
    monkeypatch.setattr(memory, "_ask", lambda *_: {**answer, "load": next(loads)})
    found = measure_memory("m.onnx", X, repeats=3)
    assert (found.peak_bytes, found.load_bytes, found.run_bytes, found.kept_bytes) == (150, 150, 10, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how Linux counts")
class TestGauge:
    def test_a_peak_that_is_over(self) -> None:
        code = """
import numpy as np
from onnxprune.runtime.probe import gauge
memory = gauge()
base = memory.now()
block = np.ones(50_000_000, np.uint8)
del block
peak = memory.peak()
memory.restart()
print(memory.method, peak - base > 45_000_000, memory.peak() - base < 45_000_000)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["VmHWM", "True", "True"]

    def test_where_the_kernel_does_not_tell(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("onnxprune.runtime.probe.CLEAR", tmp_path / "nowhere" / "clear_refs")
        other = gauge()
        assert isinstance(other, OtherGauge)
        assert other.method == "ru_maxrss"
        assert 10 * MB < other.now() <= 1.1 * other.peak()
        other.restart()

    def test_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = SimpleNamespace(rss=5, peak_wset=7)
        monkeypatch.setattr("psutil.Process", lambda: SimpleNamespace(memory_info=lambda: told))
        other = OtherGauge()
        assert (other.method, other.now(), other.peak()) == ("peak_wset", 5, 7)


def test_types_that_numpy_lacks() -> None:
    kind = int(TensorProto.BFLOAT16)
    model = from_proto(proto([node("Identity", ["x"], ["y"])], [value("x", ["n"], kind)], [value("y", None, kind)]))
    assert measure_memory(model, {"x": np.ones(3, ml_dtypes.bfloat16)}, repeats=1).runs == 2


def test_it_is_found_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save(from_proto(mlp()), tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    assert measure_memory("m.onnx", X, repeats=1).peak_bytes > 0


class TestRefused:
    def test_numbers_without_sense(self) -> None:
        for arguments in ({"runs": 0}, {"repeats": 0}):
            with pytest.raises(OptionError, match="runs, "):
                measure_memory(WEIGHTS, X, **arguments)
        with pytest.raises(OptionError, match="0 threads"):
            measure_memory(WEIGHTS, X, threads=0)
        with pytest.raises(OptionError, match="no provider `tpu`"):
            measure_memory(WEIGHTS, X, provider="tpu")

    def test_what_does_not_load(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"nothing.onnx failed while its memory was measured: .*doesn't exist"):
            measure_memory(tmp_path / "nothing.onnx", X)
        unknown = from_proto(
            proto([node("Foo", ["x"], ["y"], domain="com.acme")], [value("x", [2])], [value("y", [2])],
                  opsets={"": 20, "com.acme": 1})
        )  # fmt: skip
        with pytest.raises(UnsupportedModel, match=r"com.acme:Foo"):
            measure_memory(unknown, {"x": values(2)})

    def test_what_does_not_run(self) -> None:
        with pytest.raises(ModelError, match=r"Got invalid dimensions for input"):
            measure_memory(WEIGHTS, {"x": values(4, 19)})

    def test_a_process_that_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        killed = subprocess.CompletedProcess([], -9, b"", b"")
        monkeypatch.setattr(memory.subprocess, "run", lambda *_, **__: killed)
        with pytest.raises(ModelError, match="ended by signal 9") as caught:
            measure_memory(WEIGHTS, X)
        assert "smaller batch" in caught.value.hint

    def test_a_process_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        failed = subprocess.CompletedProcess([], 1, b"", b"Traceback\nImportError: no such thing\n")
        monkeypatch.setattr(memory.subprocess, "run", lambda *_, **__: failed)
        with pytest.raises(ModelError, match="failed: ImportError: no such thing"):
            measure_memory(WEIGHTS, X)

    def test_a_model_that_fits_no_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "PROTOBUF_LIMIT", 1000)
        with pytest.raises(OptionError, match="more than one file without external data holds"):
            measure_memory(WEIGHTS, X)
