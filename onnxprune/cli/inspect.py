"""``onnxprune inspect``: what is in a model, what can go together, and what cannot go and why."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import typer

from onnxprune.cli.console import count, emit_json, megabytes, progress, show, table, warn
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    InexactOption,
    JsonOption,
    ModelArgument,
    NormGroups,
    NormGroupsOption,
    Provider,
    ProviderOption,
    ShapeOption,
    ThreadsOption,
    coupling_options,
    examples,
)
from onnxprune.cost import Cost, CostModel, GroupCost, cost, example_graph
from onnxprune.experiment import analyse, broken_weights
from onnxprune.model import Model, load
from onnxprune.values import Coupling, Frozen, Group

__all__ = ["register"]

NAMES_SHOWN = 3
EXAMPLES = examples(
    "onnxprune inspect model.onnx",
    "onnxprune inspect model.onnx --json > groups.json",
    "onnxprune inspect decoder.onnx --shape input_ids=1,16 --attention dims",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="inspect", epilog=EXAMPLES)(inspect_model)


def inspect_model(
    model: ModelArgument,
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Show the groups of a model, what is frozen and why, and operators without a rule."""
    check_environment(provider, threads)
    options = coupling_options(include_inexact, attention, norm_groups, allow_io, shape)
    with progress("reading") as report:
        loaded = load(model)
        report("looking for groups", 0, 0)
        inlined, coupling = analyse(loaded, options, provider=provider, threads=threads)
        report("counting", 0, 0)
        graph = example_graph(inlined, dict(options.shapes), provider=provider, threads=threads)
        total = cost(inlined, graph, count_nonzero=False)
        groups = CostModel(coupling, graph).groups
        broken = broken_weights(inlined, coupling)
    for warning in broken:
        warn(warning)
    if json:
        emit_json(_document(model, loaded, coupling, total, groups))
    else:
        _print(model, loaded, coupling, total, groups)


def _document(
    path: Path, model: Model, coupling: Coupling, total: Cost, groups: tuple[GroupCost, ...]
) -> dict[str, Any]:
    return {
        "model": str(path),
        "hash": model.hash,
        "parameters": total.parameters,
        "macs": total.macs,
        "bytes": total.bytes,
        "activation_bytes": total.activation_bytes,
        "groups": [_group(group, costs) for group, costs in zip(coupling.groups, groups, strict=True)],
        "frozen": [{"tensor": f.tensor, "axis": f.axis, "reason": f.reason} for f in coupling.frozen],
        "unknown_ops": coupling.unknown_ops,
    }


def _group(group: Group, costs: GroupCost) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": group.kind,
        "units": group.units,
        "channels_per_unit": group.channels,
        "exact": group.exact,
        "parameters": costs.parameters,
        "macs": costs.macs,
        "tensors": [{"tensor": axis.tensor, "axis": axis.axis} for axis in group.axes],
    }


def _print(path: Path, model: Model, coupling: Coupling, total: Cost, groups: tuple[GroupCost, ...]) -> None:
    opset = next((o.version for o in model.proto.opset_import if o.domain in ("", "ai.onnx")), "none")
    show(f"{path}: {len(model.proto.graph.node)} nodes, opset {opset}, hash {model.hash[:12]}")
    show(
        f"{count(total.parameters)} parameters, {megabytes(total.bytes)}, {count(total.macs)} MACs,"
        f" {megabytes(total.activation_bytes)} of activations at the peak (estimated)"
    )
    rows = [
        (g.name, g.kind, str(g.units), count(c.parameters), count(c.macs), "yes" if g.exact else "no")
        for g, c in zip(coupling.groups, groups, strict=True)
    ]
    columns = ("group", "units are", "units", "parameters", "MACs", "exact")
    show("")
    show(table(f"{len(rows)} groups, {coupling.units} units can go", columns, rows, right=(2, 3, 4)))
    if coupling.frozen:
        show("")
        show(table("Frozen", ("axes", "reason", "where"), reasons(coupling.frozen), right=(0,)))
    if coupling.unknown_ops:
        show("")
        unknown = [(op, str(nodes)) for op, nodes in coupling.unknown_ops.items()]
        show(table("Operators without a rule: what they touch is frozen", ("operator", "nodes"), unknown, right=(1,)))


def reasons(frozen: tuple[Frozen, ...]) -> list[tuple[str, str, str]]:
    """Reason by reason, the most frequent first: how many axes, the reason, the first of them."""
    by_reason: dict[str, list[Frozen]] = defaultdict(list)
    for item in frozen:
        by_reason[item.reason].append(item)
    ordered = sorted(by_reason.items(), key=lambda pair: -len(pair[1]))
    return [(str(len(items)), reason, _some(items)) for reason, items in ordered]


def _some(items: list[Frozen]) -> str:
    names = ", ".join(f"{f.tensor}[{f.axis}]" for f in items[:NAMES_SHOWN])
    return names + (", ..." if len(items) > NAMES_SHOWN else "")
