"""The proof holds where the removal is right, and says no where it is wrong or where the runs say nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxprune.coupling import couple
from onnxprune.errors import DataError, ProofError
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.proof import Proof, assert_proven, memory_needed, prove
from onnxprune.surgery import mask, remove
from onnxprune.values import Coupling, Options
from tests.proof_models import half, mlp, model, normal, proven

INEXACT = Options(include_inexact=True)


def pieces(original: Model, options: Options | None = None) -> tuple[Coupling, Plan, Model]:
    coupling = couple(original, options)
    plan = half(coupling)
    return coupling, plan, remove(original, coupling, plan)


def holds(proof: Proof) -> bool:
    assert_proven(proof)
    return proof.ok and not proof.vacuous and proof.error <= proof.tolerance


class TestRight:
    def test_exact(self) -> None:
        proof = proven(mlp())
        assert holds(proof)
        assert proof.outputs == ("y",)
        assert proof.compared_at == ()
        assert proof.batches == (16, 16, 17)
        assert proof.tolerance == 1e-5
        assert proof.renormalisation_effect is None
        assert proof.segments == 1
        assert proof.memory_bytes > 0
        assert proof.seconds > 0

    def test_as_json(self) -> None:
        proof = proven(mlp())
        row = json.loads(json.dumps(proof.to_dict()))
        assert row["error"] == proof.error
        assert row["outputs"] == ["y"]
        assert replace(proof, error=math.inf).to_dict()["error"] is None

    def test_a_fixed_batch(self) -> None:
        fixed = model("(float[1,6] x) => (float[1,4] y) { a = MatMul(x, w1) h = Relu(a) y = MatMul(h, w2) }",
                      w1=normal(6, 8), w2=normal(8, 4))  # fmt: skip
        assert proven(fixed).batches == (1, 1)

    def test_single_weights(self) -> None:
        original = mlp()
        coupling = couple(original)
        plan = replace(half(coupling), weights={"w2": np.arange(32).reshape(8, 4) % 3 == 0})
        assert holds(prove(original, coupling, plan, remove(original, coupling, plan)))

    def test_float16(self) -> None:
        weights = {"w1": normal(6, 8), "b1": normal(8), "w2": normal(8, 4), "b2": normal(4)}
        half_size = model(
            "(float16[N,6] x) => (float16[N,4] y) { m = MatMul(x, w1) a = Add(m, b1) h = Relu(a) y = Gemm(h, w2, b2) }",
            **{k: v.astype(np.float16) for k, v in weights.items()},
        )
        proof = proven(half_size)
        assert holds(proof)
        assert proof.tolerance == 1e-2

    def test_bfloat16_on_a_float32_copy(self) -> None:
        brain = model(
            "(bfloat16[N,6] x) => (bfloat16[N,4] y) {a = MatMul(x,w1) b = Cast<to=16>(a) h = Relu(b) y = MatMul(h,w2)}",
            w1=normal(6, 8, dtype=ml_dtypes.bfloat16), w2=normal(8, 4, dtype=ml_dtypes.bfloat16),
        )  # fmt: skip
        proof = proven(brain)
        assert holds(proof)
        assert proof.tolerance == 1e-5

    def test_an_output_axis_that_is_cut(self) -> None:
        proof = proven(mlp(), Options(allow_io=("y:1",)))
        assert holds(proof)

    def test_an_input_axis_that_is_cut(self) -> None:
        assert holds(proven(mlp(), Options(allow_io=("x:1",))))


class TestWrong:
    """The oracle must say no."""

    def test_one_weight_perturbed(self) -> None:
        original = mlp()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        wrong = np.array(removed.array("w2"))
        wrong[0, 0] += 1e-3
        editor.set_weight("w2", wrong)
        proof = prove(original, coupling, plan, editor.build())
        assert not proof.ok
        assert proof.worst == "y"
        with pytest.raises(ProofError, match=r"an error of .* at `y`, where 1e-05 is allowed"):
            assert_proven(proof)

    def test_two_channels_swapped(self) -> None:
        original = mlp()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("w1", removed.array("w1")[:, [1, 0, 2, 3]])
        assert not prove(original, coupling, plan, editor.build()).ok

    def test_the_original_instead(self) -> None:
        original = mlp()
        coupling, plan, _ = pieces(original)
        assert not prove(original, coupling, plan, original).ok

    @pytest.mark.parametrize("front", ["Sigmoid(a)", "Exp(a)"])
    def test_inexact_taken_for_exact(self, front: str) -> None:
        original = mlp(f"s = {front} t = ReduceSum(s, axis) h = Mul(a, t)", axis=np.array([1]))
        coupling, plan, removed = pieces(original, INEXACT)
        assert holds(prove(original, coupling, plan, removed))
        wrong = replace(coupling, groups=tuple(replace(g, exact=True) for g in coupling.groups))
        assert not prove(original, wrong, plan, removed).ok

    def test_another_shape(self) -> None:
        original = mlp()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("w2", removed.array("w2")[:, :3])
        editor.set_weight("b2", removed.array("b2")[:3])
        editor.proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
        proof = prove(original, coupling, plan, editor.build())
        assert math.isinf(proof.error)
        assert "another shape" in proof.reason

    def test_an_output_is_missing(self) -> None:
        original = mlp()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.proto.graph.node[-1].output[0] = editor.proto.graph.output[0].name = "z"
        proof = prove(original, coupling, plan, editor.build())
        assert math.isinf(proof.error)

    def test_does_not_run(self) -> None:
        original = mlp()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("w2", original.array("w2"))
        with pytest.raises(ProofError, match=r"the removed model does not run"):
            prove(original, coupling, plan, editor.build())


class TestVacuous:
    def test_zero_weights_at_the_end(self) -> None:
        proof = proven(mlp(w2=np.zeros((8, 4), np.float32)))
        assert proof.ok
        assert proof.vacuous
        assert proof.compared_at == ("h",)
        assert "compared at `h`" in proof.notes[0]

    def test_a_saturated_softmax(self) -> None:
        original = model(
            "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w1) h = Relu(a) z = Gemm(h, w2, b2) y = Softmax(z) }",
            w1=normal(6, 8), w2=normal(8, 4), b2=np.array([1e6, 0, 0, 0], np.float32),
        )  # fmt: skip
        proof = proven(original)
        assert proof.ok
        assert proof.vacuous
        assert set(proof.compared_at) <= {"h", "z"}

    def test_an_error_in_front_of_it_still_shows(self) -> None:
        original = mlp(w2=np.zeros((8, 4), np.float32))
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("w1", removed.array("w1")[:, [1, 0, 2, 3]])
        assert not prove(original, coupling, plan, editor.build()).ok

    def test_larger_inputs_help(self) -> None:
        original = model(
            "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w1) h = Relu(a) z = Gemm(h, w2, b2) y = Softmax(z) }",
            w1=normal(6, 8), w2=10 * normal(8, 4), b2=np.array([30, 0, 0, 0], np.float32),
        )  # fmt: skip
        assert holds(proven(original))

    def test_smaller_inputs_help(self) -> None:
        bounds = {"low": np.array(0, np.float32), "high": np.array(4, np.float32)}
        original = mlp("h = Clip(a, low, high)", w1=np.abs(normal(6, 8)), **bounds)
        assert holds(proven(original, data=[{"x": np.abs(normal(4, 6, seed=k)) + 10} for k in (1, 2)]))

    def test_dead_units(self) -> None:
        bias = np.where(np.arange(8) < 4, -1e3, 0.1).astype(np.float32)
        original = mlp(b1=bias)
        coupling = couple(original)
        (group,) = coupling.groups
        plan = Plan(original.hash, {group.name: np.arange(4)}, {group.name: 8})
        proof = prove(original, coupling, plan, remove(original, coupling, plan))
        assert proof.ok
        assert proof.vacuous
        assert proof.compared_at == ("a",)

    def test_units_whose_weights_are_zero(self) -> None:
        zeros = np.arange(8) < 4
        original = mlp(w1=np.where(zeros, 0, normal(6, 8)), b1=np.where(zeros, 0, normal(8)),
                       w2=np.where(zeros[:, None], 0, normal(8, 4)))  # fmt: skip
        coupling = couple(original)
        (group,) = coupling.groups
        plan = Plan(original.hash, {group.name: np.arange(4)}, {group.name: 8})
        assert holds(prove(original, coupling, plan, remove(original, coupling, plan)))

    def test_nothing_varies(self) -> None:
        proof = proven(mlp(w1=np.zeros((6, 8), np.float32)))
        assert not proof.ok
        with pytest.raises(ProofError, match=r"nothing that the removal reaches varies"):
            assert_proven(proof)


class TestNotFinite:
    def test_weights_are_named(self) -> None:
        w2 = normal(8, 4)
        w2[0, 0] = np.nan
        with pytest.raises(ProofError, match=r"NaN or Inf at `y` \(weights with NaN or Inf: w2\)"):
            proven(mlp(w2=w2))

    def test_weights_are_finite(self) -> None:
        with pytest.raises(ProofError, match=r"its weights are finite"):
            proven(mlp("z = Sub(a, a) q = Div(z, z) h = Add(q, a)"))

    def test_zeros_upstream_divide_zero(self) -> None:
        text = """(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w1) b = Abs(a) h = Div(a, b) y = MatMul(h, w2) }"""
        original = model(text, w1=normal(6, 8), w2=normal(8, 4))
        coupling, plan, removed = pieces(original)
        groups = tuple(replace(g, hazard=False) for g in coupling.groups)
        proof = prove(original, replace(coupling, groups=groups), plan, removed)
        assert proof.ok
        assert "only what reads the removed units was zeroed" in proof.notes[0]

    def test_the_removed_model(self) -> None:
        original = mlp()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("b2", np.full(4, np.nan, np.float32))
        proof = prove(original, coupling, plan, editor.build())
        assert math.isinf(proof.error)
        assert not proof.ok


class TestData:
    def test_rows(self) -> None:
        data = {"x": normal(40, 6), "label": np.arange(40)}
        assert holds(proof := proven(mlp(), data=data))
        assert proof.batches == (16, 16, 17)

    def test_one_row(self) -> None:
        assert proven(mlp(), data={"x": normal(1, 6)}).batches == (1, 1)

    def test_feeds(self) -> None:
        data = [{"x": normal(n, 6, seed=k)} for k, n in enumerate((4, 4, 7))]
        assert holds(proof := proven(mlp(), data=iter(data)))
        assert proof.batches == (4, 4, 7)

    def test_another_type(self) -> None:
        assert holds(proven(mlp(), data={"x": normal(9, 6, dtype=np.float64)}))

    def test_without_an_input(self) -> None:
        with pytest.raises(DataError, match=r"the data have no array for input `x`; they have: features"):
            proven(mlp(), data={"features": normal(9, 6)})

    def test_no_batch(self) -> None:
        with pytest.raises(DataError, match=r"the data hold no batch"):
            proven(mlp(), data=[])

    def test_too_few_for_a_fixed_batch(self) -> None:
        fixed = model("(float[4,6] x) => (float[4,4] y) { a = MatMul(x, w1) h = Relu(a) y = MatMul(h, w2) }",
                      w1=normal(6, 8), w2=normal(8, 4))  # fmt: skip
        with pytest.raises(DataError, match=r"takes 4 samples at a time, the data have 3"):
            proven(fixed, data={"x": normal(3, 6)})

    def test_that_the_model_does_not_take(self) -> None:
        with pytest.raises(DataError, match=r"`x`"):
            proven(mlp(), data={"x": normal(9, 5)})


class TestSizes:
    def test_a_model_that_takes_one_sample_only(self) -> None:
        text = """(float[N,6] x) => (float[N,4] y) {
            s = Shape(x) n = Gather(s, zero) i = Sub(n, one) k = Gather(only, i)
            a = MatMul(x, w1) h = Relu(a) z = MatMul(h, w2) y = Mul(z, k) }"""
        numbers = {"zero": np.array(0), "one": np.array(1), "only": np.array([2], np.float32)}
        proof = proven(model(text, w1=normal(6, 8), w2=normal(8, 4), **numbers))
        assert proof.ok
        assert proof.batches == (1, 1)


class TestDecisions:
    def test_argmax_is_compared_in_front(self) -> None:
        text = """(float[N,6] x) => (int64[N] y) {
            a = MatMul(x, w1) h = Relu(a) z = MatMul(h, w2) y = ArgMax<axis=1,keepdims=0>(z) }"""
        proof = proven(model(text, w1=normal(6, 8), w2=normal(8, 4)))
        assert holds(proof)
        assert proof.compared_at == ("z",)
        assert proof.decisions == 49

    def test_what_lies_behind_is_compared_as_well(self) -> None:
        text = """(float[N,6] x) => (float[N,4] y) {
            a = MatMul(x, w1) r = Round(a) h = Relu(r) y = MatMul(h, w2) }"""
        original = model(text, w1=3 * normal(6, 8), w2=normal(8, 4))
        coupling, plan, removed = pieces(original)
        proof = prove(original, coupling, plan, removed)
        assert holds(proof)
        assert proof.compared_at == ("a",)
        assert proof.outputs == ("y",)
        editor = removed.edit()
        editor.set_weight("w2", 1.01 * removed.array("w2"))
        assert not prove(original, coupling, plan, editor.build()).ok

    def test_a_tie_may_flip(self) -> None:
        text = "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w1) h = Relu(a) z = MatMul(h, w2) y = Sign(z) }"
        w2 = normal(8, 4)
        original = model(text, w1=normal(6, 8), w2=w2)
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("w1", np.asarray(removed.array("w1")) * np.float32(1 + 2e-7))
        assert prove(original, coupling, plan, editor.build()).ok

    @pytest.mark.parametrize(
        "behind",
        [
            "v, i = TopK<axis=1>(z, k) y = Cast<to=1>(i)",
            "c = Greater(z, half) y = Where(c, z, half)",
            "f = Floor(z) y = Add(f, z)",
            "i = Cast<to=7>(z) y = Cast<to=1>(i)",
            "y = Hardmax(z)",
        ],
    )
    def test_kinds(self, behind: str) -> None:
        text = f"(float[N,6] x) => (float[N,?] y) {{ a = MatMul(x, w1) h = Relu(a) z = MatMul(h, w2) {behind} }}"
        original = model(text.replace("?", "M"), w1=normal(6, 8), w2=3 * normal(8, 4), k=np.array([2]),
                         half=np.array(0.5, np.float32))  # fmt: skip
        proof = proven(original)
        assert proof.ok
        assert "z" in proof.compared_at

    def test_too_many_flips(self) -> None:
        """A threshold that moved is no tie, though all in front of it and behind it agrees."""
        text = """(float[N,6] x) => (float[N,4] y) {
            a = MatMul(x, w1) h = Relu(a) z = MatMul(h, w2) g = Greater(z, bound) y = Where(g, z, low) }"""
        numbers = {"bound": np.array(0.1, np.float32), "low": np.array(-1, np.float32)}
        original = model(text, w1=normal(6, 8), w2=normal(8, 4), **numbers)
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("bound", np.array(0.3, np.float32))
        with pytest.raises(ProofError, match=r"decisions differ, too many to be ties"):
            assert_proven(prove(original, coupling, plan, editor.build()))

    def test_random_numbers_are_taken_over(self) -> None:
        text = """(float[N,6] x) => (float[N,4] y) {
            u = RandomUniformLike(x) s = Add(x, u) a = MatMul(s, w1) h = Relu(a) y = MatMul(h, w2) }"""
        assert holds(proven(model(text, w1=normal(6, 8), w2=normal(8, 4))))


class TestQuantised:
    def quantised(self) -> Model:
        rng = np.random.default_rng(0)
        text = """(float[N,6] x) => (float[N,4] y) {
            xq = QuantizeLinear(x, sx, zx) xf = DequantizeLinear(xq, sx, zx)
            w1f = DequantizeLinear<axis=1>(w1, s1, z1) a = MatMul(xf, w1f) b = Add(a, b1) h = Relu(b)
            hq = QuantizeLinear(h, sh, zh) hf = DequantizeLinear(hq, sh, zh)
            w2f = DequantizeLinear(w2, s2, z2) z = MatMul(hf, w2f)
            zq = QuantizeLinear(z, sz, zz) y = DequantizeLinear(zq, sz, zz) }"""
        scale = {k: np.array(v, np.float32) for k, v in {"sx": 0.03, "sh": 0.02, "s2": 0.01, "sz": 0.02}.items()}
        zero = {"zx": np.uint8(128), "zh": np.uint8(0), "z2": np.int8(0), "zz": np.uint8(120)}
        return model(
            text, w1=rng.integers(-127, 127, (6, 8), np.int8), w2=rng.integers(-127, 127, (8, 4), np.int8),
            s1=rng.uniform(0.003, 0.006, 8).astype(np.float32), z1=np.zeros(8, np.int8), b1=normal(8),
            **scale, **{k: np.array(v) for k, v in zero.items()},
        )  # fmt: skip

    def test_twice(self) -> None:
        proof = proven(self.quantised())
        assert holds(proof)
        assert proof.steps <= 1
        assert proof.decisions > 0
        assert {"b", "h", "z"} & set(proof.compared_at)

    def test_a_step_too_many(self) -> None:
        original = self.quantised()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("zz", np.array(123, np.uint8))
        assert not prove(original, coupling, plan, editor.build()).ok

    def test_a_wrong_weight(self) -> None:
        original = self.quantised()
        coupling, plan, removed = pieces(original)
        editor = removed.edit()
        editor.set_weight("w2", removed.array("w2")[[1, 0, 2, 3]])
        assert not prove(original, coupling, plan, editor.build()).ok


class TestTheOriginal:
    def test_does_not_run(self) -> None:
        text = (
            "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w1) h = Relu(a) r = Reshape(h, odd) y = MatMul(r, w2) }"
        )
        original = model(text, w1=normal(6, 8), w2=normal(8, 4), odd=np.array([1000, 8]))
        coupling = couple(mlp())
        plan = half(coupling)
        with pytest.raises(ProofError, match=r"the original model does not run on made-up inputs"):
            prove(original, replace(coupling, graph=couple(original).graph), replace(plan, units={}), original)


def test_memory_needed() -> None:
    original = mlp()
    coupling, plan, _ = pieces(original)
    assert memory_needed(original, coupling, plan) >= original.nbytes


def test_nothing_is_edited() -> None:
    original = mlp()
    before: dict[str, Any] = {name: np.array(w.array()) for name, w in original.weights.items()}
    coupling, plan, removed = pieces(original)
    prove(original, coupling, plan, removed)
    mask(original, coupling, plan)
    assert all(np.array_equal(before[name], w.array()) for name, w in original.weights.items())
