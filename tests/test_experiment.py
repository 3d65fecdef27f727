"""The Python way: what ``prune`` gives back, what it refuses, and what it leaves alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.allocate import Floor
from onnxprune.data import open_dataset
from onnxprune.errors import BudgetError, DataError, GroupNotFound, NothingToPrune, OptionError, PlanMismatch
from onnxprune.evaluate import evaluate
from onnxprune.experiment import Request, analyse, broken_weights, prune, work
from onnxprune.model import Model, from_proto, load
from onnxprune.runtime import session
from tests.nets.light import light

DEMO = Path(__file__).parent.parent / "onnxprune" / "demo_data"
DIGITS = DEMO / "digits.npz"


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def mlp(hidden: int = 8, seed: int = 0, *, function: bool = False) -> Model:
    """Two dense layers; with ``function`` the first one and its activation are a local function."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    opsets = [helper.make_opsetid("", 17)]
    inner = [helper.make_node("MatMul", ["x", "w"], ["a"], name="dense"), helper.make_node("Relu", ["a"], ["r"])]
    if function:
        opsets.append(helper.make_opsetid("local", 1))
        first = [helper.make_node("Layer", ["x", "w1"], ["r"], domain="local", name="layer")]
        functions = [helper.make_function("local", "Layer", ["x", "w"], ["r"], inner, opsets[:1])]
    else:
        inner[0].input[1] = "w1"
        first, functions = inner, []
    last = helper.make_node("MatMul", ["r", "w2"], ["y"], name="out")
    weights = [weight("w1", 5, hidden, seed=seed), weight("w2", hidden, 3, seed=seed)]
    graph = helper.make_graph([*first, last], "mlp", [x], [y], weights)
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)
    return from_proto(proto)


def run(model: Model) -> np.ndarray[Any, Any]:
    return np.asarray(session(model).run({"x": np.random.default_rng(1).standard_normal((4, 5), np.float32)})["y"])


class TestResult:
    def test_everything_that_is_known(self) -> None:
        model = mlp()
        found = prune(model, ratio=0.5, round_to=1)
        assert found.model.weights["w1"].shape == (5, 4)
        assert found.plan.removed_units == found.reached.removed == 4
        assert found.asked["ratio"] == 0.5
        assert found.proof is not None
        assert found.proof.ok
        assert (found.before.parameters, found.after.parameters) == (8 * 8, 8 * 4)
        assert found.signature == found.warnings == ()
        assert {"couple", "score", "allocate", "surgery", "prove", "cost"} == found.timings.keys()
        assert found.latencies is None
        assert not found.masked

    def test_masked_and_removed_agree(self) -> None:
        model = mlp()
        removed, masked = (prune(model, ratio=0.5, round_to=1, mode=mode).model for mode in ("remove", "mask"))
        np.testing.assert_allclose(run(removed), run(masked), rtol=1e-5, atol=1e-6)

    def test_the_input_is_left_alone(self) -> None:
        model = mlp()
        before, content = model.hash, model.to_bytes()
        prune(model, ratio=0.5, round_to=1)
        prune(model, ratio=0.5, granularity="weight")
        assert (model.hash, model.to_bytes()) == (before, content)

    def test_metadata_is_not_in_the_hash_that_it_holds(self) -> None:
        found = prune(mlp(), ratio=0.5, round_to=1).model
        assert found.metadata["onnxprune.hash"] == found.hash
        assert found.metadata["onnxprune.parent"] == mlp().hash

    def test_latency_on_request(self) -> None:
        found = prune(mlp(), ratio=0.5, round_to=1, measure=True)
        assert found.latencies is not None
        assert all(latency.median_ms > 0 and latency.batch == 1 for latency in found.latencies)

    def test_single_weights_are_masked(self) -> None:
        found = prune(mlp(), ratio=0.5, granularity="weight")
        assert found.masked
        assert found.proof is None
        assert found.after.nonzero == 32

    def test_a_signature_that_changes(self) -> None:
        found = prune(mlp(), group_ratios={"out": 0.4}, allow_io=("y",), round_to=1)
        assert found.signature == ("output `y` was (batch, 3) and is (batch, 2)",)

    def test_shapes_that_were_given_follow_the_cut(self) -> None:
        found = prune(mlp(), group_ratios={"x": 0.4}, allow_io=("x:1",), round_to=1, shapes={"x": (2, 5)})
        assert found.after.macs == 2 * (3 * 8 + 8 * 3)


