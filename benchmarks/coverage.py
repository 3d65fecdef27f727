"""The coverage table: what onnxprune makes of many models, and beside it onnxsim and Torch-Pruning.

    python -m benchmarks.coverage [--only PATTERN] [--quick] [--markdown] [--json FILE] [--peers FILE]
                                 [--load FILE]

Half of the units of every group go, by L2 magnitude, without rounding; the removal is proven. onnxsim prunes the same
file, Torch-Pruning the torch module that it was exported from, both at 50%.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.catalogue import SOURCES, Entry, catalogue
from benchmarks.ours import Row, measure
from benchmarks.peers import Peer
from benchmarks.tables import emit, percent, save_json
from onnxprune.coupling import couple
from onnxprune.errors import OnnxPruneError
from onnxprune.model import from_proto
from onnxprune.samples import generate

COLUMNS = (
    "model", "parameters", "groups", "prunable", "kept", "proof error", "result", "couple s", "no rule for",
    "onnxsim kept", "Torch-Pruning kept",
)  # fmt: skip
PEERS = ("onnxsim", "torch_pruning")
LITTLE = 0.85  # a tool that keeps more than this at 50% has not pruned the model
Record = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say with the exit code whether every proof held."""
    options = _options(arguments)
    records = json.loads(options.load.read_text(encoding="utf-8")) if options.load else list(_measured(options))
    emit("Summary", *_summary(records), as_markdown=options.markdown)
    for source in SOURCES:
        rows = [_cells(r) for r in records if r["source"] == source]
        if rows:
            emit(source, COLUMNS, rows, as_markdown=options.markdown)
    return int(any(r["result"].startswith("FAIL") for r in records))


def _measured(options: argparse.Namespace) -> Iterator[Record]:
    """The rows, one model after the other; all so far are in the file."""
    earlier = json.loads(options.peers.read_text(encoding="utf-8")) if options.peers else []
    answers = {record["model"]: {peer: record[peer] for peer in PEERS} for record in earlier}
    done = []
    with ExitStack() as stack:
        peers = {name: stack.enter_context(Peer(name)) for name in PEERS}
        for entry in catalogue():
            if fnmatch(entry.title, options.only) and not (options.quick and entry.large):
                known = answers.get(entry.title, dict.fromkeys(PEERS) if options.quick else None)
                done.append(_record(entry, peers, known))
                print(_progress(done[-1]), file=sys.stderr, flush=True)
                save_json(options.json, done)
                yield done[-1]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="models whose SOURCE/NAME fits, e.g. 'onnx/*'")
    parser.add_argument("--quick", action="store_true", help="leave out full-size nets and the other tools")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, after each model")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="take the other tools' answers from this JSON")
    parser.add_argument("--load", type=Path, metavar="FILE", help="measure nothing, print the figures of this JSON")
    return parser.parse_args(arguments)


def _record(entry: Entry, peers: Mapping[str, Peer], known: Record | None) -> Record:
    """One row of the table, as JSON can hold it; the other tools are asked unless their answers are known."""
    record: Record = {"model": entry.title, "source": entry.source, "name": entry.name}
    start = time.perf_counter()
    try:
        proto = entry.build()
    except Exception as error:  # noqa: BLE001  (an export that fails is listed)
        row = Row(result="no export", detail=f"{type(error).__name__}: {error}".replace("\n", " ")[:200])
        return record | row.as_dict() | dict.fromkeys(PEERS) | {"wall": 0.0}
    record |= measure(proto).as_dict()
    if known is None:
        module = peers["torch_pruning"].ask(entry.torch_name) if entry.torch_name else None
        known = {"onnxsim": _onnxsim(peers["onnxsim"], proto), "torch_pruning": module}
    return record | known | {"wall": round(time.perf_counter() - start, 2)}


def _onnxsim(peer: Peer, proto: onnx.ModelProto) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        path, feeds = Path(folder, "model.onnx"), Path(folder, "feeds.npz")
        onnx.save(proto, path)
        try:
            inputs = generate(couple(from_proto(proto)).graph)
        except OnnxPruneError as error:
            return {"kept": None, "note": f"no inputs: {type(error).__name__}"}
        np.savez(feeds, **inputs)
        return peer.ask(str(path), str(feeds))


def _progress(record: Record) -> str:
    kept = percent(record["kept"])
    return f"{record['model']:45s} {record['result']:10s} {kept:>7s} {record['wall']:7.1f} s  {record['detail'][:110]}"


def _cells(record: Record) -> list[str]:
    return [
        record["name"],
        f"{record['parameters']:,}",
        str(record["groups"]),
        percent(record["prunable"]),
        percent(record["kept"]),
        "-" if record["error"] is None else f"{record['error']:.0e}",
        record["result"],
        f"{record['seconds']:.3f}",
        record["unknown"] or "-",
        _peer(record["onnxsim"]),
        _peer(record["torch_pruning"]),
    ]


def _peer(answer: Record | None) -> str:
    if answer is None:
        return ""
    return percent(answer["kept"]) if answer["kept"] is not None else answer["note"] or "failed"


def _summary(records: Sequence[Record]) -> tuple[Sequence[str], list[list[str]]]:
    """Per source: how many models, how they ended, and how many each tool really made smaller."""
    columns = (
        "source", "models", "proven", "vacuous", "nothing to prune", "failed", "median kept", "median s",
        "onnxprune pruned", "onnxsim pruned", "Torch-Pruning pruned",
    )  # fmt: skip
    table = []
    for source in (*SOURCES, "all"):
        mine = [r for r in records if source in (r["source"], "all") and r["result"] != "no export"]
        if mine:
            table.append([source, *_counts(mine)])
    return columns, table


def _counts(records: Sequence[Record]) -> list[str]:
    results = [r["result"] for r in records]
    kept = [r["kept"] for r in records if r["kept"] is not None]
    return [
        str(len(records)),
        str(sum(r.startswith("ok") for r in results)),
        str(sum(r.startswith("vacuous") for r in results)),
        str(results.count("nothing")),
        str(sum(r.startswith("FAIL") for r in results)),
        percent(float(np.median(kept))) if kept else "-",
        f"{np.median([r['seconds'] for r in records]):.3f}",
        _pruned([r["kept_elements"] if r["result"].startswith("ok") else None for r in records]),
        _pruned([r["onnxsim"]["kept"] for r in records if r["onnxsim"]]),
        _pruned([r["torch_pruning"]["kept"] for r in records if r["torch_pruning"]]),
    ]


def _pruned(shares: Sequence[float | None]) -> str:
    """How many models were cut to at most `LITTLE`, of those that the tool was given."""
    return f"{sum(s is not None and s <= LITTLE for s in shares)} of {len(shares)}" if shares else "-"


if __name__ == "__main__":
    sys.exit(main())
