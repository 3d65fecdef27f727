"""``onnxprune prune``: a smaller model out of a model, with the proof that it is what was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.console import (
    change,
    count,
    emit_json,
    megabytes,
    milliseconds,
    progress,
    say,
    show,
    table,
    warn,
)
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    CriterionOption,
    DataOption,
    Granularity,
    GranularityOption,
    InexactOption,
    JsonOption,
    Mode,
    ModelArgument,
    NormGroups,
    NormGroupsOption,
    Scope,
    SeedOption,
    ShapeOption,
    examples,
    files_of,
    group_ratios,
    keep_input,
    shapes_of,
    writable,
)
from onnxprune.cost import Cost
from onnxprune.errors import OptionError
from onnxprune.experiment import Pruned
from onnxprune.experiment import prune as prune_in_memory
from onnxprune.model import load, save
from onnxprune.plan import Plan
from onnxprune.proof import Proof
from onnxprune.runtime import Latency

__all__ = ["ZEROS", "ModeOption", "NoVerifyOption", "OutOption", "costs_table", "proof_text", "prune_model", "register"]

ZEROS = "Zeros make neither the file smaller nor onnxruntime faster; removing whole units does (--mode remove)."
EXAMPLES = examples(
    "onnxprune prune model.onnx -o small.onnx --ratio 0.5",
    "onnxprune prune model.onnx -o small.onnx --ratio 0.5 --scope global --skip conv1 --group layer4.conv1=0.7",
    "onnxprune prune model.onnx -o small.onnx --target-macs 0.6 --round-to 8 --save-plan plan.json",
    "onnxprune prune model.onnx -o sparse.onnx --ratio 0.8 --granularity weight",
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


def prune_model(
    model: ModelArgument,
    out: OutOption,
    ratio: Annotated[
        float | None, typer.Option("--ratio", metavar="R", help="Share of units that go.", show_default=False)
    ] = None,
    criterion: CriterionOption = "l2",
    scope: Annotated[
        Scope,
        typer.Option(
            "--scope",
            metavar="local|global",
            help="The ratio holds for each group, or for all units with one threshold.",
        ),
    ] = Scope.LOCAL,
    mode: ModeOption = None,
    granularity: GranularityOption = Granularity.UNIT,
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
            "machine, measured once.",
            show_default=False,
        ),
    ] = None,
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    target_params: Annotated[
        str | None,
        typer.Option(
            "--target-params",
            metavar="R",
            help="Parameters to keep: a share (0.4), or a number with K, M or G (2.5M).",
            show_default=False,
        ),
    ] = None,
    target_macs: Annotated[
        str | None,
        typer.Option(
            "--target-macs", metavar="R", help="MACs to keep: a share, or a number with K, M or G.", show_default=False
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
    json: JsonOption = False,
) -> None:
    """Remove the least important units of every group, prove it, and write the smaller model."""
    check_environment()
    given = {"--ratio": ratio, "--target-params": target_params, "--target-macs": target_macs, "--group": group}
    clash = [name for name, value in given.items() if value is not None]
    if plan is not None and clash:
        raise OptionError(f"--plan and {clash[0]} are given: a plan says already what goes", "Give one of them.")
    ratios, shapes = group_ratios(group), shapes_of(shape)
    loaded_plan = None if plan is None else Plan.load(plan)
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
            ratio=ratio, criterion=criterion, scope=scope.value, mode=mode.value if mode else None,
            granularity=granularity.value, group_ratios=ratios, skip=skip or (), round_to=round_to,
            target_params=target_params, target_macs=target_macs, include_inexact=include_inexact,
            attention=attention.value, norm_groups=norm_groups.value, allow_io=allow_io or (), shapes=shapes,
            plan=loaded_plan, seed=seed, verify=not no_verify, measure=not no_verify, data=data,
            progress=report, notify=say,
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
    if json:
        emit_json(_document(model, out, save_plan, pruned, timings))
    else:
        _print(model, out, save_plan, pruned, timings)


def _document(model: Path, out: Path, plan: Path | None, pruned: Pruned, timings: dict[str, float]) -> dict[str, Any]:
    return {
        "model": str(model),
        "out": str(out),
        "plan": None if plan is None else str(plan),
        "hash": pruned.model.hash,
        "parent": pruned.plan.model_hash,
        "mode": "mask" if pruned.masked else "remove",
        **pruned.reached.as_dict(),
        "groups": [{"name": n, "removed": gone, "units": all_} for n, (gone, all_) in pruned.reached.groups.items()],
        "before": _costs(pruned.before, model, pruned.latencies[0] if pruned.latencies else None),
        "after": _costs(pruned.after, out, pruned.latencies[1] if pruned.latencies else None),
        "proof": None if pruned.proof is None else pruned.proof.to_dict(),
        "signature_changes": pruned.signature,
        "warnings": pruned.warnings,
        "timings": timings,
    }


def _costs(cost: Cost, path: Path, latency: Latency | None) -> dict[str, Any]:
    return {
        "parameters": cost.parameters,
        "nonzero": cost.nonzero,
        "bytes": cost.bytes,
        "file_bytes": file_bytes(path),
        "macs": cost.macs,
        "activation_bytes": cost.activation_bytes,
        "latency_ms": latency.median_ms if latency else None,
    }


def file_bytes(path: Path) -> int:
    """Size of a model on the disk, external data included."""
    return sum(file.stat().st_size for file in files_of(load(path)))


def costs_table(
    before: Cost, after: Cost, files: tuple[int, int], latencies: tuple[Latency, Latency] | None = None
) -> list[tuple[str, str, str, str, str]]:
    """Rows of the comparison: what, before, after, what is left, and how it is known."""
    rows: list[tuple[str, float, float, Callable[[float], str], str]] = [
        ("parameters", before.parameters, after.parameters, count, "counted"),
        ("non-zero parameters", before.nonzero or 0, after.nonzero or 0, count, "counted"),
        ("file", *files, megabytes, "measured"),
        ("MACs", before.macs, after.macs, count, "estimated"),
        ("activations at the peak", before.activation_bytes, after.activation_bytes, megabytes, "estimated"),
    ]
    if latencies:
        old, new = latencies
        rows.append(("latency", old.median_ms, new.median_ms, milliseconds, "measured"))
    return [(what, words(old), words(new), change(old, new), how) for what, old, new, words, how in rows]


def proof_text(proof: Proof | None, *, masked: bool = False) -> str:
    """What the proof says, in one or two sentences."""
    if proof is None:
        return "Nothing was removed, so there is nothing to prove." if masked else "Not proven (--no-verify)."
    where = ", ".join(f"`{name}`" for name in proof.outputs[:3]) + (", ..." if len(proof.outputs) > 3 else "")
    batches = ", ".join(str(size) for size in proof.batches)
    text = (
        f"Proven: masked and removed agree to {proof.error:.1e} ({proof.tolerance:.0e} is allowed) at {where},"
        f" batches of {batches}, on {proof.provider}."
    )
    if proof.renormalisation_effect is not None:
        text += f" Effect of renormalisation: {proof.renormalisation_effect:.2g}."
    return " ".join([text, *(f"{note[:1].upper()}{note[1:]}." for note in proof.notes)])


def _print(model: Path, out: Path, plan: Path | None, pruned: Pruned, timings: dict[str, float]) -> None:
    rows = [
        (name, str(units), str(units - gone), change(units, units - gone))
        for name, (gone, units) in pruned.reached.groups.items()
    ]
    what = "weight" if pruned.plan.weights and not pruned.plan.units else "group"
    show(table(f"What is left of each {what}", (what, "before", "after", "left"), rows, right=(1, 2, 3)))
    show("")
    costs = costs_table(pruned.before, pruned.after, (file_bytes(model), file_bytes(out)), pruned.latencies)
    show(table("What it costs", ("", "before", "after", "left", ""), costs, right=(1, 2, 3)))
    show("")
    show(_asked_and_reached(pruned))
    show(proof_text(pruned.proof, masked=pruned.masked))
    if pruned.masked:
        show(ZEROS)
    for line in pruned.signature:
        show(f"The signature changed: {line}")
    written = str(out) if plan is None else f"{out} and {plan}"
    show(f"{written} written after {timings['total']:.1f} s.")


def _asked_and_reached(pruned: Pruned) -> str:
    asked = ", ".join(f"{key}={value}" for key, value in pruned.asked.items() if key != "operation") or "a plan"
    unit = "single weights" if pruned.plan.weights and not pruned.plan.units else "units"
    text = f"Asked: {asked}. Reached: {pruned.reached.removed} of {pruned.reached.total} {unit}"
    text += f" ({pruned.reached.ratio:.1%})"
    if pruned.reached.round_to > 1:
        text += f", channels rounded to {pruned.reached.round_to}"
    return text + "."
