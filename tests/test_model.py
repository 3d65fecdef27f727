"""Reading, editing and writing models: nothing is lost, and the bulk stays where it is."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune import model as model_module
from onnxprune.errors import ModelError
from onnxprune.model import (
    ArrayWeight,
    DerivedWeight,
    MappedWeight,
    Model,
    Weight,
    check,
    from_proto,
    inline_functions,
    load,
    save,
)
from tests.protos import inner_constant, mlp, node, outside, proto, value, values, with_body, with_function

ONNX_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted((ONNX_DATA / "light").glob("*.onnx"))
PLAIN = (np.float32, np.float64, np.float16, np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint32, np.bool_)
SMALL = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
PACKED = (ml_dtypes.int4, ml_dtypes.uint4)


def write(path: Path, content: onnx.ModelProto) -> Path:
    path.write_bytes(content.SerializeToString())
    return path


def same_bytes(left: onnx.ModelProto, right: onnx.ModelProto) -> bool:
    return left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True)


def holding(tensor: onnx.TensorProto) -> onnx.ModelProto:
    """A model with one constant, which is its output as well."""
    return proto([], [], [value(tensor.name, list(tensor.dims), tensor.data_type)], {tensor.name: tensor})


class TestLoad:
    def test_bulk_is_not_in_the_proto(self, tmp_path: Path) -> None:
        model = load(write(tmp_path / "m.onnx", mlp(width=500, constant=True)))
        assert model.proto.ByteSize() < 1500
        assert all(isinstance(model.weights[name], MappedWeight) for name in ("w1", "w2", "b1"))
        np.testing.assert_array_equal(model.array("w2"), values(500, 3, seed=2))

    def test_small_constants_stay_readable_in_the_proto(self) -> None:
        model = from_proto(mlp(width=8))
        np.testing.assert_array_equal(numpy_helper.to_array(model.proto.graph.initializer[1]), values(8, seed=3))

    @pytest.mark.parametrize("make", [mlp, lambda: mlp(width=500, constant=True), with_body, with_function])
    def test_to_proto_gives_back_what_was_loaded(self, tmp_path: Path, make: object) -> None:
        original = make()  # type: ignore[operator]
        assert same_bytes(load(write(tmp_path / "m.onnx", original)).to_proto(), original)
        assert same_bytes(from_proto(original).to_proto(), original)

    @pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
    def test_graphs_of_onnx_itself(self, path: Path) -> None:
        model = load(path)
        assert model.proto.ir_version == 3
        assert same_bytes(model.to_proto(), onnx.load(path))

    def test_initializers_that_are_inputs_too_stay_inputs(self, tmp_path: Path) -> None:
        old = mlp()
        old.ir_version = 3
        old.graph.input.extend(value(t.name, list(t.dims)) for t in old.graph.initializer)
        model = from_proto(old)
        save(model, tmp_path / "m.onnx")
        assert [v.name for v in onnx.load(tmp_path / "m.onnx").graph.input] == ["x", "w1", "b1", "w2"]

    @pytest.mark.parametrize("dtype", PLAIN + SMALL + PACKED)
    @pytest.mark.parametrize("shape", [(), (0, 3), (3, 5), (37, 65)])
    def test_every_type_survives_every_way_of_storing_it(
        self, tmp_path: Path, dtype: type, shape: tuple[int, ...]
    ) -> None:
        array = (values(*shape) * 3).astype(dtype)
        model = load(write(tmp_path / "m.onnx", holding(numpy_helper.from_array(array, "w"))))
        weight = model.weights["w"]
        assert (weight.shape, weight.dtype) == (shape, np.dtype(dtype))
        for external in (False, True):
            save(model, tmp_path / "copy.onnx", external=external)
            found = load(tmp_path / "copy.onnx").array("w")
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            assert found.tobytes() == array.tobytes()

    @pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32,
                                      TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.UINT64,
                                      TensorProto.BOOL, TensorProto.INT4])  # fmt: skip
    @pytest.mark.parametrize("size", [6, 3000])
    def test_typed_fields_are_read_as_raw_data_are(self, tmp_path: Path, kind: int, size: int) -> None:
        numbers = np.random.default_rng(0).integers(0, 2, size)
        typed = helper.make_tensor("w", kind, [size], numbers)
        assert not typed.HasField("raw_data")
        raw = numpy_helper.from_array(numpy_helper.to_array(typed), "w")
        one, two = load(write(tmp_path / "typed.onnx", holding(typed))), from_proto(holding(raw))
        assert one.array("w").tolist() == numbers.tolist()
        assert one.hash == two.hash

    def test_a_location_that_is_written_out_means_here(self, tmp_path: Path) -> None:
        """onnxruntime's quantiser leaves `data_location: DEFAULT` in tensors that were external before."""
        values = np.arange(3000, dtype=np.float32)
        tensor = numpy_helper.from_array(values, "w")
        tensor.data_location = TensorProto.DEFAULT
        model = load(write(tmp_path / "m.onnx", holding(tensor)))
        assert np.array_equal(model.array("w"), values)
        save(model, tmp_path / "copy.onnx")
        assert load(tmp_path / "copy.onnx").hash == model.hash

    def test_strings(self, tmp_path: Path) -> None:
        texts = np.array([["ä", "b" * 3000]], dtype=object)
        model = load(write(tmp_path / "m.onnx", holding(numpy_helper.from_array(texts, "w"))))
        assert model.array("w").tolist() == texts.tolist()
        assert model.weights["w"].nbytes == 3002
        save(model, tmp_path / "copy.onnx", external=True)
        assert load(tmp_path / "copy.onnx").hash == model.hash

    @pytest.mark.parametrize("two_columns", [False, True])
    def test_sparse_initializers_become_dense(self, tmp_path: Path, two_columns: bool) -> None:
        dense = np.zeros((4, 5), np.float32)
        dense[1, 2], dense[3, 4] = 7, 9
        indices = np.array([[1, 2], [3, 4]] if two_columns else [7, 19])
        sparse = helper.make_sparse_tensor(
            numpy_helper.from_array(np.array([7, 9], np.float32), "w"), numpy_helper.from_array(indices), [4, 5]
        )
        sparse_model = proto(
            [node("Constant", [], ["c"], sparse_value=sparse), node("Add", ["w", "c"], ["y"])], [], [value("y", [4, 5])]
        )
        sparse_model.graph.sparse_initializer.append(sparse)
        model = load(write(tmp_path / "m.onnx", sparse_model))
        np.testing.assert_array_equal(model.array("w"), dense)
        np.testing.assert_array_equal(model.array("c"), dense)
        assert from_proto(model.to_proto()).hash == model.hash

    def test_plain_numbers_in_constant_nodes(self) -> None:
        nodes = [
            node("Constant", [], ["i"], value_int=3),
            node("Constant", [], ["is"], value_ints=[1, 2]),
            node("Constant", [], ["f"], value_float=0.5),
            node("Constant", [], ["fs"], value_floats=[0.5, 2.0]),
            node("Constant", [], ["s"], value_string="text"),
        ]
        model = from_proto(proto(nodes, [], [value("i", [], TensorProto.INT64)]))
        assert {name: model.array(name).tolist() for name in model.weights} == {
            "i": 3, "is": [1, 2], "f": 0.5, "fs": [0.5, 2.0]
        }  # fmt: skip

    def test_other_domains_and_odd_names(self, tmp_path: Path) -> None:
        nodes = [
            node("Foo", ["", "a b/c:0"], ["ü"], domain="com.acme"),
            node("Scaler", ["ü"], ["y"], domain="ai.onnx.ml"),
        ]
        odd = proto(
            nodes, [value("a b/c:0", None)], [value("y", None)], opsets={"": 20, "com.acme": 7, "ai.onnx.ml": 3}
        )
        model = load(write(tmp_path / "m.onnx", odd))
        assert same_bytes(model.to_proto(), odd)
        assert model.edit().fresh("ü") == "ü_2"

    def test_nodes_out_of_order_are_put_in_order(self) -> None:
        shuffled = mlp()
        nodes = list(shuffled.graph.node)
        del shuffled.graph.node[:]
        shuffled.graph.node.extend(reversed(nodes))
        assert [n.name for n in from_proto(shuffled).proto.graph.node] == ["first", "relu", "second"]

    def test_models_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        save(from_proto(mlp(width=500)), tmp_path / "m.onnx", external=True)
        model = load(tmp_path / "m.onnx")
        content = pickle.dumps(model)
        assert len(content) < 5000
        there = pickle.loads(content)  # noqa: S301 -- its own bytes
        assert there.hash == model.hash
        assert there.data_files == model.data_files == (tmp_path / "m.onnx.data",)

    def test_a_file_that_changed_meanwhile_is_noticed(self, tmp_path: Path) -> None:
        content = pickle.dumps(load(write(tmp_path / "m.onnx", mlp(width=500))))
        write(tmp_path / "m.onnx", mlp(width=501))
        with pytest.raises(ModelError, match="has changed since the model was loaded"):
            pickle.loads(content).array("w1")  # noqa: S301 -- its own bytes

    def test_arrays_are_read_only_and_aligned(self, tmp_path: Path) -> None:
        for name in ("w1", "b1", "w2"):
            array = load(write(tmp_path / f"{name}.onnx", mlp(width=30_000))).array(name)
            assert array.flags.aligned
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    def test_an_unknown_constant_is_named(self) -> None:
        with pytest.raises(ModelError, match="no constant `w9`"):
            from_proto(mlp()).array("w9")

    def test_the_caller_keeps_its_proto(self) -> None:
        original = mlp()
        model = from_proto(original)
        before = model.hash
        original.graph.initializer[0].raw_data = bytes(len(original.graph.initializer[0].raw_data))
        assert from_proto(model.to_proto()).hash == before


