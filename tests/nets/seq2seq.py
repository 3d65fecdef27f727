"""Sequence to sequence: an LSTM encoder and a GRU decoder that attends to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nets._spec import NetSpec, ids

__all__ = ["NETS"]


class Seq2Seq(nn.Module):
    """The decoder starts from the encoder's last state; dot-product attention; one word score per target step."""

    def __init__(self, words: int = 30, width: int = 12) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, 8), nn.Embedding(words, 10)
        self.encoder = nn.LSTM(8, width, batch_first=True)
        self.bridge = nn.Linear(width, width)
        self.decoder = nn.GRU(10, width, batch_first=True)
        self.mix = nn.Linear(2 * width, 18)
        self.words = nn.Linear(18, words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, (last, _) = self.encoder(self.source(source))
        hidden, _ = self.decoder(self.target(target), torch.tanh(self.bridge(last)))
        weights = torch.softmax(hidden @ memory.transpose(1, 2), -1)
        mixed = torch.tanh(self.mix(torch.cat([hidden, weights @ memory], -1)))
        return self.words(mixed)


NETS = (NetSpec("seq2seq", Seq2Seq, (ids(30, 9, name="source"), ids(30, 6, name="target"))),)
