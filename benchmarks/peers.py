"""What other tools make of the same model, each in a process of its own: a crash or a hang is a result too.

``python -m benchmarks.peers onnxsim`` (or ``torch_pruning``) reads one JSON list of arguments per line and prints one
JSON object for each: ``kept`` (share of the weight elements, null where it failed) and ``note`` (why). `Peer` starts
such a process when it is first asked, and again after it has died.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

__all__ = ["Peer", "main"]

ROOT = Path(__file__).resolve().parent.parent
RATIO = 0.5
MARK = b'{"kept"'


class Peer:
    """One of the other tools, ready to be asked. A context manager: leaving it ends the process."""

    def __init__(self, tool: str, timeout: float = 60) -> None:
        self.tool, self.timeout = tool, timeout
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, *arguments: str) -> dict[str, Any]:
        """The tool's answer, or a note on how its process died."""
        process = self.process if self.process and self.process.poll() is None else self._start()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError(self.tool)
        process.stdin.write(json.dumps(arguments).encode() + b"\n")
        process.stdin.flush()
        line = self._line(process.stdout.fileno())
        if line:
            return dict(json.loads(line))
        code = process.poll()
        self._end()
        late = f"no answer in {self.timeout:.0f} s"
        return {"kept": None, "note": late if line is None else f"process ended with {code}"}

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", self.tool]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "2"}, **pipes)
        return self.process

    def _line(self, channel: int) -> bytes | None:
        """The line with the answer; empty when the process has ended, None when the time is over."""
        end, text = time.monotonic() + self.timeout, b""
        with selectors.DefaultSelector() as selector:
            selector.register(channel, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0:
                if not selector.select(left):
                    return None
                part = os.read(channel, 1 << 16)
                text += part
                found = [line for line in text.split(b"\n")[:-1] if line.startswith(MARK)]
                if found:
                    return found[-1]
                if not part:
                    return b""
        return None

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def onnxsim(path: str, feeds: str) -> dict[str, Any]:
    """The best that its pruning of chains and of attention heads makes of the model, as it is and simplified first.

    Only results that run count.
    """
    import numpy as np  # noqa: PLC0415  (one process, one tool)
    import onnx  # noqa: PLC0415
    import onnxsim as tool  # noqa: PLC0415

    from benchmarks.counting import elements  # noqa: PLC0415

    original = onnx.load(path)
    total = elements(original)
    inputs = dict(np.load(feeds))
    best: float | None = None
    notes: list[str] = []
    for simplify, chains in product((False, True), (tool.apply_structured_pruning, tool.apply_structured_pruning_cpp)):
        try:
            model = tool.simplify(original)[0] if simplify else original
            for step in (chains, tool.apply_attention_head_pruning):
                model = step(model, sparsity=RATIO)
                _run(model, inputs)
                share = elements(model) / total
                best = share if best is None else min(best, share)
        except Exception as error:  # noqa: BLE001  (whatever a peer raises is its result)
            notes.append(type(error).__name__)
    return {"kept": best, "note": ", ".join(dict.fromkeys(notes))}


def _run(proto: Any, inputs: dict[str, Any]) -> None:
    import onnxruntime  # noqa: PLC0415

    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    session.run(None, inputs)


def torch_pruning(name: str) -> dict[str, Any]:
    """Torch-Pruning with its defaults: L2 magnitude, half of the channels, layers that make an output left alone."""
    import torch  # noqa: PLC0415
    import torch_pruning as tool  # noqa: PLC0415

    from benchmarks.catalogue import torch_module  # noqa: PLC0415

    module, inputs = torch_module(name)
    if not isinstance(module, torch.nn.Module):
        raise TypeError(name)
    module.requires_grad_(requires_grad=True)
    before = sum(p.numel() for p in module.parameters())
    shapes = _shapes(module(*inputs))
    try:
        pruner = tool.pruner.MagnitudePruner(
            module, inputs, importance=tool.importance.MagnitudeImportance(p=2), pruning_ratio=RATIO,
            ignored_layers=_output_layers(module, inputs),
        )  # fmt: skip
        pruner.step()
        after = _shapes(module(*inputs))
    except Exception as error:  # noqa: BLE001  (whatever a peer raises is its result)
        return {"kept": None, "note": type(error).__name__}
    if after != shapes:
        return {"kept": None, "note": "output shape changed"}
    return {"kept": sum(p.numel() for p in module.parameters()) / before, "note": ""}


def _output_layers(module: Any, inputs: Any) -> list[Any]:
    """The layers whose result is an output of the model; else the last one with parameters that ran."""
    ran: list[tuple[Any, int]] = []
    keep: list[Any] = []  # results stay alive, so that identities do not repeat

    def note(layer: Any, _: Any, result: Any) -> None:
        keep.append(result)
        ran.append((layer, id(result)))

    hooks = [m.register_forward_hook(note) for m in module.modules() if not list(m.children()) and list(m.parameters())]
    result = module(*inputs)
    for hook in hooks:
        hook.remove()
    outputs = {id(o) for o in (result if isinstance(result, tuple) else (result,))}
    found = [layer for layer, identity in ran if identity in outputs]
    return found or [ran[-1][0]]


def _shapes(result: Any) -> list[tuple[int, ...]]:
    return [tuple(o.shape) for o in (result if isinstance(result, tuple) else (result,))]


def main(arguments: list[str]) -> None:
    """Answer one line after the other."""
    warnings.simplefilter("ignore")
    tool = {"onnxsim": onnxsim, "torch_pruning": torch_pruning}[arguments[0]]
    for line in sys.stdin:
        try:
            answer = tool(*json.loads(line))
        except Exception as error:  # noqa: BLE001  (whatever a peer raises is its result)
            answer = {"kept": None, "note": type(error).__name__}
        sys.stdout.write("\n" + json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
