"""Norms folded into convolutions leave every tensor behind them as it was."""

from __future__ import annotations

import numpy as np
from onnx import helper

from onnxprune.criteria.gradient_folding import without_batch_norm
from onnxprune.model import Model
from onnxprune.runtime import session
from tests.criteria.gradients_torch import cnn, exported

IMAGE = (3, 8, 8)
X = np.random.default_rng(0).standard_normal((4, *IMAGE)).astype(np.float32)


def norms(model: Model) -> list[str]:
    """Names of what goes into the norms."""
    return [node.input[0] for node in model.proto.graph.node if node.op_type == "BatchNormalization"]


def test_outputs_and_inner_tensors_stay() -> None:
    model, _ = exported(cnn(), *IMAGE)
    folded = without_batch_norm(model)
    assert len(norms(model)) == 2
    assert not norms(folded)
    names = [node.output[0] for node in model.proto.graph.node if node.output[0] not in norms(model)]
    before, after = (session(m, outputs=names).run({"x": X}) for m in (model, folded))
    for name in names:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-5)


def test_what_is_wanted_itself_is_kept() -> None:
    model, _ = exported(cnn(), *IMAGE)
    first, second = norms(model)
    assert norms(without_batch_norm(model, {first})) == [first]
    assert without_batch_norm(model, {first, second}) is model


def test_statistics_read_through_identity() -> None:
    model, _ = exported(cnn(), *IMAGE)
    editor = model.edit()
    node = next(n for n in editor.proto.graph.node if n.op_type == "BatchNormalization")
    editor.proto.graph.node.insert(0, helper.make_node("Identity", [node.input[1]], ["scale_again"]))
    node = next(n for n in editor.proto.graph.node if n.op_type == "BatchNormalization")
    node.input[1] = "scale_again"
    shared = editor.build()
    folded = without_batch_norm(shared)
    assert not norms(folded)
    before, after = (session(m).run({"x": X})["y"] for m in (model, folded))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_a_convolution_that_others_read_is_left() -> None:
    model, _ = exported(cnn(), *IMAGE)
    first = norms(model)[0]
    editor = model.edit()
    editor.proto.graph.output.append(helper.make_tensor_value_info(first, 1, None))
    assert norms(without_batch_norm(editor.build())) == [first]
