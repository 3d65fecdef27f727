"""Colours and type of figures, light and dark; the style sheet has the same as CSS variables.

Red means "goes"; it never means it alone: a pattern, an outline or a word goes with it. The palette of series is the
one of `onnxprune.figures.style`, which common colour deficiencies leave apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import plotly.graph_objects as go

__all__ = ["DARK", "LIGHT", "Theme", "finish", "template_of", "theme_of"]

FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
CLEAR = "rgba(0,0,0,0)"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")


@dataclass(frozen=True)
class Theme:
    """The colours of one theme.

    ``ink``: text; ``quiet``: axes and notes; ``grid``; ``paper``: behind panels; ``surface``: of a panel; ``accent``:
    what can be used or is selected; ``gone``: what is removed; ``good``, ``bad``: of changes; ``settled``,
    ``open_edge``: edges of the tree whose fine-tuning converged or did not; ``ramp``: small to large.
    """

    name: str
    ink: str
    quiet: str
    grid: str
    paper: str
    surface: str
    accent: str
    gone: str
    good: str
    bad: str
    settled: str
    open_edge: str
    palette: tuple[str, ...]
    ramp: tuple[str, ...]


LIGHT = Theme(
    "light", "#1c2733", "#5d6b79", "#e3e8ed", "#f3f5f7", "#ffffff", "#0b6bcb", "#c62828", "#1b7f4b", "#b3261e",
    "#98a2ad", "#8e5bb5", PALETTE, ("#f7fbff", "#d0e1f2", "#94c4df", "#4a98c9", "#1764ab", "#08306b"),
)  # fmt: skip
DARK = Theme(
    "dark", "#e4e9ee", "#9aa7b4", "#2c3641", "#11161c", "#1a2129", "#5aa9f5", "#ff6b60", "#5fc48e", "#ff8a80",
    "#6d7986", "#b98be0", ("#4aa3df", "#f0803c", "#2fbf93", "#e39bc4", "#f2b53a", "#8fd0f5", "#a3a3a3"),
    ("#17212c", "#1f3a55", "#28587f", "#3a7cb0", "#62a5d6", "#a8d3f2"),
)  # fmt: skip


def theme_of(name: str | None) -> Theme:
    """The theme of this name, the light one where there is none."""
    return DARK if name == "dark" else LIGHT


@cache
def template_of(theme: Theme) -> go.layout.Template:
    """What all figures of a theme share. As a template it is checked once, not again for every figure."""
    axis = {
        "gridcolor": theme.grid, "zerolinecolor": theme.grid, "linecolor": theme.grid, "ticks": "outside",
        "tickcolor": theme.grid, "automargin": True, "tickfont": {"color": theme.quiet},
        "title": {"standoff": 8, "font": {"size": 12, "color": theme.quiet}},
    }  # fmt: skip
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": theme.ink},
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "hoverlabel": {"bgcolor": theme.surface, "bordercolor": theme.grid, "font": {"color": theme.ink}},
            "colorway": theme.palette,
            "legend": {"font": {"color": theme.quiet}, "bgcolor": CLEAR},
            "modebar": {"bgcolor": CLEAR, "color": theme.quiet, "activecolor": theme.accent},
            "xaxis": axis,
            "yaxis": axis,
        }
    )


def finish(figure: go.Figure, theme: Theme, **layout: object) -> go.Figure:
    """Give a figure the looks that all of them share; ``layout`` adds to it or changes it."""
    return figure.update_layout({"template": template_of(theme), "uirevision": "kept", **layout})
