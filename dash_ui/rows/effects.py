"""What comes out of the models of steps, and of one with its draft carried out as zeroes."""

from __future__ import annotations

import hashlib

import numpy as np

from dash_ui.desk import Desk
from dash_ui.rows.instances import Chosen, Effect, Source, effect_of
from dash_ui.rows.maps import kept_maps, view_of
from onnxprune import Plan, mask
from onnxprune.explain import Outcome, outcome
from onnxprune.workspace.drafting import DraftState
from onnxprune.workspace.edits import weight_masks
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["draft_effect", "outcome_of"]


def outcome_of(desk: Desk, workspace: Workspace, source: Source, chosen: Chosen, step: int) -> Outcome:
    """What the model of a step makes of instances. Raises what `outcome` does."""
    found = workspace.steps.get(step)
    view = view_of(desk, workspace, found)
    key = ("outcome", found.model_hash, source.key, chosen.rows)
    return kept_maps(desk).get(key, lambda: outcome(view.model, source.dataset, chosen.rows))


def draft_effect(
    desk: Desk, workspace: Workspace, source: Source, chosen: Chosen, steps: tuple[Step, int | None], state: DraftState
) -> Effect:
    """What comes out before a step, of it, and with its draft. ``steps``: it, and the one before it, or None.

    The draft is carried out as zeroes in a copy of the model, which is run and forgotten; removing comes to the same.
    """
    step, other = steps
    found = {
        "before": None if other is None else outcome_of(desk, workspace, source, chosen, other),
        "after": outcome_of(desk, workspace, source, chosen, step.number),
        "draft": _drafted(desk, workspace, source, chosen, step, state),
    }
    return effect_of(source, chosen, found)


def _drafted(
    desk: Desk, workspace: Workspace, source: Source, chosen: Chosen, step: Step, state: DraftState
) -> Outcome | None:
    units = {name: np.flatnonzero(gone) for name, gone in state.gone.items() if gone.any()}
    view = view_of(desk, workspace, step)
    weights = weight_masks(view.coupling, state)
    if not units and not weights:
        return None
    digest = hashlib.sha256()
    for name, places in (*units.items(), *((name, np.flatnonzero(gone)) for name, gone in weights.items())):
        digest.update(name.encode() + b"\0" + places.tobytes())

    def make() -> Outcome:
        sizes = {group.name: group.units for group in view.coupling.groups}
        plan = Plan(view.coupling.model_hash, units, sizes, weights, view.coupling.options)
        return outcome(mask(view.model, view.coupling, plan), source.dataset, chosen.rows, once=True)

    return kept_maps(desk).get(("drafted", step.model_hash, digest.hexdigest(), source.key, chosen.rows), make)
