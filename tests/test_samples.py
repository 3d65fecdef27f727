"""Generated inputs fit what reads them, and fill in the shapes that inference does not know."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxprune import runtime
from onnxprune.errors import DataError
from onnxprune.graph import Graph, build_graph
from onnxprune.model import Model, from_proto
from onnxprune.samples import assign, complete_shapes, generate
from onnxprune.sizes import resized, size_variants
from tests.nets import NETS, export
from tests.proof_models import mlp, model, normal


def graph_of(text: str, opset: int = 17, **weights: Any) -> Graph:
    return build_graph(model(text, opset, **weights))


def runs(original: Model) -> bool:
    found = runtime.session(original, provider="cpu").run(generate(build_graph(original)))
    return all(np.isfinite(value).all() for value in found.values() if value.dtype.kind == "f")


@pytest.mark.parametrize("name", [n for n, spec in NETS.items() if not spec.slow])
def test_every_net_runs_on_them(name: str) -> None:
    assert runs(from_proto(export(name, NETS[name].exporters[0])))


class TestNumbers:
    def test_seeded(self) -> None:
        graph = build_graph(mlp())
        first, again, other = (generate(graph, seed=s)["x"] for s in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_scale(self) -> None:
        graph = build_graph(mlp())
        np.testing.assert_allclose(generate(graph, scale=10)["x"], 10 * generate(graph)["x"], rtol=1e-6)

    @pytest.mark.parametrize(
        ("onnx_type", "dtype"),
        [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16), ("double", np.float64), ("float", np.float32)],
    )
    def test_types(self, onnx_type: str, dtype: Any) -> None:
        value = generate(graph_of(f"({onnx_type}[N,3] x) => ({onnx_type}[N,3] y) {{ y = Identity(x) }}"))["x"]
        assert value.dtype == dtype
        assert value.shape == (2, 3)
        assert value.astype(np.float32).std() > 0.1

    def test_bytes_fill_their_range(self) -> None:
        value = generate(graph_of("(uint8[1,3,16,16] x) => (float[1,3,16,16] y) { y = Cast<to=1>(x) }"))["x"]
        assert value.dtype == np.uint8
        assert value.max() > 200

    def test_complex(self) -> None:
        value = generate(graph_of("(complex64[3] x) => (complex64[3] y) { y = Identity(x) }"))["x"]
        assert value.dtype == np.complex64

    def test_text(self) -> None:
        graph = graph_of("(string[N] words) => (string[N] y) { y = Identity(words) }")
        with pytest.raises(DataError, match=r"input `words` holds text"):
            generate(graph)

    def test_no_known_rank(self) -> None:
        graph = graph_of(
            "(seq(float[3]) parts) => (float[3] y) { i = Constant<value_int=0>() y = SequenceAt(parts, i) }"
        )
        with pytest.raises(DataError, match=r"input `parts` is not a tensor of known rank"):
            generate(graph)


class TestMeaning:
    def indices(self, nodes: str, **weights: Any) -> np.ndarray:
        text = f"(int64[N,50] tokens) => (float[N,50,4] y) {{ {nodes} }}"
        return generate(graph_of(text, table=normal(7, 4), **weights))["tokens"]

    def test_indices_lie_in_the_table(self) -> None:
        tokens = self.indices("y = Gather(table, tokens)")
        assert set(np.unique(tokens)) == set(range(7))

    def test_behind_cast_and_reshape(self) -> None:
        tokens = self.indices(
            "a = Cast<to=6>(tokens) b = Unsqueeze(a, one) c = Squeeze(b, one) y = Gather(table, c)",
            one=np.array([1]),
        )
        assert set(np.unique(tokens)) == set(range(7))

    def test_behind_an_offset(self) -> None:
        tokens = self.indices("a = Add(tokens, two) y = Gather(table, a)", two=np.array(2))
        assert set(np.unique(tokens)) == set(range(5))

    def test_smallest_of_several_tables(self) -> None:
        tokens = self.indices("a = Gather(table, tokens) b = Gather(small, tokens) y = Add(a, b)", small=normal(3, 4))
        assert set(np.unique(tokens)) == set(range(3))

    def test_inside_a_body(self) -> None:
        text = """(bool c, int64[N,50] tokens) => (float[N,50,4] y) {
            y = If(c) <then_branch = t () => (float[N,50,4] p) { p = Gather(table, tokens) },
                       else_branch = e () => (float[N,50,4] q) { q = Gather(table, tokens) }> }"""
        found = generate(graph_of(text, table=normal(7, 4)))
        assert found["tokens"].max() == 6
        assert found["c"].dtype == np.bool_

    def test_one_hot(self) -> None:
        text = "(int64[N,50] tokens) => (float[N,50,5] y) { y = OneHot(tokens, depth, values) }"
        found = generate(graph_of(text, depth=np.array(5), values=np.array([0, 1], np.float32)))
        assert found["tokens"].max() == 4

    def test_mask_by_name(self) -> None:
        mask = generate(graph_of("(int64[N,9] attention_mask) => (float[N,9] y) { y = Cast<to=1>(attention_mask) }"))
        rows = mask["attention_mask"]
        assert rows[0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0]
        assert rows[1].all()

    def test_mask_by_use(self) -> None:
        text = "(float[N,9] keep, float[N,9] s) => (float[N,9] y) { a = Sub(one, keep) b = Mul(a, low) y = Add(b, s) }"
        found = generate(graph_of(text, one=np.array(1, np.float32), low=np.array(-10000, np.float32)))
        assert set(np.unique(found["keep"])) == {0, 1}
        assert len(np.unique(found["s"])) > 10

    def test_condition(self) -> None:
        text = "(int64[N,9] keep, float[N,9] s) => (float[N,9] y) { c = Cast<to=9>(keep) y = Where(c, s, low) }"
        assert set(np.unique(generate(graph_of(text, low=np.array(-1e4, np.float32)))["keep"])) == {0, 1}

    def test_positions_count_up(self) -> None:
        text = "(int64[N,9] position_ids) => (float[N,9,4] y) { y = Gather(table, position_ids) }"
        found = generate(graph_of(text, table=normal(6, 4)))["position_ids"]
        assert found[1].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]

    def test_lengths_are_full(self) -> None:
        text = "(float[5,N,3] x, int32[N] n) => (float[5,1,N,2] y) { y, h = GRU<hidden_size=2>(x, w, r, b, n) }"
        found = generate(graph_of(text, w=normal(1, 6, 3), r=normal(1, 6, 2), b=normal(1, 12)))
        assert found["n"].tolist() == [5, 5]

    def test_lengths_by_name(self) -> None:
        found = generate(graph_of("(float[N,5,3] x, int64[N] x_len) => (int64[N] y) { y = Identity(x_len) }"))
        assert found["x_len"].tolist() == [5, 5]


class TestSizes:
    def test_batch(self) -> None:
        assert generate(build_graph(mlp()), batch=5)["x"].shape == (5, 6)

    def test_unnamed_leading_axes_are_one_batch(self) -> None:
        original = model("(float[N,3] a, float[N,3] b) => (float[N,3] y) { y = Add(a, b) }")
        for value in original.proto.graph.input:
            value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        graph = build_graph(original)
        assert [v.shape for v in generate(graph, batch=4).values()] == [(4, 3), (4, 3)]

    def test_a_dimension_that_is_a_sum(self) -> None:
        graph = graph_of("(float[past,3] a, float[seq,3] b) => (float[t,3] y) { y = Concat<axis=0>(a, b) }")
        graph.model.proto.graph.input.add().CopyFrom(graph.model.proto.graph.input[0])
        total = graph.model.proto.graph.input[2]
        total.name, total.type.tensor_type.shape.dim[0].dim_param = "total", "past + seq"
        again = build_graph(graph.model)
        shapes = resized(again, {"past": 4, "seq": 5})
        assert shapes["total"] == (9, 3)

    def test_variants_begin_with_the_graph_itself(self) -> None:
        graph = graph_of("(float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
        variants = list(size_variants(graph))
        assert resized(graph, variants[0])["x"] == graph.shapes["x"]
        assert any(sizes["H"] == sizes["W"] for sizes in variants)
        assert any(sizes["N"] == 1 for sizes in variants)
        assert {"N": 2, "H": 8, "W": 16} in variants

    def test_no_variants_of_fixed_sizes(self) -> None:
        graph = graph_of("(float[1,3] x) => (float[1,3] y) { y = Relu(x) }")
        assert all(not sizes for sizes in size_variants(graph))


class TestAssign:
    """Primes first; where the model does not run on them, the nearest sizes that it takes."""

    def shapes(self, text: str, **weights: Any) -> dict[str, tuple[int, ...]]:
        graph = assign(model(text, **weights))
        assert not [o for n in graph.nodes for o in n.outputs if o not in graph.shapes]
        return dict(graph.shapes)

    def test_known_shapes_stay_primes(self) -> None:
        shapes = self.shapes("(float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
        assert shapes["x"] == (2, 3, 7, 11)

    def test_two_names_for_one_batch(self) -> None:
        shapes = self.shapes("(float[A,3] x, float[B,3] z) => (float[A,3] y) { y = Add(x, z) }")
        assert shapes["x"] == shapes["z"] == shapes["y"] == (2, 3)

    def test_past_and_present(self) -> None:
        text = """(float[N,S,3] x, float[N,P,3] past, float[N,T,3] bias) => (float[N,T,3] y) {
            c = Concat<axis=1>(past, x) y = Add(c, bias) }"""
        shapes = self.shapes(text)
        assert shapes["bias"][1] == shapes["x"][1] + shapes["past"][1]

    def test_named_as_a_sum(self) -> None:
        original = model("(float[N,S,3] x, float[N,P,3] past, float[N,T,3] bias) => (float[N,T,3] y) "
                         "{ c = Concat<axis=1>(past, x) y = Add(c, bias) }")  # fmt: skip
        original.proto.graph.input[2].type.tensor_type.shape.dim[1].dim_param = "P + S"
        assert assign(original).shapes["bias"] == (2, 18, 3)

    def test_images_that_are_halved(self) -> None:
        text = """(float[N,3,H,W] x) => (float[N,6,H,W] y) {
            d = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) u = Resize(d, , scales) y = Concat<axis=1>(u, x) }"""
        shapes = self.shapes(text, scales=np.array([1, 1, 2, 2], np.float32))
        assert shapes["x"] == (2, 3, 8, 12)

    def test_a_model_that_takes_none(self) -> None:
        text = "(float[N,6] x) => (float[N,4] y) { a = com.microsoft.QuickGelu(x) y = MatMul(a, w) }"
        graph = assign(model(text, w=normal(5, 4)))
        assert "a" not in graph.shapes

    def test_a_model_that_does_not_load(self) -> None:
        graph = assign(model("(float[N,6] x) => (float[N,6] y) { y = com.acme.Foo(x) }"))
        assert "y" not in graph.shapes

    def test_fixed_shapes(self) -> None:
        original = model("(float[N,3,H,W] x) => (float[N,3,H,W] y) { y = com.microsoft.QuickGelu(x) }")
        assert assign(original, fixed={"x": (1, 3, 20, 20)}).shapes["y"] == (1, 3, 20, 20)


class TestCompleteShapes:
    TEXT = """(float[N,6] x) => (float[N,4] y) {
        a = com.microsoft.QuickGelu(x) s = Shape(a) b = Reshape(a, s) y = MatMul(b, w) }"""

    def test_from_one_run(self) -> None:
        graph = graph_of(self.TEXT, w=normal(6, 4))
        assert "a" not in graph.shapes
        full = complete_shapes(graph)
        assert full.shapes["a"] == (2, 6)
        assert full.dtypes["a"] == 1
        assert full.values["s"].tolist() == [2, 6]
        assert "a" not in graph.shapes

    def test_nothing_missing(self) -> None:
        graph = build_graph(mlp())
        assert complete_shapes(graph) is graph

    def test_a_model_that_does_not_run(self) -> None:
        graph = graph_of("(float[N,6] x) => (float[N,6] y) { y = com.acme.Foo(x) }")
        assert complete_shapes(graph) is graph
