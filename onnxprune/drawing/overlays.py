"""A number for each layer, to colour a drawing by: parameters, MACs, sparsity, latency, or scores of its units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.drawing.values import Sketch
from onnxprune.errors import OptionError
from onnxprune.graph import Graph
from onnxprune.latency_table import LatencyTable, known_rates
from onnxprune.model import Model
from onnxprune.stored import nonzero
from onnxprune.values import Coupling

__all__ = ["METRICS", "Overlay", "counted", "of_latency", "of_rates", "of_scores", "of_sparsity", "ramp"]

METRICS = ("parameters", "macs", "latency", "sparsity", "sensitivity")
RAMP = ("#e8f1fa", "#b5d4ee", "#6fb0dd", "#2f7fc0", "#08457e")  # small to large

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Overlay:
    """``title``: what is shown, with its unit. ``values``: id of a box -> number; boxes without one have none.

    ``written``: how a number is written (a format of Python). ``basis``: "counted", "measured" or "estimated".
    """

    name: str
    title: str
    values: Mapping[int, float]
    written: str
    basis: str = "counted"

    def text(self, box: int) -> str:
        """The value of a box in words, "" where it has none."""
        return self.written.format(self.values[box]) if box in self.values else ""


def counted(sketch: Sketch, name: str) -> Overlay:
    """``parameters`` or ``macs`` of each layer that has any. Raises OptionError for another name."""
    if name not in ("parameters", "macs"):
        raise OptionError(f"metric {name!r} is not counted on a drawing", f"Metrics: {', '.join(METRICS)}.")
    values = {box.id: float(getattr(box, name)) for box in sketch.boxes if getattr(box, name)}
    title = "parameters" if name == "parameters" else "MACs (multiply-accumulates)"
    return Overlay(name, title, values, "{:,.0f} " + ("parameters" if name == "parameters" else "MACs"))


def of_sparsity(sketch: Sketch, model: Model, graph: Graph) -> Overlay:
    """Share of the entries of a layer's weights that are zero (0 to 1); reads all weights."""
    values = {}
    for box in sketch.boxes:
        sizes = zeros = 0
        for name in box.weights:
            shape = graph.weights[name].shape
            if len(shape) > 1 and box.parameters:
                stored = model.weights.get(graph.origin.get(name, name), graph.weights[name]).array()
                sizes += stored.size
                zeros += max(stored.size - nonzero(graph, name, stored), 0)
        if sizes:
            values[box.id] = zeros / sizes
    return Overlay("sparsity", "share of weights that are zero", values, "{:.1%} of the weights are zero")


def of_rates(sketch: Sketch, macs: Mapping[int, int], rates: Mapping[int, float], basis: str) -> Overlay:
    """Milliseconds of each layer: ``rates`` (number of a node -> milliseconds per MAC) times its MACs."""
    values = {}
    for box in sketch.boxes:
        times = [rates[n] * macs[n] for n in box.numbers if n in rates and n in macs]
        if times:
            values[box.id] = float(sum(times))
    return Overlay("latency", "milliseconds of the layer, each timed alone", values, "{:.3g} ms", basis)


def of_latency(sketch: Sketch, coupling: Coupling, table: LatencyTable | None = None) -> Overlay:
    """Estimated milliseconds of each layer; without a table, from what was measured on this machine before.

    Empty where nothing was.
    """
    rates, macs = known_rates(coupling) if table is None else (table.rates, table.macs)
    return of_rates(sketch, macs, rates, "estimated")


def of_scores(sketch: Sketch, scores: Mapping[str, NDArray[np.float64]], name: str) -> Overlay:
    """Mean score of the units of each layer (higher: it matters more)."""
    values = {}
    for box in sketch.boxes:
        found = [np.asarray(scores[group], np.float64) for group in box.groups if group in scores]
        finite = np.concatenate([mine[np.isfinite(mine)] for mine in found]) if found else np.zeros(0)
        if finite.size:
            values[box.id] = float(finite.mean())
    return Overlay(name, f"mean {name} of the units", values, f"mean {name} {{:.3g}}", "measured")


def ramp(overlay: Overlay, colours: Sequence[str] = RAMP) -> dict[int, str]:
    """Id of a box -> colour; the scale begins at 0 (at the smallest value where there are negative ones)."""
    if not overlay.values:
        return {}
    low, high = min(0.0, *overlay.values.values()), max(overlay.values.values())
    return {
        box: _mixed(colours, (value - low) / (high - low) if high > low else 0.0)
        for box, value in overlay.values.items()
    }


def _mixed(colours: Sequence[str], share: float) -> str:
    place = share * (len(colours) - 1)
    first = min(int(place), len(colours) - 2)
    a, b = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in colours[first : first + 2])
    mixed = np.rint(a + (place - first) * (b - a)).astype(int)
    return "#" + "".join(f"{part:02x}" for part in mixed)
