"""The table of operators as Markdown, from the rules themselves.

python -m onnxprune.ops.reference > docs/operators.md
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable

from onnxprune.ops import RULES
from onnxprune.ops.rule import Rule, zero_all, zero_any, zero_keeps, zero_lost

__all__ = ["reference"]

HEAD = """# Operators

Made by `python -m onnxprune.ops.reference > docs/operators.md`; a test compares. One file of `onnxprune/ops/` per
family. **Constants**: what an input is when it is a constant, in the order of the inputs (the last one repeats); only
*linear* ones are zeroed, counted and scored. **A zeroed element** says what the output is where a unit is zeroed.
An operator that is not here freezes what it touches, and `onnxprune inspect` lists it. **Gradient**: "yes" where there
is a rule of its own, "in parts" where it is taken apart into operators with one, "0" where no small change of an input
changes the output; "another in training" says that it does something else there. Without an entry, gradients cannot
pass it.
"""
TABLE = "| operator | constants | a zeroed element | MACs counted | gradient |\n|---|---|---|---|---|"
ZERO: dict[Callable[..., None], str] = {
    zero_keeps: "stays 0",
    zero_lost: "is something else",
    zero_any: "is 0 if one operand is",
    zero_all: "is 0 if all operands are",
}


def reference() -> str:
    """The whole page."""
    families: dict[str, list[Rule]] = defaultdict(list)
    for rule in RULES.values():
        families[rule.couple.__module__.rpartition(".")[2]].append(rule)
    parts = [HEAD]
    for family in sorted(families):
        parts += [f"\n## {family}\n", TABLE]
        parts += [_row(rule) for rule in sorted(families[family], key=lambda r: r.key)]
    return "\n".join(parts) + "\n"


def _row(rule: Rule) -> str:
    name = f"{rule.domain}.{rule.op}" if rule.domain else rule.op
    roles = ", ".join(role.value for role in rule.roles)
    zero = ZERO.get(rule.zero) or _first_sentence(rule.zero.__doc__)
    return f"| {name} | {roles} | {zero} | {'yes' if rule.macs else ''} | {_gradient(rule)} |"


def _gradient(rule: Rule) -> str:
    """How gradients pass."""
    words = "yes" if rule.vjp else "in parts" if rule.expand else "0" if rule.flat else ""
    return f"{words}; another in training" if rule.train else words


def _first_sentence(text: str | None) -> str:
    """Of a docstring; parameters of a normalisation decide where there is none."""
    if not text:
        return "is 0 if its scale and bias are"
    return " ".join(text.split()).split(". ")[0].rstrip(".").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