class TestPlans:
    def test_a_plan_replays(self) -> None:
        first = prune(mlp(), ratio=0.5, round_to=1)
        again = prune(mlp(), plan=first.plan)
        assert again.model.hash == first.model.hash
        assert (again.reached.removed, again.reached.total) == (4, 8)

    def test_of_another_model(self) -> None:
        plan = prune(mlp(), ratio=0.5, round_to=1).plan
        with pytest.raises(PlanMismatch, match=mlp(seed=1).hash):
            prune(mlp(seed=1), plan=plan)

    def test_beside_a_ratio(self) -> None:
        with pytest.raises(OptionError, match="both a plan and ratio"):
            prune(mlp(), plan=prune(mlp(), ratio=0.5, round_to=1).plan, ratio=0.5)

    def test_local_functions_do_not_change_whose_plan_it_is(self) -> None:
        model = mlp(function=True)
        found = prune(model, ratio=0.5, round_to=1)
        assert found.plan.model_hash == model.hash == found.model.metadata["onnxprune.parent"]
        assert prune(model, plan=found.plan).model.hash == found.model.hash
        assert analyse(model)[1].model_hash == model.hash


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "burn"}, "mode: got 'burn', expected remove or mask"),
            ({"granularity": "atom"}, "granularity: got 'atom', expected unit or weight"),
            ({"mode": "remove", "granularity": "weight"}, "single weights cannot be removed"),
        ],
    )
    def test_requests(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            Request(**options)

    def test_a_group_that_is_not_there(self) -> None:
        with pytest.raises(GroupNotFound, match=r"'dens'(.|\n)*dense"):
            prune(mlp(), ratio=0.5, skip=("dens",))

    def test_zeros_again(self) -> None:
        masked = prune(mlp(), ratio=0.5, round_to=1, mode="mask").model
        with pytest.raises(NothingToPrune, match="would equal the input"):
            prune(masked, ratio=0.5, round_to=1, mode="mask")


class TestWhatAPersonIsTold:
    def test_stages(self) -> None:
        seen: list[str] = []
        prune(mlp(), ratio=0.5, round_to=1, progress=lambda stage, done, total: seen.append(f"{stage} {done} {total}"))
        assert seen[0] == "looking for groups 0 0"
        assert "proving that masked and removed agree 0 0" in seen

    def test_how_much_memory_the_proof_takes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(work, "MUCH", 0)
        told: list[str] = []
        prune(mlp(), ratio=0.5, round_to=1, notify=told.append)
        (text,) = told
        assert re.match(r"The proof takes about [\d.]+ GB of memory", text)

    def test_weights_that_are_no_numbers(self) -> None:
        editor = mlp().edit()
        values = editor.weights["w1"].array().copy()
        values[0, 0], values[1, 2] = np.nan, -np.inf
        editor.set_weight("w1", values)
        assert broken_weights(*analyse(editor.build())) == ("weight `w1` has 2 entries that are NaN or Inf",)


def test_the_proof_runs_on_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((9, 5)))
    found = prune(mlp(), ratio=0.5, round_to=1, data=tmp_path / "data.npz")
    assert found.proof is not None
    assert found.proof.batches == (4, 4, 5)


def test_a_file_that_lists_its_weights_as_inputs() -> None:
    """IR 3: a shuffle becomes a Gather, its shape constants go from the inputs too, and the signature is as it was."""
    pruned = prune(from_proto(light("shufflenet")), ratio=0.5, round_to=1, verify=False)
    assert pruned.signature == ()
    assert len(pruned.model.proto.graph.input) < len(light("shufflenet").graph.input)


@pytest.fixture(scope="module")
def model() -> Model:
    return load(DEMO / "digits_cnn.onnx")


