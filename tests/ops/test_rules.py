"""Every rule, on a model of its own: masked == removed, or frozen with the reason expected.

Parametrised over the registry: a rule without a case fails.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import numpy as np
import pytest
from onnx import TensorProto, helper

import tests.ops
from onnxprune import surgery
from onnxprune.coupling import couple, relate, settle
from onnxprune.cuts import cut_array, cuts_of
from onnxprune.graph import build_graph
from onnxprune.model import Model
from onnxprune.ops import RULES, Role
from onnxprune.ops.quantized import stored_zero
from onnxprune.values import Coupling
from onnxprune.zeros import weight_role, zero_flags
from tests.ops.cases import Case
from tests.oracle import assert_differs, assert_equal, assert_same, feeds_for, run
from tests.plans import half


def _cases() -> Iterator[tuple[tuple[str, str], int, Case]]:
    """All cases of all modules in this folder that export ``CASES``."""
    for module in sorted(m.name for m in pkgutil.iter_modules(tests.ops.__path__) if m.name != "test_gradients"):
        for key, cases in getattr(importlib.import_module(f"tests.ops.{module}"), "CASES", {}).items():
            yield from ((key, number, case) for number, case in enumerate(cases))


ALL = [(key, f"{key[0]}.{key[1]}-{n}".lstrip("."), case) for key, n, case in _cases()]
CASES = pytest.mark.parametrize("case", [pytest.param(case, id=name) for _, name, case in ALL])


@pytest.mark.parametrize("key", sorted(RULES), ids=lambda key: f"{key[0]}.{key[1]}".lstrip("."))
def test_every_rule_has_a_case_and_roles(key: tuple[str, str]) -> None:
    assert RULES[key].roles, f"the rule of {key} declares no roles"
    assert any(k == key for k, _, _ in ALL), f"no case for {key}: export one as CASES in tests/ops/"


@pytest.mark.parametrize(("key", "case"), [pytest.param(key, case, id=name) for key, name, case in ALL])
def test_case_contains_its_operator(key: tuple[str, str], case: Case) -> None:
    proto = case.build().proto
    domains = {key[0], "ai.onnx"} if not key[0] else {key[0]}
    stack = list(proto.graph.node)
    found = False
    while stack and not found:
        node = stack.pop()
        found = node.op_type == key[1] and node.domain in domains
        stack += [n for a in node.attribute if a.HasField("g") for n in a.g.node]
    assert found, f"the case of {key} holds no such node"


@CASES
def test_units_and_reasons(case: Case) -> None:
    coupling = couple(case.build(), case.options)
    reasons = {f.reason for f in coupling.frozen}
    assert coupling.units == case.units, f"units {[(g.name, g.units) for g in coupling.groups]}, frozen {reasons}"
    assert not coupling.unknown_ops
    assert all(group.exact for group in coupling.groups)
    if case.frozen:
        assert any(re.search(case.frozen, reason) for reason in reasons), reasons


@CASES
def test_removed_is_masked(case: Case) -> None:
    model = case.build()
    if not case.units:
        if case.runs:
            assert_same(model, model, case.feeds(model, 1) if case.feeds else 1)
        return
    before = model.hash
    coupling = couple(model, case.options)
    for seed in (0, 1):
        plan = half(coupling, seed)
        masked = surgery.mask(model, coupling, plan)
        removed = surgery.remove(model, coupling, plan)
        feeds = case.feeds(model, seed) if case.feeds else feeds_for(model, seed)
        cuts = cuts_of(coupling, plan.units)
        less = {name: cut_array(value, cuts.get(name, {})) for name, value in feeds.items()}
        expected = run(masked, feeds, case.kernels)
        wanted = {name: cut_array(value, cuts.get(name, {})) for name, value in expected.items()}
        assert_equal(wanted, run(removed, less, case.kernels))
        assert_differs(run(model, feeds, case.kernels), expected)
        assert floats(removed) < floats(model)
        check_zeroed(coupling, plan.units, masked)
    model.__dict__.pop("hash", None)
    assert model.hash == before, "surgery changed its input"


@CASES
def test_what_is_said_to_be_zero_is_zero(case: Case) -> None:
    """The zeros that exactness is computed from, held against the masked model's own tensors."""
    model = case.build()
    if not case.units:
        return
    coupling = couple(model, case.options)
    ties = relate(coupling.graph, case.options)
    solution, _, hazard = settle(ties)
    flags, _ = zero_flags(ties, solution, hazard)
    plan = half(coupling)
    cuts = cuts_of(coupling, plan.units)
    made = {name for node in model.proto.graph.node for name in node.output if name}
    claims = {}
    for tensor in made & cuts.keys():
        for axis, cut in cuts[tensor].items():
            zero = cut.removed & flags[ties.axis_ids(tensor, axis)]
            if cut.along is None and zero.any():
                claims[tensor, axis] = np.flatnonzero(zero)
    masked = exposed(surgery.mask(model, coupling, plan), {tensor for tensor, _ in claims})
    values = run(masked, case.feeds(model, 0) if case.feeds else feeds_for(model, 0), case.kernels)
    for (tensor, axis), positions in claims.items():
        if values[tensor].dtype == np.float32:
            assert not np.take(values[tensor], positions, axis).any(), f"{tensor} axis {axis}"


def exposed(model: Model, tensors: set[str]) -> Model:
    """The model with more outputs."""
    editor = model.edit()
    present = {o.name for o in editor.proto.graph.output}
    editor.proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sorted(tensors - present))
    return editor.build()


def floats(model: Model) -> int:
    """Numbers in the weights, shapes and indices left out."""
    return sum(int(np.prod(w.shape)) for w in model.weights.values() if w.onnx_type != TensorProto.INT64)


def check_zeroed(coupling: Coupling, units: dict[str, np.ndarray], masked: Model) -> None:
    """Linear constants are zero where their units went, and every other constant is what it was."""
    graph = coupling.graph
    weights = {**build_graph(masked).weights, **masked.weights}  # those in the bodies of control flow as well
    touched: set[str] = set()
    for name, gone in units.items():
        group = coupling.groups[coupling.by_name[name]]
        for member in group.weights:
            assert member.linear == (weight_role(graph, member.tensor) is Role.LINEAR)
            if not member.linear or (group.hazard and not member.consumes) or member.block is not None:
                continue
            if graph.origin.get(member.tensor, member.tensor) in graph.origin.values():
                continue
            touched.add(member.tensor)
            now = weights[member.tensor].array()
            zero = np.broadcast_to(np.asarray(stored_zero(graph, member.tensor)).astype(now.dtype), now.shape)
            index = member.index[np.isin(member.unit, gone)]
            assert np.array_equal(np.take(now, index, member.axis), np.take(zero, index, member.axis)), member.tensor
    for tensor in graph.weights:
        if tensor in weights and weight_role(graph, tensor) is not Role.LINEAR:
            assert np.array_equal(weights[tensor].array(), graph.weights[tensor].array()), tensor
