"""`onnxprune bench`: figures told apart, models side by side, and bad input."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxprune.bench import Bench, Measured
from onnxprune.cli import bench as command
from onnxprune.cost import Cost
from onnxprune.runtime import Latency, Memory, measure_memory, providers
from tests.cli.conftest import Call, cnn, model_of, save, weight
from tests.cli.test_bad_input import refused

QUICK = ("--runs", "3", "--threads", "1")


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured once instead of three times."""
    monkeypatch.setattr("onnxprune.bench.measure_memory", partial(measure_memory, repeats=1))


@pytest.fixture
def small_file(call: Call, cnn_file: Path, tmp_path: Path) -> Path:
    """Half of ``cnn``."""
    out = tmp_path / "small.onnx"
    assert call("prune", cnn_file, "-o", out, "--ratio", "0.5", "--round-to", "1", "--no-verify").code == 0
    return out


def fake(name: str, *, macs: int, median: float, spread: float = 1.0) -> Bench:
    latency = Latency(median, median / spread, median * spread, 30, 2, "cpu", 1)
    memory = Memory(5_000_000, 4_000_000, 5_000_000, 4_000_000, 80_000_000, 2, 2, "cpu", "VmHWM")
    return Bench(name, Cost(100, 100, 400, macs, 1000), 500, (Measured(1, latency, memory),))


class TestText:
    def test_side_by_side(self, call: Call, cnn_file: Path, small_file: Path) -> None:
        result = call("bench", cnn_file, small_file, "--batch", "1,5", *QUICK)
        assert result.code == 0, result.err
        for words in (
            "MACs (estimated)", "Batch of 1, measured on", "Batch of 5, measured on", "1 threads", "speed-up",
            "samples/s", "peak memory", "1.00 x", str(cnn_file), str(small_file), "100.0%",
        ):  # fmt: skip
            assert words in result.out

    def test_a_broken_promise_is_told(self) -> None:
        first = fake("a.onnx", macs=1000, median=4.0)
        told = list(command._remarks([first, fake("b.onnx", macs=500, median=3.8), fake("c.onnx", macs=500, median=2)]))
        assert [line.partition(":")[0] for line in told] == ["b.onnx has 50% of the MACs, but its speed-up is 1.05 x"]
        assert list(command._remarks([first, fake("b.onnx", macs=990, median=5.0)])) == []

    def test_a_busy_machine_is_told(self) -> None:
        (told,) = command._remarks([fake("a.onnx", macs=1, median=4.0, spread=1.5)])
        assert "scatter widely" in told


class TestJson:
    def test_figures(self, call: Call, cnn_file: Path, small_file: Path) -> None:
        result = call("bench", cnn_file, small_file, "--batch", "1,5", "--provider", "cpu", *QUICK, "--json")
        assert (result.code, result.err) == (0, "")
        first, second = result.json["models"]
        assert (first["model"], first["file_bytes"]) == (str(cnn_file), cnn_file.stat().st_size)
        assert second["parameters"] < first["parameters"] == 1299
        assert second["macs"] < first["macs"] == 8 * 9 * 64 + 16 * 8 * 9 * 64 + 3 * 16
        assert result.json["estimated"] == ["macs", "activation_bytes"]
        assert [m["batch"] for m in first["measured"]] == [1, 5]
        for base, mine in zip(first["measured"], second["measured"], strict=True):
            assert (base["speed_up"], base["memory_left"]) == (1.0, 1.0)
            latency, memory = mine["latency"], mine["memory"]
            assert 0 < latency["p10_ms"] <= latency["median_ms"] <= latency["p90_ms"]
            assert (latency["threads"], latency["provider"], latency["batch"]) == (1, "cpu", mine["batch"])
            assert latency["runs"] >= 3
            assert mine["samples_per_second"] == pytest.approx(1000 * mine["batch"] / latency["median_ms"])
            assert mine["speed_up"] == pytest.approx(base["latency"]["median_ms"] / latency["median_ms"])
            assert 0 < memory["peak_bytes"] < 50_000_000
            assert memory["threads"] == 1
            assert mine["memory_left"] == pytest.approx(memory["peak_bytes"] / base["memory"]["peak_bytes"])

    def test_on_data(self, call: Call, cnn_file: Path, data_file: Path) -> None:
        result = call("bench", cnn_file, "--data", data_file, "--batch", "10", *QUICK, "--json")
        assert result.code == 0, result.err
        assert result.json["models"][0]["measured"][0]["latency"]["batch"] == 10

    def test_a_batch_that_the_model_insists_on(self, call: Call, tmp_path: Path) -> None:
        file = save(cnn(4), tmp_path / "four.onnx")
        result = call("bench", file, *QUICK, "--json")
        assert result.json["models"][0]["measured"][0]["batch"] == 4

    def test_shapes(self, call: Call, tmp_path: Path) -> None:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 6])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        file = save(model_of(helper.make_graph([node], "line", [x], [y], [weight("w", 6, 4)])), tmp_path / "line.onnx")
        for size in (1, 3):
            arguments = ("--shape", "x=1,50,6", "--batch", size, *QUICK, "--json")
            found = call("bench", file, *map(str, arguments)).json["models"][0]
            assert (found["macs"], found["measured"][0]["batch"]) == (50 * 6 * 4, size)


