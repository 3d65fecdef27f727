"""A model proven piece by piece gets the verdict that it gets as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxprune import runtime
from onnxprune.coupling import couple
from onnxprune.cuts import cuts_of
from onnxprune.extract import extract, reached_from
from onnxprune.model import Model, from_proto
from onnxprune.proof import assert_proven, memory_needed, prove, segments
from onnxprune.proof.segments import Segment, split, whole
from onnxprune.samples import generate
from onnxprune.surgery import mask, remove
from onnxprune.values import Options
from tests.nets import NETS, export
from tests.proof_models import half, mlp, model, normal, proven

NAMES = (
    "plain_cnn resnet_bottleneck densenet mobilenet_v3 unet siamese encoder_prenorm encoder_bert vit decoder_llama "
    "decoder_tied attention_cross attention_sdpa swin seq2seq arithmetic"
).split()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SMALLEST", 1)


def deep(layers: int = 6, tail: str = "", skip: bool = False) -> Model:
    """x (N, 6) through layers of 8 units to y (N, 4)."""
    nodes, weights = ["h0 = MatMul(x, w0)"], {"w0": normal(6, 8), "end": normal(8, 4)}
    for k in range(1, layers):
        nodes.append(f"a{k} = MatMul(h{k - 1}, w{k}) r{k} = Relu(a{k})")
        nodes.append(f"h{k} = Add(r{k}, h0)" if skip else f"h{k} = Identity(r{k})")
        weights[f"w{k}"] = normal(8, 8, seed=k)
    last = f"h{layers - 1}"
    return model(f"(float[N,6] x) => (float[N,4] y) {{ {' '.join(nodes)} {tail} y = MatMul({last}, end) }}", **weights)


def cut(original: Model) -> tuple[Segment, ...]:
    coupling = couple(original)
    plan = half(coupling)
    reached = reached_from(coupling.graph, cuts_of(coupling, plan.units))
    return split(coupling.graph, reached, (mask(original, coupling, plan), remove(original, coupling, plan)))


class TestSplit:
    def test_one_activation_crosses(self) -> None:
        parts = cut(deep())
        assert len(parts) > 3
        assert [len(p.inputs) for p in parts] == [0] + [1] * (len(parts) - 1)
        assert [p.last + 1 for p in parts[:-1]] == [p.first for p in parts[1:]]
        assert parts[-1].outputs == ("y",)
        assert sum(p.nbytes for p in parts) == deep().nbytes

    def test_two_cross_where_one_cannot(self) -> None:
        parts = cut(deep(skip=True))
        assert len(parts) > 3
        assert max(len(p.inputs) for p in parts) == 2

    def test_too_many_would_cross(self) -> None:
        names = [f"h{k}" for k in range(7)]
        nodes = " ".join(f"h{k} = MatMul(x, w{k})" for k in range(7))
        text = (
            f"(float[N,6] x) => (float[N,4] y) {{ {nodes} s = Sum({', '.join(names)}) r = Relu(s) y = MatMul(r, end) }}"
        )
        wide = model(text, end=normal(8, 4), **{f"w{k}": normal(6, 8, seed=k) for k in range(7)})
        assert max(len(p.inputs) for p in cut(wide)) <= 4

    def test_a_whole(self) -> None:
        graph = couple(deep()).graph
        (only,) = whole(graph)
        assert only.outputs == ("y",)
        assert only.nbytes == graph.model.nbytes

    def test_larger_pieces_need_more_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = deep()
        coupling = couple(original)
        plan = half(coupling)
        in_pieces = memory_needed(original, coupling, plan, big=True)
        monkeypatch.setattr(segments, "SMALLEST", 1 << 30)
        assert in_pieces < memory_needed(original, coupling, plan, big=True)


class TestExtract:
    def test_the_pieces_one_after_the_other_are_the_model(self) -> None:
        original = from_proto(export("encoder_prenorm"))
        graph = couple(original).graph
        values = dict(generate(graph))
        expected = runtime.session(original, provider="cpu").run(values)
        for part in cut(original):
            session = runtime.session(extract(original, part.inputs, part.outputs, graph.dtypes), provider="cpu")
            values.update(session.run({i.name: values[i.name] for i in session.inputs}))
        for name, value in expected.items():
            np.testing.assert_allclose(values[name], value, atol=1e-5)

    def test_only_the_weights_of_the_piece(self) -> None:
        original = deep()
        parts = cut(original)
        pieces = [extract(original, p.inputs, p.outputs, couple(original).graph.dtypes) for p in parts]
        assert sum(p.nbytes for p in pieces) == original.nbytes
        assert all(p.nbytes == part.nbytes for p, part in zip(pieces, parts, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [Options(), Options(include_inexact=True)], ids=["exact", "inexact"])
def test_nets(name: str, options: Options) -> None:
    proof = proven(from_proto(export(name, NETS[name].exporters[-1])), options, big=True)
    assert_proven(proof)
    assert not proof.vacuous
    assert proof.segments > 1


class TestVerdicts:
    def test_equal_to_the_whole(self) -> None:
        in_pieces, at_once = (proven(deep(), big=big) for big in (True, False))
        assert in_pieces.ok
        assert at_once.ok
        assert (at_once.segments, in_pieces.segments > 3) == (1, True)
        assert in_pieces.batches == at_once.batches
        assert in_pieces.memory_bytes < at_once.memory_bytes

    @pytest.mark.parametrize("weight", ["w0", "w3", "end"])
    def test_a_wrong_weight_in_any_piece(self, weight: str) -> None:
        original = deep()
        coupling = couple(original)
        plan = half(coupling)
        removed = remove(original, coupling, plan)
        editor = removed.edit()
        wrong = np.array(removed.array(weight))
        wrong[0, 0] += 1e-2
        editor.set_weight(weight, wrong)
        assert not prove(original, coupling, plan, editor.build(), big=True).ok

    def test_a_leak_across_a_cut(self) -> None:
        """A sigmoid makes 0.5 of a removed unit, and the sum in the next piece sees it."""
        text = """(float[N,6] x) => (float[N,4] y) {
            a = MatMul(x, w1) s = Sigmoid(a) b = MatMul(x, w3) t = ReduceSum(s, axes) z = MatMul(b, w2) y = Mul(z,t)}"""
        original = model(text, w1=normal(6, 64), w2=normal(64, 4), w3=normal(6, 64, seed=1), axes=np.array([1]))
        coupling = couple(original, Options(include_inexact=True))
        plan = half(coupling)
        removed = remove(original, coupling, plan)
        assert prove(original, coupling, plan, removed, big=True).ok
        wrong = replace(coupling, groups=tuple(replace(g, exact=True) for g in coupling.groups))
        found = prove(original, wrong, plan, removed, big=True)
        assert found.segments > 1
        assert not found.ok

    def test_several_outputs(self) -> None:
        text = """(float[N,6] x) => (float[N,8] early, float[N,4] y) {
            a = MatMul(x, w0) b = Relu(a) early = MatMul(b, w1) c = MatMul(b, w2) d = Relu(c) y = MatMul(d, w3) }"""
        weights = {"w0": normal(6, 8), "w1": normal(8, 8), "w2": normal(8, 8, seed=2), "w3": normal(8, 4)}
        proof = proven(model(text, **weights), big=True)
        assert_proven(proof)
        assert set(proof.outputs) == {"early", "y"}

    def test_decisions(self) -> None:
        original = deep(tail="")
        text = """(float[N,6] x) => (float[N,4] y) {
            a = MatMul(x, w0) b = Round(a) c = MatMul(b, w1) d = Relu(c) g = Greater(d, zero) e = Where(g, d, one)
            f = MatMul(e, w2) h = Relu(f) y = MatMul(h, w3) }"""
        weights = {"w0": 3 * normal(6, 8), "w1": normal(8, 8), "w2": normal(8, 8, seed=2), "w3": normal(8, 4)}
        original = model(text, zero=np.array(0, np.float32), one=np.array(1, np.float32), **weights)
        proof = proven(original, big=True)
        assert_proven(proof)
        assert proof.segments > 1
        assert proof.decisions > 0

    def test_nothing_varies(self) -> None:
        assert not proven(mlp(w1=np.zeros((6, 8), np.float32)), big=True).ok

    def test_the_end_does_not_vary(self) -> None:
        original = deep()
        editor = original.edit()
        editor.set_weight("end", np.zeros((8, 4), np.float32))
        proof = proven(editor.build(), big=True)
        assert proof.ok
        assert proof.vacuous
        assert "h5" in proof.compared_at or "r5" in proof.compared_at
