"""Whole units and single weights of one draft become one step: exactly these go, it is proven, and it comes out again.

What the step holds is held against weights that were zeroed by hand in the file, and a removal of the units alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxprune import Model, Plan, load
from onnxprune.errors import ProofError
from onnxprune.experiment import analyse, prune
from onnxprune.proof import assert_zeroed
from onnxprune.train import kept_zeros
from onnxprune.workspace.edits import draft_plan
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.replay import branch
from onnxprune.workspace.values import Step
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import model_of, save, weight
from tests.workspace.test_replay import do, never, quiet

ROOT = Path(__file__).parents[2]
NETS = ROOT / "examples" / "nets"
DIGITS = ROOT / "onnxprune" / "demo_data" / "digits.npz"
DATA = {"residual": DIGITS, "lstm": DIGITS, "vit": DIGITS, "tabular_mlp": NETS / "breast_cancer.npz"}
SHARE = 7  # every seventh weight


@pytest.fixture(params=DATA)
def net(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A convolutional net, a recurrent one, a transformer, one of fully connected layers; each trained."""
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    (tmp_path / "data").mkdir()
    shutil.copy(NETS / f"{request.param}.onnx", tmp_path)
    shutil.copy(DATA[request.param], tmp_path / "data")
    with Workspace.open(tmp_path) as opened:
        yield opened


def mixed(model: Model) -> tuple[list[dict[str, Any]], dict[str, list[int]], dict[str, NDArray[np.bool_]]]:
    """Edits, and what they come to: units by group, masks by weight. Some lie in units that go, some are restored."""
    inlined, coupling = analyse(model)
    units = {group.name: list(range(0, group.units, 5)) for group in coupling.groups if group.units > 1}
    edits: list[dict[str, Any]] = [{"group": name, "remove": numbers} for name, numbers in units.items()]
    masks = {}
    for name, stored in inlined.weights.items():
        size = int(np.prod(stored.shape))
        if stored.dtype.kind != "f" or size <= 2 * SHARE:
            continue
        gone = np.arange(size) % SHARE == 3
        edits.append({"weight": name, "remove": np.flatnonzero(gone).tolist(), "ranges": [[0, 2]]})
        edits.append({"weight": name, "restore": [3, 1]})
        gone[[0, 1, 2, 3]] = True, False, gone[2], False
        masks[name] = gone.reshape(stored.shape)
    return edits, units, masks


def drafted(workspace: Workspace, edits: list[dict[str, Any]], step: int = 1) -> None:
    for edit in edits:
        workspace.drafts.add(step, edit)


def by_hand(model: Model, masks: Mapping[str, NDArray[np.bool_]]) -> Model:
    """The model with these weights zeroed, without this program's surgery."""
    editor = model.edit()
    for name, gone in masks.items():
        array = np.array(model.weights[name].array())
        array[gone] = 0
        editor.set_weight(name, array)
    return editor.build()


def report(workspace: Workspace, step: Step) -> Any:
    return json.loads(workspace.document(step.number, "report") or b"null")


@pytest.mark.parametrize("mode", ["remove", "mask"])
def test_exactly_these_go_in_one_step(net: Workspace, mode: str) -> None:
    model = net.model(1)
    edits, units, masks = mixed(model)
    drafted(net, edits)
    made = do(net, "edit", mode=mode)
    assert (made.number, made.parent, net.drafts.entries(1)) == (2, 1, [])
    plan = net.plan(2)
    assert plan is not None
    assert {name: gone.tolist() for name, gone in plan.units.items()} == units
    shared = analyse(model)[1].graph.origin  # a vector that several nodes read has a name for each
    assert {shared.get(name, name) for name in plan.weights} == masks.keys()
    assert all(np.array_equal(plan.weights[name], mask) for name, mask in masks.items())
    zeroed = by_hand(model, masks)
    _, coupling = analyse(zeroed)
    alone = Plan(coupling.model_hash, units, {g.name: g.units for g in coupling.groups}, options=coupling.options)
    wanted, found = prune(zeroed, plan=alone, mode=mode).model, net.model(2)
    assert found.weights.keys() == wanted.weights.keys()
    assert all(np.array_equal(found.array(name), wanted.array(name)) for name in wanted.weights)
    told = report(net, made)
    assert told["zeroed"]["named"] == plan.removed_weights
    if mode == "remove":
        assert told["proof"]["ok"]
        assert told["proof"]["error"] < 1e-5
        assert told["zeroed"]["left"] < told["zeroed"]["named"], "some went with their unit"
    else:
        assert told["zeroed"]["left"] == told["zeroed"]["named"]