class TestHash:
    def test_does_not_depend_on_storage_or_comments(self, tmp_path: Path) -> None:
        model = from_proto(mlp(width=500))
        other = mlp(width=500)
        other.ir_version, other.producer_name, other.doc_string, other.graph.name = 9, "p", "d", "g"
        other.graph.node[0].doc_string = "text"
        other.graph.node[0].domain = "ai.onnx"
        other.graph.value_info.append(value("h", ["n", 500]))
        other.metadata_props.add(key="k", value="v")
        other.graph.initializer.reverse()
        assert from_proto(other).hash == model.hash
        save(model, tmp_path / "m.onnx", external=True)
        assert load(tmp_path / "m.onnx").hash == model.hash

    @pytest.mark.parametrize(
        "change",
        [
            lambda p: setattr(p.graph.node[0], "name", "other"),
            lambda p: setattr(p.graph.node[0], "op_type", "Other"),
            lambda p: p.graph.node[0].attribute.add(name="transB", type=onnx.AttributeProto.INT, i=1),
            lambda p: setattr(p.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 3),
            lambda p: setattr(p.opset_import[0], "version", 19),
            lambda p: p.graph.initializer[1].CopyFrom(numpy_helper.from_array(values(32), "b1")),
            lambda p: p.graph.initializer[1].dims.insert(0, 1),
        ],
    )
    def test_depends_on_what_is_computed(self, change: object) -> None:
        changed = mlp()
        change(changed)  # type: ignore[operator]
        assert from_proto(changed).hash != from_proto(mlp()).hash

    def test_depends_on_bodies_and_functions(self) -> None:
        body, function = with_body(), with_function()
        hashes = {from_proto(body).hash, from_proto(function).hash}
        inner_constant(body).CopyFrom(numpy_helper.from_array(values(1, 400) + 1, "inner"))
        function.functions[0].node[1].op_type = "Add"
        hashes |= {from_proto(body).hash, from_proto(function).hash}
        assert len(hashes) == 4

    def test_is_the_same_in_every_release(self) -> None:
        """Plans on people's disks name models by this."""
        model = proto(
            [node("Cast", ["x"], ["y"], name="n", to=10)], [value("x", [2])], [value("y", [2], 10)],
            {"w": np.arange(3, dtype=np.int64)}, {"": 20},
        )  # fmt: skip
        assert from_proto(model).hash == FIXED_HASH


