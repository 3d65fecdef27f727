"""Sketches of the networks of the test suite, each analysed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx
import pytest

from onnxprune.drawing import Sketch, sketch
from onnxprune.experiment import analyse
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling
from tests.nets import export

Analysed = tuple[Model, Coupling, Sketch]


def analysed(proto: onnx.ModelProto) -> Analysed:
    model, coupling = analyse(from_proto(proto))
    return model, coupling, sketch(model, coupling)


@cache
def _net(name: str, exporter: str) -> Analysed:
    return analysed(export(name, exporter))


@pytest.fixture
def net() -> Callable[..., Sketch]:
    """The sketch of a net of `tests.nets`."""
    return lambda name, exporter="torchscript": _net(name, exporter)[2]


@pytest.fixture
def net_with_groups() -> Callable[..., Analysed]:
    return lambda name, exporter="torchscript": _net(name, exporter)
