"""The same fine-tuning with several seeds, as steps beside each other.

One fine-tuning is a draw: order of the samples, what is held out, dropout. CNNPruner therefore fine-tunes the original
plan and the refined one ten times each before comparing them. Every repeat is a step beside the others, with the
document ``repeat`` (JSON): ``run`` (a key), ``of`` (the step that was fine-tuned), ``seed``.

``repeat``          the job: one after the other, going on where an earlier one with the same ``run`` broke off
``repeat_seeds``    the same with an Executor: a seed is a task of picklable values, done by `repeat_one`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from onnxprune.automatic.rows import documents_named
from onnxprune.errors import OptionError
from onnxprune.evaluate import better, measured
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.recording import Progress, dumps
from onnxprune.workspace.replay import recorded
from onnxprune.workspace.values import Cancelled, Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["REPEAT", "repeat", "repeat_one", "repeat_rows", "repeat_seeds", "seeds_of", "target_of"]

REPEAT = "repeat"
SEEDS = 10
LOOK = 0.25  # seconds between two looks at whether it is to end
Row = dict[str, Any]


def seeds_of(value: Any) -> tuple[int, ...]:
    """``10`` stands for the seeds 0 to 9; or a list of different ones. Raises OptionError."""
    given = value
    if isinstance(value, str) and not value.strip().isdigit():
        value = [part for part in value.split(",") if part.strip()]
    try:
        seeds = tuple(range(int(value))) if isinstance(value, int | str) else tuple(int(v) for v in value)
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError
    except (TypeError, ValueError):
        raise OptionError(f"seeds: got {given!r}, expected a number, or different seeds", "10, or 0,1,2.") from None
    return seeds


def target_of(workspace: Workspace, number: int) -> tuple[int, dict[str, Any]]:
    """What is fine-tuned when a step is repeated, and the options: of a fine-tuned step its own."""
    step = workspace.steps.get(number)
    if step.kind != "fine-tune":
        return number, {}
    told = recorded(step)
    return told.step, {key: value for key, value in told.options.items() if key not in ("name", "seed")}


def repeat(
    workspace: Workspace,
    number: int,
    options: Mapping[str, Any],
    progress: Progress,
    cancelled: Callable[[], bool] = lambda: False,
) -> Step:
    """Fine-tune a step once for every seed; returns the step that came out best.

    ``options``: ``seeds`` (ten by default, see `seeds_of`), ``run`` (a key), and those of ``fine-tune``. A step that
    was fine-tuned is not trained further: what was done to make it is done again. Raises OptionError, Cancelled, and
    what fine-tuning raises.
    """
    given = dict(options)
    seeds, run = seeds_of(given.pop("seeds", SEEDS)), str(given.pop("run", "") or REPEAT)
    repeat_seeds(workspace, number, seeds, run, given, progress=progress, cancelled=cancelled)
    of, _ = target_of(workspace, number)
    mine = [row for row in repeat_rows(workspace, of) if row["run"] == run and row["seed"] in seeds]
    return _best([workspace.steps.get(row["step"]) for row in mine])


def repeat_seeds(
    workspace: Workspace,
    number: int,
    seeds: Sequence[int],
    run: str,
    options: Mapping[str, Any],
    *,
    executor: Executor | None = None,
    progress: Progress,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[int]:
    """The steps of a fine-tuning with these seeds, in their order; what is there already is not made again.

    ``executor``: tasks run there, each of which opens the workspace by its folder, so that workers on other machines
    need that folder, too. Raises as `repeat`.
    """
    of, own = target_of(workspace, number)
    given = {**own, **options}
    if "seed" in given:
        raise OptionError("both seeds and a seed are given", "Give the seeds.")
    done = {row["seed"]: row["step"] for row in repeat_rows(workspace, of) if row["run"] == run}
    todo = [seed for seed in seeds if seed not in done]
    if executor is None:
        for place, seed in enumerate(todo):
            words = f"seed {seed} ({len(seeds) - len(todo) + place + 1} of {len(seeds)})"
            report = partial(_named, progress, words)
            done[seed] = _tune(workspace, of, {**given, "seed": seed}, run, report, cancelled)
    else:
        tasks = {executor.submit(repeat_one, str(workspace.folder), of, {**given, "seed": s}, run): s for s in todo}
        _collect(tasks, done, progress, cancelled)
    return [done[seed] for seed in seeds]


def repeat_one(folder: str, of: int, options: Mapping[str, Any], run: str) -> int:
    """One fine-tuning in the workspace of a folder; the number of its step."""
    with Workspace.open(Path(folder), scan=False) as workspace:
        return _tune(workspace, of, options, run, _silent, lambda: False)


def _tune(
    workspace: Workspace,
    of: int,
    options: Mapping[str, Any],
    run: str,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> int:
    about = dumps({"run": run, "of": of, "seed": options["seed"]})
    with workspace.tagging(lambda _: {REPEAT: about}):
        return ACTIONS["fine-tune"](workspace, of, options, progress, cancelled).number


def _collect(
    tasks: Mapping[Future[int], int], done: dict[int, int], progress: Progress, cancelled: Callable[[], bool]
) -> None:
    """Wait for tasks; those that have not begun are taken back where the work is to end."""
    left = set(tasks)
    try:
        while left:
            progress("fine-tuning", len(tasks) - len(left), len(tasks))
            if cancelled():
                raise Cancelled("repeating was cancelled")
            ready, left = wait(left, timeout=LOOK)
            done.update({tasks[one]: one.result() for one in ready})
    finally:
        for one in left:
            one.cancel()


def repeat_rows(workspace: Workspace, of: int) -> list[Row]:
    """A row for every repeat of a step: run, of, seed, step, and its metrics."""
    found = documents_named(workspace, workspace.steps.get(of).root, REPEAT)
    return [{**row, "step": n, **workspace.steps.get(n).metrics} for n, row in found.items() if row["of"] == of]


def _best(steps: Sequence[Step]) -> Step:
    metric = main_metric(steps)
    best = steps[0]
    for step in steps[1:]:
        if metric and better(measured(metric, step.metrics[metric]), measured(metric, best.metrics[metric])):
            best = step
    return best


def _named(progress: Progress, words: str, stage: str, done: int = 0, total: int = 0) -> None:
    progress(f"{words}: {stage}", done, total)


def _silent(_stage: str, _done: int = 0, _total: int = 0) -> None:
    """Nobody looks at it."""
