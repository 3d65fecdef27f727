"""Ids of what all views share; the ids of a view's own components begin with its name (``tree-graph``)."""

from __future__ import annotations

__all__ = [
    "APPLY",
    "AUTO",
    "DATASET",
    "DRAFT_CHANGED",
    "ENDED",
    "ESTIMATE",
    "EXPORT",
    "FIND",
    "FINE_TUNE",
    "GUIDE",
    "JOBS",
    "LIVE",
    "MODEL",
    "OPTIONS",
    "PLACE",
    "REDO",
    "REVISION",
    "RUNNING",
    "SELECTION",
    "SETTINGS",
    "SUMMARY",
    "THEME",
    "THEME_BUTTON",
    "TICK",
    "TOAST",
    "TREE",
    "UNDO",
    "URL",
]

URL = "url"  # dcc.Location
TICK = "tick"  # dcc.Interval of a second, for what must be asked again and again
SELECTION = "selection"  # Store: `state.Selection` as a dict
PLACE = "place"  # Store: of the selection all but group, tab and threshold; changes when another step is selected
REVISION = "revision"  # Store: {"tree": text, "jobs": text, ...}; another text when somebody changed something
TREE = "revision-tree"  # Store: of it the text for steps and files alone
ENDED = "revision-ended"  # Store: of it the text for what became of jobs and what they measured, not how far they are
DRAFT_CHANGED = "draft-changed"  # Store: the revision of the selected step's draft
THEME = "theme"  # Store: "light" or "dark"
TOAST = "toast"  # Store: {"kind": "info" | "done" | "error", "text": ..., "hint": ...}, the newest message
# Store, while it changes: {"gone": {group: count}, "units": {group: total}, "threshold": number or None, "weights"}
LIVE = "live"
ESTIMATE = (
    "estimate"  # Store: {"units", "of", "parameters_left", "macs_left", "bytes_left", "accuracy", "accuracy_kind"}
)
RUNNING = "running"  # Store: numbers of the jobs that waited or ran when one looked last
OPTIONS = (
    "options"  # Store, kept by the browser: {"prune": options, "fine-tune": options, "auto": options}, as last set
)
FIND = "find"  # Store: {"text": what to look for among the layers, "next": how often the next one was asked for}

# The top bar. A drawer view NAME is opened by the button `open-NAME`, which the top bar has for each of them.
MODEL = "top-model"  # dcc.Dropdown: number of the original whose tree is shown
DATASET = "top-dataset"  # dcc.Dropdown: path of the data, as `Selection.data` has it
SUMMARY = "top-summary"  # html.Div: what is to go, in words
UNDO, REDO = "top-undo", "top-redo"  # html.Button, wired by the shell
APPLY, FINE_TUNE, AUTO = "top-apply", "top-fine-tune", "top-auto"  # html.Button, disabled until a view sets `disabled`
EXPORT, JOBS, GUIDE, SETTINGS = "open-export", "open-jobs", "open-guidance", "open-settings"
THEME_BUTTON = "top-theme"