@pytest.mark.parametrize("ending", ["html", "png"])
def test_plot(ending: str, call: Call, cnn_file: Path, tmp_path: Path) -> None:
    picture = tmp_path / f"latency.{ending}"
    result = call("bench", cnn_file, cnn_file, "--batch", "1,2", *QUICK, "--plot", picture)
    assert result.code == 0, result.err
    assert f"{picture} written" in result.err
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<!")
    if ending == "html":
        assert b"Peak memory" in content
        assert b"batch of 2" in content


class TestBadInput:
    def test_no_such_file(self, call: Call, cnn_file: Path) -> None:
        refused(call("bench", cnn_file, cnn_file.with_name("cmm.onnx")), "cmm.onnx does not exist", "cnn.onnx")

    def test_not_onnx(self, call: Call, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(b"PK\x03\x04" + bytes(100))
        refused(call("bench", path), "is not an ONNX file", "zip archive")

    def test_threads_and_runs(self, call: Call, cnn_file: Path) -> None:
        refused(call("bench", cnn_file, "--threads", "0"), "0 threads")
        refused(call("bench", cnn_file, "--runs", "0"), "0 runs")

    def test_no_such_provider(self, call: Call, cnn_file: Path) -> None:
        result = call("bench", cnn_file, "--provider", "tpu")
        assert (result.code, result.out) == (2, "")
        for word in ("--provider", "tpu", "cuda"):
            assert word in result.err

    @pytest.mark.skipif("cuda" in providers(), reason="CUDA works here")
    def test_a_provider_that_does_not_work(self, call: Call, cnn_file: Path) -> None:
        refused(call("bench", cnn_file, "--provider", "cuda"), "`cuda` does not work on this machine", "Use cpu")

    @pytest.mark.parametrize("sizes", ["0", "1,x", "1,,2", "", "-1", "1.5"])
    def test_batches_without_sense(self, sizes: str, call: Call, cnn_file: Path) -> None:
        refused(call("bench", cnn_file, f"--batch={sizes}"), f"--batch {sizes}", "such as 1,8")

    def test_a_batch_that_the_model_does_not_take(self, call: Call, tmp_path: Path) -> None:
        file = save(cnn(4), tmp_path / "four.onnx")
        refused(call("bench", file, "--batch", "2"), "takes batches of 4 only, not of 2")

    def test_fewer_samples_than_a_batch(self, call: Call, cnn_file: Path, data_file: Path) -> None:
        refused(call("bench", cnn_file, "--data", data_file, "--batch", "64"), "10 samples", "a batch of 64")

    def test_data_that_do_not_fit(self, call: Call, mlp_file: Path, data_file: Path) -> None:
        refused(call("bench", mlp_file, "--data", data_file), "data.npz", "(10, 1, 8, 8)")

    def test_an_unknown_input(self, call: Call, cnn_file: Path) -> None:
        refused(call("bench", cnn_file, "--shape", "z=1,2"), "no model has an input `z`", "Inputs: x")

    def test_a_model_that_does_not_load(self, call: Call, tmp_path: Path) -> None:
        proto = cnn()
        proto.graph.node[1].domain, proto.graph.node[1].op_type = "com.acme", "Foo"
        proto.opset_import.append(helper.make_opsetid("com.acme", 1))
        refused(call("bench", save(proto, tmp_path / "foo.onnx")), "foo.onnx", "com.acme")

    def test_a_model_that_does_not_run(self, call: Call, tmp_path: Path) -> None:
        proto = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> broken (float[n, 4] x) => (float[a, b] y)'
            " { s = Constant <value_ints = [3, 3]> () y = Reshape (x, s) }"
        )
        refused(call("bench", save(proto, tmp_path / "broken.onnx")), "broken.onnx failed to run", "Reshape")

    def test_text(self, call: Call, tmp_path: Path) -> None:
        x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 2]) for name in "xy")
        proto = model_of(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "text", [x], [y]))
        refused(call("bench", save(proto, tmp_path / "text.onnx")), "`x` holds text", "--data")

    def test_a_plot_that_cannot_be(self, call: Call, cnn_file: Path, tmp_path: Path) -> None:
        refused(call("bench", cnn_file, "--plot", tmp_path / "latency.gif"), "latency.gif", ".html")
        refused(call("bench", cnn_file, "--plot", tmp_path / "nowhere" / "latency.html"), "nowhere")


def test_text_as_data(call: Call, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 2]) for name in "xy")
    file = save(
        model_of(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "t", [x], [y])), tmp_path / "t.onnx"
    )
    np.savez(tmp_path / "t.npz", x=np.array([["a", "b"], ["c", "dd"]]))
    result = call("bench", file, "--data", tmp_path / "t.npz", *QUICK, "--json")
    assert result.code == 0, result.err
    assert result.json["models"][0]["measured"][0]["memory"]["peak_bytes"] >= 0
