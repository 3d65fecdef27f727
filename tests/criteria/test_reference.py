from __future__ import annotations

import re
from pathlib import Path

import pytest

from onnxprune.criteria.needs import NEEDS
from onnxprune.criteria.reference import reference
from onnxprune.criteria.registry import built_in

DOC = Path(__file__).parents[2] / "docs" / "criteria.md"


def test_the_page_is_up_to_date() -> None:
    wanted = "run: python -m onnxprune.criteria.reference > docs/criteria.md"
    assert DOC.read_text(encoding="utf-8") == reference(), wanted


def test_every_criterion_is_on_it() -> None:
    rows = [line.split(" | ")[0] for line in reference().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}`" for name in built_in()]


@pytest.mark.parametrize("name", built_in())
def test_criteria_say_what_they_are(name: str) -> None:
    criterion = built_in()[name]
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}", criterion.paper)
    assert criterion.cost
    assert set(criterion.needs) <= set(NEEDS)
