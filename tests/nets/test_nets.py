from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from tests.nets import NETS, export
from tests.nets.__main__ import LIMIT, compare, run
from tests.nets.handmade import HANDMADE
from tests.nets.optimized import optimized

SMALL = [(spec.name, exporter) for spec in NETS.values() if not spec.slow for exporter in spec.exporters]


@pytest.mark.parametrize(("name", "exporter"), SMALL)
def test_export_agrees_with_torch_and_varies(name: str, exporter: str) -> None:
    worst, spread, _ = compare(NETS[name], exporter)
    assert worst <= LIMIT
    assert spread > 0.01


@pytest.mark.parametrize("name", [name for name, model in HANDMADE.items() if model.runs])
def test_handmade_model_is_valid_and_varies(name: str) -> None:
    model = HANDMADE[name]
    proto = model.build()
    assert proto.ir_version <= 11
    if not name.startswith("contrib"):
        onnx.checker.check_model(proto)
    for seed, batch in ((1, 2), (2, 5)):
        for value in run(proto, model.feeds(seed, batch=batch)):
            assert np.isfinite(value).all()
            assert np.ptp(value, axis=0).max() > 0.005 * np.abs(value).max()


@pytest.mark.parametrize("name", ["plain_cnn", "densenet", "encoder_bert", "decoder_llama"])
def test_nothing_is_zero_or_one_or_shared_by_accident(name: str) -> None:
    seen = set()
    for value in NETS[name].build().parameters():
        assert not torch.isin(value, torch.tensor([0.0, 1.0])).all()
        seen.add(value.flatten()[:4].numpy().tobytes())
    assert len(seen) == len(list(NETS[name].build().parameters()))


def test_batchnorm_is_kept_on_request() -> None:
    folded, kept = export("resnet_basic"), export("resnet_basic", keep_batchnorm=True)
    assert not any(n.op_type == "BatchNormalization" for n in folded.graph.node)
    assert sum(n.op_type == "BatchNormalization" for n in kept.graph.node) == 8


def test_optimized_export_has_fused_operators() -> None:
    proto = optimized(export("encoder_bert"))
    assert "com.microsoft" in {node.domain for node in proto.graph.node}
