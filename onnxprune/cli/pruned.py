"""What came of a pruning, as tables and as JSON: sizes, costs, proof, repair, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onnxprune.allocate import TargetReached, pattern_note
from onnxprune.cli.console import change, count, megabytes, milliseconds, show, table
from onnxprune.cli.options import files_of
from onnxprune.cost import Cost
from onnxprune.experiment import Pruned
from onnxprune.model import load
from onnxprune.proof import Proof, Zeroed
from onnxprune.recover import Recovered
from onnxprune.runtime import Latency

__all__ = ["ZEROS", "costs_table", "document", "file_bytes", "print_result", "proof_text", "zeroed_text"]

ZEROS = "Zeros make neither the file smaller nor onnxruntime faster; removing whole units does (--mode remove)."
WORST = 5  # repaired layers that are named


def document(model: Path, out: Path, plan: Path | None, pruned: Pruned, timings: dict[str, float]) -> dict[str, Any]:
    """Everything, for ``--json``."""
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
        "zeroed": None if pruned.zeroed is None else pruned.zeroed.to_dict(),
        "recover": None if pruned.recovered is None else pruned.recovered.as_dict(),
        "evaluations": {name: found.as_dict() for name, found in pruned.evaluations.items()},
        "floors_hold": None if pruned.floors is None else bool(pruned.floors),
        "data": pruned.data,
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


def zeroed_text(found: Zeroed) -> str:
    """What the check of single weights found, in one sentence."""
    gone = found.named - found.left
    went = f", {gone:,} went with their unit" if gone else ""
    return (
        f"Checked: {found.left:,} single weights are zero as planned{went}; {found.same:,} others are what they were."
    )


def print_result(model: Path, out: Path, plan: Path | None, pruned: Pruned, timings: dict[str, float]) -> None:
    """Everything, for people."""
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
    if pruned.evaluations:
        show(_metrics(pruned))
        show("")
    show(_asked_and_reached(pruned))
    for target in pruned.reached.targets:
        show(_target(target))
    show(proof_text(pruned.proof, masked=pruned.masked))
    if pruned.zeroed is not None:
        show(zeroed_text(pruned.zeroed))
    for line in (*_repair(pruned.recovered), *pruned.data):
        show(line)
    if pruned.masked:
        show(_zeros(pruned))
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


def _zeros(pruned: Pruned) -> str:
    pattern = pruned.asked.get("pattern")
    return f"{ZEROS} {pattern_note(str(pattern))}" if pattern else ZEROS


def _metrics(pruned: Pruned) -> Any:
    """Every metric of the original, the pruned and the repaired model."""
    names = tuple(pruned.evaluations)
    lines = zip(*pruned.evaluations.values(), strict=True)
    rows = [(line[0].label, *(str(metric) for metric in line)) for line in lines]
    samples = pruned.evaluations["original"].samples
    return table(f"How good it is, {samples} samples", ("", *names), rows, right=range(1, len(names) + 1))


def _target(target: TargetReached) -> str:
    name = f"--{target.name.replace('_', '-')} {target.asked}"
    return f"{name}: {target.share:.1%} of the original is left, {target.limit:.1%} was allowed ({target.how})."


def _repair(recovered: Recovered | None) -> Iterator[str]:
    """What was repaired, and the layers that are furthest from the original."""
    if recovered is None:
        return
    inputs = "made-up inputs" if recovered.generated else "samples, without labels"
    yield (
        f"Repaired by {recovered.method}: {len(recovered.layers)} layers, on {recovered.samples} {inputs},"
        f" in {recovered.seconds:.1f} s."
    )
    known = [(layer, error) for layer in recovered.layers if (error := layer.error_after) is not None]
    if known:
        worst = sorted(known, key=lambda pair: -pair[1])[:WORST]
        yield "Furthest from the original: " + ", ".join(f"{layer.layer} {error:.1%}" for layer, error in worst) + "."
    for layer, reason in recovered.skipped:
        yield f"Not repaired: {layer}: {reason}."
