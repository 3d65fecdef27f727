"""Gradients of LSTM, GRU and RNN with the attributes that torch does not have, and of every output."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.model import Model, from_proto
from tests.ops.cases import Case, Net
from tests.ops.recurrent_kernels import RECURRENT
from tests.ops.test_recurrent import CELLS, batchwise, case, computed, learned, model, sequence

__all__ = ["GRADIENT_CASES"]


def only_finals(net: Net, outputs: Sequence[str], directions: int) -> str:
    """Last states only; nothing reads the sequence."""
    parts = [net.op("Transpose", o, perm=[1, 0, 2]) for o in outputs[1:]]
    parts = [net.op("Reshape", p, net.const([0, directions * CELLS])) for p in parts]
    return net.op("Sum", *parts)


def everything(net: Net, outputs: Sequence[str], directions: int) -> str:
    """All outputs."""
    return net.op("Add", sequence(net, outputs, directions), only_finals(net, outputs, directions))


def without_sequence(op: str) -> Case:
    """The node has no output for the hidden states of all steps."""

    def build() -> Model:
        made = model(op, 2, tail=only_finals).to_proto()
        next(n for n in made.graph.node if n.op_type == op).output[0] = ""
        return from_proto(made)

    return Case(build)


def named(op: str, *names: str, alpha: Sequence[float] = (), beta: Sequence[float] = (), **more: object) -> Case:
    """Activations by name, the last states among what is read."""
    given = {f"activation_{key}": list(values) for key, values in (("alpha", alpha), ("beta", beta)) if values}
    return case(op, activations=list(names), tail=everything, **given, **more)


def all_in(op: str) -> list[Case]:
    """What is rare, all at once."""
    return [
        case(op, 2, tail=everything, state=learned),
        case(op, reverse=True, tail=everything, lengths=True, state=computed),
        case(op, 2, tail=everything, lengths=True, state=learned, clip=1.5),
        case(op, tail=only_finals),
        without_sequence(op),
        Case(lambda: batchwise(op), kernels=RECURRENT),
    ]


SMOOTH = (
    "Sigmoid",
    "Tanh",
    "Softsign",
    "Elu",
    "HardSigmoid",
    "ScaledTanh",
    "Affine",
)  # Softplus grows without end in an RNN
GRADIENT_CASES = {
    ("", "LSTM"): [
        *all_in("LSTM"),
        case("LSTM", 2, state=learned, cell=learned, peepholes=True, lengths=True, tail=everything, clip=2.0),
        case("LSTM", reverse=True, state=learned, cell=learned, peepholes=True, tail=everything),
        case("LSTM", state=learned, cell=learned, peepholes=True, input_forget=1, tail=everything),
        case("LSTM", 2, input_forget=1, tail=everything),
        named("LSTM", "HardSigmoid", "Affine", "ScaledTanh", alpha=[0.3, 0.5, 0.9], beta=[0.4, 0.1, 0.7]),
        named("LSTM", "Sigmoid", "Softplus", "Elu", alpha=[0.7]),
        named("LSTM", "Sigmoid", "ThresholdedRelu", "LeakyRelu", alpha=[0.2, 0.1]),
    ],
    ("", "GRU"): [
        *all_in("GRU"),
        case("GRU", 2, tail=everything, linear_before_reset=1, state=learned, lengths=True, clip=1.5),
        case("GRU", tail=everything, linear_before_reset=1, bias=False, reverse=True),
        named("GRU", "HardSigmoid", "Softsign", linear_before_reset=1),
        named("GRU", "Sigmoid", "ScaledTanh", alpha=[0.8], beta=[1.3]),
    ],
    ("", "RNN"): [*all_in("RNN"), *(named("RNN", name, alpha=[0.3], beta=[0.4]) for name in (*SMOOTH, "LeakyRelu"))],
}
