"""The GPU gives what the CPU gives: sessions, evaluations and proofs; latency and memory are measured on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxprune.alignment import STEPS, default_step, machine
from onnxprune.cli import main
from onnxprune.cost import example_graph
from onnxprune.data import open_dataset
from onnxprune.evaluate import evaluate
from onnxprune.experiment import prune
from onnxprune.model import Model, from_proto, load
from onnxprune.runtime import compare_latency, measure_memory, model_inputs, session
from onnxprune.samples import generate
from tests.nets import export
from tests.proof_models import proven
from tests.protos import mlp, values

DEMO = Path(__file__).parent.parent.parent / "onnxprune" / "demo_data"
NETS = ("resnet_basic", "mobilenet_v2", "encoder_prenorm", "lstm_bidirectional", "unet")
CLOSE = 1e-4  # of the largest value: sums in another order, over a few dozen layers


@pytest.fixture(scope="module")
def digits() -> Model:
    return load(DEMO / "digits_cnn.onnx")


@pytest.mark.parametrize("name", NETS)
def test_sessions_agree(name: str) -> None:
    model = from_proto(export(name))
    feeds = generate(example_graph(model))
    cpu, cuda = (session(model, provider=provider) for provider in ("cpu", "cuda"))
    assert (cpu.provider, cuda.provider) == ("cpu", "cuda")
    for output, expected in cpu.run(feeds).items():
        found = cuda.run(feeds)[output]
        np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * np.abs(expected).max())


def test_auto_is_the_gpu() -> None:
    assert session(from_proto(mlp())).provider == "cuda"


def test_tf32_is_off_unless_it_is_asked_for() -> None:
    """A product of many terms, in which 10 bits of mantissa would be seen."""
    model = from_proto(mlp(width=4096))
    feeds = {"x": values(256, 20)}
    exact = session(model, provider="cpu").run(feeds)["y"]
    scale = np.abs(exact).max()
    found, rounded = (session(model, provider="cuda", tf32=flag).run(feeds)["y"] for flag in (False, True))
    assert np.abs(found - exact).max() < 1e-5 * scale
    assert np.abs(rounded - exact).max() < 1e-2 * scale


def test_inner_tensors_and_threads() -> None:
    model, feeds = from_proto(mlp()), {"x": values(4, 20)}
    cpu, cuda = (session(model, outputs=["h", "y"], provider=p, threads=1).run(feeds) for p in ("cpu", "cuda"))
    for name, expected in cpu.items():
        np.testing.assert_allclose(cuda[name], expected, rtol=1e-4, atol=1e-4)


def test_evaluations_agree(digits: Model) -> None:
    data = open_dataset(DEMO / "digits.npz", "test")
    cpu, cuda = (evaluate(digits, data, provider=provider) for provider in ("cpu", "cuda"))
    assert (cpu.provider, cuda.provider) == ("cpu", "cuda")
    for expected, found in zip(cpu.metrics, cuda.metrics, strict=True):
        assert found.value == pytest.approx(expected.value, abs=1 / len(data))


@pytest.mark.parametrize("name", NETS)
def test_proofs_hold(name: str) -> None:
    proof = proven(from_proto(export(name)), provider="cuda")
    assert proof.ok, proof.reason
    assert (proof.provider, proof.tolerance) == ("cuda", 1e-5)


def test_pruning_on_it(digits: Model) -> None:
    pruned = prune(digits, ratio=0.5, round_to=1, provider="cuda", measure=True)
    assert pruned.proof is not None
    assert pruned.proof.provider == "cuda"
    assert pruned.latencies is not None
    assert {latency.provider for latency in pruned.latencies} == {"cuda"}


def test_latency_and_memory(digits: Model) -> None:
    (info,) = model_inputs(digits)
    feeds = {info.name: np.zeros((8, *(size for size in info.shape[1:] if isinstance(size, int))), np.float32)}
    cpu, cuda = (compare_latency([digits], feeds, runs=5, provider=provider)[0] for provider in ("cpu", "cuda"))
    assert (cpu.provider, cuda.provider, cuda.batch) == ("cpu", "cuda", 8)
    assert cuda.median_ms > 0
    memory = measure_memory(digits, feeds, provider="cuda", repeats=1)
    assert (memory.provider, memory.peak_bytes >= 0) == ("cuda", True)


def test_the_step_of_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("ONNXPRUNE_NO_MEASURE", raising=False)
    assert default_step(provider="cuda") in STEPS
    assert machine(provider="cuda") == machine() != machine(provider="cpu")


@pytest.mark.parametrize("command", ["inspect", "score", "prune", "evaluate", "bench"])
def test_commands(command: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = {
        "inspect": [],
        "score": ["-o", str(tmp_path / "scores.npz")],
        "prune": ["-o", str(tmp_path / "small.onnx"), "--ratio", "0.5", "--round-to", "1"],
        "evaluate": ["--data", str(DEMO / "digits.npz")],
        "bench": ["--runs", "3"],
    }[command]
    code = main([command, str(DEMO / "digits_cnn.onnx"), *arguments, "--provider", "cuda", "--json"])
    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    found = json.loads(out)
    if command == "prune":
        assert (found["proof"]["provider"], found["proof"]["tolerance"]) == ("cuda", 1e-5)
    elif command == "evaluate":
        assert found["latency"]["provider"] == "cuda"
    elif command == "bench":
        assert found["models"][0]["measured"][0]["latency"]["provider"] == "cuda"
