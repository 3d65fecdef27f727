"""The architecture of any model as a drawing: layers as boxes, what flows between them, and what a removal takes.

``values``    what is drawn, and where
``flow``      the nodes that something flows through
``clusters``  nodes to layers; ``attention`` finds whole attention blocks
``boxes``     names, types, units, shapes, parameters and MACs of the layers; ``repeats`` finds equal blocks
``arrange``   places: the longest path gives x, a lane per branch y, long drawings wrap like text
``svg``       a drawing as a file that stands alone; ``page`` puts it into a web page
``overlays``  a number per layer to colour it by
``preview``   all that goes along with a unit
"""

from __future__ import annotations

from onnxprune.drawing.arrange import COLLAPSE, arrange
from onnxprune.drawing.boxes import sketch
from onnxprune.drawing.overlays import METRICS, Overlay, counted, of_latency, of_scores, of_sparsity, ramp
from onnxprune.drawing.page import page
from onnxprune.drawing.preview import Preview, PreviewRow, preview, singular
from onnxprune.drawing.svg import Marks, fitting, share_gone, svg
from onnxprune.drawing.values import KINDS, Box, Bracket, Drawing, Edge, Placed, Repeat, Route, Sketch

__all__ = [
    "COLLAPSE",
    "KINDS",
    "METRICS",
    "Box",
    "Bracket",
    "Drawing",
    "Edge",
    "Marks",
    "Overlay",
    "Placed",
    "Preview",
    "PreviewRow",
    "Repeat",
    "Route",
    "Sketch",
    "arrange",
    "counted",
    "fitting",
    "of_latency",
    "of_scores",
    "of_sparsity",
    "page",
    "preview",
    "ramp",
    "share_gone",
    "singular",
    "sketch",
    "svg",
]
