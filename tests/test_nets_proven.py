"""Every test net, by every exporter, exact and inexact, heads and dimensions: half of it goes, and that is proven."""

from __future__ import annotations

import pytest

from onnxprune.allocate import Budget, allocate
from onnxprune.coupling import couple
from onnxprune.criteria import score
from onnxprune.model import from_proto, inline_functions
from onnxprune.proof import prove
from onnxprune.surgery import remove
from onnxprune.values import Options
from tests.nets import NETS, export
from tests.nets.handmade import HANDMADE
from tests.nets.light import LIGHT, light
from tests.plans import half

SMALL = [(spec.name, exporter) for spec in NETS.values() if not spec.slow for exporter in spec.exporters]
WAYS = {
    "exact": Options(),
    "inexact": Options(include_inexact=True, norm_groups="within"),
    "dims": Options(attention="dims"),
}
# Exact units none: a norm over a computed weight, or reductions that renormalise, is all that these consist of.
NOTHING_EXACT = {"weight_norm"}
HEAVY = {"vgg19", "densenet121", "bvlc_alexnet", "zfnet512"}  # the benchmark proves these


def hold(proto: object, options: Options, *, by_score: bool = False) -> int:
    """Remove half of everything and prove it; returns the number of units removed."""
    model = inline_functions(from_proto(proto))  # type: ignore[arg-type]
    coupling = couple(model, options)
    plan = half(coupling)
    if by_score:
        plan, _ = allocate(coupling, score(model, coupling, "l2"), Budget(ratio=0.5, round_to=1))
    if plan.removed_units:
        proof = prove(model, coupling, plan, remove(model, coupling, plan))
        assert proof.ok, proof.reason
        assert not proof.vacuous
        assert proof.error <= 1e-5
    return plan.removed_units


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "exporter"), SMALL)
def test_nets(name: str, exporter: str, way: str) -> None:
    removed = hold(export(name, exporter), WAYS[way])
    assert removed or name in NOTHING_EXACT


@pytest.mark.parametrize("way", ["exact", "inexact"])
@pytest.mark.parametrize("name", [n for n, m in HANDMADE.items() if m.runs and n != "float16"])
def test_handmade(name: str, way: str) -> None:
    hold(HANDMADE[name].build(), WAYS[way])


@pytest.mark.parametrize("name", [n for n in LIGHT if n not in HEAVY])
def test_the_graphs_of_onnx(name: str) -> None:
    assert hold(light(name), Options(), by_score=True)