FIXED_HASH = "cf3b3768249ec8a9a6258e2ce7481b130bbf288eb5f4695315af4119dd5949a9"


class TestEdit:
    def test_nothing_changed_is_the_same_model(self) -> None:
        model = from_proto(mlp(width=500, constant=True))
        assert same_bytes(model.edit().build().to_proto(), model.to_proto())

    @pytest.mark.parametrize("constant", [False, True])
    @pytest.mark.parametrize("width", [4, 500])
    def test_a_weight_is_replaced_and_the_original_is_not(self, constant: bool, width: int) -> None:
        model = from_proto(mlp(width=500, constant=constant))
        before = model.to_bytes()
        editor = model.edit()
        editor.set_weight("w2", values(width, 7))
        built = editor.build()
        assert model.to_bytes() == before
        np.testing.assert_array_equal(built.array("w2"), values(width, 7))
        check(from_proto(built.to_proto()))
        np.testing.assert_array_equal(from_proto(built.to_proto()).array("w2"), values(width, 7))

    def test_dims_of_inputs_and_value_info_follow(self) -> None:
        old = mlp()
        old.graph.input.append(value("w2", [32, 3]))
        old.graph.value_info.append(value("b1", [32]))
        editor = from_proto(old).edit()
        editor.set_weight("w2", values(5, 6))
        editor.set_weight("b1", values(7, dtype=np.float16))
        graph = editor.build().proto.graph
        assert [d.dim_value for d in graph.input[1].type.tensor_type.shape.dim] == [5, 6]
        assert [d.dim_value for d in graph.value_info[0].type.tensor_type.shape.dim] == [7]
        assert graph.value_info[0].type.tensor_type.elem_type == TensorProto.FLOAT16

    def test_new_weights_get_fresh_names(self) -> None:
        editor = from_proto(mlp()).edit()
        assert editor.add_weight("new", values(3)) == "new"
        assert editor.add_weight("new", values(4)) == "new_2"
        assert editor.add_weight("relu", values(5)) == "relu_2"
        assert editor.fresh("h") == "h_2"
        model = editor.build()
        assert [t.name for t in model.proto.graph.initializer] == ["w1", "b1", "w2", "new", "new_2", "relu_2"]
        assert from_proto(model.to_proto()).hash == model.hash

    def test_constants_go_with_their_home_or_with_their_weight(self) -> None:
        editor = from_proto(mlp(constant=True)).edit()
        editor.proto.graph.initializer.add(name="spare").CopyFrom(numpy_helper.from_array(values(900), "spare"))
        del editor.weights["w1"]
        del editor.proto.graph.node[2:]
        del editor.proto.graph.output[:]
        editor.proto.graph.output.append(value("r", None))
        editor.proto.graph.node[0].input[:] = ["x", "spare", "b1"]
        built = editor.build()
        assert sorted(built.weights) == ["b1", "spare"]
        np.testing.assert_array_equal(built.array("spare"), values(900))
        assert built.proto.ByteSize() < 1000

    def test_a_constant_that_lost_its_node_but_is_used_becomes_an_initializer(self) -> None:
        editor = from_proto(mlp(constant=True)).edit()
        del editor.proto.graph.node[2]
        built = editor.build()
        assert [t.name for t in built.proto.graph.initializer] == ["w1", "b1", "w2"]
        check(built)

    def test_numbers_in_a_constant_node_are_replaced_by_a_tensor(self) -> None:
        shape = node("Constant", [], ["s"], value_ints=[2, 3])
        editor = from_proto(
            proto([shape, node("Reshape", ["x", "s"], ["y"])], [value("x", [6])], [value("y", None)])
        ).edit()
        editor.set_weight("s", np.array([3, 2]))
        assert numpy_helper.to_array(editor.build().proto.graph.node[0].attribute[0].t).tolist() == [3, 2]

    def test_metadata(self) -> None:
        editor = from_proto(mlp()).edit()
        editor.set_metadata("a", "1")
        editor.set_metadata("b", "2")
        editor.set_metadata("a", "3")
        assert editor.build().metadata == {"a": "3", "b": "2"}

    def test_derived_weights_are_computed_when_asked_for(self, tmp_path: Path) -> None:
        calls: list[str] = []

        def cut(array: np.ndarray) -> np.ndarray:
            calls.append("cut")
            return array[:, :100]

        model = load(write(tmp_path / "m.onnx", mlp(width=500)))
        editor = model.edit()
        editor.set_weight("w1", DerivedWeight(model.weights["w1"], (20, 100), cut))
        built = editor.build()
        assert (calls, built.weights["w1"].nbytes) == ([], 8000)
        np.testing.assert_array_equal(from_proto(built.to_proto()).array("w1"), values(20, 500, seed=1)[:, :100])
        assert calls == ["cut"]

    def test_a_derived_weight_of_another_shape_is_refused(self) -> None:
        wrong = DerivedWeight(ArrayWeight(values(3)), (2,), lambda array: array)
        with pytest.raises(ModelError, match=r"came out as \[3\], expected \[2\]"):
            wrong.array()

    def test_a_type_without_a_counterpart_is_refused(self) -> None:
        with pytest.raises(ModelError, match=r"datetime64.* has no ONNX counterpart"):
            from_proto(mlp()).edit().set_weight("w1", np.zeros(3, "datetime64[s]"))


