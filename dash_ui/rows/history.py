"""The tree of steps as plain rows: one `Node` for each step of a tree, for the tree and for the cards.

Steps never change once they are recorded, so that their documents are read once per server; names, notes and the trash
come with every request from one query.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dash_ui.desk import Desk
from onnxprune.automatic import verdicts
from onnxprune.errors import OnnxPruneError
from onnxprune.evaluate import KINDS, kind_of, measured
from onnxprune.train.stops import EPOCHS
from onnxprune.workspace.facts import Fact, fact_of, units_left
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "EDGES",
    "EDGE_WORDS",
    "Node",
    "Tree",
    "Words",
    "edge_words",
    "label_of",
    "make_tree",
    "number_words",
    "put_away",
    "shown",
    "steps_words",
    "tree_of",
    "words_of",
]

EDGES = ("settled", "open", "untrained", "failed")
EDGE_WORDS = {
    "settled": "fine-tuning converged",
    "open": "fine-tuning not converged",
    "untrained": "no fine-tuning",
    "failed": "given up by the automatic run",
}
NOUN = "units"
SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Words:
    """What an analysis of an original found. ``units``: by group; ``kinds``: the word for the units of each group."""

    units: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    def noun(self, groups: Sequence[str] = ()) -> str:
        """The word for the units of these groups: theirs where all have the same one, else "units"."""
        found = {self.kinds[name] for name in groups or self.kinds if name in self.kinds}
        return found.pop() if len(found) == 1 else NOUN

    @property
    def axis(self) -> str:
        """The units in words for an axis: "filters left", or "units left: filters, neurons"."""
        kinds = list(dict.fromkeys(self.kinds.values()))
        more = f": {', '.join(kinds)}" if len(kinds) > 1 else ""
        return f"{self.noun()} left{more}"


@dataclass(frozen=True)
class Node:
    """A step as the history shows it.

    ``units``: left, ``groups``: the same by group, None where nobody knows. ``value``: of the metric that the tree is
    judged by; ``quality``: the same from 0 to 1 for a bar. ``left``: share of the root's parameters, of those that are
    not zero where some were zeroed. ``edge``: one of EDGES, of the way from the parent: fine-tuned until it converged,
    not converged, not trained, or a step that an automatic run gave up. ``verdict``: of an automatic run, in words.
    ``proof``: what was proven of it, in words.
    """

    number: int
    parent: int | None
    root: int
    kind: str
    name: str
    note: str
    pinned: bool
    trashed: bool
    damaged: str
    created: float
    seconds: float
    command: str
    metrics: Mapping[str, float]
    units: int | None = None
    groups: Mapping[str, int] | None = None
    value: float | None = None
    quality: float | None = None
    left: float | None = None
    edge: str = "untrained"
    verdict: str = ""
    epochs: int = 0
    stopped: str = ""
    proof: str = ""

    @property
    def title(self) -> str:
        """``#3 prune half``."""
        return " ".join(filter(None, (f"#{self.number}", self.kind, self.name)))


@dataclass(frozen=True)
class Tree:
    """All steps of one original, in the order of making. ``metric``: what they are judged by, None for nothing."""

    nodes: tuple[Node, ...]
    metric: str | None
    words: Words

    @property
    def root(self) -> Node:
        return self.nodes[0]

    def get(self, number: int | None) -> Node | None:
        """The node of this number, None where this tree has none."""
        return next((node for node in self.nodes if node.number == number), None)

    def path(self, number: int) -> list[Node]:
        """From the root to a node; empty where it is not in this tree."""
        by_number = {node.number: node for node in self.nodes}
        found: list[Node] = []
        at: int | None = number
        while at is not None and at in by_number:
            found.append(by_number[at])
            at = by_number[at].parent
        return found[::-1]

    @property
    def baseline(self) -> Node:
        """The pinned node, or else the root."""
        return next((node for node in self.nodes if node.pinned), self.root)

    @property
    def metric_label(self) -> str:
        kind = None if self.metric is None else kind_of(self.metric)
        return kind.label if kind is not None else self.metric or "quality"


def tree_of(
    desk: Desk, workspace: Workspace, number: int | None, words: Mapping[str, Words], *, trashed: bool = False
) -> Tree | None:
    """The tree in which a step is, or the first one; None where there are no steps.

    ``words``: by hash of an original, as far as it was analysed. It is kept until somebody changes the tree.
    """
    now = desk.revisions()["tree"]
    steps = workspace.steps.all(trashed=trashed)
    if not steps:
        return None
    root = next((step.root for step in steps if step.number == number), steps[0].root)
    mine = [step for step in steps if step.root == root]
    known = words.get(mine[0].model_hash)

    def made() -> Tree:
        judged = {n: row["verdict"] for n, row in verdicts(workspace, root).items() if not row["holds"]}
        return make_tree(mine, read_facts(desk, workspace, mine), known or Words(), judged)

    return desk.kept.get(("tree", now, root, trashed, known is not None), made)


def read_facts(desk: Desk, workspace: Workspace, steps: Sequence[Step]) -> dict[int, Fact]:
    """What the documents of steps tell; each is read once."""
    known: dict[int, Fact] = desk.kept.get(("history", "facts"), dict)
    for step in steps:
        if step.number not in known:
            known[step.number] = fact_of(workspace, step)
    return known


