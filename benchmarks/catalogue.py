"""All models that the coverage table has a row for: where each comes from, and how to get it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from benchmarks import transformers_nets
from tests.nets import NETS, export
from tests.nets.handmade import HANDMADE
from tests.nets.light import LIGHT, light

__all__ = ["SOURCES", "Entry", "catalogue", "torch_module"]

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("onnx", "torchscript", "dynamo", "transformers", "handmade", "examples")
# Full-size nets whose only difference to another row is their size in bytes.
LARGE = frozenset({"bert_base", "vgg19", "vgg16", "googlenet"})


@dataclass(frozen=True)
class Entry:
    """One model. ``source``: one of `SOURCES`; ``build`` makes it; ``torch_name``: what `torch_module` takes, or ""."""

    name: str
    source: str
    build: Callable[[], onnx.ModelProto]
    torch_name: str = ""
    large: bool = False

    @property
    def title(self) -> str:
        return f"{self.source}/{self.name}"


def catalogue() -> Iterator[Entry]:
    """Every model, grouped by source."""
    for name in LIGHT:
        yield Entry(name, "onnx", partial(light, name), large=name.startswith("vgg") or name == "bvlc_alexnet")
    for exporter in ("torchscript", "dynamo"):
        for spec in NETS.values():
            if exporter in spec.exporters:
                first = exporter == spec.exporters[0]
                build = partial(export, spec.name, exporter)
                yield Entry(spec.name, exporter, build, f"nets:{spec.name}" if first else "", spec.name in LARGE)
    for recipe in transformers_nets.RECIPES:
        build = partial(transformers_nets.export, recipe)
        yield Entry(recipe.name, "transformers", build, f"transformers:{recipe.name}")
    for made in HANDMADE.values():
        if made.runs:
            yield Entry(made.name, "handmade", made.build)
    for path in sorted((ROOT / "examples").rglob("*.onnx")):
        yield Entry(path.stem, "examples", partial(onnx.load, path))


def torch_module(name: str) -> tuple[object, tuple[object, ...]]:
    """The torch module behind ``nets:NAME`` or ``transformers:NAME``, and example inputs."""
    family, _, short = name.partition(":")
    if family == "nets":
        spec = NETS[short]
        return spec.build(), spec.example_inputs()
    recipe = next(r for r in transformers_nets.RECIPES if r.name == short)
    return transformers_nets.module(recipe), (transformers_nets.example(recipe),)
