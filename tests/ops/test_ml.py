"""ai.onnx.ml operators around a network: parameters that are attributes, features by number, classes by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune import surgery
from onnxprune.coupling import couple
from onnxprune.model import Model
from onnxprune.ops.ml import ML
from tests.ops.cases import HIDDEN, OUT, Case, Middle, Net, flat
from tests.plans import half

I64 = np.int64


def ml(net: Net, op: str, *inputs: str, **attrs: object) -> str:
    return net.op(op, *inputs, domain=ML, **attrs)


def sixteenths(net: Net, count: int) -> list[float]:
    return net.numbers(count).tolist()


def with_sum(middle: Middle) -> Middle:
    """What the operator makes of relu(h), plus the sum over it."""

    def whole(net: Net, h: str) -> str:
        y = middle(net, net.op("Relu", h))
        return net.op("Add", y, net.op("ReduceSum", y, net.const([1])))

    return whole


def scaled(count: int, *, offset: bool = True) -> Middle:
    """(x - offset) * scale, with a parameter per feature or one for all."""

    def middle(net: Net, h: str) -> str:
        shift = sixteenths(net, count) if offset else [0.0] * count
        return ml(net, "Scaler", h, offset=shift, scale=sixteenths(net, count))

    return middle


def imputed(count: int, mark: float = 7.0) -> Middle:
    return lambda net, h: ml(net, "Imputer", h, imputed_value_floats=sixteenths(net, count), replaced_value_float=mark)


def binarized(threshold: float) -> Middle:
    return lambda net, h: ml(net, "Binarizer", h, threshold=threshold)


def labelled(net: Net, h: str) -> str:
    """Rounded values looked up in a table."""
    keys = [-1.0, 0.0, 1.0]
    return net.op("Add", h, ml(net, "LabelEncoder", net.op("Sign", h), keys_floats=keys, values_floats=[3.0, 5.0, 2.0]))


def normalized(norm: str) -> Middle:
    """What was 0 before is 0 afterwards, and adds nothing to the norm."""
    return lambda net, h: ml(net, "Normalizer", net.op("Relu", h), norm=norm)


def shifted(norm: str) -> Middle:
    """Removed features are 0.5 here, and add to the norm."""
    return lambda net, h: ml(net, "Normalizer", net.op("Sigmoid", h), norm=norm)


def extracted(positions: Sequence[int] | Sequence[Sequence[int]]) -> Middle:
    return lambda net, h: ml(net, "ArrayFeatureExtractor", h, net.const(positions, I64))


def extracted_by_data() -> Case:
    def build() -> Model:
        net = Net()
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        y = ml(net, "ArrayFeatureExtractor", h, net.input((1, 5), np.int64, "where"))
        return net.model(net.gemm(y, 5, OUT))

    return Case(build, units=0, frozen="picks from it by an index")


def joined() -> Case:
    """Three layers side by side."""

    def build() -> Model:
        net = Net()
        x = net.input((3, 6))
        parts = [net.gemm(x, 6, size) for size in (4, 7, 5)]
        y = ml(net, "FeatureVectorizer", *parts, inputdimensions=[4, 7, 5])
        return net.model(net.gemm(y, 16, OUT))

    return Case(build, units=16)


def cropped() -> Case:
    """Sizes that are not those of the inputs."""

    def build() -> Model:
        net = Net()
        x = net.input((3, 6))
        y = ml(net, "FeatureVectorizer", net.gemm(x, 6, 8), net.gemm(x, 6, 8), inputdimensions=[8, 4])
        return net.model(net.gemm(net.hint(y, (3, 12)), 12, OUT))

    return Case(build, units=0, frozen="other sizes", runs=False, differentiable=False)


def linear(op: str, activation: str, **expected: object) -> Case:
    """Behind an activation; the scores of three classes or targets are the outputs."""

    def build() -> Model:
        net = Net()
        h = net.op(activation, net.gemm(net.input((3, 6)), 6, HIDDEN))
        coefficients, intercepts = sixteenths(net, 3 * HIDDEN), sixteenths(net, 3)
        if op == "LinearRegressor":
            return net.model(ml(net, op, h, coefficients=coefficients, intercepts=intercepts, targets=3))
        labels = [4, 5, 6]
        _, scores = net.ops(
            op, h, count=2, domain=ML, coefficients=coefficients, intercepts=intercepts, classlabels_ints=labels
        )
        return net.model(scores)

    return Case(build, **expected)


def behind(op: str, count: int = 1, version: int = 3, **attrs: object) -> Case:
    """Behind a hidden layer, whose channels it addresses by number; the layer before that one is free."""

    def build() -> Model:
        net = Net()
        net.versions[ML] = version
        h = net.gemm(net.op("Relu", net.gemm(net.input((3, 6)), 6, 16)), 16, 2)
        outputs = net.ops(op, h, count=count, domain=ML, **attrs)
        return net.model(net.op("Identity", outputs[-1]), net.gemm(h, 2, OUT))

    return Case(build, units=16, frozen=f"{op} node .* by their number")


def named() -> Case:
    """The end of every scikit-learn classifier: probabilities by class name."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.op("Relu", net.gemm(net.input((3, 6)), 6, 16)), 16, 3)
        ml(net, "ZipMap", net.op("Softmax", h), classlabels_strings=["a", "b", "c"])
        return net.model(h)

    return Case(build, units=16)


