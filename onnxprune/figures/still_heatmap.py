"""A matrix with names as a picture: light to dark, each cell with its number where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnxprune.figures.chart import Heatmap
from onnxprune.figures.numbers import exact, tick, tick_format
from onnxprune.figures.still_axes import frame, name_ticks
from onnxprune.figures.style import CELLS_WITH_TEXT, DIVERGING, INK, QUIET, SEQUENTIAL, luminance, mixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heatmap"]


def draw_heatmap(axes: Axes, heatmap: Heatmap) -> None:
    """Cells, names of rows and columns, and the scale of colours."""
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415

    frame(axes, heatmap)
    low, high = heatmap.limits()
    stops = DIVERGING if low < 0 else SEQUENTIAL
    image = axes.imshow(
        np.ma.masked_invalid(heatmap.array),
        LinearSegmentedColormap.from_list("cells", stops),
        vmin=low,
        vmax=high,
        aspect="equal" if heatmap.square else "auto",
    )
    axes.set_anchor("NW")
    name_ticks(axes.xaxis, heatmap.columns_of, upright=True)
    name_ticks(axes.yaxis, heatmap.rows_of, upright=False, tall=False)
    axes.spines["bottom"].set_visible(False)
    form = tick_format(heatmap.value.format, max(abs(low), abs(high)))
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.025, 0, 0.022, 1)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=QUIET, labelsize=8.5, length=0)
    bar.locator = MaxNLocator(5)
    bar.formatter = FuncFormatter(lambda value, _: tick(value, form))
    bar.update_ticks()
    bar.ax.set_ylabel(heatmap.value.title, color=QUIET, fontsize=9, parse_math=False)
    if max(heatmap.array.shape, default=0) <= CELLS_WITH_TEXT:
        _cell_values(axes, heatmap, stops)


def _cell_values(axes: Axes, heatmap: Heatmap, stops: Sequence[str]) -> None:
    low, high = heatmap.limits()
    widest = max(len(exact(value, heatmap.value.format)) for value in heatmap.array.ravel().tolist())
    size = min(8.5, 70 / (max(heatmap.array.shape[1], 4) * max(widest, 3) / 6))
    for (row, column), value in np.ndenumerate(heatmap.array):
        if math.isfinite(value):
            dark = luminance(mixed(stops, (value - low) / ((high - low) or 1.0))) < 0.55
            colour = "white" if dark else INK
            text = exact(float(value), heatmap.value.format)
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
