"""Lookahead in one direction, in sequence, with firing rates, for units; and what permutations and scaling do to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score, score_weights
from onnxprune.criteria.lookahead_layers import find_layers
from onnxprune.data import open_dataset
from onnxprune.errors import OptionError
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling, Member
from tests.criteria.lookahead_reference import Net, lookahead, made, model_of, read, scores_of
from tests.nets import export
from tests.nets._spec import Input, image
from tests.random_graphs import build

close = np.testing.assert_allclose
IMAGE = image(3, 6, 6)
ALL = ("lap", "lfp", "lbp", "lap-sequential", "lbp-sequential", "lfp-sequential")
VECTORS = Input("x", ("batch", 4))


def chain(scale: float = 1.0, seed: int = 0) -> tuple[Net, Model]:
    """Four convolutions; the second one multiplied by ``scale``."""
    b, y = Net(seed), "x"
    for name, (ins, outs) in {"a": (3, 5), "b": (5, 6), "c": (6, 4), "d": (4, 2)}.items():
        weight = b.rng.normal(size=(outs, ins, 3, 3)) * (scale if name == "b" else 1.0)
        y = b.op("Relu", b.op("Conv", y, b.const(f"{name}.weight", weight), b.bias(f"{name}.bias", outs), pads=[1] * 4))
    return b, model_of(b, y, IMAGE, 4)


def without(weight: np.ndarray, scores: np.ndarray, ratio: float) -> np.ndarray:
    """The weight with the share of the lowest scores at 0."""
    result = weight.reshape(-1).copy()
    order = sorted(range(result.size), key=lambda i: scores.reshape(-1)[i])
    result[order[: int(ratio * result.size + 1e-9)]] = 0
    return result.reshape(weight.shape)


def test_forwards_or_backwards_only() -> None:
    b, model = chain()
    front, behind = scores_of(model, "lbp"), scores_of(model, "lfp")
    close(front["b.weight"], lookahead(b["b"], made(b["a"])), rtol=1e-5)
    close(behind["b.weight"], lookahead(b["b"], None, read(b["c"])), rtol=1e-5)
    close(front["a.weight"], b["a"] ** 2, rtol=1e-5)
    close(behind["d.weight"], b["d"] ** 2, rtol=1e-5)
    close(front["b.bias"], b.arrays["b.bias"] ** 2, rtol=1e-5)


@pytest.mark.parametrize("ratio", [0.3, 0.8])
def test_sequential_variants_see_their_neighbours_as_they_will_be(ratio: float) -> None:
    b, model = chain()
    found, p = scores_of(model, "lap-sequential", ratios=ratio), None
    for name, behind in (("a", "b"), ("b", "c"), ("c", "d"), ("d", None)):
        expected = lookahead(b[name], p, read(b[behind]) if behind else None)
        close(found[f"{name}.weight"], expected, rtol=1e-5, err_msg=name)
        p = made(without(b[name], expected, ratio))
    found, p = scores_of(model, "lbp-sequential", ratios=ratio), None
    for name in "abcd":
        expected = lookahead(b[name], p)
        close(found[f"{name}.weight"], expected, rtol=1e-5, err_msg=name)
        p = made(without(b[name], expected, ratio))
    found, n = scores_of(model, "lfp-sequential", ratios=ratio), None
    for name in "dcba":
        expected = lookahead(b[name], None, n)
        close(found[f"{name}.weight"], expected, rtol=1e-5, err_msg=name)
        n = read(without(b[name], expected, ratio))


def test_ratios_by_name() -> None:
    b, model = chain()
    found = scores_of(model, "lap-sequential", ratios={"a.weight": 0.5})
    pruned = made(without(b["a"], lookahead(b["a"], None, read(b["b"])), 0.5))
    close(found["b.weight"], lookahead(b["b"], pruned, read(b["c"])), rtol=1e-5)
    close(found["c.weight"], lookahead(b["c"], made(b["b"]), read(b["d"])), rtol=1e-5)
    for name, same in scores_of(model, "lap-sequential", ratios=0.0).items():
        np.testing.assert_array_equal(same, scores_of(model)[name])
    with pytest.raises(OptionError, match=r"ratios: got 1.5 for a.weight, expected 0 up to below 1"):
        Settings(ratios={"a.weight": 1.5})
    with pytest.raises(OptionError, match=r"'lap-sequential' needs to know how much(?s:.*)what they need: .*lap, lfp"):
        score_weights(model, couple(model), "lap-sequential")


def test_firing_rates_weigh_the_layers_but_the_last() -> None:
    b, values, y, rates = Net(), np.random.default_rng(5).normal(size=(40, 4)).astype(np.float32), "x", {}
    hidden = values
    for name, (ins, outs) in {"a": (4, 6), "b": (6, 5), "c": (5, 3)}.items():
        weight = b.const(f"{name}.weight", b.rng.normal(size=(outs, ins)))
        y = b.op("Relu", b.op("Gemm", y, weight, b.bias(f"{name}.bias", outs), transB=1))
        hidden = np.maximum(hidden @ b[name].T + b.arrays[f"{name}.bias"], 0)
        rates[name] = (hidden > 0).mean(axis=0).tolist()
    model = model_of(b, y, VECTORS, 2)
    found = scores_of(model, "lap-act", data=open_dataset({"x": values}), batch=16)
    assert 0.05 < np.mean(rates["a"]) < 0.95
    scaled = {name: b[name] * np.sqrt(rates[name])[:, None] for name in "ab"} | {"c": b["c"]}
    close(found["a.weight"], lookahead(scaled["a"], None, read(scaled["b"])), rtol=1e-5)
    close(found["b.weight"], lookahead(scaled["b"], made(scaled["a"]), read(scaled["c"])), rtol=1e-5)
    close(found["c.weight"], lookahead(scaled["c"], made(scaled["b"])), rtol=1e-5)


def test_firing_rates_are_found_behind_norms_and_sums_and_for_gates_written_out() -> None:
    b, values = Net(), np.random.default_rng(5).normal(size=(7, 3, 6, 6)).astype(np.float32)
    x = b.norm(b.conv("x", 3, 4, name="a"), "n", 4)
    y = b.op("Add", b.op("Mul", x, b.op("Sigmoid", x)), b.conv("x", 3, 4, name="d"))
    y = b.conv(b.op("Relu", y), 4, 2, name="c")
    found = scores_of(model_of(b, y, IMAGE, 4), "lap-act", data=open_dataset({"x": values}))
    plain = scores_of(model_of(b, y, IMAGE, 4))
    share = found["a.weight"] / plain["a.weight"]
    close(share, np.broadcast_to(share[:, :1, :1, :1], share.shape), rtol=1e-4)
    assert (share < 1).all()
    assert (found["d.weight"] < plain["d.weight"]).all()


@pytest.mark.parametrize("normalise", [True, False])
def test_units_score_their_producing_weights(normalise: bool) -> None:
    b, model = chain()
    coupling = couple(model)
    found = score(model, coupling, "lap", Settings(normalise=normalise))
    full = lookahead(b["b"], made(b["a"]), read(b["c"]))
    expected = full.mean(axis=(1, 2, 3)) if normalise else full.sum(axis=(1, 2, 3))
    (name,) = (g.name for g in coupling.groups if any(m.tensor == "b.weight" and not m.consumes for m in g.members))
    close(found[name], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["lstm_bidirectional", "encoder_prenorm", "grouped_conv", "densenet"])
def test_units_of_heads_directions_and_blocks_share_out_all_scores(name: str) -> None:
    model = from_proto(export(name, "dynamo"))
    coupling = couple(model)
    units, weights = score(model, coupling, "lap", Settings(normalise=False)), score_weights(model, coupling, "lap")
    blocks = {block.weight for layer in find_layers(coupling.graph) for block in layer.blocks}
    compared = 0
    for group in coupling.groups:
        layers = [m for m in group.weights if not m.consumes and m.tensor in blocks]
        if layers and all(_covers(m, weights[m.tensor]) for m in layers):
            total = sum(weights[m.tensor].sum(dtype=np.float64) for m in layers)
            close(units[group.name].sum(), total, rtol=1e-5, err_msg=group.name)
            compared += 1
    assert compared


def _covers(member: Member, values: np.ndarray) -> bool:
    return member.index.size == values.shape[member.axis] * (1 if member.block is None else member.blocks)


class TestProperties:
    @settings(max_examples=15, derandomize=True, deadline=None)
    @given(st.sampled_from([0.25, 0.5, 2.0, 4.0]), st.sampled_from(["lap", "lfp", "lbp"]), st.integers(0, 3))
    def test_scaling_a_layer_scales_its_own_scores_and_its_neighbours(self, c: float, name: str, seed: int) -> None:
        one, other = (scores_of(chain(scale, seed)[1], name) for scale in (1.0, c))
        square = c**2
        front, behind = (1.0 if name == "lbp" else square), (1.0 if name == "lfp" else square)
        for weight, factor in (("a", front), ("b", square), ("c", behind), ("d", 1.0)):
            close(other[f"{weight}.weight"], factor * one[f"{weight}.weight"], rtol=1e-5)

    @settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.sampled_from([0, 1, 2, 3, 7, 10, 13]), min_size=1, max_size=4),
        st.sampled_from(ALL),
        st.integers(0, 99),
    )
    def test_permuted_units_have_permuted_scores(self, picks: list[int], name: str, seed: int) -> None:
        model = from_proto(build(picks))
        coupling = couple(model)
        order = {t: permutation(coupling, t, seed) for t in model.weights}
        other = permuted(model, order)
        given_ratio = Settings(ratios=0.4)
        found = score_weights(model, coupling, name, given_ratio)
        after = score_weights(other, couple(other), name, given_ratio)
        units, moved = (score(m, couple(m), name, given_ratio) for m in (model, other))
        for weight in found:
            close(after[weight], moved_to(found[weight], order[weight]), rtol=1e-4, err_msg=weight)
        for group in coupling.groups:
            shuffled = np.random.default_rng([seed, group.units]).permutation(group.units)
            close(moved[group.name], units[group.name][shuffled], rtol=1e-4, err_msg=group.name)

    @pytest.mark.parametrize("name", ["resnet_basic", "mobilenet_v3", "vit", "gru_stacked", "decoder_llama", "swin"])
    @pytest.mark.parametrize("criterion", ["lap", "lap-sequential", "lfp-sequential"])
    def test_all_weights_of_real_architectures_have_scores(self, name: str, criterion: str) -> None:
        model = from_proto(export(name, "dynamo", keep_batchnorm=True))
        coupling = couple(model)
        found = score_weights(model, coupling, criterion, Settings(ratios=0.5))
        for weight in found:
            values = found[weight]
            assert values.shape == coupling.graph.weights[weight].shape
            assert np.isfinite(values).all()
            assert (values > 0).any()


def permutation(coupling: Coupling, tensor: str, seed: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(axis, positions, positions that come there) for every group that lives on a constant."""
    result = []
    for group in coupling.groups:
        shuffled = np.random.default_rng([seed, group.units]).permutation(group.units)
        for member in group.members:
            if member.tensor == tensor:
                where = [member.index[member.unit == unit] for unit in range(group.units)]
                result.append((member.axis, np.concatenate(where), np.concatenate([where[u] for u in shuffled])))
    return result


