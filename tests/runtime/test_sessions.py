"""Sessions give what the model says, in every way of making them; errors name the node; the terminal stays clean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.errors import DataError, ModelError, OptionError, UnsupportedModel
from onnxprune.model import Model, from_proto, inline_functions, load, save
from onnxprune.runtime import TensorInfo, model_inputs, providers, session
from tests.protos import mlp, mlp_output, node, proto, value, values, with_body, with_function

ROOT = Path(__file__).parent.parent.parent
X = {"x": values(4, 20, seed=9)}
LARGE = 100_000  # a width at which weights are read in place


def one(op: str, kind: int, *, opset: int = 22, **attributes: object) -> Model:
    """x [n, 4] -> op -> y."""
    return from_proto(
        proto(
            [node(op, ["x"], ["y"], name="the node", **attributes)],
            [value("x", ["n", 4], kind)],
            [value("y", None, kind)],
            opsets={"": opset},
        )
    )


class TestSession:
    @pytest.mark.parametrize("prepack", [False, True])
    @pytest.mark.parametrize("optimize", [False, True])
    @pytest.mark.parametrize(
        ("width", "constant"), [(8, False), (400, False), (LARGE, False), (400, True), (LARGE, True)]
    )
    def test_result(self, width: int, constant: bool, optimize: bool, prepack: bool) -> None:
        model = from_proto(mlp(width=width, constant=constant))
        found = session(model, optimize=optimize, prepack=prepack).run(X)["y"]
        expected = mlp_output(X["x"], width=width)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max() * width**0.5)

    @pytest.mark.parametrize("external", [False, True])
    def test_from_a_file(self, tmp_path: Path, external: bool) -> None:
        save(from_proto(mlp(width=LARGE)), tmp_path / "m.onnx", external=external)
        ready = session(load(tmp_path / "m.onnx"), optimize=False)
        for file in tmp_path.iterdir():
            file.unlink()
        np.testing.assert_allclose(ready.run(X)["y"], mlp_output(X["x"], width=LARGE), rtol=1e-3, atol=2e-2)

    def test_the_model_is_not_touched(self) -> None:
        model = from_proto(mlp(width=400, constant=True))
        before = model.to_bytes()
        session(model, outputs=["h"])
        assert model.to_bytes() == before

    def test_a_weight_that_the_optimizer_transposes(self) -> None:
        """Shared initializers, which are read in place, would come out wrong here with the optimizer on."""
        nodes = [
            node("Conv", ["x", "k"], ["c"], pads=[1] * 4),
            node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
            node("Add", ["t", "w"], ["a"]),
            node("Transpose", ["a"], ["y"], perm=[0, 3, 1, 2]),
        ]
        weights = {"k": values(64, 64, 3, 3), "w": values(80, 80, 64)}
        model = from_proto(proto(nodes, [value("x", [1, 64, 80, 80])], [value("y", None)], weights))
        feeds = {"x": values(1, 64, 80, 80, seed=1)}
        one, other = (session(model, optimize=flag).run(feeds)["y"] for flag in (False, True))
        np.testing.assert_allclose(one, other, atol=2e-4)

    def test_inputs_and_outputs_are_described(self) -> None:
        ready = session(from_proto(mlp()))
        assert ready.inputs == (TensorInfo("x", np.dtype(np.float32), ("n", 20)),)
        assert (ready.outputs, ready.provider) == (("y",), providers()[0])

    def test_initializers_that_are_inputs_too_need_not_be_given(self) -> None:
        for ir_version in (3, 10):
            old = mlp()
            old.ir_version = ir_version
            old.graph.input.extend(value(t.name, list(t.dims)) for t in old.graph.initializer)
            model = from_proto(old)
            assert [info.name for info in model_inputs(model)] == ["x"]
            np.testing.assert_allclose(session(model).run(X)["y"], mlp_output(X["x"]), atol=1e-4)
        doubled = session(model).run({**X, "w2": 2 * values(32, 3, seed=2)})["y"]
        np.testing.assert_allclose(doubled, 2 * mlp_output(X["x"]), atol=1e-4)

    def test_bodies_and_functions(self) -> None:
        x = values(2, 8, seed=1)
        branches = {
            flag: session(from_proto(with_body())).run({"x": x, "flag": np.array(flag)})["y"] for flag in (True, False)
        }
        h = x @ values(8, 400)
        np.testing.assert_allclose(branches[True], h + values(1, 400), atol=1e-5)
        np.testing.assert_allclose(branches[False], np.maximum(h, 0), atol=1e-5)
        x = values(2, 300, seed=1)
        for model in (from_proto(with_function()), inline_functions(from_proto(with_function()))):
            np.testing.assert_allclose(session(model).run({"x": x})["y"], x * values(1, 300), atol=1e-6)

    def test_sequences_come_as_lists(self) -> None:
        parts = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
        model = from_proto(proto([node("SplitToSequence", ["x"], ["y"], axis=1)], [value("x", [2, 3])], [parts]))
        assert len(session(model).run({"x": values(2, 3)})["y"]) == 3

    def test_strings(self) -> None:
        model = one("Identity", TensorProto.STRING)
        texts = np.array([["a", "b", "ü", "d"]], dtype=object)
        assert session(model).run({"x": texts})["y"].tolist() == texts.tolist()

    @pytest.mark.parametrize(
        "dtype",
        [np.float16, np.float64, np.int8, np.uint8, np.int64, np.bool_, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn],
    )
    def test_types(self, dtype: type) -> None:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        x = values(3, 4).astype(dtype)
        found = session(one("Identity", kind)).run({"x": x})["y"]
        assert found.dtype == np.dtype(dtype)
        assert found.tobytes() == x.tobytes()

    @pytest.mark.parametrize(
        "dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8, ml_dtypes.int4]
    )
    @pytest.mark.parametrize("optimize", [False, True])
    def test_types_of_weights(self, dtype: type, optimize: bool) -> None:
        """Cast a large constant to float32 and add it; 4-bit types reach onnxruntime packed."""
        weight = values(60, 60_000).astype(dtype)
        nodes = [node("Cast", ["w"], ["f"], to=TensorProto.FLOAT), node("Add", ["x", "f"], ["y"])]
        model = from_proto(
            proto(nodes, [value("x", [1, 60_000])], [value("y", None)], {"w": numpy_helper.from_array(weight, "w")})
        )
        found = session(model, optimize=optimize).run({"x": np.zeros((1, 60_000), np.float32)})["y"]
        np.testing.assert_array_equal(found, weight.astype(np.float32))

    def test_profile(self) -> None:
        ready = session(from_proto(mlp()), profile=True)
        ready.run(X)
        assert any(event["name"].startswith("second") for event in ready.events())

    def test_threads(self) -> None:
        with pytest.raises(OptionError, match="0 threads"):
            session(from_proto(mlp()), threads=0)
        np.testing.assert_allclose(session(from_proto(mlp()), threads=1).run(X)["y"], mlp_output(X["x"]), atol=1e-4)


class TestOutputs:
    def test_any_tensor_may_be_asked_for(self) -> None:
        model = from_proto(mlp(constant=True))
        found = session(model, outputs=["y", "h", "w2", "x", "b1", "h"]).run(X)
        assert list(found) == ["y", "h", "w2", "x", "b1"]
        np.testing.assert_allclose(found["h"], X["x"] @ values(20, 32, seed=1) + values(32, seed=3), atol=1e-5)
        np.testing.assert_array_equal(found["w2"], values(32, 3, seed=2))
        np.testing.assert_array_equal(found["x"], X["x"])

    def test_what_is_not_needed_is_not_run(self) -> None:
        content = mlp()
        content.graph.node[2].domain, content.graph.node[2].op_type = "com.acme", "Foo"
        content.opset_import.append(helper.make_opsetid("com.acme", 1))
        model = from_proto(content)
        assert session(model, outputs=["r"]).run(X)["r"].shape == (4, 32)
        with pytest.raises(UnsupportedModel):
            session(model)

    def test_stale_value_info_does_not_matter(self) -> None:
        content = mlp()
        content.graph.value_info.append(value("h", ["n", 77]))
        assert session(from_proto(content), outputs=["h"]).run(X)["h"].shape == (4, 32)

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(OptionError, match="has no tensor `hh`") as caught:
            session(from_proto(mlp()), outputs=["hh"])
        assert "Did you mean h?" in caught.value.hint
        with pytest.raises(OptionError, match="no outputs"):
            session(from_proto(mlp()), outputs=[])


class TestErrors:
    def test_feeds_that_do_not_fit(self) -> None:
        ready = session(from_proto(mlp()))
        for feeds, words in (
            ({}, "takes `x`; given: nothing"),
            ({"x": X["x"], "z": X["x"]}, "takes `x`; given: `x`, `z`"),
            ({"x": X["x"].astype(np.float64)}, r"input `x` takes float32 \[n, 20\], given float64 \[4, 20\]"),
            ({"x": X["x"][:, :19]}, r"input `x` takes float32 \[n, 20\], given float32 \[4, 19\]"),
            ({"x": X["x"][0]}, r"input `x` takes float32 \[n, 20\], given float32 \[20\]"),
        ):
            with pytest.raises(DataError, match=words):
                ready.run(feeds)

    def test_an_unknown_operator(self) -> None:
        content = proto(
            [node("Foo", ["x"], ["y"], domain="com.acme")],
            [value("x", [2])],
            [value("y", [2])],
            opsets={"": 20, "com.acme": 1},
        )
        with pytest.raises(UnsupportedModel, match=r"onnxruntime [\d.]+ cannot load .*com.acme:Foo.*not a registered"):
            session(from_proto(content))

    def test_no_kernel(self) -> None:
        with pytest.raises(UnsupportedModel, match=r"implementation for Sin.* with name 'the node'"):
            session(one("Sin", TensorProto.BFLOAT16))

    def test_an_opset_without_kernels_any_more(self) -> None:
        path = Path(onnx.__file__).parent / "backend/test/data/pytorch-converted/test_Linear/model.onnx"
        with pytest.raises(UnsupportedModel, match=r"implementation for Gemm\(6\)") as caught:
            session(load(path))
        assert "another opset" in caught.value.hint

    def test_types_that_do_not_agree(self) -> None:
        content = mlp()
        content.graph.initializer[2].CopyFrom(numpy_helper.from_array(values(32, 3, dtype=np.float64), "w2"))
        with pytest.raises(ModelError, match=r"Type Error.*in node \(second\)") as caught:
            session(from_proto(content))
        assert not isinstance(caught.value, UnsupportedModel)

    def test_a_node_that_fails(self) -> None:
        nodes = [node("Constant", [], ["s"], value_ints=[3, 3]), node("Reshape", ["x", "s"], ["y"], name="bad reshape")]
        ready = session(from_proto(proto(nodes, [value("x", ["n", 4])], [value("y", None)])))
        with pytest.raises(ModelError, match=r"failed to run: .*Reshape node. Name:'bad reshape'") as caught:
            ready.run({"x": values(1, 4)})
        assert "onnxruntime_src" not in caught.value.message


def test_the_terminal_stays_clean() -> None:
    """Probing devices, failing to load and failing to run: onnxruntime's own words are in the errors only."""
    code = """
from onnxprune.errors import ModelError
from onnxprune.model import from_proto
from onnxprune.runtime import providers, session
from tests.protos import node, proto, value, values
providers()
nodes = [node("Constant", [], ["s"], value_ints=[3, 3]), node("Reshape", ["x", "s"], ["y"])]
for made in (nodes, [node("Relu", ["x"], ["y"], bogus=1)]):
    try:
        session(from_proto(proto(made, [value("x", ["n", 4])], [value("y", None)]))).run({"x": values(1, 4)})
    except ModelError:
        continue
    raise SystemExit("no error")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (found.stdout, found.stderr) == ("", "")
