"""Attention, written out or fused: query, key and value projections, softmax and output projection as one block.

One begins at a softmax between two products of computed tensors (or at a fused operator), walks back from the operands
to the projections and forward to the output projection. The block is taken only if nothing else reads what is inside of
it, so that drawing it as one box hides no connection; else the core alone is tried, else the parts stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnxprune.drawing.flow import Flow, Site
from onnxprune.drawing.kinds import ATTENTION, PLUMBING, SOFTMAX

__all__ = ["Attending", "attentions"]

REACH = 160  # sites looked at from one softmax
OPERANDS = 3  # of a fused operator: query, key, value


@dataclass(frozen=True)
class Attending:
    """``sites``: of the block. ``head``: the site that computes its output; ``exit``: that output, "" for several."""

    sites: tuple[int, ...]
    head: int
    exit: str


def attentions(flow: Flow) -> list[Attending]:
    """The attention blocks, in order; no two share a site."""
    found: list[Attending] = []
    taken = set[int]()
    for site in flow.sites:
        core = _core(flow, site)
        if core is None or not taken.isdisjoint(core[0]):
            continue
        block = _whole(flow, *core, taken) or _closed(flow, core[0], core[2])
        if block is not None:
            found.append(block)
            taken.update(block.sites)
    return found


def _core(flow: Flow, site: Site) -> tuple[set[int], tuple[str, ...], int] | None:
    """(sites, operands, last site) of what attends, beginning at a softmax or a fused operator."""
    if site.op in ATTENTION:
        return {site.number}, site.reads[:OPERANDS], site.number
    if site.op not in SOFTMAX or len(site.reads) != 1:
        return None
    scores = _back_to_product(flow, site)
    values = _on_to_product(flow, site)
    if scores is None or values is None:
        return None
    between = scores[0] | values[0] | {site.number}
    last = flow.sites[values[1]]
    first = flow.sites[scores[1]]
    operands = (*first.reads, *(t for t in last.reads if flow.maker.get(t) not in between))
    return between, operands, last.number


def _is_product(site: Site) -> bool:
    return site.op in ("MatMul", "Einsum", "FusedMatMul", "MatMulInteger", "QLinearMatMul") and len(site.reads) > 1


def _back_to_product(flow: Flow, site: Site) -> tuple[set[int], int] | None:
    """From a softmax back to the product of query and key: scaling, masks and reshapes are in between."""
    seen, stack = set[int](), [flow.maker.get(site.reads[0])]
    while stack and len(seen) < REACH:
        number = stack.pop()
        if number is None or number in seen:
            continue
        found = flow.sites[number]
        if _is_product(found):
            path = _path(flow, number, site.number)
            return (path, number) if path is not None else None
        if found.layer:
            continue
        seen.add(number)
        stack += [flow.maker.get(tensor) for tensor in reversed(found.reads)]
    return None


def _on_to_product(flow: Flow, site: Site) -> tuple[set[int], int] | None:
    """From a softmax on to the product with the values."""
    path, tensor = set[int](), site.makes[0]
    while len(path) < REACH:
        readers = flow.readers.get(tensor, ())
        if len(readers) != 1:
            return None
        found = flow.sites[readers[0]]
        path.add(found.number)
        if _is_product(found):
            return path, found.number
        if found.layer or len(found.makes) != 1:
            return None
        tensor = found.makes[0]
    return None


def _path(flow: Flow, first: int, last: int) -> set[int] | None:
    """All sites from the first to the last, through small ones; None where a way leads elsewhere."""
    path, stack = {first}, [first]
    while stack and len(path) < REACH:
        for tensor in flow.sites[stack.pop()].makes:
            for reader in flow.readers.get(tensor, ()):
                if reader == last or reader in path:
                    continue
                if flow.sites[reader].layer or reader > last:
                    return None
                path.add(reader)
                stack.append(reader)
    return path


def _whole(flow: Flow, core: set[int], operands: Iterable[str], last: int, taken: set[int]) -> Attending | None:
    """The core with its projections, where nothing of it is read elsewhere."""
    sites, stack = set(core), [flow.maker.get(tensor) for tensor in operands]
    while stack:
        number = stack.pop()
        if number is None or number in sites:
            continue
        site = flow.sites[number]
        if number in taken or len(sites) > REACH or (site.layer and not _projects(site)):
            return None
        sites.add(number)
        if not site.layer:
            stack += [flow.maker.get(tensor) for tensor in site.reads]
    block = _closed(flow, sites, last)
    return None if block is None else _with_output(flow, block)


def _projects(site: Site) -> bool:
    """Whether it multiplies with constants."""
    return len(site.reads) == 1 and not site.node.bodies and site.op not in ATTENTION and not site.looks_up


def _with_output(flow: Flow, block: Attending) -> Attending:
    """And with the output projection, where that is all the block leads to."""
    sites, tensor = set(block.sites), block.exit
    while tensor:
        readers = flow.readers.get(tensor, ())
        if len(readers) != 1 or tensor in flow.graph.outputs:
            return block
        site = flow.sites[readers[0]]
        if len(site.reads) != 1 or len(site.makes) != 1:
            return block
        sites.add(site.number)
        if site.layer:
            return Attending(tuple(sorted(sites)), site.number, site.makes[0]) if _projects(site) else block
        if site.op not in PLUMBING:
            return block
        tensor = site.makes[0]
    return block


def _closed(flow: Flow, sites: set[int], last: int) -> Attending | None:
    """The block of these sites, where all that leaves it comes from the last one, or goes out of the model."""
    for number in sites - {last}:
        if not all(sites.issuperset(flow.readers.get(tensor, ())) for tensor in flow.sites[number].makes):
            return None
    made = [tensor for tensor in flow.sites[last].makes if tensor in flow.readers]
    return Attending(tuple(sorted(sites)), last, made[0] if len(made) == 1 else "")
