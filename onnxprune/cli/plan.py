"""``onnxprune plan``: look at plans, compare them, carry them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli import prune
from onnxprune.cli.console import change, count, emit_json, show, table
from onnxprune.cli.options import (
    DataOption,
    JsonOption,
    ModelArgument,
    Provider,
    ProviderOption,
    ThreadsOption,
    examples,
)
from onnxprune.plan import Plan, PlanDiff
from onnxprune.plan import diff as compare

__all__ = ["register"]

PlanArgument = Annotated[
    Path, typer.Argument(metavar="PLAN", help="The plan, as `prune --save-plan` wrote it.", show_default=False)
]

commands = typer.Typer(no_args_is_help=True, help="Look at plans, compare them, carry them out.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(commands, name="plan")


@commands.command(name="show", epilog=examples("onnxprune plan show half.json", "onnxprune plan show half.json --json"))
def show_plan(plan: PlanArgument, json: JsonOption = False) -> None:
    """What a plan removes, group by group, and how it came about."""
    loaded = Plan.load(plan)
    if json:
        emit_json(_document(loaded))
        return
    show(f"Plan for {loaded.model_name or 'a model'}, hash {loaded.model_hash}")
    for key, value in loaded.recipe.items():
        show(f"  {key}: {value}")
    rows = [
        (name, str(size), str(lost), change(size, size - lost))
        for name, size in loaded.group_sizes.items()
        if (lost := len(loaded.units.get(name, ())))
    ]
    show(table("Groups", ("group", "units", "removed", "left"), rows, right=(1, 2, 3)))
    if loaded.weights:
        rows = [
            (name, count(mask.size), count(int(mask.sum())), change(mask.size, mask.size - int(mask.sum())))
            for name, mask in loaded.weights.items()
        ]
        show(table("Masks on single weights", ("weight", "size", "removed", "left"), rows, right=(1, 2, 3)))


def _document(plan: Plan) -> dict[str, Any]:
    return {
        "model": {"hash": plan.model_hash, "name": plan.model_name},
        "recipe": plan.recipe,
        "removed_units": plan.removed_units,
        "removed_weights": plan.removed_weights,
        "groups": [
            {"name": name, "units": size, "removed": plan.units.get(name, ())}
            for name, size in plan.group_sizes.items()
        ],
        "weights": [
            {"name": name, "shape": mask.shape, "removed": int(mask.sum())} for name, mask in plan.weights.items()
        ],
    }


@commands.command(name="diff", epilog=examples("onnxprune plan diff half.json other.json"))
def diff_plans(
    first: Annotated[Path, typer.Argument(metavar="A", help="A plan.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another plan of the same model.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """What two plans of one model both remove, and what only one of them does."""
    found = compare(Plan.load(first), Plan.load(second))
    if json:
        emit_json(_differences(found))
        return
    if found.same:
        show("The plans remove the same.")
    rows = [(g.group, str(g.both.size), str(g.only_a.size), str(g.only_b.size)) for g in found.groups]
    rows += [(f"{m.weight} (weights)", count(m.both), count(m.only_a), count(m.only_b)) for m in found.weights]
    show(table("Removed by", ("group", "both", f"only {first}", f"only {second}"), rows, right=(1, 2, 3)))


def _differences(found: PlanDiff) -> dict[str, Any]:
    return {
        "same": found.same,
        "groups": [{"name": g.group, "both": g.both, "only_a": g.only_a, "only_b": g.only_b} for g in found.groups],
        "weights": [{"name": m.weight, "both": m.both, "only_a": m.only_a, "only_b": m.only_b} for m in found.weights],
    }


@commands.command(name="apply", epilog=examples("onnxprune plan apply half.json model.onnx -o small.onnx"))
def apply_plan(
    plan: PlanArgument,
    model: ModelArgument,
    out: prune.OutOption,
    mode: prune.ModeOption = None,
    data: DataOption = None,
    no_verify: prune.NoVerifyOption = False,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Do to a model what a plan says; the same as `onnxprune prune MODEL -o OUT --plan PLAN`."""
    prune.prune_model(
        model, out, mode=mode, plan=plan, data=data, no_verify=no_verify, provider=provider, threads=threads, json=json
    )
