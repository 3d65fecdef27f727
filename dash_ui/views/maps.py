"""Feature maps: what the units of a group make of an instance, before and after a step (V14), marked by a click (V15).

The server tells which maps there are and what comes out of the models; the browser draws them (``assets/maps.js``): all
pictures are parts of one image, however many units there are.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update, set_props

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.rows.draft import draft_of
from dash_ui.rows.instances import Chosen, Source, effect_of, mean_rows, move, portrait, source_for, wrong_rows
from dash_ui.rows.maps import browser_maps, kept_maps, sides, view_of
from dash_ui.rows.statistics import focus_of, keep_of
from dash_ui.statistics import choice
from dash_ui.theme import theme_of
from dash_ui.views import View
from dash_ui.views_parts.maps import NAME, SCALES, effect_table, group_words, nothing, portrait_of, said_of
from onnxprune import Plan, mask
from onnxprune.errors import OnnxPruneError, OptionError
from onnxprune.explain import Outcome, default_layer, outcome
from onnxprune.workspace.drafting import DraftState
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["VIEW"]
