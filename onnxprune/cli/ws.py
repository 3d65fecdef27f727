"""``onnxprune ws``: the tree of a workspace, its steps, their names, the trash, drafts, figures, housekeeping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from onnxprune._atomic import replacing
from onnxprune.cli import ws_actions, ws_branch
from onnxprune.cli.console import change, count, emit_json, megabytes, progress, show, table, warn
from onnxprune.cli.options import JsonOption, examples, writable
from onnxprune.cli.ws_options import FolderOption, StepArgument, describe, document, figure, opened
from onnxprune.errors import OptionError
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.paths import (
    class_rows,
    compare_steps,
    confusion_rows,
    instance_rows,
    main_metric,
    path_rows,
    to_csv,
)
from onnxprune.workspace.values import Entry, Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["register"]

ROWS = {"path": path_rows, "classes": class_rows, "confusion": confusion_rows}
INSTANCES = "instances"
SHOWN = ("precision", "recall")  # of the classes, side by side; --json has all
DAMAGED = 2  # exit code where something is damaged

commands = typer.Typer(no_args_is_help=True, help="The history of models: a tree of steps in the folder of the models.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="ws")


@commands.command(name="open", epilog=examples("onnxprune ws open", "onnxprune ws open --folder models --no-measure"))
def open_folder(
    folder: FolderOption = Path(),
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Do not measure the models on their data.")] = False,
    json: JsonOption = False,
) -> None:
    """Look into the folder: every model, the data that fit it, what is broken; measure what was not measured."""
    with opened(folder, scan=True) as workspace:
        if not (no_measure or workspace.readonly):
            with progress("measuring") as report:
                for entry in workspace.files.listed("model"):
                    if entry.step is not None:
                        workspace.measure(entry.step, report)
        worker = None if workspace.readonly else Jobs(workspace.database).resume(workspace.folder)
        listed = workspace.files.listed()
        steps = {step.number: step for step in workspace.steps.all()}
        fitting = {e.path: workspace.files.fitting(e.hash) for e in listed if e.kind == "model"}
        misfits = {e.path: workspace.files.misfits(e.hash) for e in listed if e.kind == "model"}
        if json:
            files = [{**vars(e), "data": fitting.get(e.path, []), "misfits": misfits.get(e.path, {})} for e in listed]
            emit_json({"folder": workspace.folder, "readonly": workspace.readonly, "files": files, "worker": worker})
            return
        metric = main_metric(list(steps.values()))
        rows = [
            (str(e.step), e.path, megabytes(e.size), figure(steps[e.step], metric), ", ".join(fitting[e.path]) or "-")
            for e in listed
            if e.kind == "model" and e.step in steps
        ]
        if rows:
            columns = ("step", "model", "size", metric or "", "data that fit, the first is the default")
            show(table(str(workspace.folder), columns, rows, right=(0, 2, 3)))
        else:
            show(f"{workspace.folder}: no models yet. Put .onnx files into it or into models/, and data into data/.")
        for e in listed:
            problem = e.problem or ("" if e.step is None else workspace.problem(e.step))
            if problem:
                warn(f"{e.path}: {problem}")
        if worker is not None:
            show("Jobs were waiting, and a worker does them now; `onnxprune jobs list` lists them.")


@commands.command(name="tree", epilog=examples("onnxprune ws tree", "onnxprune ws tree --trash --json"))
def tree(
    folder: FolderOption = Path(),
    trash: Annotated[bool, typer.Option("--trash", help="Also what is in the trash.")] = False,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="The metric to show.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Draw the tree of steps: number, kind, name, quality, and what is left of the parameters."""
    with opened(folder, scan=True) as workspace:
        steps = workspace.steps.all(trashed=trash)
        if json:
            emit_json({"folder": workspace.folder, "steps": [document(step) for step in steps]})
            return
        if not steps:
            show(f"{workspace.folder}: no steps yet. Put .onnx files into it or into models/, and data into data/.")
        for drawn in _drawn(steps, metric or main_metric(steps)):
            show(drawn)
        broken = sum(bool(entry.problem) for entry in workspace.files.listed())
        if broken:
            warn(f"{broken} of the files cannot be used; `onnxprune ws open` says why")


def _drawn(steps: Sequence[Step], metric: str | None) -> list[Tree]:
    """A tree for each root. A step whose parent is not shown is drawn as a root."""
    known = {step.number: step for step in steps}
    branches: dict[int, Tree] = {}
    roots = []
    for step in steps:
        words = Text(describe(step, known.get(step.root), metric))
        above = branches.get(step.parent) if step.parent is not None else None
        branches[step.number] = Tree(words) if above is None else above.add(words)
        if above is None:
            roots.append(branches[step.number])
    return roots


