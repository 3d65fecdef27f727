"""Nodes to layers: Conv + BatchNormalization + activation + pooling is one box, reshaping is none.

From each layer one walks on as long as everything flows through a single tensor again: the next *piece* is the smallest
set of small nodes behind a tensor that all that is made of it leaves through one tensor (one node, or x · sigmoid(x),
or a normalisation written out). Which pieces go with which layer is a short table. A set of nodes with one way in and
one way out can be drawn as one box without turning any edge around.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from onnxprune.drawing.attention import attentions
from onnxprune.drawing.flow import Flow, Site
from onnxprune.drawing.kinds import JOINS, PLUMBING, RECURRENT, class_of

__all__ = ["Cluster", "clusters_of"]

PIECE = 64  # sites in one piece
# What goes with a cluster of this role, behind it.
FOLLOWS = {
    "layer": {"plumbing", "activation", "channel norm", "pool", "softmax"},
    "recurrent": {"plumbing"},
    "attention": {"plumbing", "activation"},
    "join": {"plumbing", "activation"},
    "channel norm": {"plumbing", "activation"},
    "norm": {"plumbing", "activation"},
    "pool": {"plumbing"},
    "global pool": {"plumbing"},
    "resize": {"plumbing"},
    "softmax": {"plumbing"},
    "activation": {"plumbing", "activation", "softmax", "norm"},
    "other": {"plumbing"},
}  # a piece of plumbing alone is no cluster
FORWARD = ("channel norm", "activation")  # these go with the layer behind them where that is all they lead to


@dataclass
class Cluster:
    """``role``: a key of FOLLOWS. ``head``: the site that it is named after. ``sites``: numbers, in order."""

    role: str
    head: int
    sites: list[int] = field(default_factory=list)
    pooled: bool = False


def clusters_of(flow: Flow) -> tuple[list[Cluster], dict[int, int]]:
    """The clusters, and the cluster of each site; sites that are plumbing between clusters have none."""
    found: list[Cluster] = []
    of: dict[int, int] = {}

    def add(cluster: Cluster, sites: Iterable[int]) -> None:
        cluster.sites = sorted({*cluster.sites, *sites})
        of.update(dict.fromkeys(cluster.sites, len(found) - 1))

    blocks = {min(block.sites): block for block in attentions(flow)}
    inside = {number for block in blocks.values() for number in block.sites}
    for site in flow.sites:
        if site.number in blocks:
            block = blocks[site.number]
            found.append(Cluster("attention", block.head))
            add(found[-1], block.sites)
            add(found[-1], _behind(flow, found[-1], block.exit, of, inside, frozenset()))
        elif site.number in of or site.number in inside:
            continue
        elif site.layer:
            found.append(Cluster("recurrent" if site.op in RECURRENT or site.node.bodies else "layer", site.number))
            add(found[-1], [site.number])
            add(found[-1], _behind(flow, found[-1], _only_read(flow, site), of, inside, frozenset()))
        elif not _is_plumbing(site):
            _small(flow, site, found, of, inside)
    return _forward(flow, found, of)


def _small(flow: Flow, site: Site, found: list[Cluster], of: dict[int, int], inside: set[int]) -> None:
    """A cluster that begins with a small node."""
    piece, end = [site.number], _only_read(flow, site)
    if len(site.reads) == 1:
        grown = _piece(flow, site.reads[0], of, inside, frozenset())
        if grown is not None and site.number in grown[0]:
            piece, end = grown
        else:
            piece, end = _written_out(flow, site, of, inside) or (piece, end)
    joins = len(site.reads) > 1 and len(piece) == 1
    role = "join" if joins and site.op in JOINS else class_of([flow.sites[n].node for n in piece])
    cluster = Cluster(role if role in FOLLOWS else "other", site.number)
    found.append(cluster)
    cluster.sites = list(piece)
    entry = frozenset(site.reads) if len(site.reads) == 1 else frozenset[str]()
    more = _behind(flow, cluster, end, of, inside | set(piece), entry)
    if cluster.role == "activation":
        cluster.role = class_of([flow.sites[n].node for n in (*piece, *more)])
    cluster.sites = sorted({*piece, *more})
    of.update(dict.fromkeys(cluster.sites, len(found) - 1))


def _written_out(flow: Flow, site: Site, of: dict[int, int], inside: set[int]) -> tuple[list[int], str] | None:
    """A normalisation in single steps, x / rms(x), of an x that others read as well."""
    entry, tensor = site.reads[0], _only_read(flow, site)
    taken, best = [site.number], None
    while tensor and len(taken) < PIECE:
        piece = _piece(flow, tensor, of, inside | set(taken), frozenset((entry,)))
        if piece is None:
            break
        taken, tensor = [*taken, *piece[0]], piece[1]
        kind = class_of([flow.sites[n].node for n in taken])
        if kind not in ("norm", "activation", "global pool"):
            break
        if kind == "norm" and entry in flow.sites[taken[-1]].reads:
            best = (list(taken), tensor)
    return best


def _behind(
    flow: Flow, cluster: Cluster, tensor: str, of: dict[int, int], inside: set[int], entry: frozenset[str]
) -> list[int]:
    """The sites behind a tensor that go with a cluster. ``entry``: what these may read besides."""
    taken: list[int] = []
    while tensor:
        piece = _piece(flow, tensor, of, inside | set(taken), entry)
        if piece is None:
            return taken
        kind = class_of([flow.sites[n].node for n in piece[0]])
        if kind not in FOLLOWS[cluster.role] or (kind == "pool" and cluster.pooled):
            return taken
        cluster.pooled |= kind == "pool"
        taken += piece[0]
        tensor = piece[1]
    return taken


def _piece(
    flow: Flow, tensor: str, of: dict[int, int], inside: set[int], entry: frozenset[str]
) -> tuple[list[int], str] | None:
    """The smallest piece behind a tensor, and the tensor that it ends in ("": in none); None for no piece."""
    waiting = list(flow.readers.get(tensor, ()))
    heapq.heapify(waiting)
    known, taken = {tensor, *entry}, list[int]()
    pending = {tensor: set(waiting)}
    while waiting and len(taken) < PIECE:
        number = heapq.heappop(waiting)
        if number in taken:
            continue
        site = flow.sites[number]
        if site.layer or number in of or number in inside or not known.issuperset(site.reads):
            return None
        taken.append(number)
        for read in site.reads:
            if read in pending:
                pending[read].discard(number)
        for made in site.makes:
            known.add(made)
            pending[made] = set(flow.readers.get(made, ()))
            for reader in pending[made]:
                heapq.heappush(waiting, reader)
        still = [name for name, readers in pending.items() if readers]
        if not still:
            return taken, ""
        if len(still) == 1 and still[0] in site.makes:
            return taken, still[0]
    return None


def _only_read(flow: Flow, site: Site) -> str:
    """The output of a site, where only one of them is read."""
    read = [tensor for tensor in site.makes if tensor in flow.readers]
    return read[0] if len(read) == 1 else ""


def _is_plumbing(site: Site) -> bool:
    return site.op in PLUMBING and len(site.reads) == 1


def _forward(flow: Flow, found: Sequence[Cluster], of: dict[int, int]) -> tuple[list[Cluster], dict[int, int]]:
    """Give normalisations and activations to the one layer that they lead to (pre-activation)."""
    into = list(range(len(found)))
    for number, cluster in enumerate(found):
        if cluster.role not in FORWARD:
            continue
        targets = _targets(flow, cluster, of)
        if len(targets) == 1:
            (target,) = targets
            if target >= 0 and found[target].role == "layer" and _feeds(flow, found[target], of) == {number}:
                into[number] = target
    for number, target in enumerate(into):
        if target != number:
            found[target].sites = sorted({*found[target].sites, *found[number].sites})
    kept = [number for number in range(len(found)) if into[number] == number]
    new = {number: place for place, number in enumerate(kept)}
    return [found[number] for number in kept], {site: new[into[number]] for site, number in of.items()}


def _targets(flow: Flow, cluster: Cluster, of: dict[int, int]) -> set[int]:
    """Clusters that read what a cluster makes, through plumbing; -1 for an output of the model."""
    found, seen = set[int](), set[str]()
    stack = [tensor for number in cluster.sites for tensor in flow.sites[number].makes]
    mine = set(cluster.sites)
    while stack:
        tensor = stack.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        if tensor in flow.graph.outputs:
            found.add(-1)
        for reader in flow.readers.get(tensor, ()):
            if reader in mine:
                continue
            if reader in of:
                found.add(of[reader])
            else:
                stack += flow.sites[reader].makes
    return found


def _feeds(flow: Flow, cluster: Cluster, of: dict[int, int]) -> set[int]:
    """Clusters that a cluster reads from, through plumbing; -1 for an input of the model."""
    found, mine = set[int](), set(cluster.sites)
    stack = [tensor for number in cluster.sites for tensor in flow.sites[number].reads]
    seen = set[str]()
    while stack:
        tensor = stack.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        maker = flow.maker.get(tensor)
        if maker is None:
            found.add(-1)
        elif maker in of:
            if maker not in mine:
                found.add(of[maker])
        else:
            stack += flow.sites[maker].reads
    return found
