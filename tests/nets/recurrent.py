"""Recurrent nets: a bidirectional LSTM of two layers, a stacked GRU, a tanh RNN; initial states zero or computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nets._spec import Input, NetSpec, ids

__all__ = ["NETS"]


class LstmClassifier(nn.Module):
    """Token embeddings, a bidirectional LSTM of two layers, the mean over time, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 12)
        self.lstm = nn.LSTM(12, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embed(tokens))
        return self.out(hidden.mean(1))


class GruStack(nn.Module):
    """Three GRU layers; the last hidden state of the last one is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 11, num_layers=3, batch_first=True)
        self.out = nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.gru(x)
        return self.out(last[-1])


class TanhRnn(nn.Module):
    """A plain RNN between two linear layers, one answer per time step."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(5, 9)
        self.rnn = nn.RNN(9, 12, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.rnn(torch.relu(self.into(x)))
        return self.out(hidden)


class BiGru(nn.Module):
    """A bidirectional GRU whose initial state is computed from the first time step."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(6, 2 * 8)
        self.gru = nn.GRU(6, 8, bidirectional=True, batch_first=True)
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        start = torch.tanh(self.start(x[:, 0])).reshape(-1, 2, 8).transpose(0, 1).contiguous()
        hidden, _ = self.gru(x, start)
        return self.out(hidden[:, -1])


class ConvLstm(nn.Module):
    """A 1-D convolution in front of an LSTM, as in acoustic models; last cell state appended."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(7, 14, 3, padding=1), nn.BatchNorm1d(14), nn.ReLU())
        self.lstm = nn.LSTM(14, 10, batch_first=True)
        self.out = nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        hidden, (_, cell) = self.lstm(self.conv(x).transpose(1, 2))
        return self.out(torch.cat([hidden[:, -1], cell[0]], 1))


NETS = (
    NetSpec("lstm_bidirectional", LstmClassifier, (ids(40, 9),)),
    NetSpec("gru_stacked", GruStack, (Input("x", ("batch", 8, 6)),)),
    NetSpec("rnn_tanh", TanhRnn, (Input("x", ("batch", 8, 5)),)),
    NetSpec("gru_computed_start", BiGru, (Input("x", ("batch", 7, 6)),)),
    NetSpec("conv_lstm", ConvLstm, (Input("x", ("batch", 7, 10)),)),
)
