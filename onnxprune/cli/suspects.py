"""``onnxprune suspects``: samples whose labels the steps of a workspace contradict."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from onnxprune.cli.console import emit_json, progress, show, table
from onnxprune.cli.measures import SplitOption
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import JsonOption, Provider, ProviderOption, ThreadsOption, examples
from onnxprune.cli.ws_options import FolderOption, opened
from onnxprune.data import open_dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate import Suspects, find_suspects
from onnxprune.workspace.workspace import Workspace

__all__ = ["register"]

EXAMPLES = examples(
    "onnxprune suspects 9",
    "onnxprune suspects 9 --alone --split train --top 40",
    "onnxprune suspects 1 3 5 --data photos --json",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="suspects", epilog=EXAMPLES)(list_suspects)


def list_suspects(
    steps: Annotated[
        list[str],
        typer.Argument(
            metavar="STEP [STEP]",
            help="The steps to ask; of a single one the settled steps on the way to it as well.",
            show_default=False,
        ),
    ],
    split: SplitOption = None,
    alone: Annotated[bool, typer.Option("--alone", help="Ask this step only, not those on the way to it.")] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", help="List so many, the most suspect first.")] = 20,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME", help="Data of the folder. By default the step's.", show_default=False),
    ] = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """List samples that may be mislabelled: steps have another class for them (confident learning, arXiv:1911.00068).

    Rows count from 0 in the order of the data. A suspect is no verdict: look at it.
    """
    if top < 1:
        raise OptionError(f"--top: got {top}, expected 1 or more", "Leave it out for 20.")
    check_environment(provider, threads)
    with opened(folder, scan=True) as workspace, progress("suspects", remaining=True) as report:
        numbers = [workspace.find(step).number for step in steps]
        if len(numbers) == 1 and not alone:
            numbers = _settled(workspace, numbers[0])
        source = workspace.dataset(numbers[-1], data)
        if source is None:
            raise DataError(f"there are no data for step {numbers[-1]}", "Put them into data/.")
        report("reading", 0, 0)
        models = [workspace.model(number) for number in numbers]
        dataset = open_dataset(source, split)
        found = find_suspects(models, dataset, top=top, provider=provider, threads=threads, progress=report)
    if json:
        document = found.as_dict()
        emit_json({"data": str(source), "split": split, "steps": numbers} | document)
        return
    asked = ", ".join(f"#{number}" for number in numbers)
    show(f"{found.sure} of the {found.samples} samples of {dataset.name} are surely of another class, say {asked}")
    columns = ("row", "label", "looks like", "p(label)", "p(other)", "steps against", "")
    show(table("Most suspect first", columns, _rows(found), right=(0, 3, 4, 5)))


def _rows(found: Suspects) -> list[tuple[str, ...]]:
    return [
        (
            str(one.row), found.name(one.label), found.name(one.taken_for), f"{one.own:.1%}", f"{one.other:.1%}",
            f"{one.against} of {found.models}", "sure" if one.sure else "",
        )
        for one in found.found
    ]  # fmt: skip


def _settled(workspace: Workspace, number: int) -> list[int]:
    """The steps on the way to one, but for those that were repaired or trained further on it: they are still hurt."""
    path = workspace.steps.path(number)
    hurt = {
        before.number
        for before, after in pairwise(path)
        if before.number != before.root and after.kind in ("fine-tune", "recover")
    }
    return [step.number for step in path if step.number not in hurt]