def moved_to(values: np.ndarray, order: list[tuple[int, np.ndarray, np.ndarray]]) -> np.ndarray:
    for axis, to, source in order:
        result = values.copy()
        np.moveaxis(result, axis, 0)[to] = np.moveaxis(values, axis, 0)[source]
        values = result
    return values


def permuted(model: Model, order: dict[str, list[tuple[int, np.ndarray, np.ndarray]]]) -> Model:
    """The same function, its channels in another order."""
    proto = type(model.proto)()
    proto.CopyFrom(model.proto)
    del proto.graph.initializer[:]
    for name, weight in model.weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(moved_to(weight.array(), order[name]), name))
    return from_proto(proto)


def test_weights_that_are_not_finite() -> None:
    weight = np.ones((4, 3, 1, 1), np.float32)
    weight[1, 0], weight[2, 1] = np.nan, np.inf
    b = Net()
    y = b.op("Conv", b.op("Conv", "x", b.const("a", weight)), b.const("c", np.ones((2, 4, 1, 1))))
    model = model_of(b, y, IMAGE, 4)
    for criterion in ALL:
        found = score_weights(model, couple(model), criterion, Settings(ratios=0.5))
        assert len(found.warnings) == 1
        assert not any(np.isnan(values).any() for values in found.values())
        assert found["a"][1, 0] == 0
        assert found["a"][2, 1] == np.inf
    close(score_weights(model, couple(model), "lbp")["c"][:, 1, 0, 0], 2.0)
