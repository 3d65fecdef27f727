"""What the page asks about a mask, and the answers: plain values that the browser draws (``assets/mask.js``).

These are no callbacks of Dash, because a brush has to be seen at once: the answer to it holds the picture, the counts
and the histogram, and the rest of the page hears of the change after they are drawn. A question is a mapping::

    what       "show", "brush" or "cell"
    selection  as the store SELECTION has it; theme, square
    tensor     the weight, None for the one that fits the selected group
    size       pixels of the plot, height and width; window: {"key", "x", "y"} where it is zoomed
    parts      of "show": "weights", "picture", "facts"
    event      of "brush", as `rows.brushing.edit_for` takes it; seen: revision of the draft that the person saw
    row, column, criterion   of "cell"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash_ui.desk import Desk
from dash_ui.figures.mask import histogram_drawing, mask_drawing, mask_picture, view_key
from dash_ui.rows.brushing import edit_for
from dash_ui.rows.cell import cell_state, cell_words, zero_since
from dash_ui.rows.mask import (
    Change,
    Mask,
    changes,
    choices,
    counts,
    first_weight,
    group_of,
    kept,
    magnitudes,
    mask_of,
    matrices_of,
)
from dash_ui.rows.preview import preview_of
from dash_ui.state import Selection
from dash_ui.theme import theme_of
from onnxprune.workspace.edits import edit_words
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["answer"]

Ask = Mapping[str, Any]


def answer(desk: Desk, ask: Ask) -> dict[str, Any]:
    """The answer to a question; an empty one where there is nothing to say. Raises what the workspace does."""
    with desk.workspace() as workspace:
        now = Selection.of(ask.get("selection"))
        if now.step is None:
            return {}
        step = workspace.steps.get(now.step)
        if ask["what"] != "show":
            mask = mask_of(desk, workspace, step, str(ask.get("tensor")))
            if mask is None:
                return {}
            if ask["what"] == "cell":
                return _cell(desk, workspace, step, mask, ask)
            edit, said = _edit(desk, workspace, step, mask, ask)
        else:
            return _shown(desk, workspace, step, ask)
    revision = desk.edit(step.number, edit, ask.get("seen"))
    with desk.workspace() as workspace:
        after = mask_of(desk, workspace, step, str(ask["tensor"]))
        if after is None:
            return {"said": said, "revision": revision}
        source = mask_picture(after, theme_of(ask.get("theme")), **_view(after, ask))
        return {
            "said": said, "source": source, "facts": _facts(desk, workspace, step, after, ask),
            "revision": revision,
        }  # fmt: skip


def _shown(desk: Desk, workspace: Workspace, step: Step, ask: Ask) -> dict[str, Any]:
    now, parts, tensor = Selection.of(ask.get("selection")), ask["parts"], ask.get("tensor")
    found: dict[str, Any] = {}
    if "weights" in parts:
        _, coupling = desk.analysis(workspace, step)
        every = matrices_of(desk, workspace, step)
        tensor = tensor if tensor in every else first_weight(every, coupling, now.group)
        found["weights"] = {"options": choices(every, coupling, now.group), "value": tensor}
    mask = None if tensor is None else mask_of(desk, workspace, step, tensor)
    if mask is None:
        return found
    found["revision"] = mask.revision
    if "picture" in parts and ask.get("size"):
        found["figure"] = mask_drawing(mask, theme_of(ask.get("theme")), **_view(mask, ask))
        found["scale"] = f"{mask.layer.scale:.3g}"
    if "facts" in parts:
        found["facts"] = _facts(desk, workspace, step, mask, ask)
    return found


def _view(mask: Mask, ask: Ask) -> dict[str, Any]:
    """What part of it is shown, and how large."""
    square, window, (high, wide) = bool(ask.get("square")), ask.get("window"), ask["size"]
    mine = window is not None and window["key"] == view_key(mask, square=square)
    return {"view": window if mine else None, "square": square, "size": (int(high), int(wide))}


def _facts(desk: Desk, workspace: Workspace, step: Step, mask: Mask, ask: Ask) -> dict[str, Any]:
    """Counts, the histogram, and words about the steps before."""
    _, coupling = desk.analysis(workspace, step)
    matrix = mask.layer.matrix
    weight, group, model = counts(desk, workspace, step, matrix.tensor)
    number = group_of(matrix)
    name = None if number is None else coupling.groups[number].name
    named = [("this weight", weight), (f"with {name}", group), ("model", model)]
    before = kept(desk, "changes", 64).get(
        (step.number, matrix.name), lambda: changes(workspace, step, matrix.name)
    )  # reads the models of all steps before, which never change
    words, back = _notes(desk, workspace, step, mask, before)
    return {
        "counts": [
            one and {"of": word, "gone": one.gone, "left": one.left, "share": one.gone / max(one.of, 1)}
            for word, one in named
        ],
        "histogram": histogram_drawing(*magnitudes(mask), theme_of(ask.get("theme"))), "note": " ".join(words),
        "back": back,
    }  # fmt: skip


def _notes(
    desk: Desk, workspace: Workspace, step: Step, mask: Mask, before: Sequence[Change]
) -> tuple[list[str], int | None]:
    """What a person should know of the steps before, and of what goes along; and the step to branch from."""
    words, back = [], None
    for change in before[:1]:
        shapes = (" × ".join(map(str, shape)) for shape in (change.before, change.after))
        words.append(f"#{change.step} made it smaller, {' → '.join(shapes)}: what it took out is not in this model.")
        back = change.parent
    if mask.layer.has_zeros:
        since = zero_since(desk, workspace, step, mask)
        made = [n for n in since[0] if workspace.steps.get(n).parent is not None] if since else []
        if since is not None and made and back is None:
            zero = mask.layer.zeros > 0
            latest = next((n for k, n in enumerate(since[0]) if n in made and (since[1] == k)[zero].any()), None)
            back = None if latest is None else workspace.steps.get(latest).parent
            words += [] if latest is None else [f"#{latest} left zeros here."]
    single = mask.state.weights.get(mask.layer.matrix.name)
    if single is not None and not mask.state.units and single.any():
        words.append("Single weights become zeros; removing units makes the model smaller.")
    return words, back


def _edit(desk: Desk, workspace: Workspace, step: Step, mask: Mask, ask: Ask) -> tuple[dict[str, Any], str]:
    """The entry that a brush means, and words for it: for units, what goes along with them."""
    _, coupling = desk.analysis(workspace, step)
    edit = edit_for(mask, coupling, ask["event"], Selection.of(ask.get("selection")).group)
    if "group" in edit and "remove" in edit:
        return edit, preview_of(desk, workspace, step, edit["group"], edit["remove"]).words
    return edit, f"{edit_words(edit)}."


def _cell(desk: Desk, workspace: Workspace, step: Step, mask: Mask, ask: Ask) -> dict[str, Any]:
    row, column = int(ask["row"]), int(ask["column"])
    if not (0 <= row < mask.codes.shape[0] and 0 <= column < mask.codes.shape[1]):
        return {}
    lines = cell_words(desk, workspace, step, mask, row, column, Selection.of(ask.get("selection")).criterion)
    return {"lines": lines, "state": cell_state(mask, row, column)}