class TestFunctions:
    def test_are_inlined(self) -> None:
        model = from_proto(with_function())
        inlined = inline_functions(model)
        assert [n.op_type for n in inlined.proto.graph.node] == ["Constant", "Mul"]
        assert len(model.proto.functions) == 1
        (name,) = inlined.weights
        np.testing.assert_array_equal(inlined.array(name), values(1, 300))
        assert inlined.proto.ByteSize() < 1000
        check(inlined)

    def test_of_another_opset_are_inlined(self) -> None:
        other = with_function()
        other.functions[0].opset_import[0].version = 18
        assert not inline_functions(from_proto(other)).proto.functions

    def test_a_model_without_them_is_itself(self) -> None:
        model = from_proto(mlp())
        assert inline_functions(model) is model

    def test_large_weights_survive(self) -> None:
        mixed = with_function()
        mixed.graph.initializer.append(numpy_helper.from_array(values(1, 300, seed=5), "w"))
        mixed.graph.node.append(node("Add", ["y", "w"], ["z"]))
        mixed.graph.output[0].name = "z"
        np.testing.assert_array_equal(inline_functions(from_proto(mixed)).array("w"), values(1, 300, seed=5))


class TestSave:
    def test_external_data_are_aligned_and_beside_the_model(self, tmp_path: Path) -> None:
        save(from_proto(mlp(width=500, constant=True)), tmp_path / "m.onnx", external=True)
        assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.onnx.data"}
        written = onnx.load(tmp_path / "m.onnx", load_external_data=False)
        entries = [{e.key: e.value for e in t.external_data} for t in written.graph.initializer]
        assert {e["location"] for e in entries} == {"m.onnx.data"}
        assert all(int(e["offset"]) % 64 == 0 for e in entries)
        onnx.checker.check_model(tmp_path / "m.onnx")

    def test_a_model_from_external_data_is_saved_so_unless_told(self, tmp_path: Path) -> None:
        save(from_proto(mlp(width=500)), tmp_path / "m.onnx", external=True)
        model = load(tmp_path / "m.onnx")
        save(model.edit().build(), tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx.data").exists()
        save(model, tmp_path / "inline.onnx", external=False)
        assert not (tmp_path / "inline.onnx.data").exists()
        assert load(tmp_path / "inline.onnx").hash == load(tmp_path / "again.onnx").hash == model.hash

    @pytest.mark.parametrize("external", [False, True])
    def test_a_model_can_be_written_over_itself(self, tmp_path: Path, external: bool) -> None:
        path = tmp_path / "m.onnx"
        save(from_proto(mlp(width=30_000)), path, external=external)
        model = load(path)
        before = model.hash
        for _ in range(2):
            editor = model.edit()
            editor.set_weight("b1", values(30_000, seed=9))
            save(editor.build(), path)
        assert load(path).array("b1").tobytes() == values(30_000, seed=9).tobytes()
        assert Model(model.proto, model.weights).hash == before

    def test_large_models_get_external_data_by_themselves(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(model_module, "EXTERNAL_FROM", 10_000)
        save(from_proto(mlp(width=500)), tmp_path / "m.onnx")
        assert (tmp_path / "m.onnx.data").exists()

    def test_external_data_inside_bodies_become_inline(self, tmp_path: Path) -> None:
        content = with_body()
        inner = inner_constant(content)
        (tmp_path / "inner.bin").write_bytes(b"\0" * 8 + inner.raw_data)
        outside(inner, "inner.bin", offset=8)
        model = load(write(tmp_path / "m.onnx", content))
        assert model.hash == from_proto(with_body()).hash
        (tmp_path / "elsewhere").mkdir()
        save(model, tmp_path / "elsewhere" / "m.onnx")
        assert load(tmp_path / "elsewhere" / "m.onnx").hash == model.hash

    def test_weights_pass_one_by_one(self, tmp_path: Path) -> None:
        """Neither reading nor writing holds more than the weight in work: here 8 of 2 MB each, each cut to half."""
        size = 500_000
        names = [f"w{i}" for i in range(8)]
        total = proto([node("Sum", names, ["y"])], [], [value("y", [size])], {n: values(size) for n in names})
        write(tmp_path / "m.onnx", total)
        del total
        tracemalloc.start()
        try:
            model = load(tmp_path / "m.onnx")
            editor = model.edit()
            for name in names:
                half = DerivedWeight(model.weights[name], (size // 2,), lambda array: array[::2])
                editor.set_weight(name, half)
            for external in (False, True):
                save(editor.build(), tmp_path / "half.onnx", external=external)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 6_000_000
        np.testing.assert_array_equal(load(tmp_path / "half.onnx").array("w7"), values(size)[::2])

    def test_through_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        save(from_proto(mlp()), tmp_path / "real" / "m.onnx")
        (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "m.onnx")
        save(from_proto(mlp(width=500)), tmp_path / "link.onnx", external=True)
        assert (tmp_path / "link.onnx").is_symlink()
        assert load(tmp_path / "link.onnx").hash == load(tmp_path / "real" / "m.onnx").hash

    def test_a_download_cache_of_links_is_read(self, tmp_path: Path) -> None:
        save(from_proto(mlp(width=500)), tmp_path / "m.onnx", external=True)
        (tmp_path / "blobs").mkdir()
        (tmp_path / "snapshot").mkdir()
        for name in ("m.onnx", "m.onnx.data"):
            (tmp_path / name).rename(tmp_path / "blobs" / f"hash-{name}")
            (tmp_path / "snapshot" / name).symlink_to(Path("..", "blobs", f"hash-{name}"))
        assert load(tmp_path / "snapshot" / "m.onnx").hash == from_proto(mlp(width=500)).hash


@pytest.mark.parametrize(
    "weight", [ArrayWeight(values(2, 3)), DerivedWeight(ArrayWeight(values(4, 3)), (2, 3), lambda a: a[:2])]
)
def test_weights_say_what_they_are(weight: Weight) -> None:
    assert (weight.shape, weight.nbytes, weight.onnx_type) == ((2, 3), 24, TensorProto.FLOAT)
    assert repr(weight).endswith("(float32[2, 3])")