@commands.command(name="show", epilog=examples("onnxprune ws show 3", "onnxprune ws show half --json"))
def show_step(step: StepArgument, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Everything that is known about a step."""
    with opened(folder) as workspace:
        found = workspace.find(step)
        entries = workspace.drafts.entries(found.number)
        classes = workspace.steps.class_metrics(found.number)
        if json:
            listed = [{"metric": m, "class": c, "value": value} for (m, c), value in classes.items()]
            documents = workspace.steps.documents(found.number)
            draft = [_entry(entry) for entry in entries]
            emit_json({**document(found), "classes": listed, "documents": documents, "draft": draft})
            return
        path = workspace.steps.path(found.number)
        show(describe(found, path[0], main_metric(path)))
        rows = [("made of", " > ".join(f"#{s.number}" for s in path[:-1]) or "-"), ("data", found.dataset or "-")]
        rows += [("note", found.note)] if found.note else []
        rows += [("damaged", found.damaged)] if found.damaged else []
        problem = "" if found.damaged else workspace.problem(found.number)
        rows += [("not measured", problem)] if problem else []
        rows += [("took", f"{found.seconds:.1f} s"), ("again", " ".join(found.command))]
        rows += [("gives", "the same model" if found.promise == "identical" else "a model about as good")]
        rows += [("with", ", ".join(f"{name} {version}" for name, version in found.versions.items()))]
        show(table("", ("", ""), rows))
        show(table("Metrics", ("", ""), [(name, figure(found, name)) for name in sorted(found.metrics)], right=(1,)))
        names = list(dict.fromkeys(metric for metric, _ in classes))
        rows_by_class = [
            (cls, *(f"{classes[name, cls]:.4g}" if (name, cls) in classes else "-" for name in names))
            for cls in dict.fromkeys(cls for _, cls in classes)
        ]
        if rows_by_class:
            show(table("Classes", ("", *names), rows_by_class, right=range(1, len(names) + 1)))
        _show_draft(entries)


def _entry(entry: Entry) -> dict[str, Any]:
    return {"place": entry.place, "undone": entry.undone, "edit": entry.edit}


def _show_draft(entries: Sequence[Entry]) -> None:
    if entries:
        rows = [(str(e.place), "undone" if e.undone else "", str(dict(e.edit))) for e in entries]
        show(table("Draft", ("", "", "edit"), rows, right=(0,)))


# -- a person's own words, and the trash ------------------------------------------------------------------------------


def _labelled(folder: Path, step: str, json: bool, apply: Any) -> None:
    """Change the label of a step, and show the step."""
    with opened(folder) as workspace:
        workspace.check_writable()
        changed: Step = apply(workspace, workspace.find(step).number)
        if json:
            emit_json(document(changed))
        else:
            show(describe(changed, workspace.steps.get(changed.root), main_metric([changed])))


@commands.command(name="rename", epilog=examples("onnxprune ws rename 3 half"))
def rename(
    step: StepArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.", show_default=False)],
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Give a step a name, by which commands find it as well."""
    _labelled(folder, step, json, lambda w, number: w.steps.describe(number, name=name))


@commands.command(name="note", epilog=examples('onnxprune ws note 3 "loses sevens"'))
def note(
    step: StepArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The note.", show_default=False)],
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Write a note to a step."""
    _labelled(folder, step, json, lambda w, number: w.steps.describe(number, note=text))


@commands.command(name="pin", epilog=examples("onnxprune ws pin 3"))
def pin(step: StepArgument, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Make a step the baseline of its tree."""
    _labelled(folder, step, json, lambda w, number: w.steps.pin(number))


def _moved(folder: Path, step: str, json: bool, verb: str, move: Any) -> None:
    with opened(folder) as workspace:
        workspace.check_writable()
        numbers = move(workspace, workspace.find(step).number)
        if json:
            emit_json({"steps": numbers})
        else:
            show(f"{verb}: {', '.join(f'#{number}' for number in numbers) or 'nothing'}")


@commands.command(name="delete", epilog=examples("onnxprune ws delete 3"))
def delete(step: StepArgument, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Put a step and all that was made of it into the trash."""
    _moved(folder, step, json, "In the trash", lambda w, number: w.steps.trash(number))


@commands.command(name="restore", epilog=examples("onnxprune ws restore 3"))
def restore(step: StepArgument, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Take a step out of the trash, with what went there together with it."""
    _moved(folder, step, json, "Back", lambda w, number: w.steps.restore(number))


# -- drafts -----------------------------------------------------------------------------------------------------------


def _drafted(folder: Path, step: str, json: bool, act: Any) -> None:
    """Change a draft, and show it."""
    with opened(folder) as workspace:
        workspace.check_writable()
        number = workspace.find(step).number
        act(workspace.drafts, number)
        entries = workspace.drafts.entries(number)
        if json:
            emit_json({"step": number, "draft": [_entry(entry) for entry in entries]})
        elif entries:
            _show_draft(entries)
        else:
            show(f"The draft of step {number} is empty.")


@commands.command(name="undo", epilog=examples("onnxprune ws undo 3"))
def undo(step: StepArgument, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Undo the last edit of a step's draft."""
    _drafted(folder, step, json, lambda drafts, number: drafts.undo(number))


@commands.command(name="redo", epilog=examples("onnxprune ws redo 3"))
def redo(step: StepArgument, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Do the edit again that was undone last."""
    _drafted(folder, step, json, lambda drafts, number: drafts.redo(number))


# -- figures ----------------------------------------------------------------------------------------------------------


@commands.command(name="compare", epilog=examples("onnxprune ws compare 1 3", "onnxprune ws compare full half --json"))
def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="The first step.", show_default=False)],
    after: Annotated[str, typer.Argument(metavar="B", help="The second one.", show_default=False)],
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Two steps side by side, as they were measured: metrics, classes, degenerated and improved instances."""
    with opened(folder) as workspace:
        steps = workspace.find(before), workspace.find(after)
        found = compare_steps(workspace, steps[0].number, steps[1].number)
    if json:
        emit_json(found)
        return
    titles = [f"#{step.number} {step.name or step.kind}" for step in steps]
    rows = [_change_row(row, row["metric"]) for row in found["metrics"]]
    show(table("Metrics", ("", *titles, "change", "left", "is"), rows, right=(1, 2, 3, 4)))
    classes = [
        _change_row(row, f"{row['class']}: {row['metric']}")
        for row in found["classes"]
        if row["delta"] and row["metric"] in SHOWN
    ]
    if classes:
        show(table("Classes that changed", ("", *titles, "change", "left", "is"), classes, right=(1, 2, 3, 4)))
    if found["degenerated"] is not None:
        show(f"{found['degenerated']} instances degenerated, {found['improved']} improved.")


def _change_row(row: Mapping[str, Any], label: str) -> tuple[str, ...]:
    before, after = row["before"], row["after"]
    values = [count(v) if abs(v) >= 1000 else f"{v:.4g}" for v in (before, after)]
    return (label, *values, f"{row['delta']:+.4g}", change(before, after), row["verdict"])


@commands.command(
    name="csv", epilog=examples("onnxprune ws csv 3 -o path.csv", "onnxprune ws csv 3 --rows instances --against 1")
)
def write_csv(
    step: StepArgument,
    rows: Annotated[
        str,
        typer.Option(
            "--rows", metavar=f"{'|'.join(ROWS)}|{INSTANCES}", help="Of what a row tells, on the path to the step."
        ),
    ] = "path",
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="STEP", help="For instances: the other step, by default the original."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write it there instead of stdout.", show_default=False),
    ] = None,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Statistics over the path from the original to a step: recovery, cost, confusion, degenerated instances."""
    if rows not in (*ROWS, INSTANCES):
        raise OptionError(f"--rows {rows}: there is no such table", f"There are {', '.join([*ROWS, INSTANCES])}.")
    if out is not None:
        writable(out)
    with opened(folder) as workspace:
        found = _rows(workspace, workspace.find(step), rows, against)
    if json:
        emit_json({"rows": found})
    elif out is None:
        show(to_csv(found).rstrip("\n"))
    else:
        with replacing(out) as file:
            file.write(to_csv(found).encode())
        show(f"{out} written: {len(found)} rows.")


def _rows(workspace: Workspace, step: Step, rows: str, against: str | None) -> list[dict[str, Any]]:
    if rows == INSTANCES:
        return instance_rows(workspace, step.root if against is None else workspace.find(against).number, step.number)
    return ROWS[rows](workspace, step.number)


# -- housekeeping -----------------------------------------------------------------------------------------------------


@commands.command(name="export", epilog=examples("onnxprune ws export 3 deliver"))
def export(
    step: StepArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to.", show_default=False)],
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Write a step's model, plan and report into a folder."""
    with opened(folder) as workspace:
        files = workspace.export(workspace.find(step).number, out)
    if json:
        emit_json({"files": files})
    else:
        show(f"{', '.join(map(str, files))} written.")


@commands.command(name="gc", epilog=examples("onnxprune ws gc", "onnxprune ws gc --grace 0"))
def collect(
    folder: FolderOption = Path(),
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="Leave what is younger: it may be in use.")
    ] = 3600.0,
    json: JsonOption = False,
) -> None:
    """Take away files in the store that no step needs, as interrupted work leaves them."""
    with opened(folder) as workspace:
        number, size = workspace.gc(grace)
    if json:
        emit_json({"files": number, "bytes": size})
    else:
        show(f"{number} files taken away, {megabytes(size)}.")


@commands.command(name="check", epilog=examples("onnxprune ws check"))
def check(folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Read the whole store and hold every file against its hash. Exit code 2 where something is damaged."""
    with opened(folder) as workspace:
        found = workspace.check()
        steps = len(workspace.steps.all(trashed=True))
    if json:
        emit_json({"steps": steps, "damaged": [vars(damage) for damage in found]})
    else:
        for damage in found:
            warn(f"step {damage.step}: {damage.reason}")
        show(f"{steps} steps, {len(found)} of them damaged.")
    if found:
        raise typer.Exit(DAMAGED)


ws_actions.register(commands)
ws_branch.register(commands)
