"""Speculative execution: likely next plans, measured while nothing else runs.

Likely are: the ratios of a ladder and those around the one that a person looks at, the places around a threshold, and
what the first suggestions come to. They are measured by one job of the priority BACKGROUND, nearest first. A person's
own work ends it at once (`Jobs.add`), and it is queued again by itself; what it had measured by then is stored. When
the person turns to another step, jobs for the one before are taken out of the queue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from onnxprune.errors import OptionError, WorkspaceError
from onnxprune.guidance.asked import COUPLING, RUNNING
from onnxprune.guidance.kept import there
from onnxprune.guidance.preview import (
    SAMPLES,
    Preview,
    conditions,
    failures,
    previews_of,
    units_key,
)
from onnxprune.guidance.scores import is_quick, kept_scores, queue, score_now
from onnxprune.workspace.drafting import on_scale
from onnxprune.workspace.job import BACKGROUND, Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "ACTION",
    "RATIOS",
    "Speculation",
    "mark",
    "marker",
    "previews",
    "set_speculation",
    "speculate",
    "speculation",
    "stop_speculating",
]

ACTION = "preview"
SETTING = "speculation"
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
AROUND = (0.0, -0.05, 0.05)  # of the ratio, or of the share of units, that a person looks at
RETURNS = 20  # times that the job comes back after it made room
OPEN = ("queued", "running")
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Speculation:
    """The rules. ``on``: whether it is done at all.

    ``seconds``: that one job may take; ``entries``: previews that are kept of a model; ``samples``: that each is
    measured on; ``suggestions``: how many of the first are measured, too. ``workers``: processes that share the
    plans, or ``scheduler``: a Dask cluster. Raises OptionError for a number that makes no sense.
    """

    on: bool = True
    seconds: float = 120.0
    entries: int = 200
    samples: int = SAMPLES
    suggestions: int = 3
    workers: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("seconds", 0.0), ("entries", 1), ("samples", 1), ("suggestions", 0), ("workers", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
                raise OptionError(f"{name}: got {value!r}, expected at least {least:g}", "Leave it out.")


def speculation(workspace: Workspace) -> Speculation:
    """The rules of a workspace; those by default where none were set, or none that can be read."""
    row = None
    if there(workspace):
        row = workspace.database.row("SELECT value FROM setting WHERE name = ?", SETTING)
    try:
        return Speculation() if row is None else Speculation(**json.loads(row["value"]))
    except (ValueError, TypeError, OptionError):
        return Speculation()


def set_speculation(workspace: Workspace, **changes: Any) -> Speculation:
    """Change some of the rules, for all programs; turned off, it stops at once. Raises OptionError, WorkspaceError."""
    workspace.check_writable()
    rules = replace(speculation(workspace), **changes)
    with workspace.database.writing() as connection:
        connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (SETTING, json.dumps(asdict(rules))))
    if not rules.on:
        stop_speculating(workspace)
    return rules


def previews(workspace: Workspace, step: int, criterion: str | None = None, **options: Any) -> tuple[Preview, ...]:
    """What is measured of a step, the fewest units first; with a ``criterion`` what came of its ratios and thresholds.

    ``options``: data, samples, seed, and those that groups depend on, as for `speculate`. Raises OptionError,
    StepNotFound, WorkspaceError for options, a step or data that do not exist.
    """
    model, subset = conditions(workspace, step, _counted(workspace, options))
    found = previews_of(workspace, model, subset).values()
    mine = (p for p in found if criterion is None or any(r.get("criterion") == criterion for r in p.recipes))
    return tuple(sorted(mine, key=lambda p: (p.removed, p.plan)))


def speculate(
    workspace: Workspace,
    step: int,
    criterion: str = "l2",
    *,
    ratios: Sequence[float] = RATIOS,
    around: float | None = None,
    threshold: Options | None = None,
    **options: Any,
) -> Job | None:
    """Queue what is likely to be wanted next and not measured yet; None where there is nothing to do, or it is off.

    ``around``: the ratio that a person looks at. ``threshold``: an edit that sets one ({"criterion", "threshold",
    "scale"}), the neighbourhood of which is measured, too. ``options``: data, samples, seed, those that groups depend
    on, provider, threads. Other previews that wait or run are taken out of the queue. The caller starts a worker.

    Raises OptionError, StepNotFound, WorkspaceError; without data there is nothing to do.
    """
    rules = speculation(workspace)
    is_quick(criterion)
    here = workspace.steps.get(step)
    if not rules.on or here.trashed or workspace.readonly or workspace.dataset_name(step, options.get("data")) is None:
        stop_speculating(workspace)
        return None
    counted = {**_counted(workspace, options), **{k: v for k, v in options.items() if k in RUNNING}}
    recipes = _wanted(workspace, step, criterion, ratios, around, threshold, counted)
    model, subset = conditions(workspace, step, counted)
    known = previews_of(workspace, model, subset)
    missing = _missing(recipes, known, failures(workspace, model, subset))
    if len(known) >= rules.entries or (not missing and _suggested(workspace, model, subset, rules)):
        stop_speculating(workspace)
        return None
    job = _under_way(workspace, step, counted, missing)
    if job is None:
        job = queue(workspace, ACTION, step, {**counted, "recipes": missing}, BACKGROUND, RETURNS)
    stop_speculating(workspace, but=job.number)
    return job


def _under_way(workspace: Workspace, step: int, options: Options, recipes: Sequence[Options]) -> Job | None:
    """A job that waits or runs and does all of it."""
    for job in Jobs(workspace.database).all(OPEN):
        here = dict(job.options)
        planned = here.pop("recipes", [])
        same = (job.action, job.step, here) == (ACTION, step, dict(options)) and not job.cancel
        if same and all(recipe in planned for recipe in recipes):
            return job
    return None


def stop_speculating(workspace: Workspace, but: int = 0) -> None:
    """Take previews that wait or run out of the queue, all but one."""
    jobs = Jobs(workspace.database)
    if workspace.readonly:
        return
    for job in jobs.all(OPEN):
        if job.action == ACTION and job.priority <= BACKGROUND and job.number != but:
            try:
                jobs.cancel(job.number)
            except WorkspaceError:
                continue  # it ended in this moment


def _counted(workspace: Workspace, options: Options) -> dict[str, Any]:
    """The options that previews depend on. Raises OptionError for others."""
    known = ("data", "samples", "seed", *COUPLING, *RUNNING)
    for name in options:
        if name not in known:
            raise OptionError(f"previews have no option {name!r}", f"Options: {', '.join(known)}.")
    given = {name: v for name, v in options.items() if v is not None and name not in RUNNING}
    return {"samples": speculation(workspace).samples, **given}


def _wanted(
    workspace: Workspace, step: int, criterion: str, ratios: Sequence[float], around: float | None,
    threshold: Options | None, options: Options,
) -> list[dict[str, Any]]:  # fmt: skip
    """Recipes, the likeliest first. Raises OptionError for a ratio that is none."""
    if any(not 0 < ratio < 1 for ratio in ratios) or (around is not None and not 0 <= around <= 1):
        raise OptionError(f"ratios: got {[*ratios, around]}, expected numbers between 0 and 1", "For example 0.5.")
    near = [] if around is None else [round(around + step, 4) for step in AROUND]
    middle = around if around is not None else 0.0
    ladder = [*near, *sorted(ratios, key=lambda ratio: abs(ratio - middle))]
    found = [] if threshold is None else _thresholds(workspace, step, threshold, options)
    return found + [{"criterion": criterion, "ratio": r} for r in dict.fromkeys(ladder) if 0 < r < 1]


def _thresholds(workspace: Workspace, step: int, edit: Options, options: Options) -> list[dict[str, Any]]:
    """The threshold and its neighbours, which remove some more and some fewer of all units."""
    criterion, scale = str(edit["criterion"]), str(edit.get("scale", "score"))
    own = {name: v for name, v in options.items() if name not in ("samples", *RUNNING)}
    scores = kept_scores(workspace, step, criterion, **own)
    if scores is None and is_quick(criterion):
        scores = score_now(workspace, step, criterion, **own)
    here: dict[str, Any] = {"criterion": criterion, "threshold": float(edit["threshold"]), "scale": scale}
    if scores is None:
        return [here]
    values = np.sort(np.concatenate([np.zeros(0), *on_scale(scores, scale).values()]))
    share = float(np.searchsorted(values, here["threshold"])) / max(values.size, 1)
    places = {round((share + step) * values.size) for step in AROUND if step and 0 < share + step < 1}
    others = [float(values[k - 1] + values[k]) / 2 for k in sorted(places) if 0 < k < values.size]
    return [here, *({**here, "threshold": other} for other in others)]


def _missing(
    recipes: Sequence[dict[str, Any]], known: Mapping[str, Preview], failed: Sequence[Options]
) -> list[dict[str, Any]]:
    done = [dict(recipe) for preview in known.values() for recipe in preview.recipes] + [dict(f) for f in failed]
    return [recipe for recipe in recipes if recipe not in done]


def _suggested(workspace: Workspace, model: str, subset: str, rules: Speculation) -> bool:
    """Whether the first suggestions were measured, with all that is kept of the model by now."""
    return not rules.suggestions or marker(workspace, model) == marked(workspace, model, subset)


def marker(workspace: Workspace, model: str) -> str:
    """What suggestions for a model are made from: another text when more is kept."""
    rows = workspace.database.rows("SELECT kind, settings FROM kept WHERE model = ? ORDER BY kind, settings", model)
    return units_key({f"{row['kind']} {row['settings']}": [0] for row in rows})


def marked(workspace: Workspace, model: str, subset: str) -> str:
    """The marker that was there when suggestions were measured the last time."""
    row = workspace.database.row("SELECT value FROM setting WHERE name = ?", _mark(model, subset))
    return "" if row is None else str(row["value"])


def mark(workspace: Workspace, model: str, subset: str, text: str) -> None:
    """Note that the suggestions were measured."""
    with workspace.database.writing() as connection:
        connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (_mark(model, subset), text))


def _mark(model: str, subset: str) -> str:
    return f"suggested {units_key({model: [0], subset: [0]})}"
