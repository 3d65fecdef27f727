"""Encoder transformers: pre-norm on tokens, post-norm with a padding mask, torch's own layer, one that reads images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nets._attention import EncoderBlock
from tests.nets._spec import Input, NetSpec, ids, image

__all__ = ["NETS", "Bert", "VisionTransformer"]


class PreNormEncoder(nn.Module):
    """Token and learned position embeddings, two pre-norm blocks, mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 24), nn.Parameter(torch.zeros(1, 9, 24))
        self.blocks = nn.ModuleList([EncoderBlock(24, 4, 40) for _ in range(2)])
        self.norm, self.out = nn.LayerNorm(24), nn.Linear(24, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x).mean(1))


class Bert(nn.Module):
    """BERT: word, position and segment embeddings, post-norm blocks, a padding mask, a pooler on the first token."""

    def __init__(self, words: int, width: int, heads: int, hidden: int, layers: int, positions: int) -> None:
        super().__init__()
        self.words, self.segments = nn.Embedding(words, width), nn.Embedding(2, width)
        self.positions = nn.Embedding(positions, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.blocks = nn.ModuleList([EncoderBlock(width, heads, hidden, pre=False) for _ in range(layers)])
        self.pooler, self.out = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, tokens: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.words(tokens) + self.segments(segments) + self.positions(places))
        bias = (1.0 - mask)[:, None, None, :] * -1e4
        for block in self.blocks:
            x = block(x, bias)
        return self.out(torch.tanh(self.pooler(x[:, 0])))


class TorchLayer(nn.Module):
    """torch.nn.TransformerEncoderLayer: fused in-projection, its own way of splitting heads."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(20, 4, 36, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x))


class VisionTransformer(nn.Module):
    """Patches by a strided convolution, a class token, learned positions, pre-norm blocks."""

    def __init__(self, size: int, patch: int, width: int, heads: int, layers: int, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList([EncoderBlock(width, heads, 4 * width, eps=1e-6) for _ in range(layers)])
        self.norm, self.out = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x)[:, 0])


def _bert() -> nn.Module:
    return Bert(60, 32, 4, 48, 2, 12)


def _vit() -> nn.Module:
    return VisionTransformer(16, 4, 24, 3, 2)


def bert_inputs(words: int, time: int) -> tuple[Input, ...]:
    """Token ids, segment ids and a padding mask."""
    return ids(words, time), ids(2, time, name="segments"), Input("mask", ("batch", time), "mask")


NETS = (
    NetSpec("encoder_prenorm", PreNormEncoder, (ids(50, 9),)),
    NetSpec("encoder_bert", _bert, bert_inputs(60, 10)),
    NetSpec("encoder_torch_layer", TorchLayer, (Input("x", ("batch", 7, 20)),)),
    NetSpec("vit", _vit, (image(3, 16, 16),)),
)
