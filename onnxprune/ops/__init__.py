"""Everything onnxprune knows about operators, one file per family; each ends in an explicit ``RULES`` tuple."""

from __future__ import annotations

import importlib
import pkgutil

from onnxprune.ops.rule import Role, Rule, Zeros

__all__ = ["RULES", "Role", "Rule", "Zeros", "rule_for"]

NOT_FAMILIES = ("rule", "ties", "cutting", "emitter", "tape", "reference")


def _collect() -> dict[tuple[str, str], Rule]:
    table: dict[tuple[str, str], Rule] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        if module in NOT_FAMILIES or module.endswith("_gradients"):
            continue
        for rule in importlib.import_module(f"{__name__}.{module}").RULES:
            if rule.key in table:
                raise ValueError(f"two rules for {rule.key} (the second in ops/{module}.py)")
            table[rule.key] = rule
    return table


RULES: dict[tuple[str, str], Rule] = _collect()


def rule_for(domain: str, op: str) -> Rule | None:
    """The rule of an operator, or None: then everything that it touches is frozen and reported."""
    return RULES.get((domain, op))
