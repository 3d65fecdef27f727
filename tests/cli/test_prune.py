from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxprune.cli.prune import floors_of
from onnxprune.model import load
from onnxprune.plan import Plan
from onnxprune.runtime import session
from tests.cli.conftest import Call, cnn, save

COSTS = {"parameters", "nonzero", "bytes", "file_bytes", "macs", "activation_bytes", "latency_ms"}
EXACTLY = ("--ratio", "0.5", "--round-to", "1")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in onnx.load(path).graph.initializer}


def scores(path: Path) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    return session(load(path)).run({"x": x})["scores"]


class TestRemoving:
    def test_shapes_and_outputs(self, call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
        result = call("prune", cnn_file, "-o", out, *EXACTLY)
        assert result.code == 0, result.err
        assert shapes(out)["conv1.weight"] == (4, 1, 3, 3)
        assert shapes(out)["conv2.weight"] == (8, 4, 3, 3)
        assert shapes(out)["fc.weight"] == (3, 8)
        masked = tmp_path / "masked.onnx"
        assert call("prune", cnn_file, "-o", masked, *EXACTLY, "--mode", "mask").code == 0
        np.testing.assert_allclose(scores(out), scores(masked), atol=1e-5)
        assert not np.allclose(scores(out), scores(cnn_file), atol=1e-2)

    def test_what_is_said(self, call: Call, cnn_file: Path, out: Path) -> None:
        result = call("prune", cnn_file, "-o", out, *EXACTLY)
        for words in ("conv1", "12 of 24 units (50.0%)", "Proven", "`scores`", "MACs", "estimated", f"{out} written"):
            assert words in result.out
        assert result.err == ""

    def test_the_input_stays(self, call: Call, cnn_file: Path, out: Path) -> None:
        before = cnn_file.read_bytes()
        call("prune", cnn_file, "-o", out, *EXACTLY)
        assert cnn_file.read_bytes() == before

    def test_metadata(self, call: Call, cnn_file: Path, out: Path) -> None:
        call("prune", cnn_file, "-o", out, *EXACTLY)
        found = load(out)
        assert found.metadata["onnxprune.parent"] == load(cnn_file).hash
        assert found.metadata["onnxprune.hash"] == found.hash
        plan = Plan.from_json(found.metadata["onnxprune.plan"])
        assert plan.removed_units == 12
        assert plan.recipe["criterion"] == "l2"

    def test_an_old_output_is_replaced(self, call: Call, cnn_file: Path, out: Path) -> None:
        out.write_bytes(b"the old one")
        assert call("prune", cnn_file, "-o", out, *EXACTLY).code == 0
        assert shapes(out)["conv1.weight"] == (4, 1, 3, 3)

    def test_the_same_twice(self, call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.onnx"
        for path in (out, other):
            assert call("prune", cnn_file, "-o", path, *EXACTLY, "--criterion", "random", "--seed", "7").code == 0
        assert out.read_bytes() == other.read_bytes()

    def test_again(self, call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
        call("prune", cnn_file, "-o", out, *EXACTLY)
        assert call("prune", out, "-o", tmp_path / "again.onnx", *EXACTLY).code == 0
        assert load(tmp_path / "again.onnx").metadata["onnxprune.parent"] == load(out).hash
        assert shapes(tmp_path / "again.onnx")["conv1.weight"] == (2, 1, 3, 3)

    def test_classes_are_dropped(self, call: Call, cnn_file: Path, out: Path) -> None:
        result = call("prune", cnn_file, "-o", out, "--group", "fc=0.5", "--round-to", "1", "--allow-io", "scores:1")
        assert result.code == 0, result.err
        assert "output `scores` was (batch, 3) and is (batch, 2)" in result.out
        assert "`scores` was (batch, 3)" in load(out).metadata["onnxprune.signature"]
        assert scores(out).shape == (3, 2)

    def test_external_data_stays_external(self, call: Call, out: Path, tmp_path: Path) -> None:
        onnx.save(cnn(), tmp_path / "big.onnx", save_as_external_data=True, location="big.bin", size_threshold=0)
        result = call("prune", tmp_path / "big.onnx", "-o", out, *EXACTLY, "--json")
        assert result.code == 0, result.err
        size = out.stat().st_size + out.with_name("out.onnx.data").stat().st_size
        assert result.json["after"]["file_bytes"] == size
        assert scores(out).shape == (3, 3)


class TestHowMuch:
    def left(self, call: Call, cnn_file: Path, out: Path, *options: str) -> tuple[int, int]:
        result = call("prune", cnn_file, "-o", out, *options)
        assert result.code == 0, result.err
        found = shapes(out)
        return found["conv1.weight"][0], found["conv2.weight"][0]

    @pytest.mark.parametrize(
        ("options", "left"),
        [
            (("--ratio", "0.3", "--round-to", "1"), (6, 12)),
            (("--ratio", "0.5", "--round-to", "4"), (4, 8)),
            (("--ratio", "0.3", "--round-to", "4"), (8, 12)),
            (("--ratio", "0.5"), (4, 8)),  # by the step of the machine, less in groups as narrow as these
            ((*EXACTLY, "--skip", "conv1"), (8, 8)),
            ((*EXACTLY, "--group", "conv2=0.25"), (4, 12)),
            (("--group", "conv1=0.25", "--round-to", "1"), (6, 16)),
        ],
    )
    def test_units_left(
        self, options: tuple[str, ...], left: tuple[int, int], call: Call, cnn_file: Path, out: Path
    ) -> None:
        assert self.left(call, cnn_file, out, *options) == left

    def test_global(self, call: Call, cnn_file: Path, out: Path) -> None:
        assert sum(self.left(call, cnn_file, out, *EXACTLY, "--scope", "global")) == 12

    @pytest.mark.parametrize(("option", "key"), [("--target-macs", "macs"), ("--target-params", "parameters")])
    def test_targets(self, option: str, key: str, call: Call, cnn_file: Path, out: Path) -> None:
        found = call("prune", cnn_file, "-o", out, option, "0.5", "--round-to", "1", "--json").json
        assert 0.35 < found["after"][key] / found["before"][key] <= 0.5


class TestMasking:
    def test_units(self, call: Call, cnn_file: Path, out: Path) -> None:
        result = call("prune", cnn_file, "-o", out, *EXACTLY, "--mode", "mask")
        assert result.code == 0, result.err
        assert shapes(out) == shapes(cnn_file)
        assert "Zeros make neither the file smaller nor onnxruntime faster" in result.out

    def test_single_weights(self, call: Call, cnn_file: Path, out: Path) -> None:
        result = call("prune", cnn_file, "-o", out, "--ratio", "0.75", "--granularity", "weight", "--json")
        assert result.code == 0, result.err
        assert result.json["mode"] == "mask"
        for tensor in onnx.load(out).graph.initializer:
            values = numpy_helper.to_array(tensor)
            expected = 0 if tensor.name.endswith("bias") else 3 * values.size // 4
            assert int((values == 0).sum()) == expected
        assert result.json["after"]["nonzero"] < result.json["after"]["parameters"]
        assert "proof" in result.json
        assert result.json["proof"] is None


class TestJson:
    def test_schema(self, call: Call, cnn_file: Path, out: Path) -> None:
        result = call("prune", cnn_file, "-o", out, *EXACTLY, "--json")
        assert (result.code, result.err) == (0, "")
        found = result.json
        assert found["asked"]["ratio"] == 0.5
        assert found["reached"]["ratio"] == 0.5
        assert (found["removed"], found["total"], found["round_to"]) == (12, 24, 1)
        assert found["before"].keys() == found["after"].keys() == COSTS
        assert found["after"]["file_bytes"] == out.stat().st_size
        assert found["after"]["latency_ms"] > 0
        assert found["reached"]["macs"] == pytest.approx(found["after"]["macs"] / found["before"]["macs"])
        assert found["proof"]["ok"]
        assert found["proof"]["error"] <= found["proof"]["tolerance"] == 1e-5
        assert found["hash"] == load(out).hash
        assert found["parent"] == load(cnn_file).hash
        for stage in ("load", "couple", "score", "allocate", "surgery", "prove", "save", "total"):
            assert found["timings"][stage] >= 0
        assert found["groups"][0] == {"name": "conv1", "removed": 4, "units": 8}

    def test_not_proven(self, call: Call, cnn_file: Path, out: Path) -> None:
        found = call("prune", cnn_file, "-o", out, *EXACTLY, "--json", "--no-verify").json
        assert found["proof"] is None
        assert found["after"]["latency_ms"] is None
        assert "prove" not in found["timings"]


class TestProof:
    def test_on_data(self, call: Call, cnn_file: Path, data_file: Path, out: Path) -> None:
        found = call("prune", cnn_file, "-o", out, *EXACTLY, "--data", data_file, "--json").json
        assert found["proof"]["batches"] == [5, 5, 6]

    def test_a_model_that_fails_it_is_not_written(
        self, call: Call, cnn_file: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnxprune.experiment import work as experiment  # noqa: PLC0415 - the module, to break it

        right = experiment.remove

        def wrong(*arguments: object) -> object:
            editor = right(*arguments).edit()  # type: ignore[arg-type]
            editor.set_weight("fc.bias", editor.weights["fc.bias"].array() + np.float32(0.01))
            return editor.build()

        monkeypatch.setattr(experiment, "remove", wrong)
        result = call("prune", cnn_file, "-o", out, *EXACTLY)
        assert result.code == 2
        assert "not proven" in result.err
        assert "scores" in result.err
        assert not out.exists()


def test_a_fixed_batch(call: Call, out: Path, tmp_path: Path) -> None:
    path = save(cnn(batch=2), tmp_path / "fixed.onnx")
    assert call("prune", path, "-o", out, *EXACTLY).code == 0


def test_a_plan_whose_model_was_repaired_says_so(call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    first = call("prune", cnn_file, "-o", out, "--ratio", "0.5", "--recover", "bias", "--save-plan", plan)
    assert first.code == 0, first.err
    assert "made-up inputs" in first.out
    again = call("prune", cnn_file, "-o", out, "--plan", plan)
    assert again.code == 0, again.err
    assert "--recover bias" in again.err


def test_floors_are_read(call: Call, cnn_file: Path, out: Path) -> None:
    result = call("prune", cnn_file, "-o", out, "--ratio", "0.5", "--min", "accuracy")
    assert result.code == 2
    assert "expected METRIC=VALUE" in result.err
    (floor,) = floors_of(["recall:a=b:c=0.5"])
    assert (floor.metric, floor.label, floor.least, floor.higher) == ("recall", "a=b:c", 0.5, True)
    assert not floors_of(["loss=0.3"])[0].higher
