"""Full-size standard encoders: ViT-tiny, BERT-base, and a small BERT of the same shape."""

from __future__ import annotations

from torch import nn

from tests.nets._spec import NetSpec, image
from tests.nets.encoder import Bert, VisionTransformer, bert_inputs

__all__ = ["NETS"]


def _vit_tiny() -> nn.Module:
    return VisionTransformer(224, 16, 192, 3, 12, 1000)


def _bert_base() -> nn.Module:
    return Bert(30522, 768, 12, 3072, 12, 512)


def _bert_small() -> nn.Module:
    return Bert(2000, 256, 4, 1024, 4, 128)


NETS = (
    NetSpec("vit_tiny", _vit_tiny, (image(3, 224, 224),), slow=True),
    NetSpec("bert_base", _bert_base, bert_inputs(30522, 32), slow=True, notes="109 million parameters, 440 MB"),
    NetSpec("bert_small", _bert_small, bert_inputs(2000, 24), slow=True),
)
