"""One colour for each group, the same in every view: distinct ones for up to twelve, beyond that a ramp by depth."""

from __future__ import annotations

from plotly.colors import sample_colorscale

from dash_ui.theme import Theme

__all__ = ["DISTINCT", "layer_colours"]

DISTINCT = 12
MORE = {
    "light": ("#8c4a00", "#5b4b9a", "#a3004f", "#3c7d00", "#b8a200"),
    "dark": ("#c98a4b", "#9d8be0", "#e0679f", "#8ccf4d", "#ddd06a"),
}
STOPS = {
    "light": ["#0b2a6b", "#1f77b4", "#2fa39a", "#8bbf3f", "#d9a400"],
    "dark": ["#6f8ff0", "#4ab0e0", "#45c7b0", "#a5d860", "#f2cf55"],
}


def layer_colours(theme: Theme, count: int) -> tuple[str, ...]:
    """A colour for each of ``count`` groups, from the input of the model to its output."""
    if count <= DISTINCT:
        return (*theme.palette, *MORE[theme.name])[:count]
    places = [number / (count - 1) for number in range(count)]
    return tuple(_hex(colour) for colour in sample_colorscale(STOPS[theme.name], places))


def _hex(colour: str) -> str:
    parts = colour.removeprefix("rgb(").removesuffix(")").split(",")
    return "#" + "".join(f"{round(float(part)):02x}" for part in parts)
