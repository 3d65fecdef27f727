"""onnxprune on one model: groups, half of each removed by L2 magnitude, the removal proven; and how long it took."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx

from benchmarks.counting import elements
from onnxprune.allocate import Budget, allocate
from onnxprune.cost import cost
from onnxprune.coupling import couple
from onnxprune.criteria import score
from onnxprune.errors import NothingToPrune
from onnxprune.model import Model, from_proto, inline_functions
from onnxprune.proof import prove
from onnxprune.surgery import remove
from onnxprune.values import Coupling, Member, Options

__all__ = ["Row", "fastest_coupling", "measure", "prunable"]

RATIO = 0.5
REPEATS = 3


@dataclass
class Row:
    """What onnxprune made of a model. Shares are of the parameters; ``error`` that of the proof.

    ``result``: "ok", "vacuous" (they agree, but some output says nothing), "nothing" (no unit may go), or what failed;
    with ", inexact" where all groups are inexact, which are then pruned on request. ``kept`` counts parameters as
    `onnxprune.cost` does, ``kept_elements`` as the comparison with other tools does (`benchmarks.counting`).
    ``seconds``: to find the groups.
    """

    parameters: int = 0
    groups: int = 0
    prunable: float = 0.0
    kept: float | None = None
    kept_elements: float | None = None
    error: float | None = None
    vacuous: bool = False
    seconds: float = 0.0
    unknown: str = ""
    result: str = ""
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(proto: onnx.ModelProto, *, ratio: float = RATIO) -> Row:
    """Everything about one model. It does not raise: what fails is the row's ``result``."""
    row = Row()
    try:
        model = inline_functions(from_proto(proto))
        row.seconds, coupling = fastest_coupling(model)
        if coupling.groups:
            _fill(row, proto, model, coupling, ratio)
            return row
        inexact = couple(model, Options(include_inexact=True))
        _fill(row, proto, model, inexact if inexact.groups else coupling, ratio)
        row.result += ", inexact"
    except NothingToPrune:
        row.result, row.kept, row.kept_elements = "nothing", 1.0, 1.0
    except Exception as error:  # noqa: BLE001  (a failure is a row of the table)
        row.result, row.detail = f"FAIL {type(error).__name__}", str(error).replace("\n", " ")[:300]
    return row


def _fill(row: Row, proto: onnx.ModelProto, model: Model, coupling: Coupling, ratio: float) -> None:
    row.parameters = cost(model, coupling.graph, count_nonzero=False).parameters
    row.groups = len(coupling.groups)
    row.unknown = ", ".join(f"{op} x{n}" for op, n in coupling.unknown_ops.items())
    row.prunable = prunable(coupling, row.parameters)
    plan, reached = allocate(coupling, score(model, coupling, "l2"), Budget(ratio=ratio, round_to=1))
    row.kept = reached.params
    removed = remove(model, coupling, plan)
    row.kept_elements = elements(removed.to_proto()) / max(elements(proto), 1)
    proof = prove(model, coupling, plan, removed)
    row.error, row.vacuous = proof.error, proof.vacuous
    row.result = "FAIL proof" if not proof.ok else "vacuous" if proof.vacuous else "ok"
    row.detail = "; ".join((proof.reason, *proof.notes)).strip("; ")[:300]


def fastest_coupling(model: Model, repeats: int = REPEATS) -> tuple[float, Coupling]:
    """Seconds of the fastest of a few analyses of a loaded model (a single one if it is slow), and the groups."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        coupling = couple(model)
        best = min(best, time.perf_counter() - start)
        if best > 1:
            break
    return best, coupling


def prunable(coupling: Coupling, parameters: int) -> float:
    """Share of the parameters that lie in some group: those that go if all of its units went."""
    graph = coupling.graph
    members: dict[str, dict[int, list[Member]]] = defaultdict(lambda: defaultdict(list))
    for group in coupling.groups:
        for member in group.weights:
            if member.linear:
                members[member.tensor][member.axis].append(member)
    count = 0.0
    for tensor, axes in members.items():
        shape = graph.weights[tensor].shape
        left = [1 - sum(m.index.size for m in ms) / (shape[a] * ms[0].blocks) for a, ms in axes.items()]
        count += np.prod(shape, dtype=np.float64) * (1 - np.prod(np.maximum(left, 0)))
    return float(min(count / max(parameters, 1), 1.0))
