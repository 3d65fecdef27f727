"""ai.onnx.ml: what stands around a scikit-learn network.

Features are the last axis. Parameters are attributes here, not constants: surgery cuts them, but nothing can zero
them, so a linear model is exact only where what it reads is 0 by itself. Trees, support vectors and class names
address features by number: those stay.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.contrib import stays
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.elementwise import couple_first_input
from onnxprune.ops.ml_gradients import (
    expand_extractor,
    expand_imputer,
    expand_linear_classifier,
    expand_linear_regressor,
    expand_ml_normalizer,
    expand_scaler,
    expand_vectorizer,
)
from onnxprune.ops.rule import Role, Rule, Shapes, Zeros, zero_by_inputs, zero_keeps, zero_lost
from onnxprune.ops.ties import Ties

ML = "ai.onnx.ml"


def couple_ml_normalizer(node: Node, t: Ties) -> None:
    """x / norm over the features: L1 and L2 do not see zeros, the maximum does."""
    couple_first_input(node, t)
    last = t.rank(node.input(0)) - 1
    if node.attrs.get("norm", "MAX") == "MAX":
        t.renormalises(node.input(0), last, "the maximum")
    else:
        t.contracts(t.el(node.input(0), last))


def couple_extractor(node: Node, t: Ties) -> None:
    """y = x at constant positions of the last axis."""
    x, y = node.input(0), node.output(0)
    positions, last = t.graph.value(node.input(1)), t.rank(x) - 1
    t.tie_like(x, y, [(a, a) for a in range(last)], 0)
    if positions is None:
        t.freeze(x, last, f"{node} picks from it by an index")
        t.freeze_all(y, f"{node} picks it by an index")
        t.freeze_all(node.input(1), f"{node} reads positions from it")
        return
    t.tie_ids(t.el(x, last)[positions.reshape(-1).astype(np.int64)], t.el(y, t.rank(y) - 1), 0)


def cut_extractor(node: Node, c: Cutter) -> None:
    """Positions become those of the survivors."""
    x, y = node.inputs[0], node.outputs[0]
    last = len(c.old_shape(x)) - 1
    positions = c.graph.value(node.inputs[1])
    if positions is None or not c.changed(x, last):
        return
    new = np.full(c.old_shape(x)[last], -1, np.int64)
    new[c.keep(x, last)] = np.arange(c.size(x, last))
    kept = positions.reshape(-1)[c.keep(y, len(c.old_shape(y)) - 1)].astype(np.int64)
    c.want(node, 1, new[kept].reshape(-1) if positions.ndim < 2 else new[kept].reshape(1, -1))


def couple_feature_vectorizer(node: Node, t: Ties) -> None:
    """All inputs side by side."""
    y = node.output(0)
    joined, offset = t.el(y, t.rank(y) - 1), 0
    sizes = node.attrs.get("inputdimensions", ())
    if list(sizes) != [t.sizes(x)[-1] for x in node.inputs]:
        t.freeze_node(node, f"{node} takes other sizes than its inputs have")
        return
    for k, (x, size) in enumerate(zip(node.inputs, sizes, strict=True)):
        if t.rank(x) == t.rank(y):
            t.tie_like(x, y, [(a, a) for a in range(t.rank(x) - 1)], k)
        t.tie_ids(t.el(x, t.rank(x) - 1), joined[offset : offset + size], k)
        offset += size


def cut_feature_vectorizer(node: Node, c: Cutter) -> None:
    """``inputdimensions`` follow."""
    if c.changed(node.outputs[0]):
        c.set_attr(node, "inputdimensions", [c.new_shape(x)[-1] for x in node.inputs])


def couple_linear_model(node: Node, t: Ties) -> None:
    """y = coefficients x + intercepts, where the coefficients are an attribute."""
    x = node.input(0)
    last = t.rank(x) - 1
    t.contracts(t.el(x, last))
    for y in node.outputs:
        shape = t.shape(y) if y else None
        for axis in range(len(shape or ())):
            if axis == 0 and last:
                t.tie(x, 0, y, 0, 0)
            else:
                t.freeze(y, axis, f"{node} counts classes or targets along it")


def cut_linear_model(node: Node, c: Cutter) -> None:
    """Coefficients are a row per class or target."""
    x = node.inputs[0]
    last = len(c.old_shape(x)) - 1
    if c.changed(x, last):
        rows = np.asarray(node.attrs["coefficients"]).reshape(-1, c.old_shape(x)[last])
        c.set_attr(node, "coefficients", rows[:, c.keep(x, last)].reshape(-1).tolist())


def macs_linear_model(node: Node, shapes: Shapes) -> int:
    """One per coefficient and row."""
    return int(np.prod(shapes[node.input(0)][:-1], dtype=np.int64)) * len(node.attrs["coefficients"])


def cut_per_feature(*names: str) -> Callable[[Node, Cutter], None]:
    """Attributes that hold an entry per feature are cut like it; those with a single entry stay."""

    def cut_attributes(node: Node, c: Cutter) -> None:
        x = node.inputs[0]
        last = len(c.old_shape(x)) - 1
        for name in names:
            values = node.attrs.get(name, ())
            if len(values) == c.old_shape(x)[last] > 1 and c.changed(x, last):
                c.set_attr(node, name, [values[i] for i in c.keep(x, last)])

    return cut_attributes


def zero_scaler(node: Node, z: Zeros) -> None:
    """(x - offset) * scale keeps 0 where there is no offset."""
    (zero_lost if any(node.attrs.get("offset", ())) else zero_keeps)(node, z)


def zero_binarizer(node: Node, z: Zeros) -> None:
    """1 above the threshold."""
    (zero_keeps if node.attrs.get("threshold", 0.0) >= 0 else zero_lost)(node, z)


def zero_imputer(node: Node, z: Zeros) -> None:
    """0 stays, unless it is what is to be replaced (NaN, which is the usual choice, equals nothing)."""
    marks = (node.attrs.get("replaced_value_float", 0.0), node.attrs.get("replaced_value_int64", 0))
    given = [m for m, name in zip(marks, ("float", "int64"), strict=True) if f"replaced_value_{name}" in node.attrs]
    (zero_keeps if given and 0 not in given else zero_lost)(node, z)


D, INDEX = Role.DATA, Role.INDEX
TREES = ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
BY_NUMBER = "it addresses features by their number"
NAMED = "its entries have names"
RULES = (
    Rule(
        "Scaler",
        couple_first_input,
        (D,),
        zero_scaler,
        cut_per_feature("offset", "scale"),
        domain=ML,
        expand=expand_scaler,
    ),
    Rule(
        "Imputer",
        couple_first_input,
        (D,),
        zero_imputer,
        cut_per_feature("imputed_value_floats", "imputed_value_int64s"),
        domain=ML,
        expand=expand_imputer,
    ),
    Rule("Binarizer", couple_first_input, (D,), zero_binarizer, domain=ML, flat=True),
    Rule("LabelEncoder", couple_first_input, (INDEX,), zero_lost, domain=ML, flat=True),
    Rule("CategoryMapper", couple_first_input, (INDEX,), zero_lost, domain=ML, flat=True),
    Rule("Normalizer", couple_ml_normalizer, (D,), zero_keeps, domain=ML, expand=expand_ml_normalizer),
    Rule(
        "ArrayFeatureExtractor",
        couple_extractor,
        (D, INDEX),
        zero_by_inputs(0),
        cut_extractor,
        domain=ML,
        expand=expand_extractor,
    ),
    Rule(
        "FeatureVectorizer",
        couple_feature_vectorizer,
        (D,),
        zero_keeps,
        cut_feature_vectorizer,
        domain=ML,
        expand=expand_vectorizer,
    ),
    *(
        Rule(op, couple_linear_model, (D,), zero_lost, cut_linear_model, macs_linear_model, domain=ML, expand=expand)
        for op, expand in (
            ("LinearClassifier", expand_linear_classifier),
            ("LinearRegressor", expand_linear_regressor),
        )
    ),
    *(
        Rule(op, stays(BY_NUMBER), (D,), zero_lost, domain=ML, flat=op == "OneHotEncoder")
        for op in (*TREES, "SVMClassifier", "SVMRegressor", "OneHotEncoder")
    ),
    *(
        Rule(op, stays(NAMED), (D,), zero_lost, domain=ML, shapeless=True)
        for op in ("ZipMap", "DictVectorizer", "CastMap")
    ),
)
