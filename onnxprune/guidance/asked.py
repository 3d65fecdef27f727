"""What exactly is asked for when something is measured of a step, with everything that the answer depends on.

Options are JSON values under the names that commands use. Those that are left out have their default, so that an
answer is found again however much of its question is written out. Data count by their content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxprune.alignment import machine
from onnxprune.criteria import find
from onnxprune.errors import DataError, OptionError
from onnxprune.instability import RUNS, Training
from onnxprune.sensitivity import RATIOS
from onnxprune.values import Options
from onnxprune.workspace.folder import inside
from onnxprune.workspace.workspace import Workspace

__all__ = ["COUPLING", "DEFAULTS", "RUNNING", "Asked", "asked", "coupling_options", "data_hash"]

RUNNING = ("provider", "threads")  # how it is run: nothing that a result depends on
COUPLING: Mapping[str, Any] = {**asdict(Options()), "allow_io": [], "shapes": []}
COMMON: Mapping[str, Any] = {"data": None, "samples": None, "seed": 0, **COUPLING}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "score": {**COMMON, "criterion": "sensitivity", "normalise": True, "ratio": None},
    "instability": {
        **COMMON, **asdict(Training()), "samples": 4096, "runs": RUNS, "within": "model", "normalise": "layer",
    },
    "scan": {**COMMON, "samples": 1024, "criterion": "l2", "ratios": list(RATIOS), "metric": None},
    "activity": {**COMMON, "samples": 512},
    "latency": {**COMMON},
}  # fmt: skip
"""Kind of result -> its options and their defaults."""


@dataclass(frozen=True)
class Asked:
    """A question about a step. ``model``: the hash of its model. ``values``: all options but those of RUNNING.

    ``data``: path of the data relative to the workspace, None for none. ``running``: how it is run. ``settings``: all
    that the answer depends on, as text.
    """

    kind: str
    step: int
    model: str
    data: str | None
    settings: str
    values: Mapping[str, Any] = field(hash=False)
    running: Mapping[str, Any] = field(hash=False)

    def source(self, workspace: Workspace) -> Path:
        """The data on the disk. Raises DataError where there are none."""
        if self.data is None:
            raise DataError(f"there are no data that fit step {self.step}", "Put them into data/, and name them.")
        return inside(workspace.folder, self.data)

    @property
    def options(self) -> Options:
        """What groups depend on."""
        return coupling_options(self.values)


def asked(workspace: Workspace, step: int, kind: str, options: Mapping[str, Any]) -> Asked:
    """The question that these options make. Raises OptionError, StepNotFound, and WorkspaceError for unknown data."""
    if kind not in DEFAULTS:
        raise OptionError(f"nothing is kept that is called {kind!r}", f"There are {', '.join(DEFAULTS)}.")
    defaults = DEFAULTS[kind]
    for name in options:
        if name not in defaults and name not in RUNNING:
            near = get_close_matches(name, defaults)
            hint = f"Nearest: {', '.join(near)}." if near else f"Options: {', '.join(defaults)}."
            raise OptionError(f"{kind} has no option {name!r}", hint)
    given = {name: value for name, value in options.items() if value is not None}
    values = {name: _plain(given.get(name, default)) for name, default in defaults.items()}
    here = workspace.steps.get(step)
    data = workspace.dataset_name(step, values["data"])
    if kind == "score" and "data" not in find(values["criterion"]).needs:
        data, values["samples"] = None, None  # it looks at weights only
    if kind == "latency":
        data, values["samples"], values["seed"] = None, None, 0  # inputs are made up
    if "ratios" in values:
        values["ratios"] = sorted({float(ratio) for ratio in values["ratios"]})
    facts = {**values, "data": None if data is None else data_hash(workspace, data)}
    running = {name: given[name] for name in RUNNING if name in given}
    if kind == "latency":
        facts["machine"] = machine(running.get("threads"), running.get("provider", "auto"))
    settings = json.dumps(facts, sort_keys=True)
    return Asked(kind, step, here.model_hash, data, settings, values, running)


def coupling_options(values: Mapping[str, Any]) -> Options:
    """Those of JSON values that groups depend on."""
    given = {f.name: values[f.name] for f in fields(Options) if f.name in values}
    if "shapes" in given:
        pairs = given["shapes"].items() if isinstance(given["shapes"], Mapping) else given["shapes"]
        given["shapes"] = tuple((str(name), tuple(int(n) for n in shape)) for name, shape in pairs)
    if "allow_io" in given:
        given["allow_io"] = tuple(given["allow_io"])
    return Options(**given)


def data_hash(workspace: Workspace, path: str) -> str:
    """A hash of what is in these data of the folder."""
    return next((entry.hash for entry in workspace.files.listed("data") if entry.path == path), "")


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
