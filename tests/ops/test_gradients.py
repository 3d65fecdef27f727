"""Every gradient rule on the models of the operator tests, against central differences in float64.

Parametrised over the registry: a rule that neither has gradients nor is listed as lacking them fails.
"""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.ops
from onnxprune.autodiff.prepare import prepare
from onnxprune.errors import UnsupportedModel
from onnxprune.ops import RULES
from tests.gradients import check_gradients, differentiated
from tests.ops.cases import Case
from tests.ops.test_rules import ALL
from tests.oracle import assert_same, feeds_for

HERE = __name__.rpartition(".")[2]
MODULES = [
    importlib.import_module(f"tests.ops.{name}")
    for name in sorted(module.name for module in pkgutil.iter_modules(tests.ops.__path__))
    if name != HERE
]
# Operator -> why it has no gradients, from the modules of cases that export one.
WITHOUT: dict[tuple[str, str], str] = {
    key: reason for module in MODULES for key, reason in getattr(module, "WITHOUT", {}).items()
}
# Cases that say nothing new about coupling, from the modules that export them.
MORE = [
    (key, f"{key[0]}.{key[1]}-gradient-{n}".lstrip("."), case)
    for module in MODULES
    for key, cases in getattr(module, "GRADIENT_CASES", {}).items()
    for n, case in enumerate(cases)
]


# Operators whose gradient is not a derivative (straight-through estimators), which have tests of their own.
ESTIMATED: set[str] = {op for module in MODULES for op in getattr(module, "ESTIMATED", ())}


def _has(key: tuple[str, str]) -> bool:
    rule = RULES[key]
    return rule.vjp is not None or rule.expand is not None or rule.flat


def _estimated(case: Case) -> bool:
    return any(node.op_type in ESTIMATED for node in case.build().proto.graph.node)


WITH = [
    pytest.param(case, id=name)
    for key, name, case in [*ALL, *MORE]
    if _has(key) and case.differentiable and not _estimated(case)
]


@pytest.mark.parametrize("key", sorted(RULES), ids=lambda key: f"{key[0]}.{key[1]}".lstrip("."))
def test_every_rule_has_gradients_or_says_that_it_has_none(key: tuple[str, str]) -> None:
    rule = RULES[key]
    assert sum((rule.vjp is not None, rule.expand is not None, rule.flat)) == (key not in WITHOUT)


@pytest.mark.parametrize("case", WITH)
def test_gradients_are_central_differences(case: Case) -> None:
    model = case.build()
    feeds = case.feeds(model, 0) if case.feeds else feeds_for(model, 0)
    check_gradients(model, feeds, kernels=case.kernels)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=n) for key, n, case in [*ALL, *MORE] if RULES[key].expand is not None]
)
def test_what_is_taken_apart_computes_the_same(case: Case) -> None:
    model = case.build()
    if case.runs and not case.kernels:
        assert_same(model, prepare(model).model, case.feeds(model, 0) if case.feeds else 0)


@pytest.mark.parametrize(
    ("op", "case"),
    [pytest.param(key[1], case, id=name) for key, name, case in ALL if key in WITHOUT or not case.differentiable],
)
def test_without_a_rule_the_node_is_named(op: str, case: Case) -> None:
    """Unless there is nothing to differentiate on either side of it, or nothing that is asked for needs it."""
    try:
        made = differentiated(case.build())
    except UnsupportedModel as error:
        message = str(error)
    else:
        beside = all(node.op_type != op for node in made.model.proto.graph.node)
        passes = made.names.keys() & set(made.tape.graph.inputs)
        message = "" if passes and not beside else "has no gradient rule"
    assert "has no gradient rule" in message
