"""Test nets, hand-written in torch and exported by both of its exporters, and graphs made by hand.

``NETS[name]`` is a ``NetSpec``; ``export(name, exporter)`` gives its ONNX model, cached between runs.
``python -m tests.nets`` exports all of them and compares onnxruntime with torch.
"""

from __future__ import annotations

import onnx

from tests.nets import (
    attention,
    concat,
    decoder,
    encoder,
    gates,
    mobile,
    norms,
    plain,
    recurrent,
    residual,
    seq2seq,
    shuffle,
    standard_cnn,
    standard_transformer,
    upsample,
)
from tests.nets._export import cache_folder, export_spec
from tests.nets._spec import Input, NetSpec

__all__ = ["EXPORTERS", "NETS", "Input", "NetSpec", "cache_folder", "export"]

EXPORTERS = ("torchscript", "dynamo")
_FAMILIES = (
    plain, residual, concat, mobile, shuffle, upsample, norms, gates, recurrent, seq2seq, encoder, decoder, attention,
    standard_cnn, standard_transformer,
)  # fmt: skip

NETS: dict[str, NetSpec] = {spec.name: spec for family in _FAMILIES for spec in family.NETS}


def export(
    name: str, exporter: str = "torchscript", opset: int = 18, *, keep_batchnorm: bool = False
) -> onnx.ModelProto:
    """The ONNX model of net ``name``; a ValueError where that exporter cannot do it."""
    return export_spec(NETS[name], exporter, opset, keep_batchnorm=keep_batchnorm)