class TestRepairAndMetrics:
    """On the bundled digits CNN: data in two parts, a repair, floors, what is told about them."""

    def test_repaired_and_measured(self, model: Model) -> None:
        found = prune(model, ratio=0.5, round_to=1, recover="least-squares", evaluate=True, data=DIGITS, samples=500)
        assert list(found.evaluations) == ["original", "pruned", "repaired"]
        original, pruned, repaired = (e.value("accuracy") for e in found.evaluations.values())
        assert repaired > pruned + 0.6 * (original - pruned)
        assert found.recovered is not None
        assert found.recovered.samples == 500
        assert dict(found.model.metadata)["onnxprune.recover"] == "least-squares"
        assert found.proof is not None, "the removal is proven, then repaired"
        assert any("train" in line for line in found.data)
        assert found.plan.recipe["recover"] == "least-squares"

    def test_the_repair_of_a_criterion_is_its_default(self, model: Model) -> None:
        found = prune(model, ratio=0.5, round_to=1, criterion="obspa", data=DIGITS, samples=200, verify=False)
        assert found.recovered is not None
        bare = prune(model, ratio=0.5, round_to=1, criterion="obspa", data=DIGITS, samples=200, recover="none")
        assert bare.recovered is None

    def test_the_largest_removal_that_holds_its_floor(self, model: Model) -> None:
        floor = Floor("accuracy", 0.9)
        found = prune(model, ratio=0.9, round_to=1, floors=[floor], data=DIGITS, verify=False)
        assert found.floors
        assert found.evaluations["pruned"].value("accuracy") >= 0.9
        assert 0 < found.reached.ratio < 0.9
        more = prune(model, ratio=min(found.reached.ratio + 0.1, 0.9), round_to=1, data=DIGITS, evaluate=True)
        assert more.evaluations["pruned"].value("accuracy") < 0.9

    def test_a_floor_that_the_original_misses(self, model: Model) -> None:
        worst = min(evaluate(model, open_dataset(DIGITS)).per_class, key=lambda report: report.recall)
        with pytest.raises(
            BudgetError, match=f"the original model already misses 1 of 1 floors: recall of class '{worst.name}'"
        ):
            prune(model, ratio=0.5, floors=[Floor("recall", worst.recall + 1e-3, worst.name)], data=DIGITS)

    def test_a_floor_needs_data(self, model: Model) -> None:
        with pytest.raises(DataError, match="metrics need data"):
            prune(model, ratio=0.5, floors=[Floor("accuracy", 0.9)])

    def test_without_labels_the_original_is_the_measure(self, model: Model) -> None:
        bare = {"x": np.asarray(open_dataset(DIGITS).inputs["x"])[:100]}
        found = prune(model, ratio=0.5, round_to=1, evaluate=True, data=bare)
        assert found.evaluations["original"].value("agreement") == 1
        assert found.evaluations["pruned"].value("agreement") < 1

    def test_nan_in_the_data_is_named_by_row(self, model: Model) -> None:
        x = np.asarray(open_dataset(DIGITS).inputs["x"])[:60].copy()
        x[7, 0, 0, 0] = np.nan
        with pytest.raises(DataError, match=r"NaN or Inf in 1 rows .*: 7"):
            prune(model, ratio=0.5, round_to=1, data={"x": x})

    def test_made_up_inputs_are_said_so(self, model: Model) -> None:
        found = prune(model, ratio=0.5, round_to=1, recover="bias", verify=False)
        assert found.data == (
            "Repaired on made-up inputs: give some of your own with --data, which repairs far better.",
        )

    def test_targets_and_a_pattern_by_name(self, model: Model) -> None:
        small = prune(model, target_bytes="80KB", round_to=1, verify=False)
        assert [t.name for t in small.reached.targets] == ["target_bytes"]
        sparse = prune(model, pattern="1:4", skip=["conv1.weight"])
        assert sparse.masked
        values = sparse.model.weights["conv2.weight"].array().reshape(32, 6, 4, 9)
        assert ((values != 0).sum(axis=2) <= 1).all()
