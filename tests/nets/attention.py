"""Other attentions: cross, Einsum, linear (elu + 1), single-head, scaled_dot_product_attention; Swin's windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.nets._attention import Attention, merge_heads, split_heads
from tests.nets._spec import Input, NetSpec, image

__all__ = ["NETS"]


class CrossAttention(nn.Module):
    """Queries of one input attend to another one of other width and length."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 16), nn.Linear(5, 20)
        self.norm, self.attention = nn.LayerNorm(16), Attention(16, 4, inner=24, memory_width=20)
        self.out = nn.Sequential(nn.Linear(16, 22), nn.ReLU(), nn.Linear(22, 3))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = self.left(x)
        return self.out(x + self.attention(self.norm(x), torch.relu(self.right(memory))))


class EinsumAttention(nn.Module):
    """All projections and both products are Einsum, heads an axis of the weights."""

    def __init__(self, width: int = 14, heads: int = 3, size: int = 5) -> None:
        super().__init__()
        self.into = nn.Linear(6, width)
        self.q, self.k, self.v = (nn.Parameter(torch.zeros(heads, size, width)) for _ in range(3))
        self.merge = nn.Parameter(torch.zeros(width, heads, size))
        self.out = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        q, k, v = (torch.einsum("btw,hsw->bhts", x, weight) for weight in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bhts,bhus->bhtu", q, k) / q.shape[-1] ** 0.5, -1)
        mixed = torch.einsum("bhtu,bhus->bths", weights, v)
        return self.out(x + torch.einsum("bths,whs->btw", mixed, self.merge))


class LinearAttention(nn.Module):
    """phi(q) (phi(k)ᵀ v) / (phi(q) sum phi(k)) with phi = elu + 1."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(6, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.merge, self.out = nn.Linear(width, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        q, k = (F.elu(split_heads(part(x), self.heads)) + 1 for part in (self.q, self.k))
        v = split_heads(self.v(x), self.heads)
        normal = q @ k.sum(2, keepdim=True).transpose(2, 3)
        return self.out(x + self.merge(merge_heads(q @ (k.transpose(2, 3) @ v) / normal)))


class SdpaAttention(nn.Module):
    """torch's scaled_dot_product_attention with a causal mask."""

    def __init__(self, width: int = 20, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.qkv = nn.Linear(6, width), nn.Linear(width, 3 * width)
        self.merge, self.out = nn.Linear(width, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        q, k, v = (split_heads(y, self.heads) for y in self.qkv(x).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x + self.merge(merge_heads(mixed)))


class WindowAttention(nn.Module):
    """Attention inside windows of a map that may be rolled first, with a relative position bias per head."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        delta = place[:, :, None] - place[:, None] + window - 1
        self.register_buffer("index", (delta[0] * (2 * window - 1) + delta[1]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, channels = x.shape
        window, tokens = self.window, self.window**2
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.reshape(-1, height // window, window, width // window, window, channels)
        x = x.transpose(2, 3).reshape(-1, tokens, channels)
        q, k, v = self.qkv(x).reshape(-1, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index].reshape(tokens, tokens, self.heads).permute(2, 0, 1)
        weights = torch.softmax(q @ k.transpose(2, 3) * (channels // self.heads) ** -0.5 + bias, -1)
        x = self.out((weights @ v).transpose(1, 2).reshape(-1, tokens, channels))
        x = x.reshape(-1, height // window, width // window, window, window, channels).transpose(2, 3)
        x = x.reshape(-1, height, width, channels)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP on a channels-last map."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window, shift)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Four neighbours become one token of four times, then twice, the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(torch.cat(corners, -1)))


class Swin(nn.Module):
    """Two stages of windows, plain and shifted."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 2, 2)
        self.blocks = nn.Sequential(
            SwinBlock(width, 3, 4, 0), SwinBlock(width, 3, 4, 2), PatchMerging(width), SwinBlock(2 * width, 6, 4, 0)
        )
        self.norm, self.out = nn.LayerNorm(2 * width), nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.patches(x).permute(0, 2, 3, 1))
        return self.out(self.norm(x).mean((1, 2)))


_SEQUENCE = (Input("x", ("batch", 7, 6)),)

NETS = (
    NetSpec("attention_cross", CrossAttention, (*_SEQUENCE, Input("memory", ("batch", 9, 5)))),
    NetSpec("attention_einsum", EinsumAttention, _SEQUENCE),
    NetSpec("attention_linear", LinearAttention, _SEQUENCE, notes="zeroing the keys would give 0/0"),
    NetSpec("attention_sdpa", SdpaAttention, _SEQUENCE),
    NetSpec("swin", Swin, (image(3, 16, 16),)),
)