def dictionaries(op: str, **attrs: object) -> Case:
    """A dictionary per row; onnxruntime takes them as inputs only, so this runs nowhere."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        y = ml(net, op, ml(net, "ZipMap", h, classlabels_int64s=list(range(HIDDEN))), **attrs)
        return net.model(net.hint(y, (3, 1)))

    return Case(build, units=0, frozen="ZipMap node .* names", runs=False)


def categories() -> Case:
    """Rounded values become words; the network goes on with the values."""

    def build() -> Model:
        net = Net()
        h = net.op("Round", net.gemm(net.input((3, 6)), 6, HIDDEN))
        words = ml(net, "CategoryMapper", net.cast(h, TensorProto.INT64), cats_int64s=[0, 1], cats_strings=["n", "y"])
        ml(net, "LabelEncoder", words, keys_strings=["n", "y"], values_int64s=[0, 1])
        return net.model(net.gemm(h, HIDDEN, OUT))

    return Case(build)


TREE = {
    "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
}  # fmt: skip
LEAVES = {"treeids": [0, 0], "nodeids": [1, 2], "ids": [0, 1], "weights": [0.25, 0.75]}
CLASSES = {f"class_{k}": v for k, v in LEAVES.items()} | {"classlabels_int64s": [0, 1]}
TARGETS = {f"target_{k}": v for k, v in LEAVES.items()} | {"target_ids": [0, 0], "n_targets": 1}
FOREST = {
    "nodes_featureids": [1], "nodes_splits": helper.make_tensor("splits", TensorProto.FLOAT, [1], [0.5]),
    "nodes_modes": helper.make_tensor("modes", TensorProto.UINT8, [1], [0]), "nodes_truenodeids": [0],
    "nodes_trueleafs": [1], "nodes_falsenodeids": [1], "nodes_falseleafs": [1], "leaf_targetids": [0, 0],
    "leaf_weights": helper.make_tensor("weights", TensorProto.FLOAT, [2], [0.25, 0.75]), "tree_roots": [0],
    "n_targets": 1,
}  # fmt: skip
SUPPORT = {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "support_vectors": [0.5, 1.0, -0.5, 0.25]}
CASES = {
    (ML, "Scaler"): [
        flat(scaled(HIDDEN)),
        flat(scaled(1)),
        flat(with_sum(scaled(HIDDEN, offset=False))),
        flat(with_sum(scaled(HIDDEN)), units=0, frozen="not zero"),
    ],
    (ML, "Imputer"): [
        flat(imputed(HIDDEN)),
        flat(imputed(1)),
        flat(with_sum(imputed(HIDDEN))),
        flat(with_sum(imputed(HIDDEN, 0.0)), units=0, frozen="not zero"),
    ],
    (ML, "Binarizer"): [
        flat(binarized(0.0)),
        flat(with_sum(binarized(0.25))),
        flat(with_sum(binarized(-0.25)), units=0, frozen="not zero"),
    ],
    (ML, "LabelEncoder"): [flat(labelled)],
    (ML, "CategoryMapper"): [categories()],
    (ML, "Normalizer"): [
        flat(normalized("L1")),
        flat(normalized("L2")),
        flat(normalized("MAX"), units=0, frozen="the maximum"),
        flat(shifted("L2"), units=0, frozen="not zero"),
    ],
    (ML, "ArrayFeatureExtractor"): [
        flat(extracted([6, 1, 1, 3]), after=4),
        flat(extracted([[2, 0, 5, 7, 6]]), after=5),
        extracted_by_data(),
    ],
    (ML, "FeatureVectorizer"): [joined(), cropped()],
    **{
        (ML, op): [linear(op, "Relu"), linear(op, "Sigmoid", units=0, frozen="not zero")]
        for op in ("LinearClassifier", "LinearRegressor")
    },
    (ML, "SVMRegressor"): [behind("SVMRegressor", coefficients=[0.5, -1.0], rho=[0.25], n_supports=2, **SUPPORT)],
    (ML, "SVMClassifier"): [
        behind(
            "SVMClassifier", 2, coefficients=[0.5, -1.0], rho=[0.25], vectors_per_class=[1, 1],
            classlabels_ints=[0, 1], **SUPPORT,
        )
    ],
    (ML, "TreeEnsembleClassifier"): [behind("TreeEnsembleClassifier", 2, **TREE, **CLASSES)],
    (ML, "TreeEnsembleRegressor"): [behind("TreeEnsembleRegressor", **TREE, **TARGETS)],
    (ML, "TreeEnsemble"): [behind("TreeEnsemble", version=5, **FOREST)],
    (ML, "OneHotEncoder"): [behind("OneHotEncoder", cats_int64s=[0, 1], zeros=1)],
    (ML, "ZipMap"): [named()],
    (ML, "DictVectorizer"): [dictionaries("DictVectorizer", int64_vocabulary=[0, 1])],
    (ML, "CastMap"): [dictionaries("CastMap", cast_to="TO_FLOAT")],
}  # fmt: skip


def classified(transform: str, rows: int, *, both: bool = False) -> Case:
    """Scores of a linear classifier, with the label put out beside them if asked for."""

    def build() -> Model:
        net = Net()
        labels, scores = net.ops(
            "LinearClassifier", net.input(("n", 6)), count=2, domain=ML, coefficients=sixteenths(net, rows * 6),
            intercepts=sixteenths(net, rows), classlabels_ints=list(range(rows)), post_transform=transform,
        )  # fmt: skip
        if both:
            scores = net.op("Add", scores, net.op("Unsqueeze", net.cast(labels), net.const([1], I64)))
        return net.model(scores)

    return Case(build)


def regressed(**attrs: object) -> Case:
    def build() -> Model:
        net = Net()
        return net.model(
            ml(net, "LinearRegressor", net.input(("n", 6)), coefficients=sixteenths(net, 6), targets=1, **attrs)
        )

    return Case(build)


def normed(norm: str) -> Case:
    """Of positive numbers: what onnxruntime does to a negative maximum is its own."""

    def build() -> Model:
        net = Net()
        return net.model(ml(net, "Normalizer", net.op("Softplus", net.input(("n", 6))), norm=norm))

    return Case(build)


GRADIENT_CASES = {
    (ML, "LinearClassifier"): [
        *(classified(transform, 3) for transform in ("NONE", "LOGISTIC", "SOFTMAX")),
        classified("SOFTMAX", 2),
        classified("LOGISTIC", 3, both=True),
    ],
    (ML, "LinearRegressor"): [regressed(), regressed(intercepts=[0.5]), regressed(post_transform="NONE")],
    (ML, "Normalizer"): [normed(norm) for norm in ("L1", "L2", "MAX")],
    (ML, "Imputer"): [flat(imputed(HIDDEN, float("nan")))],
    (ML, "ArrayFeatureExtractor"): [flat(extracted([[3, 3, 0]]), after=3)],
}

WITHOUT = {
    **{(ML, op): "a tree is constant between its thresholds" for op in ("TreeEnsembleClassifier", "TreeEnsemble")},
    (ML, "TreeEnsembleRegressor"): "a tree is constant between its thresholds",
    **{(ML, op): "support vectors are attributes" for op in ("SVMClassifier", "SVMRegressor")},
    **{(ML, op): "it makes or reads a map" for op in ("ZipMap", "DictVectorizer", "CastMap")},
}


@pytest.mark.parametrize(
    ("case", "op", "names", "per_feature"),
    [
        (flat(scaled(HIDDEN)), "Scaler", ("offset", "scale"), 1),
        (flat(imputed(HIDDEN)), "Imputer", ("imputed_value_floats",), 1),
        (linear("LinearRegressor", "Relu"), "LinearRegressor", ("coefficients",), 3),
    ],
)
def test_attributes_follow(case: Case, op: str, names: Sequence[str], per_feature: int) -> None:
    model = case.build()
    coupling = couple(model)
    removed = surgery.remove(model, coupling, half(coupling, 0))
    node = next(n for n in removed.proto.graph.node if n.op_type == op)
    lengths = {a.name: len(a.floats) for a in node.attribute if a.name in names}
    assert lengths == dict.fromkeys(names, per_feature * HIDDEN // 2)
