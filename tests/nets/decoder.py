"""Decoder transformers: LLaMA-like (grouped-query attention, rotary embeddings), GPT-2-like (fused qkv), tied words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nets._attention import RMSNorm, merge_heads, split_heads
from tests.nets._spec import Input, NetSpec, ids

__all__ = ["NETS"]


def _causal(time: int) -> Tensor:
    """(time, time): 0 where a step may look, a large negative number where not."""
    return torch.full((time, time), -1e9).triu(1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, halves rotated."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return x * cos + torch.cat([-second, first], -1) * sin


class GroupedQueryAttention(nn.Module):
    """More query heads than key/value heads; each key/value head serves a run of query heads."""

    def __init__(self, width: int, heads: int, shared: int, size: int) -> None:
        super().__init__()
        self.heads, self.shared, self.size = heads, shared, size
        self.q = nn.Linear(width, heads * size, bias=False)
        self.k, self.v = nn.Linear(width, shared * size, bias=False), nn.Linear(width, shared * size, bias=False)
        self.out = nn.Linear(heads * size, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        q = _rotate(split_heads(self.q(x), self.heads), cos, sin)
        k = _rotate(split_heads(self.k(x), self.shared), cos, sin)
        k, v = self._repeat(k), self._repeat(split_heads(self.v(x), self.shared))
        weights = torch.softmax(q @ k.transpose(2, 3) / self.size**0.5 + mask, -1)
        return self.out(merge_heads(weights @ v))

    def _repeat(self, x: Tensor) -> Tensor:
        batch, shared, time, size = x.shape
        times = self.heads // self.shared
        x = x[:, :, None].expand(batch, shared, times, time, size)
        return x.reshape(batch, shared * times, time, size)


class LlamaBlock(nn.Module):
    """RMSNorm, attention, RMSNorm, SwiGLU."""

    def __init__(self, width: int, heads: int, shared: int, size: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attention = GroupedQueryAttention(width, heads, shared, size)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), cos, sin, mask)
        y = self.norm2(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Two blocks; the rotary tables are buffers."""

    def __init__(self, words: int = 48, width: int = 24, size: int = 6, time: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.blocks = nn.ModuleList([LlamaBlock(width, 4, 2, size, 36) for _ in range(2)])
        self.norm, self.words = RMSNorm(width), nn.Linear(width, words, bias=False)
        angles = torch.outer(torch.arange(time), 100.0 ** (-torch.arange(0, size, 2) / size)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        self.register_buffer("mask", _causal(time))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin, self.mask)
        return self.words(self.norm(x))


class GptBlock(nn.Module):
    """One projection makes q, k and v; it is split afterwards."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (split_heads(y, self.heads) for y in self.qkv(self.norm1(x)).chunk(3, -1))
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + mask
        x = x + self.out(merge_heads(torch.softmax(scores, -1) @ v))
        return x + self.mlp(self.norm2(x))


class Gpt2(nn.Module):
    """Token and position embeddings, two blocks; the output layer is its own, or the token table again.

    Tied, the output layer works on (batch * time, width): it becomes a Gemm that reads the table itself; as a MatMul
    the exporters would give it a transposed copy.
    """

    def __init__(self, *, tied: bool, words: int = 44, width: int = 20, time: int = 8) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(words, width), nn.Embedding(time, width)
        self.blocks = nn.ModuleList([GptBlock(width, 4) for _ in range(2)])
        self.norm, self.words = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        if tied:
            self.words.weight = self.embed.weight
        self.register_buffer("mask", _causal(time))
        self.register_buffer("places", torch.arange(time))
        self.tied = tied

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.positions(self.places)
        for block in self.blocks:
            x = block(x, self.mask)
        x = self.norm(x)
        return self.words(x.flatten(0, 1) if self.tied else x)


class FusedQkv(nn.Module):
    """One projection reshaped to (3, heads, size) and indexed, as timm's transformers do."""

    def __init__(self, width: int = 18, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.qkv = nn.Linear(7, width), nn.Linear(width, 3 * width)
        self.out, self.last = nn.Linear(width, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        batch, time, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, -1)
        return self.last(x + self.out(merge_heads(weights @ v)))


def _gpt2() -> nn.Module:
    return Gpt2(tied=False)


def _tied() -> nn.Module:
    return Gpt2(tied=True)


NETS = (
    NetSpec("decoder_llama", Llama, (ids(48, 8),)),
    NetSpec("decoder_gpt2", _gpt2, (ids(44, 8),)),
    NetSpec("decoder_tied", _tied, (ids(44, 8),), notes="the token table is the output layer too"),
    NetSpec("fused_qkv", FusedQkv, (Input("x", ("batch", 6, 7)),)),
)
