"""``onnxprune prune``: a smaller model out of a model, with the proof that it is what was asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.allocate import DISTRIBUTIONS, Floor
from onnxprune.charts import pruning_charts
from onnxprune.cli.console import emit_json, progress, say, warn
from onnxprune.cli.measures import PlotOption, check_plot, draw
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    CriterionOption,
    DataOption,
    GradientsOfOption,
    Granularity,
    InexactOption,
    JsonOption,
    Mode,
    ModelArgument,
    NormGroups,
    NormGroupsOption,
    OwnNormaliseOption,
    Provider,
    ProviderOption,
    SamplesOption,
    Scope,
    SeedOption,
    ShapeOption,
    ThreadsOption,
    examples,
    group_ratios,
    keep_input,
    losses_of,
    shapes_of,
    writable,
)
from onnxprune.cli.pruned import document, file_bytes, print_result
from onnxprune.errors import OptionError
from onnxprune.evaluate import kind_of
from onnxprune.experiment import Pruned
from onnxprune.experiment import prune as prune_in_memory
from onnxprune.model import load, save
from onnxprune.plan import Plan
from onnxprune.recover import METHODS
from onnxprune.sensitivity import load_sensitivity

__all__ = ["ModeOption", "NoVerifyOption", "OutOption", "floors_of", "prune_model", "register"]

EXAMPLES = examples(
    "onnxprune prune model.onnx -o small.onnx --ratio 0.5",
    "onnxprune prune model.onnx -o small.onnx --ratio 0.5 --recover least-squares --data digits.npz --evaluate",
    "onnxprune prune model.onnx -o small.onnx --ratio 0.5 --scope global --skip conv1 --group layer4.conv1=0.7",
    "onnxprune prune model.onnx -o small.onnx --target-latency 0.5 --criterion obspa --data photos/",
    "onnxprune prune model.onnx -o small.onnx --ratio 0.8 --data photos/ --min accuracy=0.9 --min recall:cat=0.85",
    "onnxprune prune model.onnx -o small.onnx --target-macs 0.6 --round-to 8 --save-plan plan.json --plot plan.html",
    "onnxprune prune model.onnx -o sparse.onnx --ratio 0.8 --granularity weight --criterion lap",
    "onnxprune prune model.onnx -o sparse.onnx --pattern 2:4 --criterion sparsegpt --data photos/",
    "onnxprune prune model.onnx -o small.onnx --plan plan.json",
)

OutOption = Annotated[
    Path, typer.Option("--out", "-o", metavar="OUT", help="The ONNX file to write.", show_default=False)
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        "--mode",
        metavar="remove|mask",
        help="Make shapes smaller, or write zeros. By default remove; single weights are always masked.",
        show_default=False,
    ),
]
NoVerifyOption = Annotated[bool, typer.Option("--no-verify", help="Leave out the proof.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="prune", epilog=EXAMPLES)(prune_model)


def _kept(name: str, what: str, units: str) -> Any:
    """An option for a target: how much of something is kept."""
    return typer.Option(name, metavar="R", help=f"{what} to keep: a share (0.5), or {units}.", show_default=False)


def prune_model(
    model: ModelArgument,
    out: OutOption,
    ratio: Annotated[
        float | None, typer.Option("--ratio", metavar="R", help="Share of units that go.", show_default=False)
    ] = None,
    criterion: CriterionOption = "l2",
    normalise: OwnNormaliseOption = None,
    loss: GradientsOfOption = None,
    scope: Annotated[
        Scope,
        typer.Option(
            "--scope",
            metavar="local|global",
            help="The ratio holds for each group, or for all units with one threshold.",
        ),
    ] = Scope.LOCAL,
    distribution: Annotated[
        str | None,
        typer.Option(
            "--distribution",
            metavar="NAME",
            help=f"Who gives how much: {', '.join(DISTRIBUTIONS)}. By default what --scope says.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="FAMILY",
            help="The ratios of Park et al. for this family (mlp, lenet, conv6, vgg, resnet); with --distribution "
            "preset alone the graph decides.",
            show_default=False,
        ),
    ] = None,
    preset_step: Annotated[
        int, typer.Option("--preset-step", metavar="N", help="As much as N steps of the preset remove.")
    ] = 1,
    sensitivity: Annotated[
        Path | None,
        typer.Option(
            "--sensitivity",
            metavar="FILE",
            help="A scan by `onnxprune sensitivity`: all groups lose equally much of its metric.",
            show_default=False,
        ),
    ] = None,
    mode: ModeOption = None,
    granularity: Annotated[
        Granularity | None,
        typer.Option(
            "--granularity",
            metavar="unit|weight",
            help="Whole units (filters, neurons, heads), or single weights. By default unit; weight with a pattern.",
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            metavar="N:M|RxC",
            help="Of single weights keep N of every M along the inputs (2:4), or zero blocks of R rows and C columns.",
            show_default=False,
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group", metavar="NAME=RATIO", help="Another ratio for one group. May be repeated.", show_default=False
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="NAME", help="A group to leave whole. May be repeated.", show_default=False),
    ] = None,
    round_to: Annotated[
        int | None,
        typer.Option(
            "--round-to",
            metavar="N",
            help="Keep a multiple of N channels; 1 means exactly the ratio asked. By default the step that suits this "
            "machine, measured once, or less in narrow groups.",
            show_default=False,
        ),
    ] = None,
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    target_params: Annotated[
        str | None, _kept("--target-params", "Parameters", "a number with K, M or G (2.5M)")
    ] = None,
    target_macs: Annotated[str | None, _kept("--target-macs", "MACs", "a number with K, M or G")] = None,
    target_bytes: Annotated[
        str | None, _kept("--target-bytes", "Size of the file", "a number with KB, MB or GB")
    ] = None,
    target_memory: Annotated[
        str | None, _kept("--target-memory", "Activations at their peak", "a number with KB, MB or GB")
    ] = None,
    target_latency: Annotated[
        str | None, _kept("--target-latency", "Latency, measured on this machine,", "a time (5ms)")
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="METRIC[:CLASS]=VALUE",
            help="What a metric on --data must not fall below (rise above, where lower is better); the largest "
            "removal that holds is taken. May be repeated.",
            show_default=False,
        ),
    ] = None,
    recover: Annotated[
        str | None,
        typer.Option(
            "--recover",
            metavar="METHOD",
            help=f"Repair without training: {', '.join(METHODS)}, several joined with +, or none. By default what "
            "belongs to the criterion.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Do what this plan says, instead of a ratio.", show_default=False),
    ] = None,
    save_plan: Annotated[
        Path | None,
        typer.Option("--save-plan", metavar="FILE", help="Write the plan there, as JSON.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    no_verify: NoVerifyOption = False,
    data: DataOption = None,
    samples: SamplesOption = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure metrics on --data before and after.")] = False,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Remove the least important units of every group, prove it, repair it, and write the smaller model."""
    check_environment(provider, threads)
    amounts = {
        "ratio": ratio, "target_params": target_params, "target_macs": target_macs, "target_bytes": target_bytes,
        "target_memory": target_memory, "target_latency": target_latency, "group_ratios": group_ratios(group) or None,
        "distribution": distribution or ("sensitivity" if sensitivity else "preset" if preset else None),
        "pattern": pattern,
    }  # fmt: skip
    clash = [name for name, value in amounts.items() if value is not None]
    if plan is not None and clash:
        option = "--group" if clash[0] == "group_ratios" else f"--{clash[0].replace('_', '-')}"
        raise OptionError(f"--plan and {option} are given: a plan says already what goes", "Give one of them.")
    if evaluate and data is None:
        raise OptionError("--evaluate needs data to measure on", "Give them with --data.")
    budget = {} if plan is not None else {
        **amounts, "scope": scope.value, "skip": skip or (), "round_to": round_to, "preset": preset,
        "preset_step": preset_step, "sensitivity": None if sensitivity is None else load_sensitivity(sensitivity).rows,
    }  # fmt: skip
    shapes = shapes_of(shape)
    floors = floors_of(minimum)
    losses = losses_of(loss)
    loaded_plan = None if plan is None else Plan.load(plan)
    if loaded_plan is not None and recover is None and "recover" in loaded_plan.recipe:
        method = loaded_plan.recipe["recover"]
        say(
            f"The plan's model was repaired afterwards: `onnxprune prune --plan` with --recover {method} does that too."
        )
    check_plot(plot)
    outputs = [path for path in (out, save_plan) if path is not None]
    if save_plan is not None and save_plan.resolve() == out.resolve():
        raise OptionError(f"-o and --save-plan are both {out}", "Give the plan a name of its own.")
    for path in outputs:
        writable(path)
    start = time.perf_counter()
    with progress("reading the model") as report:
        original = load(model)
        keep_input(original, *outputs)
        loading = time.perf_counter() - start
        pruned = prune_in_memory(
            original,
            criterion=criterion, normalise=True if normalise is None else normalise.value, losses=losses,
            mode=mode.value if mode else None,
            granularity=granularity.value if granularity else None, include_inexact=include_inexact,
            attention=attention.value, norm_groups=norm_groups.value, allow_io=allow_io or (), shapes=shapes,
            plan=loaded_plan, recover=recover, floors=floors, seed=seed, verify=not no_verify, measure=not no_verify,
            data=data, samples=samples, evaluate=evaluate, provider=provider, threads=threads,
            progress=report, notify=say, **budget,
        )  # fmt: skip
        report("writing", 0, 0)
        saving = time.perf_counter()
        save(pruned.model, out)
        if save_plan is not None:
            pruned.plan.save(save_plan)
        end = time.perf_counter()
    for warning in pruned.warnings:
        warn(warning)
    timings = {"load": loading, **pruned.timings, "save": end - saving, "total": end - start}
    _draw(pruned, model, out, plot)
    if json:
        emit_json(document(model, out, save_plan, pruned, timings))
    else:
        print_result(model, out, save_plan, pruned, timings)


def _draw(pruned: Pruned, model: Path, out: Path, plot: Path | None) -> None:
    if plot is not None:
        draw(pruning_charts(pruned, (file_bytes(model), file_bytes(out))), plot)


def floors_of(texts: list[str] | None) -> tuple[Floor, ...]:
    """``accuracy=0.9`` or ``recall:cat=0.85`` ... as floors. A class may have ``:`` and ``=`` in its name."""
    found = []
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        metric, _, label = name.partition(":")
        try:
            least = float(value)
        except ValueError:
            least = float("nan")
        if not (metric and equals) or least != least:  # noqa: PLR0124 - NaN is not itself
            raise OptionError(
                f"--min {text}: expected METRIC=VALUE or METRIC:CLASS=VALUE", "For example --min accuracy=0.9."
            )
        kind = kind_of(metric)
        found.append(Floor(metric, least, label, higher=kind is None or kind.direction != "lower"))
    return tuple(found)
