"""Fourier transforms and the windows and filter banks around them: the signal axis stays, axes beside it tie.

A transform is linear and treats every channel alike, so it keeps zeros.
"""

from __future__ import annotations

from onnxprune.graph import Graph, Node
from onnxprune.ops.contrib import stays
from onnxprune.ops.fourier_gradients import expand_stft, vjp_dft
from onnxprune.ops.rule import Role, Rule, zero_by_inputs, zero_lost
from onnxprune.ops.sources import cut_keep_sizes
from onnxprune.ops.ties import Ties


def signal_axis(graph: Graph, node: Node) -> int | None:
    """The axis that a DFT runs over, from 0; None where it depends on data. An attribute before opset 20."""
    rank = len(graph.shapes[node.inputs[0]])
    if node.version < 20:
        return int(node.attrs.get("axis", 1)) % rank
    if not node.input(2):
        return rank - 2
    value = graph.value(node.inputs[2])
    return None if value is None else int(value.reshape(-1)[0]) % rank


def couple_dft(node: Node, t: Ties) -> None:
    """x (..., signal, ..., 1 or 2) -> y: real and imaginary part on the last axis."""
    x, y = node.input(0), node.output(0)
    axis = signal_axis(t.graph, node)
    if axis is None:
        t.freeze_node(node, f"the axis of {node} depends on data")
        return
    last = t.rank(x) - 1
    t.tie_like(x, y, [(a, a) for a in range(last) if a != axis], 0)
    for tensor in (x, y):
        t.freeze(tensor, axis, f"{node} mixes all positions of the signal")
        t.freeze(tensor, last, f"{node} holds real and imaginary parts there")


def couple_stft(node: Node, t: Ties) -> None:
    """signal (N, length, 1 or 2), step, window, frame length -> (N, frames, frequencies, 2)."""
    x, window, y = node.input(0), node.input(2), node.output(0)
    t.tie(x, 0, y, 0, 0)
    for tensor, first in ((x, 1), (y, 1), (window, 0)):
        for axis in range(first, t.rank(tensor) if tensor else 0):
            t.freeze(tensor, axis, f"{node} mixes positions of the signal")


D, S = Role.DATA, Role.SHAPE
SHAPED = "its values follow from its length"
RULES = (
    Rule("DFT", couple_dft, (D, S), zero_by_inputs(0), vjp=vjp_dft),
    Rule("STFT", couple_stft, (D, S, D, S), zero_by_inputs(0), expand=expand_stft),
    *(
        Rule(op, stays(SHAPED), (S,), zero_lost, cut_keep_sizes, flat=True)
        for op in ("MelWeightMatrix", "HannWindow", "HammingWindow", "BlackmanWindow")
    ),
)
