"""``onnxprune bench``: what models cost on this machine, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.bench import RUNS, Bench, Measured, bench
from onnxprune.cli.console import change, count, emit_json, megabytes, milliseconds, progress, show, table
from onnxprune.cli.measures import PlotOption, check_plot, draw
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    DataOption,
    JsonOption,
    Provider,
    ProviderOption,
    ShapeOption,
    ThreadsOption,
    examples,
    shapes_of,
)
from onnxprune.errors import OptionError
from onnxprune.figures import AxisSpec, Chart, Series
from onnxprune.figures.chart import distinct
from onnxprune.runtime import Latency

__all__ = ["register"]

MEGA = 1e6
WIDE = 2  # from the 10th to the 90th percentile; 1.1 is what a quiet machine shows
HARDLY = 0.8  # of the speed-up that the MACs promise
NOTICED = 0.9  # of the MACs: with more of them left nothing was promised
EXAMPLES = examples(
    "onnxprune bench model.onnx",
    "onnxprune bench model.onnx small.onnx --threads 1 --batch 1,8",
    "onnxprune bench model.onnx small.onnx --data digits.npz --json > bench.json",
    "onnxprune bench decoder.onnx --shape input_ids=1,128 --runs 100",
    "onnxprune bench model.onnx half.onnx quarter.onnx --plot latency.html",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="bench", epilog=EXAMPLES)(bench_models)


def bench_models(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="ONNX files; the first is compared with.", show_default=False),
    ],
    data: DataOption = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="N,N",
            help="Sizes of a batch to measure on. By default 1, or what the model insists on.",
            show_default=False,
        ),
    ] = None,
    shape: ShapeOption = None,
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Timed calls of each model, at least.")] = RUNS,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Measure latency, throughput and peak memory of models in turns, beside their parameters, bytes and MACs."""
    check_environment(provider, threads)
    sizes, shapes = _sizes(batch), shapes_of(shape)
    check_plot(plot)
    with progress("reading") as report:
        found = bench(
            models,
            sizes=sizes,
            data=data,
            shapes=shapes,
            runs=runs,
            provider=provider,
            threads=threads,
            progress=report,
        )
    draw(list(_charts(found)), plot)
    if json:
        emit_json(_document(found))
        return
    for line in _sections(found):
        show(line)


def _sizes(text: str | None) -> tuple[int, ...]:
    """``1,8`` -> (1, 8)."""
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise OptionError(f"--batch {text}: expected sizes such as 1,8", "Give every size as a number from 1 up.")
    return tuple(int(part) for part in parts)


def _document(found: Sequence[Bench]) -> dict[str, Any]:
    first = found[0]
    return {
        "models": [
            {
                "model": one.name,
                "parameters": one.cost.parameters,
                "nonzero": one.cost.nonzero,
                "bytes": one.cost.bytes,
                "file_bytes": one.file_bytes,
                "macs": one.cost.macs,
                "activation_bytes": one.cost.activation_bytes,
                "measured": [_measurement(mine, base) for mine, base in zip(one.measured, first.measured, strict=True)],
            }
            for one in found
        ],
        "estimated": ["macs", "activation_bytes"],
    }


def _measurement(mine: Measured, base: Measured) -> dict[str, Any]:
    memory, before = mine.memory, base.memory
    return {
        "batch": mine.batch,
        "latency": asdict(mine.latency),
        "samples_per_second": mine.latency.per_second,
        "memory": None if memory is None else asdict(memory),
        "speed_up": base.latency.median_ms / mine.latency.median_ms,
        "memory_left": memory.peak_bytes / before.peak_bytes if memory and before and before.peak_bytes else None,
    }


def _sections(found: Sequence[Bench]) -> Iterator[Any]:
    yield table(
        "Size",
        ("", "parameters", "left", "not zero", "file", "left", "MACs (estimated)", "left"),
        [_size_row(one, found[0]) for one in found],
        right=range(1, 8),
    )
    for number, base in enumerate(found[0].measured):
        latency = base.latency
        yield ""
        yield table(
            f"Batch of {base.batch}, measured on {latency.provider}, {latency.threads or 'all'} threads, in turns",
            ("", "latency", "8 of 10 runs", "runs", "speed-up", "samples/s", "peak memory", "left"),
            [_measured_row(one.name, one.measured[number], base) for one in found],
            right=range(1, 8),
        )
    yield from _remarks(found)


def _size_row(one: Bench, first: Bench) -> tuple[str, ...]:
    cost, before = one.cost, first.cost
    return (
        one.name,
        count(cost.parameters),
        change(before.parameters, cost.parameters),
        count(cost.nonzero or 0),
        megabytes(one.file_bytes),
        change(first.file_bytes, one.file_bytes),
        count(cost.macs),
        change(before.macs, cost.macs),
    )


def _measured_row(name: str, mine: Measured, base: Measured) -> tuple[str, ...]:
    memory, before = mine.memory, base.memory
    used = (
        (megabytes(memory.peak_bytes), change(before.peak_bytes, memory.peak_bytes))
        if memory and before
        else ("-", "-")
    )
    return (
        name,
        milliseconds(mine.latency.median_ms),
        _spread(mine.latency),
        str(mine.latency.runs),
        f"{base.latency.median_ms / mine.latency.median_ms:.2f} x",
        f"{mine.latency.per_second:,.0f}" if mine.latency.per_second >= 10 else f"{mine.latency.per_second:.2g}",
        *used,
    )


def _spread(latency: Latency) -> str:
    return f"{milliseconds(latency.p10_ms)} to {milliseconds(latency.p90_ms)}"


def _remarks(found: Sequence[Bench]) -> Iterator[str]:
    """Times that scatter too much to be trusted, and models that are not as fast as their MACs promise."""
    first = found[0]
    if any(m.latency.p90_ms > WIDE * m.latency.p10_ms for one in found for m in one.measured):
        yield "The times scatter widely: something else keeps this machine busy. Measure again when it is quiet."
    for one in found[1:]:
        left = one.cost.macs / first.cost.macs if first.cost.macs else 1.0
        slowest = min(
            b.latency.median_ms / m.latency.median_ms for m, b in zip(one.measured, first.measured, strict=True)
        )
        if left < NOTICED and slowest * left < HARDLY:
            yield (
                f"{one.name} has {left:.0%} of the MACs, but its speed-up is {slowest:.2f} x: kernels work on blocks of"
                " channels (prune --round-to), and small models spend their time elsewhere."
            )


def _charts(found: Sequence[Bench]) -> Iterator[Chart]:
    """Latency with its spread, and peak memory, model by model, a series for each batch."""
    names = distinct(one.name for one in found)
    measures = AxisSpec("latency, median and 8 of 10 runs", ".3g", "ms"), AxisSpec("peak memory", ".4g", "MB")
    columns = list(zip(*(one.measured for one in found), strict=True))
    latency, memory = [], []
    for column in columns:
        title = f"batch of {column[0].batch}"
        times = [mine.latency for mine in column]
        low, high = [t.p10_ms for t in times], [t.p90_ms for t in times]
        latency.append(Series(title, [t.median_ms for t in times], names, low=low, high=high))
        memory.append(Series(title, [m.memory.peak_bytes / MEGA if m.memory else nan for m in column], names))
    used = columns[0][0].latency
    note = f"Measured on {used.provider}, {used.threads or 'all'} threads."
    for axis, series in zip(measures, (latency, memory), strict=True):
        yield Chart(axis.label.partition(",")[0].capitalize(), axis, AxisSpec(), tuple(series), "bars", note=note)
