"""What goes along with a unit: every slice of every tensor that its removal takes, in words (before it is done)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxprune.cost import CostModel, example_graph
from onnxprune.drawing.counts import uses_of
from onnxprune.errors import GroupNotFound, OptionError
from onnxprune.graph import Graph
from onnxprune.naming import node_title
from onnxprune.values import Coupling, Group, Ints, Member

__all__ = ["Preview", "PreviewRow", "preview", "singular"]

SHOWN = 6  # layers that a sentence names


@dataclass(frozen=True, eq=False)
class PreviewRow:
    """One axis of one constant. ``index``: the positions that go (inside of each block, where ``blocks`` > 1).

    ``role``: "produces" (rows of the layer's own weight), "reads" (input slices of a later layer), or "goes along"
    (biases, statistics of a normalisation, anything with an entry for each unit). ``layer``: who reads the constant,
    ``op`` its operator. ``parameters``: entries that go with these positions alone.
    """

    tensor: str
    axis: int
    index: Ints
    blocks: int
    role: str
    layer: str
    op: str
    parameters: int


@dataclass(frozen=True, eq=False)
class Preview:
    """``rows``: by layer, in the order of the model. ``parameters``, ``macs``: of all of it, each entry once.

    ``carried``: names of the computed tensors that become narrower. ``words``: the sentence for a person.
    """

    group: str
    units: tuple[int, ...]
    kind: str
    rows: tuple[PreviewRow, ...]
    carried: tuple[str, ...]
    parameters: int
    macs: int
    words: str


def preview(coupling: Coupling, group: str, units: Collection[int], costs: CostModel | None = None) -> Preview:
    """What removing these units of a group takes. ``costs``: a cost model of the coupling, for a batch of 1.

    Raises GroupNotFound, and OptionError for a unit that the group does not have.
    """
    if group not in coupling.by_name:
        raise GroupNotFound(f"there is no group {group!r}", f"Groups: {', '.join(coupling.by_name) or 'none'}.")
    found = coupling.groups[coupling.by_name[group]]
    wanted = np.unique(np.asarray(list(units), np.int64))
    if not wanted.size or wanted[0] < 0 or wanted[-1] >= found.units:
        wrong = [int(u) for u in wanted if not 0 <= u < found.units]
        raise OptionError(
            f"`{group}` has no unit {wrong[0]}" if wrong else f"no unit of `{group}` was named",
            f"Its {found.kind} are 0 to {found.units - 1}.",
        )
    graph: Graph = coupling.graph
    rows = [row for member in found.weights for row in _row(graph, member, wanted)]
    order = {node.number: i for i, node in enumerate(graph.nodes)}
    first = {row.tensor: min((order[n.number] for n in uses_of(graph, row.tensor)), default=0) for row in rows}
    rows.sort(key=lambda row: (first[row.tensor], ("produces", "goes along", "reads").index(row.role), row.tensor))
    carried = tuple(dict.fromkeys(m.tensor for m in found.members if not m.weight and np.isin(m.unit, wanted).any()))
    model = costs or CostModel(coupling, example_graph(graph.model, dict(coupling.options.shapes)))
    after = model.after({group: wanted})
    parameters, macs = model.before.parameters - after.parameters, model.before.macs - after.macs
    return Preview(
        group, tuple(map(int, wanted)), found.kind, tuple(rows), carried, parameters, macs,
        _words(found, wanted, rows, parameters),
    )  # fmt: skip


def singular(kind: str) -> str:
    """One of them: "filter" for "filters"."""
    return kind.removesuffix("s")


def _row(graph: Graph, member: Member, wanted: Ints) -> list[PreviewRow]:
    mine = np.isin(member.unit, wanted)
    if not mine.any():
        return []
    shape = graph.weights[member.tensor].shape if member.tensor in graph.weights else graph.shapes[member.tensor]
    index = np.unique(member.index[mine])
    entries = int(mine.sum()) * prod(shape) // max(shape[member.axis] * member.blocks, 1)
    nodes = uses_of(graph, member.tensor)
    node = nodes[0] if nodes else None
    wide = sum(d > 1 for d in shape) > 1
    role = "reads" if member.consumes else "produces" if wide and member.linear else "goes along"
    title = node_title(graph, node) if node else ""
    return [PreviewRow(member.tensor, member.axis, index, member.blocks, role, title, node.op if node else "", entries)]


def _words(group: Group, wanted: Ints, rows: list[PreviewRow], parameters: int) -> str:
    """Removing filter 17 of conv2 also removes ..."""
    listed = ", ".join(map(str, wanted[:SHOWN])) + (" ..." if wanted.size > SHOWN else "")
    name = group.name.removesuffix(f" ({group.kind})")
    head = f"Removing {singular(group.kind) if wanted.size == 1 else group.kind} {listed} of {name}"
    own = next((row.layer for row in rows if row.role == "produces"), name)
    roles: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.layer != own:
            roles[row.role][row.layer] = None
    roles["goes along"] = {layer: None for layer in roles["goes along"] if layer not in roles["produces"]}
    texts = [
        f"{phrase} {_some(tuple(roles[role]))}"
        for role, phrase in (
            ("produces", f"the same {group.kind} of"),
            ("goes along", "entries of"),
            ("reads", "inputs of"),
        )
        if roles[role]
    ]
    also = (
        f" also removes {' and '.join([', '.join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)}"
        if texts
        else " touches no other layer"
    )
    return f"{head}{also}: {parameters:,} parameters in all."


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
