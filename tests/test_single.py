"""One node as a model: it runs at the sizes that a removal gives it, whatever the operator."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.allocate import Budget, allocate
from onnxprune.cost import CostModel, example_graph
from onnxprune.coupling import couple
from onnxprune.criteria import UnitScores
from onnxprune.errors import NothingToPrune
from onnxprune.model import Model, from_proto
from onnxprune.nodes import Node
from onnxprune.runtime import session
from onnxprune.single import SingleNode, one_node
from onnxprune.values import Coupling, Options
from tests.allocate.nets import layers_net, mlp
from tests.nets import export
from tests.nets.handmade import HANDMADE

EXPORTED = {
    "mobilenet_v3": "torchscript", "grouped_conv": "dynamo", "unet": "torchscript", "lstm_bidirectional": "torchscript",
    "encoder_bert": "torchscript", "vit": "torchscript", "decoder_llama": "dynamo",
}  # fmt: skip
BY_HAND = (
    "contrib_multi_head",
    "contrib_grouped_query",
    "contrib_fused_conv",
    "attention_opset23",
)


def half(model: Model) -> tuple[Coupling, CostModel, np.ndarray]:
    """Sizes with about half of all units gone."""
    coupling = couple(model)
    scores = UnitScores({g.name: np.arange(g.units) for g in coupling.groups})
    try:
        plan, _ = allocate(coupling, scores, Budget(ratio=0.5, round_to=1))
        units = plan.units
    except NothingToPrune:
        units = {}
    costs = CostModel(coupling, example_graph(model))
    gone = np.zeros(coupling.units, np.bool_)
    for name, removed in units.items():
        gone[costs.starts[coupling.by_name[name]] + removed] = True
    return coupling, costs, costs.table.dims - costs.matrix @ gone.astype(np.int64)


def made(
    costs: CostModel, node: Node, dims: np.ndarray, options: Options
) -> tuple[SingleNode | None, dict[str, tuple[int, ...]]]:
    table = costs.table
    shapes = {t: table.shape(t, dims) for t in (*node.inputs, *node.outputs) if t in table.number}
    return one_node(table.graph, node, shapes, options), shapes


@pytest.mark.parametrize("name", ["layers", "mlp", *EXPORTED, *BY_HAND])
def test_every_node_that_multiplies_runs_alone(name: str) -> None:
    by_name = {"layers": layers_net, "mlp": mlp}
    if name in by_name:
        model = by_name[name]()
    else:
        model = from_proto(HANDMADE[name].build() if name in HANDMADE else export(name, EXPORTED[name]))
    coupling, costs, cut = half(model)
    assert costs.table.counted
    changed = 0
    for node in costs.table.counted:
        for dims in (costs.table.dims, cut):
            single, shapes = made(costs, node, dims, coupling.options)
            assert single is not None, str(node)
            found = session(single.model()).run(single.feeds())
            assert found[node.output(0)].shape == shapes[node.output(0)], str(node)
        changed += not np.array_equal(costs.table.dims, cut)
    assert changed or name in BY_HAND


def test_the_key_is_of_what_the_time_depends_on() -> None:
    coupling, costs, cut = half(layers_net())
    node = costs.table.counted[0]
    whole, _ = made(costs, node, costs.table.dims, coupling.options)
    again, _ = made(costs, node, costs.table.dims, coupling.options)
    less, _ = made(costs, node, cut, coupling.options)
    assert whole is not None
    assert again is not None
    assert less is not None
    assert whole.key == again.key != less.key
    renamed, renamed_costs, _ = half(layers_net())
    other, _ = made(renamed_costs, renamed_costs.table.counted[1], renamed_costs.table.dims, renamed.options)
    assert other is not None
    assert other.key != whole.key


def test_equal_layers_of_other_names_have_one_key() -> None:
    coupling, costs, _ = half(mlp((8, 8, 8, 8, 8)))
    keys = {
        single.key
        for node in costs.table.counted
        if (single := made(costs, node, costs.table.dims, coupling.options)[0])
    }
    assert len(costs.table.counted) == 4
    assert len(keys) == 1


def test_what_lies_in_a_body_is_not_run_alone() -> None:
    coupling, costs, _ = half(from_proto(HANDMADE["loop"].build()))
    inner = [n for n in costs.table.graph.nodes if len(n.where) > 1]
    assert inner
    assert all(made(costs, n, costs.table.dims, coupling.options)[0] is None for n in inner)
