"""Benches: counted, estimated and measured figures of models on the same terms."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from onnxprune import bench as module
from onnxprune.bench import Bench, bench, feeds_of
from onnxprune.errors import DataError, OptionError
from onnxprune.model import Model, from_proto, load, save
from onnxprune.runtime import measure_memory
from tests.proof_models import model, normal
from tests.protos import mlp, values

QUICK = {"runs": 3, "threads": 1}


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured once instead of three times."""
    monkeypatch.setattr(module, "measure_memory", partial(measure_memory, repeats=1))


def sequences(batch: str = "N", length: str = "L") -> Model:
    """x (batch, length, 6) -> y (batch, length, 4)."""
    return model(
        f"(float[{batch},{length},6] x) => (float[{batch},{length},4] y) {{ y = MatMul(x, w) }}", w=normal(6, 4)
    )


def two_inputs() -> Model:
    return model("(float[N,6] a, float[N,6] b) => (float[N,6] y) { y = Add(a, b) }")


class TestBench:
    def test_figures(self, tmp_path: Path) -> None:
        wide, narrow = from_proto(mlp(width=20_000)), from_proto(mlp(width=200))
        save(wide, tmp_path / "wide.onnx", external=True)
        found = bench([tmp_path / "wide.onnx", narrow], sizes=(1, 64), threads=1)
        assert [type(one) for one in found] == [Bench, Bench]
        assert [one.name for one in found] == [str(tmp_path / "wide.onnx"), "model `graph`"]
        for one, width in zip(found, (20_000, 200), strict=True):
            assert one.cost.parameters == 24 * width
            assert one.cost.macs == 23 * width
            assert one.file_bytes == pytest.approx(4 * 24 * width, rel=0.05)
            assert [m.batch for m in one.measured] == [1, 64]
        assert one.file_bytes == len(narrow.to_bytes())
        large, small = (one.measured[1] for one in found)
        assert large.latency.median_ms > 5 * small.latency.median_ms
        assert large.memory is not None
        assert small.memory is not None
        assert large.memory.peak_bytes > max(1_900_000, small.memory.peak_bytes)

    def test_a_changed_model_is_not_its_file(self, tmp_path: Path) -> None:
        save(from_proto(mlp()), tmp_path / "m.onnx")
        editor = load(tmp_path / "m.onnx").edit()
        editor.set_weight("w1", np.zeros((20, 32), np.float32))
        changed = editor.build()
        (one,) = bench([changed], memory=False, **QUICK)
        assert (one.cost.nonzero, one.measured[0].memory) == (32 + 3 * 32, None)
        assert one.file_bytes == len(changed.to_bytes())

    def test_progress(self, tmp_path: Path) -> None:
        save(from_proto(mlp()), tmp_path / "m.onnx")
        told: list[tuple[str, int, int]] = []
        bench([tmp_path / "m.onnx"] * 2, progress=lambda *what: told.append(what), **QUICK)
        stages = list(dict.fromkeys(stage for stage, _, _ in told))
        assert stages == ["reading", "measuring latency", "measuring memory"]

    @pytest.mark.parametrize("wrong", [{"sizes": (0,)}, {"runs": 0}, {"threads": 0}, {"provider": "tpu"}])
    def test_nonsense(self, wrong: dict[str, object]) -> None:
        with pytest.raises(OptionError):
            bench([from_proto(mlp())], **wrong)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="0 models"):
            bench([])

    def test_an_input_that_no_model_has(self) -> None:
        with pytest.raises(OptionError, match="no model has an input `z`") as caught:
            bench([two_inputs(), sequences()], shapes={"z": (1,)})
        assert caught.value.hint == "Inputs: a, b, x."


class TestFeeds:
    def test_made_up(self) -> None:
        assert {name: x.shape for name, x in feeds_of(two_inputs()).items()} == {"a": (1, 6), "b": (1, 6)}
        assert {name: x.shape for name, x in feeds_of(two_inputs(), 5).items()} == {"a": (5, 6), "b": (5, 6)}
        np.testing.assert_array_equal(feeds_of(two_inputs())["a"], feeds_of(two_inputs())["a"])

    @pytest.mark.parametrize(("size", "shape", "expected"), [
        (None, None, (1, 2, 6)), (3, None, (3, 2, 6)), (None, (2, 40, 6), (2, 40, 6)), (3, (2, 40, 6), (3, 40, 6)),
    ])  # fmt: skip
    def test_shapes(self, size: int | None, shape: tuple[int, ...] | None, expected: tuple[int, ...]) -> None:
        found = feeds_of(sequences(), size, shapes={"x": shape} if shape else None)["x"].shape
        assert (found[0], found[2]) == (expected[0], expected[2])
        assert shape is None or found[1] == expected[1]

    def test_a_batch_that_is_not_in_front(self) -> None:
        net = sequences("5", "batch")
        assert feeds_of(net, 7)["x"].shape == (5, 7, 6)

    def test_data(self) -> None:
        x = values(10, 20)
        net = from_proto(mlp())
        np.testing.assert_array_equal(feeds_of(net, 4, (x, np.zeros(10)))["x"], x[:4])
        np.testing.assert_array_equal(feeds_of(net, None, x)["x"], x[:1])
        with pytest.raises(DataError, match="holds 10 samples, fewer than a batch of 11"):
            feeds_of(net, 11, x)

    def test_a_fixed_batch(self) -> None:
        fixed = sequences("4", "3")
        assert feeds_of(fixed)["x"].shape == feeds_of(fixed, 4)["x"].shape == (4, 3, 6)
        for data in (None, values(9, 3, 6)):
            with pytest.raises(OptionError, match="takes batches of 4 only, not of 2"):
                feeds_of(fixed, 2, data)
        assert feeds_of(fixed, None, values(9, 3, 6))["x"].shape == (4, 3, 6)
