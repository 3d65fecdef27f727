"""Trees to look at, made without a model being pruned: steps with plans, reports and metrics that were thought out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxprune.plan import Plan
from onnxprune.workspace.values import NewStep
from onnxprune.workspace.workspace import Workspace

SIZES = {"conv1": 24, "conv2": 32, "conv3": 48, "conv4": 64}  # of the bundled example


@dataclass
class Grower:
    """Adds steps to the tree of the first step of a workspace; ``left``: units by group, by step."""

    workspace: Workspace
    left: dict[int, dict[str, int]] = field(default_factory=lambda: {1: dict(SIZES)})

    def prune(self, parent: int, share: float, accuracy: float, **more: object) -> int:
        """Take a share of the units of every group."""
        sizes = self.left[parent]
        gone = {name: np.arange(int(share * size)) for name, size in sizes.items()}
        plan = self.workspace.blobs.put(Plan("0" * 64, gone, sizes).to_json().encode())
        number = self._add("prune", parent, accuracy, plan, {}, **more)
        self.left[number] = {name: size - len(gone[name]) for name, size in sizes.items()}
        return number

    def train(self, parent: int, accuracy: float, stopped: str, best: int, epochs: int) -> int:
        """Fine-tune."""
        report = {"trained_for": "labels", "stopped": stopped, "best_epoch": best, "epochs": epochs}
        blob = self.workspace.blobs.put(json.dumps(report).encode())
        number = self._add("fine-tune", parent, accuracy, None, {"report": blob})
        self.left[number] = self.left[parent]
        return number

    def judge(self, parent: int, accuracy: float, *, holds: bool) -> int:
        """What an automatic run fine-tuned and judged."""
        floors = [{"name": "accuracy", "value": accuracy, "least": 0.98, "holds": holds}]
        auto = {
            "run": "r", "strategy": "auto", "start": 1, "phase": "auto", "try": 0, "part": "fine-tune",
            "parent": parent, "units": 1, "wanted": 1, "ratio": 0.5, "metric": "accuracy", "requirement": {},
            "settings": "", "verdict": {"holds": holds, "reached": False, "floors": floors},
        }  # fmt: skip
        blob = self.workspace.blobs.put(json.dumps(auto).encode())
        number = self._add("fine-tune", parent, accuracy, None, {"auto": blob})
        self.left[number] = self.left[parent]
        return number

    def _add(
        self, kind: str, parent: int, accuracy: float, plan: str | None, documents: dict[str, str],
        command: Sequence[str] = ("onnxprune", "ws"), name: str = "",
    ) -> int:  # fmt: skip
        root = self.workspace.steps.get(1)
        left = 1.0 if parent not in self.left else sum(self.left[parent].values()) / sum(SIZES.values())
        metrics = {
            ("accuracy", ""): accuracy, ("loss", ""): 1 - accuracy, ("parameters", ""): 40_000 * left,
            ("macs", ""): 1e6 * left, ("file_bytes", ""): 200_000 * left,
        }  # fmt: skip
        new = NewStep(
            kind, root.model, f"{parent}-{kind}-{accuracy}-{len(self.left)}", parent, plan, command=tuple(command),
            seconds=1.5, metrics=metrics, documents=documents, name=name,
        )  # fmt: skip
        return self.workspace.add(new).number


def grow(workspace: Workspace) -> Grower:
    """1 > 2 prune > 3 fine-tune (converged) > 4 prune > 5 fine-tune (not); 1 > 6 prune > 7 given up; 1 is pinned."""
    workspace.steps.measured(1, {("accuracy", ""): 0.99, ("loss", ""): 0.03}, {})
    grower = Grower(workspace)
    half = grower.prune(1, 0.5, 0.6, name="half")
    trained = grower.train(half, 0.985, "delta loss", 6, 6)
    quarter = grower.prune(trained, 0.5, 0.4)
    grower.train(quarter, 0.95, "max epochs", 8, 8)
    other = grower.prune(1, 0.75, 0.2)
    grower.judge(other, 0.7, holds=False)
    workspace.steps.pin(1)
    return grower
