"""Gradients of an ONNX model as another ONNX model, made of rules for each operator and run by plain onnxruntime.

::

    tape = open_tape(model)
    output = tape.tensor("logits")
    gradients = backward(tape, {"logits": tape.op(...)}, ["conv1.weight"])
    built = build(tape, gradients.values())
"""

from onnxprune.autodiff.building import build, declared_input, open_tape
from onnxprune.autodiff.reverse import backward, differentiable

__all__ = ["backward", "build", "declared_input", "differentiable", "open_tape"]
