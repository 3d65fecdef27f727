"""The values of a drawing: what is drawn (`Sketch`), and where (`Drawing`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["KINDS", "Box", "Bracket", "Drawing", "Edge", "Placed", "Repeat", "Route", "Sketch"]

# Kind of a box -> the word for a legend, in the order of a legend.
KINDS: Mapping[str, str] = {
    "convolution": "convolution",
    "depthwise": "depthwise convolution",
    "linear": "linear",
    "attention": "attention",
    "recurrent": "recurrent",
    "embedding": "embedding",
    "normalisation": "normalisation",
    "pooling": "pooling",
    "activation": "activation",
    "join": "join",
    "control": "control flow",
    "other": "other operator",
    "end": "input or output",
}
WIDE = frozenset(("convolution", "depthwise", "linear", "attention", "recurrent", "embedding", "control"))


@dataclass(frozen=True)
class Box:
    """A layer: the nodes that a person takes for one thing.

    ``kind``: a key of KINDS. ``word``: the type in words ("convolution 3×3, stride 2"). ``mark``: what stands in a box
    without units ("+" for a join). ``groups``: names of the groups whose units the layer produces and that ``units``
    counts; ``also``: other groups produced inside of it; ``carries``: all groups with a member in it. ``units``: how
    many the layer has, None where it has none of its own; ``unit_word``: what they are called. ``shape``: of the
    output, with a batch of 1. ``extent``: side of the feature map, length of the sequence, 1 for a vector.
    ``parameters``, ``macs``: of all nodes inside; over all boxes they add up to those of the model. ``nodes``:
    operator and name of each node. ``numbers``: the numbers of these nodes. ``weights``: names of the constants.
    """

    id: int
    name: str
    kind: str
    word: str
    mark: str = ""
    groups: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    carries: tuple[str, ...] = ()
    units: int | None = None
    unit_word: str = ""
    shape: tuple[int, ...] | None = None
    extent: float = 1.0
    parameters: int = 0
    macs: int = 0
    nodes: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    weights: tuple[str, ...] = ()

    @property
    def heavy(self) -> bool:
        """Whether it is drawn wide: a layer with weights of its own."""
        return self.kind in WIDE


@dataclass(frozen=True)
class Edge:
    """``source``, ``target``: ids of boxes. ``shape``: of what flows. ``side``: a mask or the like, drawn faintly."""

    source: int
    target: int
    shape: tuple[int, ...] | None = None
    side: bool = False


@dataclass(frozen=True)
class Repeat:
    """Equal blocks one behind the other: ``copies[i]`` holds the boxes of the i-th, in the same order."""

    copies: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sketch:
    """All layers of a model in the order in which they run, what flows between them, and which blocks repeat."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    repeats: tuple[Repeat, ...] = ()

    @cached_property
    def producers(self) -> Mapping[str, tuple[int, ...]]:
        """Group -> the boxes that produce its units."""
        found: dict[str, tuple[int, ...]] = {}
        for box in self.boxes:
            for name in (*box.groups, *box.also):
                found[name] = (*found.get(name, ()), box.id)
        return found

    @cached_property
    def carriers(self) -> Mapping[str, tuple[int, ...]]:
        """Group -> all boxes that lose something when its units go."""
        found: dict[str, tuple[int, ...]] = {}
        for box in self.boxes:
            for name in box.carries:
                found[name] = (*found.get(name, ()), box.id)
        return found


@dataclass(frozen=True)
class Placed:
    """A rectangle for one box, or for the same box of every copy of a block. ``x``, ``y``: its centre."""

    boxes: tuple[int, ...]
    x: float
    y: float
    width: float
    height: float
    row: int
    repeat: int | None = None

    @property
    def id(self) -> int:
        return self.boxes[0]


@dataclass(frozen=True)
class Route:
    """The line of an edge from ``source`` to ``target`` (the first boxes of placed ones) through all ``points``."""

    source: int
    target: int
    points: tuple[tuple[float, float], ...]
    side: bool = False


@dataclass(frozen=True)
class Bracket:
    """The frame round a block that stands for ``count`` equal ones, on one row. ``repeat``: number in the sketch."""

    repeat: int
    count: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Drawing:
    """A sketch with places, in pixels, y downwards. ``label_width``: pixels for the name under a box, 0: no names."""

    sketch: Sketch
    placed: tuple[Placed, ...]
    routes: tuple[Route, ...]
    brackets: tuple[Bracket, ...]
    width: float
    height: float
    rows: int
    label_width: float = 0.0
    place_of: Mapping[int, int] = field(default_factory=dict)  # id of a box -> number in ``placed``
