"""Multi-head attention, written out, and norms that the transformer families share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Attention", "EncoderBlock", "RMSNorm", "merge_heads", "split_heads"]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    batch, time, width = x.shape
    return x.reshape(batch, time, heads, width // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    batch, heads, time, size = x.shape
    return x.transpose(1, 2).reshape(batch, time, heads * size)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) * weight, in primitive operators."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Separate q, k, v projections; keys and values come from ``memory`` when it is given."""

    def __init__(self, width: int, heads: int, inner: int | None = None, memory_width: int | None = None) -> None:
        super().__init__()
        inner, source = inner or width, memory_width or width
        self.heads, self.scale = heads, (inner // heads) ** -0.5
        self.q, self.k, self.v = nn.Linear(width, inner), nn.Linear(source, inner), nn.Linear(source, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        source = x if memory is None else memory
        q, k, v = (split_heads(y, self.heads) for y in (self.q(x), self.k(source), self.v(source)))
        scores = q @ k.transpose(-1, -2) * self.scale
        if mask is not None:
            scores = scores + mask
        return self.out(merge_heads(torch.softmax(scores, -1) @ v))


class EncoderBlock(nn.Module):
    """Attention and a two-layer MLP, each with a residual; the norms in front (pre) or behind (post)."""

    def __init__(self, width: int, heads: int, hidden: int, *, pre: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.pre = pre
        self.attention = Attention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.pre:
            x = x + self.attention(self.norm1(x), mask=mask)
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x, mask=mask))
        return self.norm2(x + self.mlp(x))
