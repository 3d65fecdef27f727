"""Where gradients end, what is said about it, and what cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune import ops
from onnxprune.coupling import couple
from onnxprune.criteria import Settings, criteria, score, score_weights
from onnxprune.criteria.gradient_reach import out_of_reach
from onnxprune.criteria.registry import usable
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.experiment import analyse
from onnxprune.losses import Loss, parse_loss
from onnxprune.model import Model, from_proto, load
from onnxprune.values import Coupling
from tests.criteria.measured import finish
from tests.nets.handmade._build import Build

ROOT = Path(__file__).resolve().parents[2]
UNITS = [name for name, c in criteria().items() if "gradients" in c.needs]
GATES = ("sensitivity", "fisher", "taylor-gate")
WEIGHTS = [name for name in UNITS if criteria()[name].weights is not None]


def four_layers(middle: str = "Softsign") -> tuple[Model, Coupling]:
    """Gemm 5 -> 8, Tanh, Gemm 8 -> 6, an activation, Gemm 6 -> 7, Tanh, MatMul 7 -> 3."""
    b = Build(2)
    y = b.op("Gemm", "x", b.weight("w1.weight", 8, 5), b.bias("w1.bias", 8), transB=1)
    y = b.op("Gemm", b.op("Tanh", y), b.weight("w2.weight", 6, 8), b.bias("w2.bias", 6), transB=1)
    y = b.op(middle, y, out="middle")
    y = b.op("Gemm", y, b.weight("w3.weight", 7, 6), b.bias("w3.bias", 7), transB=1)
    y = b.op("MatMul", b.op("Tanh", y), b.matrix("w4.weight", 7, 3))
    return finish(b, y, "batch", 5)


def data(count: int = 12, *, labels: bool = True) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset({"x": rng.standard_normal((count, 5)).astype(np.float32)}, np.arange(count) % 3 if labels else None)


@pytest.fixture
def no_softsign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softsign has no gradient rule."""
    monkeypatch.setitem(ops.RULES, ("", "Softsign"), replace(ops.RULES["", "Softsign"], vjp=None, expand=None))


@pytest.mark.usefixtures("no_softsign")
class TestWithoutARule:
    def test_what_lies_in_front_is_out_of_reach(self) -> None:
        _, coupling = four_layers()
        found = out_of_reach(coupling.graph)
        assert {"x", "w1.weight", "w1.bias", "w2.weight"} <= found.keys()
        assert not {"w3.weight", "w4.weight", "middle"} & found.keys()
        assert {node.op for node in found.values()} == {"Softsign"}

    @pytest.mark.parametrize("name", UNITS)
    def test_groups_in_front_get_a_substitute(self, name: str) -> None:
        model, coupling = four_layers()
        found = score(model, coupling, name, Settings(data=data()))
        names = [group.name for group in coupling.groups]
        # a gate is where a unit is read, which for the second group is behind Softsign; its weights are not
        reached = 1 if name in GATES else 2
        assert all((found[group] != 0).any() for group in names)
        assert all(found[group].max() == 1 for group in names[:reached] if name != "sensitivity")
        listed = ", ".join(names[:reached])
        assert any(w.startswith("Softsign node") and w.endswith(f"lies behind {listed}") for w in found.warnings)
        assert any(f"no gradient says anything about these groups: {listed};" in w for w in found.warnings)

    @pytest.mark.parametrize("name", WEIGHTS)
    def test_weights_in_front_are_scored_by_size(self, name: str) -> None:
        model, coupling = four_layers()
        found = score_weights(model, coupling, name, Settings(data=data()))
        size = np.abs(model.weights["w1.weight"].array())
        np.testing.assert_allclose(found["w1.weight"] / found["w1.weight"].max(), size / size.max(), rtol=1e-5)
        assert any(
            "no gradient says anything about these weights: w1.weight, w1.bias, w2.weight, w2.bias;" in w
            for w in found.warnings
        )

    def test_a_way_around_it_is_not_enough(self) -> None:
        b = Build(2)
        y = b.op("Gemm", "x", b.weight("w1.weight", 8, 5), b.bias("w1.bias", 8), transB=1)
        y = b.op("Add", y, b.op("Softsign", y))
        model, coupling = finish(b, b.op("MatMul", y, b.matrix("w2.weight", 8, 3)), "batch", 5)
        assert "w1.weight" in out_of_reach(coupling.graph)
        found = score_weights(model, coupling, "snip", Settings(data=data()))
        assert any("w1.weight" in warning for warning in found.warnings)

    @pytest.mark.parametrize("name", UNITS)
    def test_nothing_in_reach_is_an_error_that_names_the_node(self, name: str) -> None:
        b = Build(2)
        y = b.op("Gemm", "x", b.weight("w1.weight", 8, 5), b.bias("w1.bias", 8), transB=1)
        y = b.op("MatMul", b.op("Tanh", y), b.matrix("w2.weight", 8, 3))
        model, coupling = finish(b, b.op("Softsign", y), "batch", 5)
        with pytest.raises(
            OptionError, match=rf"criterion '{name}' needs gradients .*Softsign node .* has no gradient"
        ):
            score(model, coupling, name, Settings(data=data()))
        assert name not in usable("units", coupling, Settings(data=data()))