@pytest.mark.parametrize("net", ["residual", "vit"], indirect=True)
def test_it_comes_out_again(net: Workspace, tmp_path: Path) -> None:
    model = net.model(1)
    edits, _, _ = mixed(model)
    drafted(net, edits)
    revision = net.drafts.revision(1)
    net.drafts.undo(1)
    net.drafts.redo(1)
    assert net.drafts.revision(1) == revision
    made = do(net, "edit")
    again = branch(net, 1, made.number, progress=quiet, cancelled=never)
    assert [step.model_hash for step in again] == [made.model_hash]
    drafted(net, edits)
    job = Jobs(net.database).add("edit", 1, {})
    assert work(net) == 1
    assert net.steps.get(Jobs(net.database).get(job.number).result or 0).model_hash == made.model_hash
    net.export(made.number, tmp_path / "out")
    assert prune(model, plan=Plan.load(tmp_path / "out" / "plan.json")).model.hash == made.model_hash


@pytest.mark.parametrize("net", ["lstm", "tabular_mlp"], indirect=True)
def test_repair_and_training_leave_the_zeros(net: Workspace) -> None:
    model = net.model(1)
    edits, _, _ = mixed(model)
    matrices = [e for e in edits if "group" in e or len(model.weights[e["weight"]].shape) > 1]
    drafted(net, matrices)
    made = do(net, "edit")
    zeros = kept_zeros(net.model(made.number))
    assert sum(int(mask.sum()) for mask in zeros.values()) == report(net, made)["zeroed"]["left"] > 0
    mended = do(net, "recover", made.number)
    tuned = do(net, "fine-tune", mended.number, epochs=1, deterministic=True)
    before, after = net.model(made.number), net.model(tuned.number)
    for name, gone in zeros.items():
        assert not after.array(name)[gone].any(), name
        assert not np.array_equal(after.array(name), before.array(name)), name
    net.drafts.add(tuned.number, {"group": next(iter(analyse(after)[1].by_name)), "remove": [0]})
    smaller = do(net, "edit", tuned.number)
    handed = kept_zeros(net.model(smaller.number))
    last = net.model(do(net, "fine-tune", smaller.number, epochs=1, deterministic=True).number)
    assert handed.keys() == zeros.keys()
    assert 0 < sum(int(m.sum()) for m in handed.values()) < sum(int(m.sum()) for m in zeros.values())
    assert all(not last.array(name)[gone].any() for name, gone in handed.items())


def test_the_check_finds_what_is_wrong() -> None:
    model, coupling = analyse(load(NETS / "vit.onnx"))
    edits, _, masks = mixed(model)
    plan = draft_plan(model, coupling, edits)
    good = prune(model, plan=plan).model
    found = assert_zeroed(model, coupling, plan, good, removed=True)
    name = max(masks, key=lambda key: masks[key].size)
    array = np.array(good.array(name))
    kept = np.argwhere(array != 0)[0]
    lost = np.argwhere(array == 0)[0]

    def wrong(place: NDArray[np.int64], value: float) -> Model:
        other = array.copy()
        other[tuple(place)] = value
        editor = good.edit()
        editor.set_weight(name, other)
        return editor.build()

    with pytest.raises(ProofError, match=r"1 weights of the plan are not zero"):
        assert_zeroed(model, coupling, plan, wrong(lost, 1.0), removed=True)
    with pytest.raises(ProofError, match=r"1 weights changed that the plan does not name"):
        assert_zeroed(model, coupling, plan, wrong(kept, 0.0), removed=True)
    with pytest.raises(ProofError, match=r"where the plan leaves"):
        assert_zeroed(model, coupling, plan, good, removed=False)
    floats = sum(w.array().size for n, w in good.weights.items() if w.dtype.kind == "f" and n in model.weights)
    assert found.left + found.same == floats


def test_a_vector_that_two_nodes_read_is_zeroed_for_both(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "w2"], ["d"], name="second"),
        helper.make_node("Add", ["d", "bias"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"], name="third"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in (("x", 4), ("y", 3)))
    weights = [weight("w1", 4, 6), weight("w2", 6, 6), weight("w3", 6, 3), weight("bias", 6)]
    save(model_of(helper.make_graph(nodes, "shared", [x], [y], weights)), tmp_path / "shared.onnx")
    model, coupling = analyse(load(tmp_path / "shared.onnx"))
    brush = {"weight": "bias", "remove": [1, 4]}
    both = prune(model, plan=draft_plan(model, coupling, [brush])).model
    assert both.weights.keys() == model.weights.keys()
    assert np.flatnonzero(both.array("bias") == 0).tolist() == [1, 4]
    first = coupling.groups[0]
    plan = draft_plan(model, coupling, [brush, {"group": first.name, "remove": [0, 1]}])
    split = prune(model, plan=plan)
    sizes = sorted(w.array().size for name, w in split.model.weights.items() if name.startswith("bias"))
    assert sizes == [4, 6]
    assert split.proof is not None
    for name, array in ((n, w.array()) for n, w in split.model.weights.items() if n.startswith("bias")):
        assert np.count_nonzero(array == 0) == (2 if array.size == 6 else 1), name
