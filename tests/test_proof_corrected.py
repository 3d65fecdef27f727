"""Inexact groups hold against a reference in which every reduction runs over the survivors only."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from onnxprune import runtime
from onnxprune.coupling import couple
from onnxprune.errors import ProofError
from onnxprune.model import Model
from onnxprune.ops import RULES
from onnxprune.proof import Proof, assert_proven, prove
from onnxprune.proof.corrected import CORRECTIONS, correct
from onnxprune.surgery import mask, remove
from onnxprune.values import Options
from tests.proof_models import half, mlp, model, normal, proven

INEXACT = Options(include_inexact=True)
WITHIN = Options(include_inexact=True, norm_groups="within")
ONE = np.array([1])
FRONT = {"Sigmoid": "s = Sigmoid(a)", "Exp": "s = Exp(a)", "elu+1": "e = Elu(a) s = Add(e, one)", "plain": "s = Abs(a)"}
REDUCTIONS = [op for op in CORRECTIONS if op.startswith("Reduce")]


def holds(proof: Proof, effect: float = 1e-4) -> None:
    """Proven, and the plain mask would not have done."""
    assert_proven(proof)
    assert not proof.vacuous
    assert proof.renormalisation_effect is not None
    assert proof.renormalisation_effect > effect


def test_every_rule_that_renormalises_has_a_correction() -> None:
    renormalising = {op for (_, op), rule in RULES.items() if "renormalises(" in inspect.getsource(rule.couple)}
    assert {"ReduceMean", "LayerNormalization"} < renormalising
    assert renormalising <= set(CORRECTIONS)


@pytest.mark.parametrize("front", FRONT.values(), ids=FRONT.keys())
@pytest.mark.parametrize("op", REDUCTIONS)
class TestReductions:
    def net(self, op: str, front: str, opset: int) -> Model:
        by_input = opset >= 18 or (op == "ReduceSum" and opset >= 13)
        call = f"{op}(s, axes)" if by_input else f"{op}<axes=[1]>(s)"
        extra = {"axes": ONE} if by_input else {}
        return mlp(f"{front} t = {call} u = Tanh(t) h = Mul(a, u)", opset, one=np.array(1, np.float32), **extra)

    @pytest.mark.parametrize("opset", [11, 13, 18])
    def test_over_a_pruned_axis(self, op: str, front: str, opset: int) -> None:
        proof = proven(self.net(op, front, opset), INEXACT)
        assert_proven(proof)
        assert not proof.vacuous

    def test_without_keepdims(self, op: str, front: str) -> None:
        text = f"{front} t = {op}<keepdims=0>(s, axes) u = Unsqueeze(t, axes) v = Tanh(u) h = Mul(a, v)"
        assert_proven(proven(mlp(text, 18, one=np.array(1, np.float32), axes=ONE), INEXACT))


def test_the_reductions_matter() -> None:
    """The plain mask is far away where zeros are not neutral."""
    for op in ("ReduceMean", "ReduceSum", "ReduceLogSumExp"):
        holds(proven(mlp(f"s = Exp(a) t = {op}(s, axes) h = Mul(a, t)", 18, axes=ONE), INEXACT))


class TestMeans:
    def test_sum_over_shape(self) -> None:
        middle = """s = Exp(a) t = ReduceSum(s, axes) k = Shape(s) g = Gather(k, last) f = Cast<to=1>(g)
                    q = Div(t, f) h = Mul(a, q)"""
        holds(proven(mlp(middle, 18, axes=ONE, last=np.array(-1)), INEXACT))

    def test_of_several_axes(self) -> None:
        middle = "s = Exp(a) c = Unsqueeze(s, two) t = ReduceMean(c, axes) u = Squeeze(t, two) h = Mul(a, u)"
        holds(proven(mlp(middle, 18, axes=np.array([1, 2]), two=np.array([2])), INEXACT))

    def test_in_float16(self) -> None:
        text = """(float16[N,6] x) => (float16[N,4] y) {
            a = MatMul(x, w1) s = Exp(a) t = ReduceMean(s, axes) h = Mul(a, t) y = MatMul(h, w2) }"""
        weights = {"w1": normal(6, 8, dtype=np.float16), "w2": normal(8, 4, dtype=np.float16), "axes": ONE}
        holds(proven(model(text, 18, **weights), INEXACT), effect=1e-2)


class TestNorms:
    @pytest.mark.parametrize("eps", [1e-5, 0.1])
    def test_layer_norm(self, eps: float) -> None:
        net = mlp(f"h = LayerNormalization<axis=-1, epsilon={eps:.5f}>(a, g, c)", g=1 + normal(8), c=normal(8, seed=1))
        holds(proven(net, INEXACT))

    def test_layer_norm_without_bias(self) -> None:
        holds(proven(mlp("h = LayerNormalization(a, g)", g=1 + normal(8)), INEXACT))

    def test_layer_norm_over_two_axes(self) -> None:
        middle = "c = Reshape(a, grid) n = LayerNormalization<axis=1>(c, g) h = Reshape(n, flat)"
        net = mlp(middle, g=1 + normal(4, 2), grid=np.array([0, 4, 2]), flat=np.array([0, 8]))
        holds(proven(net, INEXACT))

    def test_layer_norm_in_float16(self) -> None:
        text = """(float16[N,6] x) => (float16[N,4] y) {
            a = MatMul(x, w1) h = LayerNormalization(a, g) y = MatMul(h, w2) }"""
        weights = {"w1": normal(6, 8), "g": 1 + normal(8), "w2": normal(8, 4)}
        holds(proven(model(text, **{k: v.astype(np.float16) for k, v in weights.items()}), INEXACT), effect=1e-2)

    def test_layer_norm_with_its_statistics(self) -> None:
        text = """(float[N,6] x) => (float[N,4] y, float[N,1] mean, float[N,1] inverse) {
            a = MatMul(x, w1) h, mean, inverse = LayerNormalization(a, g) y = MatMul(h, w2) }"""
        holds(proven(model(text, w1=normal(6, 8), g=1 + normal(8), w2=normal(8, 4)), INEXACT))

    def test_rms_norm(self) -> None:
        holds(proven(mlp("h = RMSNormalization(a, g)", 23, g=1 + normal(8)), INEXACT))

    def test_simplified_layer_norm(self) -> None:
        holds(proven(mlp("h = SimplifiedLayerNormalization(a, g)", g=1 + normal(8)), INEXACT))

    @pytest.mark.parametrize("bias", ["", ", c, e"])
    def test_skip_layer_norm(self, bias: str) -> None:
        middle = f"r = MatMul(x, w3) h, d1, d2, total = com.microsoft.SkipLayerNormalization(a, r, g{bias})"
        net = mlp(middle, w3=normal(6, 8, seed=3), g=1 + normal(8), c=normal(8, seed=1), e=normal(8, seed=2))
        holds(proven(net, INEXACT))

    def test_skip_simplified_layer_norm(self) -> None:
        middle = "r = MatMul(x, w3) h = com.microsoft.SkipSimplifiedLayerNormalization(a, r, g)"
        holds(proven(mlp(middle, w3=normal(6, 8, seed=3), g=1 + normal(8)), INEXACT))

    @pytest.mark.parametrize("total", ["", ", total"])
    def test_embed_layer_norm(self, total: str) -> None:
        text = f"""(int32[N,5] ids, int32[N,5] segments, int32[N,5] mask) => (float[N,5,4] y, int32[N] index) {{
            h, index{total} = com.microsoft.EmbedLayerNormalization(ids, segments, words, places, kinds, g, c, mask)
            y = MatMul(h, w2) }}"""
        tables = {"words": normal(11, 8), "places": normal(9, 8, seed=1), "kinds": normal(2, 8, seed=2)}
        net = model(text, g=1 + normal(8), c=normal(8, seed=1), w2=normal(8, 4), **tables)
        holds(proven(net, INEXACT))

    def test_maximum_of_features(self) -> None:
        middle = 'e = Exp(a) h = ai.onnx.ml.Normalizer<norm="MAX">(e)'
        holds(proven(mlp(middle), INEXACT))

    def test_written_out(self) -> None:
        middle = """m = ReduceMean(a, axes) d = Sub(a, m) q = Mul(d, d) v = ReduceMean(q, axes) e = Add(v, eps)
                    r = Sqrt(e) n = Div(d, r) h = Mul(n, g)"""
        middle = middle.replace("m = ReduceMean", "mean = ReduceMean").replace("Sub(a, m)", "Sub(a, mean)")
        holds(proven(mlp(middle, 18, axes=ONE, eps=np.array(1e-5, np.float32), g=1 + normal(8)), INEXACT))

    def test_mean_variance(self) -> None:
        text = """(float[N,6,5] x) => (float[N,4,5] y) {
            a = Conv(x, w1) c = Unsqueeze(a, two) n = MeanVarianceNormalization<axes=[1,2]>(c) h = Squeeze(n, two)
            y = Conv(h, w2) }"""
        holds(proven(model(text, w1=normal(8, 6, 1), w2=normal(4, 8, 1), two=np.array([2])), INEXACT))


class TestGroups:
    def conv(self, middle: str, opset: int, **weights: np.ndarray) -> Model:
        text = f"(float[N,6,5,5] x) => (float[N,4,5,5] y) {{ a = Conv(x, w1, b1) {middle} y = Conv(h, w2) }}"
        common = {"w1": normal(8, 6, 1, 1), "b1": normal(8), "w2": normal(4, 8, 1, 1)}
        return model(text, opset, **common | weights)

    def balanced(self, original: Model) -> Proof:
        """Equal counts in each of the two normalisation groups of 4 channels."""
        coupling = couple(original, WITHIN)
        plan = half(coupling)
        units = {g.name: np.array([0, 2, 5, 6]) for g in coupling.groups if g.units == 8}
        plan = replace(plan, units=units)
        return prove(original, coupling, plan, remove(original, coupling, plan))

    def test_group_norm_per_channel(self) -> None:
        net = self.conv("h = GroupNormalization<num_groups=2>(a, g, c)", 21, g=1 + normal(8), c=normal(8, seed=1))
        holds(self.balanced(net))

    def test_group_norm_per_group(self) -> None:
        net = self.conv("h = GroupNormalization<num_groups=2>(a, g, c)", 18, g=1 + normal(2), c=normal(2, seed=1))
        holds(self.balanced(net))

    @pytest.mark.parametrize("activation", [0, 1])
    def test_group_norm_of_onnxruntime(self, activation: int) -> None:
        """It runs on CUDA only, its corrected form everywhere: held against NumPy."""
        text = f"""(float[N,6,5,5] x) => (float[N,5,5,8] y) <float[N,5,5,8] n> {{
            a = Conv(x, w1, b1) t = Transpose<perm=[0,2,3,1]>(a)
            n = com.microsoft.GroupNorm<groups=2, activation={activation}, channels_last=1>(t, g, c)
            y = Identity(n) }}"""
        weights = {"w1": normal(8, 6, 1, 1), "b1": normal(8), "g": 1 + normal(8), "c": normal(8, seed=1)}
        options = replace(WITHIN, allow_io=("y:3",))
        original = model(text, **weights)
        coupling = couple(original, options)
        plan = replace(half(coupling), units={coupling.groups[0].name: np.array([0, 2, 5, 6])}, options=options)
        corrected = correct(mask(original, coupling, plan), coupling, plan)
        found = runtime.session(corrected, outputs=["t", "n"]).run({"x": normal(3, 6, 5, 5)})
        keep = np.array([1, 3, 4, 7])
        t = found["t"][..., keep].reshape(3, 25, 2, 2)
        d = t - t.mean((1, 3), keepdims=True)
        y = (d / np.sqrt((d**2).mean((1, 3), keepdims=True) + 1e-5)).reshape(3, 5, 5, 4)
        y = y * weights["g"][keep] + weights["c"][keep]
        y = y / (1 + np.exp(-y)) if activation else y
        np.testing.assert_allclose(found["n"][..., keep], y, atol=1e-5)

    def test_as_instance_norm(self) -> None:
        middle = """r = Reshape(a, split) n = InstanceNormalization(r, g, c) s = Shape(a) b = Reshape(n, s)
                    h = Mul(b, k)"""
        net = self.conv(middle, 17, split=np.array([0, 2, -1]), g=np.ones(2, np.float32), c=np.zeros(2, np.float32),
                        k=1 + normal(8, 1, 1))  # fmt: skip
        holds(proven(net, WITHIN))


class TestCorrect:
    def test_exact_groups_are_left_alone(self) -> None:
        original = mlp()
        coupling = couple(original, INEXACT)
        plan = half(coupling)
        masked = mask(original, coupling, plan)
        assert correct(masked, coupling, plan) is masked

    def test_the_masked_model_is_not_edited(self) -> None:
        original = mlp("s = Exp(a) t = ReduceMean(s, axes) h = Mul(a, t)", 18, axes=ONE)
        coupling = couple(original, INEXACT)
        plan = half(coupling)
        masked = mask(original, coupling, plan)
        before = masked.proto.SerializeToString()
        assert len(correct(masked, coupling, plan).proto.graph.node) > len(masked.proto.graph.node)
        assert masked.proto.SerializeToString() == before

    def test_without_a_correction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(CORRECTIONS, "ReduceMean")
        with pytest.raises(ProofError, match=r"ReduceMean node .* there is no corrected form"):
            proven(mlp("s = Exp(a) t = ReduceMean(s, axes) h = Mul(a, t)", 18, axes=ONE), INEXACT)

    def test_an_opset_without_where(self) -> None:
        net = mlp("s = Exp(a) t = ReduceMean<axes=[1]>(s) h = Mul(a, t)", 8)
        with pytest.raises(ProofError, match=r"opset 8 has no operator"):
            proven(net, INEXACT)

    def test_a_wrong_removal_of_an_inexact_group(self) -> None:
        original = mlp("h = LayerNormalization(a, g)", g=1 + normal(8))
        coupling = couple(original, INEXACT)
        plan = half(coupling)
        removed = remove(original, coupling, plan)
        editor = removed.edit()
        editor.set_weight("g", np.asarray(removed.array("g")) * np.float32(1.001))
        assert not prove(original, coupling, plan, editor.build()).ok

    def test_inside_a_body(self) -> None:
        text = """(float[N,6] x, bool c) => (float[N,4] y) {
            a = MatMul(x, w1) s = Exp(a)
            h = If(c) <then_branch = t () => (float[N,8] p) { m = ReduceMean(s, axes) p = Mul(a, m) },
                       else_branch = e () => (float[N,8] q) { q = Identity(a) }>
            y = MatMul(h, w2) }"""
        assert_proven(proven(model(text, 18, w1=normal(6, 8), w2=normal(8, 4), axes=ONE), INEXACT))
