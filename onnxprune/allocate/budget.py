"""What is asked for: how much is to go, from where, in which pattern, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from onnxprune.allocate.levels import SensitivityTable, check_table
from onnxprune.allocate.patterns import KeepOf, Pattern, parse_pattern
from onnxprune.allocate.presets import check_family
from onnxprune.allocate.quantities import TARGETS, Number, check_ratio, target
from onnxprune.errors import GroupNotFound, OptionError

__all__ = ["DISTRIBUTIONS", "SCOPES", "Budget", "check_names"]

SCOPES = ("local", "global")
DISTRIBUTIONS = (
    "uniform", "global", "erk", "lamp", "normalised-global", "preset", "sensitivity", "knapsack",
)  # fmt: skip
ORDINARY = {"uniform", "global", "knapsack"}  # what the two scopes stand for


@dataclass(frozen=True)
class Budget:
    """How much is to go, and from where.

    ``ratio``: share of the units (or single weights) that are removed. ``group_ratios`` overrides it by name; ``skip``
    names what stays whole. Or targets, which say what is *kept*: ``target_params``, ``target_macs``, ``target_bytes``
    (of the file), ``target_memory`` (activations at their peak), ``target_latency`` (needs to be measured), each as a
    share of the original between 0 and 1, or as an amount ("2.5M", "300KB", "5ms"). All of them then hold.

    ``distribution`` says who gives how much (``n`` units of a group, ``s`` scores):

    - ``"uniform"``: floor(ratio n) of each group; under a target all groups shrink at one pace
    - ``"global"``: the lowest scores of all, by one threshold
    - ``"erk"``: kept share ~ sum(shape) / product(shape) of the layer's weight, at most 1 (arXiv:1911.11134)
    - ``"lamp"``: one threshold for s^2 / (sum of the squares of all scores of the layer that are not lower), which
      removes nearly what costs least distortion (arXiv:2010.07611)
    - ``"normalised-global"``: one threshold for s / |s|, the norm taken over the layer (arXiv:1611.06440)
    - ``"preset"``: the ratios of `suggest_ratios`, for the family ``preset`` (None: chosen by the graph) up to step
      ``preset_step``; with a ratio or target as many steps as it takes (arXiv:2002.04809)
    - ``"sensitivity"``: all groups lose equally much of the metric, by the table ``sensitivity``: rows with ``group``,
      ``ratio`` and ``loss``, or name -> (ratio, loss) pairs
    - ``"knapsack"``: under targets, the units with the lowest score for what they cost (arXiv:2110.10811)

    ``scope`` is the short way: "local" is uniform, "global" is global for a ratio and knapsack under targets.

    ``round_to``: each group keeps a multiple of so many channels, rounded up; None stands for the step that suits
    this machine (`alignment.default_step`), less in groups of fewer than two such blocks; 1 for no rounding.
    ``pattern``, for single weights: "N:M" keeps N of every M along the inputs (which says how much goes), "RxC" zeroes
    whole blocks of R rows and C columns (see `patterns`).
    ``include_biases``: single weights are chosen from biases and norms as well.

    Raises OptionError for a value that makes no sense.
    """

    ratio: float | None = None
    scope: str = "local"
    group_ratios: Mapping[str, float] = field(default_factory=dict)
    skip: Sequence[str] = ()
    round_to: int | None = None
    target_params: Number | None = None
    target_macs: Number | None = None
    include_biases: bool = False
    target_bytes: Number | None = None
    target_memory: Number | None = None
    target_latency: Number | None = None
    distribution: str | None = None
    preset: str | None = None
    preset_step: int = 1
    sensitivity: SensitivityTable | None = field(default=None, repr=False)
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise OptionError(f"scope: got {self.scope!r}, expected {' or '.join(SCOPES)}", "The default is local.")
        check_ratio("ratio", self.ratio)
        for name, ratio in self.group_ratios.items():
            check_ratio(f"ratio of {name!r}", ratio)
        if self.round_to is not None and (int(self.round_to) != self.round_to or self.round_to < 1):
            raise OptionError(f"round_to: got {self.round_to}, expected 1 or more", "1 means exactly the ratio asked.")
        for name, value in self.targets.items():
            target(name, value)
        self._check_distribution()
        self._check_amount()

    def _check_distribution(self) -> None:
        chosen = self.distribution
        if chosen is not None and chosen not in DISTRIBUTIONS:
            raise OptionError(
                f"distribution: got {chosen!r}, expected one of {', '.join(DISTRIBUTIONS)}", _nearest(chosen)
            )
        if chosen is not None and self.scope == "global" and chosen not in ORDINARY - {"uniform"}:
            raise OptionError(f"scope global and distribution {chosen} exclude each other", "Leave the scope out.")
        if chosen == "knapsack" and not self.has_target:
            raise OptionError("distribution knapsack weighs scores against costs and needs a target", "Give a target.")
        check_family(self.preset)
        if self.preset_step < 1:
            raise OptionError(f"preset_step: got {self.preset_step}, expected 1 or more", "Step 1 is the first one.")
        if chosen != "preset" and (self.preset is not None or self.preset_step != 1):
            raise OptionError("a preset is chosen, but not the distribution preset", "Add distribution='preset'.")
        if (chosen == "sensitivity") != (self.sensitivity is not None):
            raise OptionError(
                "distribution sensitivity and a table from a sensitivity scan belong together",
                "Make the table with `onnxprune sensitivity` and give both.",
            )
        if self.sensitivity is not None:
            check_table(self.sensitivity)

    def _check_amount(self) -> None:
        """Exactly one way of saying how much goes."""
        amounts = {"a ratio": self.ratio is not None, "a target": self.has_target}
        if isinstance(self.parsed_pattern, KeepOf):
            amounts[f"the pattern {self.pattern}"] = True
            amounts["a distribution"] = self.distribution is not None
            amounts["ratios of groups"] = bool(self.group_ratios)
        given = [name for name, is_given in amounts.items() if is_given]
        if len(given) > 1:
            raise OptionError(f"both {given[0]} and {given[1]} are given", "Give one of them.")
        if self.preset_step != 1 and given:
            raise OptionError(f"both preset_step and {given[0]} are given", "Give one of them.")
        if not given and not self.group_ratios and self.distribution != "preset":
            raise OptionError("no ratio and no target is given", "Say how much is to go, for example a ratio of 0.5.")

    @property
    def targets(self) -> dict[str, Number]:
        """The targets that are set, by name."""
        return {name: getattr(self, name) for name in TARGETS if getattr(self, name) is not None}

    @property
    def has_target(self) -> bool:
        return bool(self.targets)

    @property
    def spread(self) -> str:
        """The distribution, what ``scope`` stands for included."""
        if self.distribution is not None:
            return self.distribution
        if self.scope == "local":
            return "uniform"
        return "knapsack" if self.has_target else "global"

    @property
    def parsed_pattern(self) -> Pattern | None:
        return None if self.pattern is None else parse_pattern(self.pattern)

    def ratio_of(self, name: str) -> float | None:
        """The ratio that is set for one group or weight; None where the distribution or the target decides."""
        if name in self.skip:
            return 0.0
        if name in self.group_ratios:
            return self.group_ratios[name]
        if self.has_target or self.spread == "preset":
            return None
        if self.ratio is None:
            return 0.0
        return self.ratio if self.spread == "uniform" else None

    def as_dict(self) -> dict[str, Any]:
        """What was set, for a plan's recipe; of a sensitivity table only that there was one."""
        defaults = {f.name: f.default for f in fields(self)}
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sensitivity"}
        values = {k: v for k, v in values.items() if v != defaults[k] and v not in (None, (), [], {}, False)}
        values = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
        if self.ratio is not None and self.distribution is None:
            values["scope"] = self.scope
        return values


def check_names(names: Iterable[str], known: Iterable[str], what: str = "group") -> None:
    """Raise GroupNotFound, offering the nearest names, unless all names are known."""
    known = list(known)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, cutoff=0.4)
            hint = f"Nearest: {', '.join(near)}." if near else "`onnxprune inspect` lists the groups."
            raise GroupNotFound(f"the model has no {what} {name!r}", hint)


def _nearest(word: str) -> str:
    near = get_close_matches(word, DISTRIBUTIONS)
    return f"Did you mean {near[0]}?" if near else "The default is uniform."