def make_tree(
    steps: Sequence[Step], facts: Mapping[int, Fact], words: Words, given_up: Mapping[int, str] | None = None
) -> Tree:
    """Rows of the steps of one original, which comes first. ``given_up``: by an automatic run, and why."""
    root, metric = steps[0], main_metric(steps)
    units = units_left(steps, facts, {root.model_hash: words.units} if words.units else None)
    whole = root.metrics.get("parameters")
    first = None if metric is None else root.metrics.get(metric)
    nodes = []
    for step in steps:
        fact, groups = facts[step.number], units[step.number]
        value = None if metric is None else step.metrics.get(metric)
        verdict = (given_up or {}).get(step.number, "")
        nodes.append(
            Node(
                step.number,
                step.parent,
                step.root,
                step.kind,
                step.name,
                step.note,
                step.pinned,
                step.trashed,
                step.damaged,
                step.created,
                step.seconds,
                shlex.join(step.command),
                step.metrics,
                units=None if groups is None else sum(groups.values()),
                groups=groups,
                value=value,
                quality=_bar(metric, value, first),
                left=_left(step.metrics, whole),
                edge=_edge(fact, verdict),
                verdict=verdict,
                epochs=fact.epochs,
                stopped=fact.stopped,
                proof=fact.proof,
            )
        )
    return Tree(tuple(nodes), metric, words)


def words_of(desk: Desk, number: int | None, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """``known`` with the words for the original of a step, as JSON; None where they are in it already.

    Analyses the original, which takes seconds for a large model; one that cannot be analysed has no words.
    """
    with desk.workspace() as workspace:
        if number is None:
            return None
        root = workspace.steps.get(workspace.steps.get(number).root)
        if root.model_hash in known:
            return None
        try:
            groups = desk.analysis(workspace, root)[1].groups
        except OnnxPruneError:
            groups = ()
    words = Words({group.name: group.units for group in groups}, {group.name: group.kind for group in groups})
    return {**known, root.model_hash: asdict(words)}


def put_away(desk: Desk, step: int) -> tuple[int | None, str]:
    """Put a step into the trash with what was made of it; returns what is selected then, and words for it.

    Raises WorkspaceError for an original.
    """
    with desk.workspace() as workspace:
        workspace.check_writable()
        parent = workspace.steps.get(step).parent
        gone = workspace.steps.trash(step)
    return parent, f"{steps_words(gone)} {'is' if len(gone) == 1 else 'are'} in the trash."


def steps_words(numbers: list[int]) -> str:
    """``Step 3``, ``Steps 3 and 4``, ``7 steps``."""
    if len(numbers) > 4:
        return f"{len(numbers)} steps"
    if len(numbers) == 1:
        return f"Step {numbers[0]}"
    return f"Steps {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}" if numbers else "Nothing"


def edge_words(node: Node) -> str:
    """How a step came about, in words: "fine-tuning converged (delta loss after 6 epochs)"."""
    if node.edge == "failed":
        return f"{EDGE_WORDS['failed']}: {node.verdict}"
    why = f" ({node.stopped} after {node.epochs} epochs)" if node.stopped else ""
    if node.edge == "settled" and node.stopped == EPOCHS:
        why = f" (no epoch after the best of {node.epochs} was better)"
    return f"{EDGE_WORDS[node.edge]}{why}"


def label_of(name: str) -> str:
    """The name of a metric for a person."""
    kind = kind_of(name)
    return {"file_bytes": "size in storage"}.get(name) or (kind.label if kind is not None else name)


def shown(name: str, value: float | None) -> str:
    """A metric as a person reads it: "98.20%", "1.25 M", "480 kB"; a dash where it was not measured."""
    if value is None:
        return "-"
    if name.endswith("_bytes"):
        return number_words(value, "B")
    if name in ("parameters", "nonzero", "macs"):
        return number_words(value)
    return str(measured(name, value)) if kind_of(name) is not None else f"{value:.4g}"


def number_words(value: float, unit: str = "") -> str:
    """``1.25 M``, ``480 kB``, ``312``."""
    for size, prefix in SIZES:
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.0f}{f' {unit}' if unit else ''}"


def _left(metrics: Mapping[str, float], whole: float | None) -> float | None:
    """Parameters left as a share of the root's; those that were zeroed have gone as well."""
    here = metrics.get("parameters")
    if here is None or not whole:
        return None
    return min(here, metrics.get("nonzero", here)) / whole


def _bar(metric: str | None, value: float | None, first: float | None) -> float | None:
    """A metric from 0 to 1. Shares are what they are; what should be low is full where it is as low as the root's."""
    if metric is None or value is None:
        return None
    kind = KINDS.get(metric)
    if kind is not None and kind.direction == "lower":
        return 1.0 if value <= 0 else min(1.0, max(0.0, (first or 0.0) / value))
    return min(1.0, max(0.0, value))


def _edge(fact: Fact, verdict: str) -> str:
    if verdict:
        return "failed"
    if fact.converged is None:
        return "untrained"
    return "settled" if fact.converged else "open"
