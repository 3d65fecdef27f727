from __future__ import annotations

from pathlib import Path

from onnxprune.ops import RULES
from onnxprune.ops.reference import reference

DOC = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_page_is_up_to_date() -> None:
    assert DOC.read_text(encoding="utf-8") == reference(), "run: python -m onnxprune.ops.reference > docs/operators.md"


def test_every_rule_is_on_it() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| ") and not line.startswith("| operator")]
    assert len(rows) == len(RULES)
