"""What an operator is to a drawing: a layer, a join, plumbing between layers, or something small that goes with one."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.nodes import Node
from onnxprune.ops import rule_for

__all__ = [
    "ACTIVATIONS",
    "ATTENTION",
    "CHANNEL_NORMS",
    "EMBEDDING",
    "JOINS",
    "NORMS",
    "PLUMBING",
    "RECURRENT",
    "SOFTMAX",
    "class_of",
    "is_layer",
]

PLUMBING = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Cast CastLike Expand Dropout Shape Size Slice Split Gather "
    "GatherND Tile QuantizeLinear DequantizeLinear DynamicQuantizeLinear Optional OptionalGetElement StopGradient "
    "RemovePadding RestorePadding".split()
)
RECURRENT = frozenset("LSTM GRU RNN DynamicQuantizeLSTM".split())
ATTENTION = frozenset(
    "Attention QAttention MultiHeadAttention GroupQueryAttention DecoderAttention DecoderMaskedMultiHeadAttention "
    "DecoderMaskedSelfAttention PackedAttention PackedMultiHeadAttention PagedAttention SparseAttention "
    "LongformerAttention QOrderedAttention".split()
)
EMBEDDING = frozenset("EmbedLayerNormalization QEmbedLayerNormalization GatherBlockQuantized".split())
CHANNEL_NORMS = frozenset("BatchNormalization InstanceNormalization GroupNormalization GroupNorm LRN".split())
NORMS = frozenset(
    "LayerNormalization SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization "
    "RMSNormalization LpNormalization MeanVarianceNormalization QOrderedLayerNormalization Normalizer".split()
)
POOLS = frozenset("MaxPool AveragePool LpPool QLinearAveragePool".split())
GLOBAL_POOLS = frozenset("GlobalAveragePool GlobalMaxPool GlobalLpPool QLinearGlobalAveragePool".split())
REDUCTIONS = frozenset(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare".split()
)
SOFTMAX = frozenset("Softmax LogSoftmax Hardmax QLinearSoftmax".split())
ACTIVATIONS = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Gelu FastGelu QuickGelu BiasGelu Mish "
    "Softplus Softsign Swish ThresholdedRelu Clip Erf QLinearSigmoid QLinearLeakyRelu BiasAdd BiasSplitGelu "
    "Shrink".split()
)
JOINS = {
    "Add": "+", "QLinearAdd": "+", "Sum": "+", "Sub": "−", "Mul": "×", "QLinearMul": "×", "Div": "÷", "Concat": "∥",
    "QLinearConcat": "∥", "Max": "max", "Min": "min", "Mean": "mean", "Pow": "^", "And": "∧", "Or": "∨", "Xor": "⊻",
    "FeatureVectorizer": "∥", "Where": "?",
}  # fmt: skip
RESIZE = frozenset("Resize Upsample DepthToSpace SpaceToDepth GridSample Col2Im".split())
ELEMENTWISE = frozenset(
    "Abs Neg Sqrt Exp Log Reciprocal Sin Cos Tan Floor Ceil Round Sign Not Equal Greater GreaterOrEqual Less "
    "LessOrEqual Where And Or Xor Mod IsNaN IsInf Pad Trilu CumSum Max Min Sub Add Mul Div Pow Sum Mean Concat "
    "QLinearAdd QLinearMul QLinearConcat RotaryEmbedding".split()
)


def is_layer(node: Node, looks_up: bool) -> bool:
    """Whether a node is a layer of its own: it multiplies, remembers, has a body, or is not known.

    ``looks_up``: it reads rows of a table of the model (an embedding).
    """
    rule = rule_for(node.domain, node.op)
    if rule is None or node.bodies or node.op in RECURRENT | ATTENTION | EMBEDDING:
        return True
    return rule.macs is not None or looks_up or node.op in ("MoE", "QMoE", "MatMulBnb4", "TreeEnsemble")


def class_of(nodes: Sequence[Node]) -> str:
    """What a piece of small nodes does; of several, the one that says most.

    ``plumbing``, ``softmax``, ``channel norm``, ``norm``, ``pool``, ``global pool``, ``resize``, ``activation``,
    ``other``.
    """
    ops = {node.op for node in nodes}
    if ops <= PLUMBING:
        return "plumbing"
    for words, name in (
        (CHANNEL_NORMS, "channel norm"), (NORMS, "norm"), (POOLS, "pool"), (GLOBAL_POOLS, "global pool"),
        (RESIZE, "resize"), (SOFTMAX, "softmax"),
    ):  # fmt: skip
        if ops & words:
            return name
    if ops & REDUCTIONS:
        return "norm" if ops & {"Sqrt", "Pow", "Div", "Reciprocal"} else "global pool"
    return "activation" if ops <= ACTIVATIONS | ELEMENTWISE | PLUMBING else "other"
