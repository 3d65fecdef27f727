"""Ids of what all views share; the ids of a view's own components begin with its name (``tree-graph``)."""

from __future__ import annotations

__all__ = ["DRAFT_CHANGED", "ESTIMATE", "LIVE", "REVISION", "SELECTION", "THEME", "TICK", "TOAST", "URL"]

URL = "url"  # dcc.Location
TICK = "tick"  # dcc.Interval that asks for revisions
SELECTION = "selection"  # Store: `state.Selection` as a dict
REVISION = "revision"  # Store: {"tree": text, "jobs": text}; another text when somebody changed something
DRAFT_CHANGED = "draft-changed"  # Store: the revision of the selected step's draft
THEME = "theme"  # Store: "light" or "dark"
TOAST = "toast"  # Store: {"kind": "info" | "done" | "error", "text": ..., "hint": ...}, the newest message
LIVE = "live"  # Store: {"gone": {group: count}, "units": {group: total}, "threshold": number or None}, while it changes
ESTIMATE = (
    "estimate"  # Store: {"units", "of", "parameters_left", "macs_left", "bytes_left", "accuracy", "accuracy_kind"}
)
