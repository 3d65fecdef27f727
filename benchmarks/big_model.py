"""Peak memory and time of pruning a model of more than 2 GB, in fresh processes.

    python -m benchmarks.big_model [--gigabytes 2.15] [--folder DIR] [--markdown] [--json FILE]

Random float32 weights in external data: transformer-like blocks of 50 MB. "with cuts" is a plain stack: between two
blocks one tensor crosses. In "without cuts" eight tensors made at the beginning are read again at the end, so that
nothing can be cut apart. ``onnxprune prune`` scores (L2), plans (half of every group), removes and saves, once with
``--no-verify`` and once with the proof. Peak memory is the largest resident set of that process, as the kernel counts
it: memory-mapped pages of the model's own file are in it. The limits are meant for 2 GB and more: Python with its
libraries alone takes 150 MB. The files are deleted in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, save_model

from benchmarks.tables import emit, percent, save_json

WIDTH, HIDDEN, HEADS, TOKENS = 1024, 4096, 16, 16
SKIPS = 8  # more than may cross a cut
BLOCK = 4 * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN)  # bytes of one block's matrices
COLUMNS = (
    "model",
    "GB",
    "run",
    "kept",
    "seconds",
    "peak MB",
    "announced",
    "peak / size",
    "limit",
    "proof error",
    "segments",
    "",
)
ANNOUNCED = re.compile(r"The proof takes about ([\d.]+) GB")
# (without cuts, proven) -> largest share of its size; None: no limit
LIMITS = {(False, False): 0.6, (False, True): 1.0, (True, False): 0.6, (True, True): None}


class Writer:
    """Writes a model whose weights go straight to the data file, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, path.with_suffix(".data")
        self.file = self.data.open("wb")
        self.rng = np.random.default_rng(0)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, *shape: int, scale: float, shift: float = 0.0) -> str:
        array = self.rng.standard_normal(shape, np.float32) * np.float32(scale) + np.float32(shift)
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": self.data.name, "offset": self.file.tell(), "length": array.nbytes}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        self.file.write(array.tobytes())
        self.weights.append(tensor)
        return name

    def shape(self, name: str, *values: int) -> str:
        self.weights.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        matrix = self.weight(f"{name}.weight", inputs, outputs, scale=inputs**-0.5)
        bias = self.weight(f"{name}.bias", outputs, scale=0.1)
        return self.op("Add", self.op("MatMul", x, matrix), bias)

    def norm(self, x: str, name: str) -> str:
        scale = self.weight(f"{name}.scale", WIDTH, scale=0.1, shift=1)
        return self.op("LayerNormalization", x, scale, self.weight(f"{name}.bias", WIDTH, scale=0.1), axis=-1)

    def block(self, x: str, name: str) -> str:
        """Attention and a feed-forward part, each on the residual line."""
        line = self.norm(x, f"{name}.norm1")
        q, k, v = (
            self.op("Transpose", self.op("Reshape", self.linear(line, f"{name}.{part}", WIDTH, WIDTH), "heads"), perm=p)
            for part, p in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))
        )
        weights = self.op("Softmax", self.op("Mul", self.op("MatMul", q, k), "scale"), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        x = self.op("Add", x, self.linear(self.op("Reshape", mixed, "flat"), f"{name}.out", WIDTH, WIDTH))
        inner = self.op("Relu", self.linear(self.norm(x, f"{name}.norm2"), f"{name}.up", WIDTH, HIDDEN))
        return self.op("Add", x, self.linear(inner, f"{name}.down", HIDDEN, WIDTH))

    def build(self, blocks: int, *, cuts: bool) -> None:
        self.shape("heads", 0, 0, HEADS, WIDTH // HEADS)
        self.shape("flat", 0, 0, WIDTH)
        self.weights.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [(WIDTH / HEADS) ** -0.5]))
        skips = [self.op("Relu", self.linear("x", f"skip{n}", WIDTH, 64)) for n in range(0 if cuts else SKIPS)]
        line = "x"
        for n in range(blocks):
            line = self.block(line, f"block{n}")
        for n, skip in enumerate(skips):
            line = self.op("Add", line, self.linear(skip, f"back{n}", 64, WIDTH))
        line = self.linear(self.norm(line, "norm"), "head", WIDTH, 16)
        values = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, TOKENS, c]) for n, c in (("x", WIDTH), (line, 16))
        ]
        graph = helper.make_graph(self.nodes, "big", values[:1], values[1:], self.weights)
        self.file.close()
        save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), self.path)


