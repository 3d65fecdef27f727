"""Graphs made with ``onnx.helper``: what no torch exporter writes.

``HANDMADE[name]`` has ``build() -> onnx.ModelProto``, ``feeds(seed, batch=...)`` and ``runs``.
"""

from __future__ import annotations

from tests.nets.handmade import contrib, control_flow, convolution, indexing, norms, quantized, reductions, storage
from tests.nets.handmade._build import Build, Handmade, merged
from tests.nets.handmade.reductions import ACTIVATIONS, REDUCTIONS, reduce_net
from tests.nets.handmade.storage import save_external

__all__ = ["ACTIVATIONS", "HANDMADE", "REDUCTIONS", "Build", "Handmade", "reduce_net", "save_external"]

HANDMADE: dict[str, Handmade] = merged(
    control_flow.MODELS, quantized.MODELS, contrib.MODELS, norms.MODELS, indexing.MODELS, storage.MODELS,
    convolution.MODELS, reductions.MODELS,
)  # fmt: skip
