"""Charts: frozen values made of rows, and files drawn from them.

    chart = Chart("Accuracy by size", AxisSpec("MACs", ",.0f"), AxisSpec.of(metric), (Series("l1", macs, accuracy),))
    write(chart, "accuracy.html")     # or .png, .svg, .pdf
    chart.rows()                      # the same numbers for --json

No chart knows a metric: an axis takes its label, unit and format from the metric's record.
"""

from onnxprune.figures.chart import AxisSpec, Chart, Figure, Heatmap, Line, Series
from onnxprune.figures.files import EXTENSIONS, check_path, write
from onnxprune.figures.interactive import CONFIG, to_plotly
from onnxprune.figures.still import to_matplotlib

__all__ = [
    "CONFIG",
    "EXTENSIONS",
    "AxisSpec",
    "Chart",
    "Figure",
    "Heatmap",
    "Line",
    "Series",
    "check_path",
    "to_matplotlib",
    "to_plotly",
    "write",
]
