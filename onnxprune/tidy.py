"""Taking out what a cut has left without a reader.

onnx-graphsurgeon finds the nodes that no output depends on. It sees a copy without weights and only its answer is
used, because its export would drop metadata, doc strings and types that NumPy lacks. What was dead before stays: it
is not ours to remove.
"""

from __future__ import annotations

from collections import Counter

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from onnxprune._graphs import refill, used_names
from onnxprune.model import ModelEditor

__all__ = ["drop_orphans", "live_tensors"]


def live_tensors(proto: onnx.ModelProto) -> frozenset[str]:
    """Outputs of the main graph's nodes that its outputs depend on."""
    G_LOGGER.severity = G_LOGGER.CRITICAL
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    inputs = {value.name for value in bare.graph.input}
    bare.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in bare.graph.initializer
        if t.name not in inputs
    )
    del bare.graph.initializer[:]
    del bare.graph.value_info[:]
    graph = gs.import_onnx(bare)
    graph.cleanup(remove_unused_graph_inputs=False, recurse_subgraphs=False)
    return frozenset(tensor.name for node in graph.nodes for tensor in node.outputs if tensor.name)


def drop_orphans(editor: ModelEditor, before: onnx.ModelProto) -> None:
    """Remove nodes and constants that had a reader in ``before`` and have none any more."""
    graph = editor.proto.graph
    made = {name for node in graph.node for name in node.output}
    if not made.isdisjoint(Counter(used_names(before.graph)) - Counter(used_names(graph))):  # one has fewer readers
        lost = live_tensors(before) - live_tensors(editor.proto)
        kept = [node for node in graph.node if not node.output or not lost.issuperset(o for o in node.output if o)]
        if len(kept) < len(graph.node):
            refill(graph.node, kept)
    unread = (set(used_names(before.graph)) - set(used_names(graph))) & editor.weights.keys()
    for name in unread:
        del editor.weights[name]
    inputs = [value for value in graph.input if value.name not in unread]  # IR 3 lists constants there, too
    if len(inputs) < len(graph.input):
        refill(graph.input, inputs)
