"""Tests in this folder need a GPU that onnxruntime can use; elsewhere each is reported as skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.runtime import providers

HERE = Path(__file__).parent
NO_GPU = pytest.mark.skip(reason="no GPU that onnxruntime can use (providers() lacks cuda)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    if mine and "cuda" not in providers():
        for item in mine:
            item.add_marker(NO_GPU)
