"""onnxruntime's other operators: fused embeddings and biases, and those that stay whole, each with its reason."""

from __future__ import annotations

from collections.abc import Callable

from onnxprune.graph import Node
from onnxprune.ops.contrib_gradients import (
    expand_bias_add,
    expand_bias_split_gelu,
    expand_embed_layer_norm,
    expand_gated_bias,
    expand_relative_bias,
)
from onnxprune.ops.elementwise import couple_elementwise
from onnxprune.ops.rule import Role, Rule, zero_all, zero_by_inputs, zero_keeps, zero_lost
from onnxprune.ops.ties import Ties

MS = "com.microsoft"


def couple_embed_layer_norm(node: Node, t: Ties) -> None:
    """LayerNormalization of word + position + segment rows; the third output is the sum itself."""
    y = node.output(0)
    last = t.rank(y) - 1
    for k in (2, 3, 4):
        table = node.input(k)
        if table:
            t.freeze(table, 0, f"{node} looks up its rows by number")
            t.tie(table, 1, y, last, k)
    for k in (5, 6):
        if node.input(k):
            t.tie(node.input(k), 0, y, last, k)
    for tensor in (*(node.input(k) for k in (0, 1, 7, 8)), node.output(1)):
        if tensor:
            t.freeze_all(tensor, f"{node} reads positions from it")
    for axis in range(last):
        t.freeze(y, axis, f"{node} reads positions from it")
    total = node.output(2)
    if total and t.shape(total) is not None:
        t.tie_like(y, total, [(a, a) for a in range(last + 1)])
    t.renormalises(y, last, "the mean and variance")


def couple_bias_split_gelu(node: Node, t: Ties) -> None:
    """y = left * gelu(right), where left and right are the halves of x + bias: both lose the same."""
    x, bias, y = node.input(0), node.input(1), node.output(0)
    last = t.rank(x) - 1
    for axis in range(last):
        t.tie(x, axis, y, axis, 0)
    ids = t.el(y, last)
    for k, whole in ((0, t.el(x, last)), (1, t.el(bias, 0))):
        for half in whole.reshape(2, -1):
            t.tie_ids(half, ids, k)


def stays(reason: str) -> Callable[[Node, Ties], None]:
    """Nothing that the operator touches can be removed, for this reason."""

    def couple_nothing(node: Node, t: Ties) -> None:
        t.freeze_node(node, f"{node}: {reason}")

    return couple_nothing


D, L, I, S, Z = Role.DATA, Role.LINEAR, Role.INDEX, Role.SCALE, Role.ZERO_POINT  # noqa: E741
CACHED = "keys and values are kept in a cache that is laid out for all heads"
PADLESS = "rows of a batch are packed end to end"
BLOCKS = "weights are packed into blocks that hold no whole rows"
EXPERTS = "which expert reads a row depends on data"
LAYOUT = "weights are stored in an order of the GPU's own"
SPARSE = "which positions attend to each other is given by blocks"
FROZEN: dict[str, tuple[str, tuple[Role, ...]]] = {
    "DecoderMaskedMultiHeadAttention": (CACHED, (D,)),
    "DecoderMaskedSelfAttention": (CACHED, (D, L, L, D)),
    "DecoderAttention": (CACHED, (D, D, L, L, L, D)),
    "PagedAttention": (CACHED, (D,)),
    "PackedAttention": (PADLESS, (D, L, L, I)),
    "PackedMultiHeadAttention": (PADLESS, (D, D, D, L, I)),
    "RemovePadding": (PADLESS, (D,)),
    "RestorePadding": (PADLESS, (D,)),
    "LongformerAttention": (SPARSE, (D, L, L, D, L, L, I)),
    "SparseAttention": (SPARSE, (D,)),
    "RelativePositionBias": ("buckets of distances are computed inside", (L, I)),
    "GatedRelativePositionBias": ("gates and heads are computed from one another inside", (D, L, D, L, L, L, I)),
    "MoE": (EXPERTS, (D, D, L)),
    "QMoE": (EXPERTS, (D,)),
    "MatMulBnb4": (BLOCKS, (D,)),
    "GatherBlockQuantized": (BLOCKS, (D, I, S, Z)),
    "QOrderedMatMul": (LAYOUT, (D,)),
    "QOrderedAttention": (LAYOUT, (D,)),
    "QOrderedLayerNormalization": (LAYOUT, (D,)),
    "QEmbedLayerNormalization": ("the mean and variance run over the embedding", (I, I, D)),
    "DynamicQuantizeLSTM": ("gates are quantised together, one scale for all cells", (D,)),
    "NGramRepeatBlock": ("it compares tokens", (D,)),
}
EXPAND = {"RelativePositionBias": expand_relative_bias, "GatedRelativePositionBias": expand_gated_bias}
RULES = (
    Rule("EmbedLayerNormalization", couple_embed_layer_norm, (I, I, L, L, L, L, L, Role.CONDITION, I),
         zero_by_inputs(5, 6), domain=MS, expand=expand_embed_layer_norm),
    Rule("BiasSplitGelu", couple_bias_split_gelu, (L,), zero_keeps, domain=MS, expand=expand_bias_split_gelu),
    Rule("BiasAdd", couple_elementwise, (L,), zero_all, domain=MS, expand=expand_bias_add),
    *(
        Rule(op, stays(reason), roles, zero_lost, domain=MS, expand=EXPAND.get(op))
        for op, (reason, roles) in FROZEN.items()
    ),
)  # fmt: skip
