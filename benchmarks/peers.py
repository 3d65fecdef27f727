"""What other tools make of the same model, each in a process of its own: a crash or a hang is a result too.

``python -m benchmarks.peers onnxsim MODEL.onnx FEEDS.npz`` and ``... torch_pruning NAME`` print one JSON object:
``kept`` (share of the weight elements, null where it failed) and ``note`` (why, or what is wrong with the result).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import Any

__all__ = ["ask", "main"]

ROOT = Path(__file__).resolve().parent.parent
RATIO = 0.5


def ask(tool: str, *arguments: str, timeout: float = 180) -> dict[str, Any]:
    """Run one peer; its answer, or a note on how it died."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", tool, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"kept": None, "note": f"no answer in {timeout:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"kept"')]
    if lines:
        return dict(json.loads(lines[-1]))
    last = (done.stderr.strip().splitlines() or [""])[-1][:80]
    return {"kept": None, "note": f"process ended with {done.returncode}: {last}"}


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
    """Run one tool and print its answer."""
    warnings.simplefilter("ignore")
    tool = {"onnxsim": onnxsim, "torch_pruning": torch_pruning}[arguments[0]]
    sys.stdout.write("\n" + json.dumps(tool(*arguments[1:])) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