@dataclass(frozen=True)
class Run:
    """One run in a process of its own. ``size`` and ``peak`` in bytes; ``result``: "" or how it ended."""

    model: str
    proven: bool
    size: int
    peak: int
    seconds: float
    limit: float | None
    kept: float | None
    error: float | None
    segments: int | None
    announced: str
    result: str

    @property
    def passed(self) -> bool:
        return not self.result and (self.limit is None or self.peak <= self.limit * self.size)


def in_process(source: Path, target: Path, *, cuts: bool, proven: bool) -> Run:
    """Prune with the command line, in a fresh process, and measure that."""
    size = source.stat().st_size + source.with_suffix(".data").stat().st_size
    arguments = ["prune", str(source), "-o", str(target), "--ratio", "0.5", "--round-to", "1", "--json"]
    child = [sys.executable, "-c", "import sys; from onnxprune.cli import main; sys.exit(main())", *arguments]
    child += [] if proven else ["--no-verify"]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), number) for number, file in ((1, out), (2, err))]
        pid = os.posix_spawn(child[0], child, os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - start
        output, messages = (_text(file) for file in (out, err))
    answer = json.loads(output) if status == 0 else {"reached": {}, "proof": None}
    proof = answer["proof"] or {}
    return Run(
        model="with cuts" if cuts else "without cuts",
        proven=proven,
        size=size,
        peak=usage.ru_maxrss * 1024,
        seconds=seconds,
        limit=LIMITS[not cuts, proven],
        kept=answer["reached"].get("params"),
        error=proof.get("error"),
        segments=proof.get("segments"),
        announced=next(iter(ANNOUNCED.findall(messages)), ""),
        result="" if status == 0 else f"exit code {os.waitstatus_to_exitcode(status)}: {messages.strip()[:200]}",
    )


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def runs(folder: Path, gigabytes: float) -> Iterator[Run]:
    """All four, each model made, used and deleted."""
    blocks = -(-int(gigabytes * 1e9) // BLOCK)
    for cuts in (True, False):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            source, target = Path(place, "big.onnx"), Path(place, "small.onnx")
            Writer(source).build(blocks, cuts=cuts)
            for proven in (False, True):
                yield in_process(source, target, cuts=cuts, proven=proven)


def _cells(run: Run) -> list[str]:
    return [
        run.model,
        f"{run.size / 1e9:.2f}",
        "proven" if run.proven else "--no-verify",
        percent(run.kept),
        f"{run.seconds:.1f}",
        f"{run.peak / 1e6:,.0f}",
        f"{run.announced} GB" if run.announced else "-",
        percent(run.peak / run.size),
        percent(run.limit),
        "-" if run.error is None else f"{run.error:.0e}",
        str(run.segments or "-"),
        run.result or ("pass" if run.passed else "FAIL"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_model", description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2.15, help="size of the weights, 2.15 by default")
    parser.add_argument("--folder", type=Path, help="where the files are made; the temporary folder by default")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    found = []
    for run in runs(options.folder or Path(tempfile.gettempdir()), options.gigabytes):
        found.append(run)
        print(*_cells(run), file=sys.stderr, flush=True)
    emit("A model of more than 2 GB", COLUMNS, [_cells(r) for r in found], as_markdown=options.markdown)
    save_json(options.json, [asdict(r) | {"passed": r.passed} for r in found])
    return int(not all(r.passed for r in found))


if __name__ == "__main__":
    sys.exit(main())