@pytest.mark.parametrize("name", UNITS)
def test_data_are_needed(name: str) -> None:
    model, coupling = four_layers()
    with pytest.raises(OptionError, match=rf"criterion '{name}' needs a dataset"):
        score(model, coupling, name)
    criterion = criteria()[name]
    assert criterion.units is not None
    with pytest.raises(OptionError, match="dataset"):
        criterion.units(model, coupling, Settings())


def test_a_model_cannot_learn_from_itself() -> None:
    model, coupling = four_layers()
    with pytest.raises(OptionError, match=r"(?s)learn from itself, and the gradient of that is zero.*labels"):
        score(model, coupling, "sensitivity", Settings(data=data(), losses=(Loss("distillation"),)))


def test_a_loss_that_does_not_fit() -> None:
    model, coupling = four_layers()
    with pytest.raises(DataError, match="mse"):
        score(model, coupling, "sensitivity", Settings(data=data(), losses=(Loss("mse"),)))
    with pytest.raises(DataError, match="labels"):
        score(model, coupling, "snip", Settings(data=data(labels=False), losses=(Loss("cross-entropy"),)))


def test_another_loss_gives_other_scores() -> None:
    model, coupling = four_layers()
    plain, smooth = (
        score(model, coupling, "sensitivity", Settings(data=data(), losses=parse_loss(text)))
        for text in ("cross-entropy", "cross-entropy(label_smoothing=0.3)")
    )
    usual = score(model, coupling, "sensitivity", Settings(data=data()))
    for name in plain:
        np.testing.assert_array_equal(plain[name], usual[name])
        assert (plain[name] != smooth[name]).any()


def test_normalise_is_one_of_these() -> None:
    with pytest.raises(OptionError, match="normalise: got 'group', expected one of layer, model, none"):
        Settings(normalise="group")
    assert Settings(normalise="none").normalise is False


@pytest.mark.parametrize("name", UNITS)
def test_progress_and_samples(name: str) -> None:
    model, coupling = four_layers()
    seen: list[tuple[str, int, int]] = []
    settings = Settings(data=data(), samples=7, batch=3, progress=lambda *args: seen.append(args))
    score(model, coupling, name, settings)
    assert [entry for entry in seen if entry[0] == "measuring gradients"][-1] == ("measuring gradients", 7, 7)
    assert max(done for _, done, _ in seen) == 7


def test_interrupting_ends_it_at_once() -> None:
    model, coupling = four_layers()

    def interrupt(_: str, done: int, __: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(model, coupling, "sensitivity", Settings(data=data(), batch=3, progress=interrupt))


@pytest.mark.parametrize("name", ["sensitivity", "taylor", "fisher", "snip"])
def test_half_precision(name: str) -> None:
    model, coupling = four_layers("Sigmoid")
    small = from_proto(halved(model.to_proto()))
    half = Dataset({"x": np.asarray(data().inputs["x"][:]).astype(np.float16)}, data().labels)
    found = score(small, couple(small), name, Settings(data=half))
    for group, values in score(model, coupling, name, Settings(data=data())).items():
        np.testing.assert_allclose(found[group], values, rtol=0.02, atol=0.02 * values.max())


def halved(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Every float32 tensor in float16."""
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", 5])
    y = helper.make_tensor_value_info(proto.graph.output[0].name, TensorProto.FLOAT16, None)
    del proto.graph.input[:], proto.graph.output[:], proto.graph.value_info[:]
    proto.graph.input.append(x)
    proto.graph.output.append(y)
    return proto


EXAMPLES = ("mlp", "vgg", "residual", "lstm", "vit", "tabular_mlp")


@pytest.mark.parametrize("net", EXAMPLES)
def test_example_nets_have_all_scores(net: str) -> None:
    home = ROOT / "examples" / "nets"
    source = home / "breast_cancer.npz" if net == "tabular_mlp" else ROOT / "onnxprune" / "demo_data" / "digits.npz"
    model, coupling = analyse(load(home / f"{net}.onnx"))
    settings = Settings(data=open_dataset(source, "train"), samples=32)
    for name in UNITS:
        found = score(model, coupling, name, settings)
        assert all("central difference" in w and net == "lstm" for w in found.warnings), (name, found.warnings)
        assert all(np.isfinite(values).all() and values.any() for values in found.values()), name
    for name in WEIGHTS:
        single = score_weights(model, coupling, name, settings)
        assert all("central difference" in w and net == "lstm" for w in single.warnings), (name, single.warnings)
        assert all(np.isfinite(single[weight]).all() for weight in single), name


@pytest.mark.parametrize("name", UNITS)
def test_a_model_without_groups_has_no_scores(name: str) -> None:
    b = Build(2)
    model, coupling = finish(b, b.op("MatMul", "x", b.matrix("w", 5, 3)), "batch", 5)
    assert not coupling.groups
    assert not score(model, coupling, name, Settings(data=data()))
