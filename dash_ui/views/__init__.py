"""The views of the page, each a module that ends in ``VIEW``; none imports another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dash import Dash
from dash.development.base_component import Component

from dash_ui.desk import Desk

__all__ = ["AREAS", "View"]

AREAS = (
    "history",
    "model",
    "statistics",
    "inspect",
    "drawer",
)  # where a view may stand; drawer: slides in from the right


@dataclass(frozen=True)
class View:
    """``name``: prefix of its ids, and its word in the address. ``title``: on its tab. ``area``: one of AREAS.

    ``layout``: its components, made once. ``register``: adds its callbacks to the app. ``order``: place among the tabs.
    ``tools``: what stands in the head of its panel beside the title, where the area is the model's. ``whole``: the id
    of a button beside those that save what is seen, and what it saves: a drawing of its own that holds more.
    """

    name: str
    title: str
    area: str
    layout: Callable[[], Component]
    register: Callable[[Dash, Desk], None]
    order: int = 0
    tools: Callable[[], Component] | None = None
    whole: tuple[str, str] | None = None
