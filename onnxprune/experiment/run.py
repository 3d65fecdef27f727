"""``prune``: the whole way from a model to a smaller one, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnxprune.allocate import Budget, Floor
from onnxprune.data import Source
from onnxprune.errors import OptionError
from onnxprune.experiment.request import Progress, Pruned, Request
from onnxprune.experiment.work import Work
from onnxprune.losses import Loss
from onnxprune.model import Model
from onnxprune.plan import Plan, check_model
from onnxprune.values import Options

__all__ = ["prune"]


def prune(  # noqa: PLR0913 - one argument for each option of the command, so that a call reads like it
    model: Model,
    *,
    criterion: str = "l2",
    mode: str | None = None,
    granularity: str | None = None,
    include_inexact: bool = False,
    attention: str = "heads",
    norm_groups: str = "whole",
    allow_io: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    plan: Plan | None = None,
    recover: str | None = None,
    floors: Sequence[Floor] = (),
    data: Source | None = None,
    samples: int | None = None,
    evaluate: bool = False,
    normalise: bool | str = True,
    losses: tuple[Loss, ...] | None = None,
    seed: int = 0,
    verify: bool = True,
    measure: bool = False,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
    **budget: Any,
) -> Pruned:
    """Prune a model: by a ratio or targets, or as a plan says; proven unless ``verify`` is False.

    ``budget``: the fields of `allocate.Budget` by name (``ratio=0.5``, ``target_macs=0.6``, ``target_latency="5ms"``,
    ``distribution="erk"``, ``skip=["conv1"]``, ``pattern="2:4"`` ...). The other arguments are those of ``Request`` and
    ``Options``. ``plan`` takes the place of a budget, and brings its own options. ``granularity``: by default "unit",
    with a pattern "weight". ``data``: what scores and repairs are fitted on (its training part, where it has parts),
    and what metrics and the proof run on (its test part). ``measure``: measure latency before and after. ``notify`` is
    told what a person should know beforehand.

    Raises OnnxPruneError: a bad option, nothing to prune, a budget out of reach, a cut that is impossible, a proof
    that fails.
    """
    fixed = tuple((name, tuple(int(n) for n in shape)) for name, shape in (shapes or {}).items())
    options = Options(include_inexact, attention, norm_groups, tuple(allow_io), fixed)
    kind = granularity or ("weight" if budget.get("pattern") else "unit")
    request = Request(
        criterion, mode, kind, options, seed, provider, threads, recover, tuple(floors), samples, evaluate, normalise,
        losses,
    )  # fmt: skip
    budget = {name: value for name, value in budget.items() if value is not None}
    wanted: Budget | Plan
    if plan is not None:
        _check_alone(budget)
        check_model(plan, model.hash, model.path.name if model.path else "")
        wanted = plan
        request = replace(request, options=plan.options, granularity="unit" if plan.units else "weight")
    else:
        wanted = Budget(**budget)
    return Work(model, request, progress, measure=measure).run(wanted, verify=verify, data=data, notify=notify)


def _check_alone(budget: Mapping[str, Any]) -> None:
    given = [name for name, value in budget.items() if value]
    if given:
        raise OptionError(f"both a plan and {given[0]} are given: a plan says already what goes", "Give one of them.")
