"""The settings of each action as fields of a form: what they are called, and what may be typed or chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnxprune.allocate import DISTRIBUTIONS
from onnxprune.allocate.presets import FAMILIES
from onnxprune.criteria import criteria
from onnxprune.recover import METHODS
from onnxprune.train import OPTIMIZERS, SCHEDULES

__all__ = ["ACTIONS", "Field", "fields_of"]


@dataclass(frozen=True)
class Field:
    """One field. ``kind``: how its text is read (`form.READERS`); ``choices``: value and words, for a kind "choice".

    ``unit`` stands behind it, ``hint`` explains it, ``example`` is shown while it is empty. ``more``: it stands with
    the rarer ones. ``value``: what it begins with.
    """

    name: str
    label: str
    kind: str
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    unit: str = ""
    example: str = ""
    more: bool = False
    value: Any = None


def _choices(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return pairs


def _criteria() -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name, criterion in criteria().items() if criterion.units or criterion.weights)


SHARING = {
    "uniform": "the same share of every group",
    "global": "lowest scores of the whole model",
    "erk": "more from wide layers (ERK)",
    "lamp": "least distortion (LAMP)",
    "normalised-global": "lowest scores, layers made comparable",
    "preset": "ratios of Park et al. by kind of layer",
    "knapsack": "lowest score for what a unit costs",
}

PRUNE: tuple[Field, ...] = (
    Field("criterion", "Criterion", "choice", "How the importance of a unit is scored.", value="l2"),
    Field(
        "ratio",
        "Remove",
        "share",
        "Share of the units that go. Leave it empty under a target.",
        unit="of the units",
        value="50%",
    ),
    Field(
        "distribution",
        "Shared out",
        "choice",
        "Which groups give how much.",
        tuple((n, SHARING[n]) for n in DISTRIBUTIONS if n in SHARING),
        value="uniform",
    ),
    Field(
        "recover",
        "Repair",
        "choice",
        "Without training, on calibration data.",
        _choices(("none", "none"), *((m, m) for m in METHODS)),
    ),
    Field(
        "min",
        "Must hold",
        "floors",
        "The largest removal that keeps these is taken.",
        example="accuracy=0.98, recall:7=0.9",
    ),
    Field(
        "target_params",
        "Keep parameters",
        "amount",
        "Instead of a share: what is to be left.",
        example="50% or 2.5M",
        more=True,
    ),
    Field(
        "target_macs",
        "Keep MACs",
        "amount",
        "Instead of a share: what is to be left.",
        example="50% or 300M",
        more=True,
    ),
    Field("target_bytes", "Keep file size", "amount", example="50% or 300KB", more=True),
    Field(
        "target_latency",
        "Latency at most",
        "amount",
        "Measured on this machine while pruning.",
        example="5ms or 60%",
        more=True,
    ),
    Field(
        "granularity",
        "What goes",
        "choice",
        "Single weights are set to zero; the file stays as large.",
        _choices(("unit", "whole units"), ("weight", "single weights")),
        more=True,
    ),
    Field(
        "mode",
        "How",
        "choice",
        "Removing makes the model smaller, masking sets zeros.",
        _choices(("remove", "remove"), ("mask", "set to zero")),
        more=True,
    ),
    Field("pattern", "Pattern", "text", "For single weights: N of every M are kept.", example="2:4", more=True),
    Field(
        "round_to",
        "Multiples of",
        "whole",
        "Each group keeps a multiple of so many channels.",
        unit="channels",
        example="1",
        more=True,
    ),
    Field(
        "preset",
        "Family",
        "choice",
        "For the ratios of Park et al.; empty: chosen by the graph.",
        tuple((n, n) for n in FAMILIES),
        more=True,
    ),
    Field("preset_step", "Iteration", "whole", "Which iteration of the ratios of Park et al.", more=True),
    Field(
        "include_inexact",
        "Also groups under a norm",
        "flag",
        "Removal changes what the survivors see; proven against a corrected model.",
        more=True,
    ),
    Field("samples", "Calibration", "whole", unit="samples", example="all", more=True),
    Field("seed", "Seed", "whole", example="0", more=True),
)
FINE_TUNE: tuple[Field, ...] = (
    Field("epochs", "Epochs", "whole", "At most so many.", example="by the data"),
    Field("rate", "Learning rate", "number", "The highest one.", example="0.005"),
    Field("optimizer", "Optimizer", "choice", "", tuple((k, k) for k in OPTIMIZERS)),
    Field("batch", "Batch", "whole", unit="samples", example="32"),
    Field("target", "Stop at", "text", "A metric and the value that is enough.", example="accuracy=0.98"),
    Field("delta_loss", "Stop when settled", "share", "When the loss falls by less than this share.", example="1%"),
    Field(
        "teacher", "Learn from step", "text", "Distillation from the outputs of another step.", example="1", more=True
    ),
    Field(
        "patience",
        "Patience",
        "whole",
        "Epochs without progress before it counts as settled.",
        unit="epochs",
        example="3",
        more=True,
    ),
    Field("time_limit", "Stop after", "number", unit="seconds", more=True),
    Field("schedule", "Schedule", "choice", "Of the learning rate.", tuple((n, n) for n in SCHEDULES), more=True),
    Field("weight_decay", "Weight decay", "number", example="0.01", more=True),
    Field("momentum", "Momentum", "number", "For sgd.", example="0.9", more=True),
    Field("clip", "Clip gradients", "number", "The largest norm of all of them together.", more=True),
    Field(
        "batchnorm", "BatchNorm", "choice", "", _choices(("batch", "of each batch"), ("frozen", "as it is")), more=True
    ),
    Field("freeze", "Frozen weights", "names", "By name or pattern.", example="fc.*", more=True),
    Field("keep_zeros", "Zeros stay zero", "flag", "All of them, not only those that a plan masked.", more=True),
    Field(
        "deterministic",
        "Reproducible bit by bit",
        "flag",
        "One thread; the same command gives the same model.",
        more=True,
    ),
    Field("seed", "Seed", "whole", example="0", more=True),
)
AUTO: tuple[Field, ...] = (
    Field("ratio", "Each time remove", "share", "Of the units that are left.", unit="of the units", value="1/3"),
    Field("require", "Must hold", "floors", "Tries go on until one of these fails.", example="accuracy=98.5%"),
    Field("max_loss", "Loss at most", "share", "Of the metric, against the step that it begins at.", value="1%"),
    Field(
        "strategy",
        "Strategy",
        "choice",
        "What follows the first try that fails.",
        (
            ("auto", "stop there"),
            ("auto+estimator", "then what the estimator suggests"),
            ("bisect", "then halve the gap until it is small"),
        ),
        value="auto+estimator",
    ),
    Field("criterion", "Criterion", "choice", "How the importance of a unit is scored.", value="l2"),
    Field("epochs", "Epochs", "whole", "Of the fine-tuning after each removal.", example="20"),
    Field("recover", "Repair first", "choice", "Without training.", tuple((m, m) for m in METHODS), more=True),
    Field("budget", "Stop at", "floors", "When so much is left.", example="parameters=20%, macs=30%", more=True),
    Field("iterations", "Tries at most", "whole", more=True),
    Field("tries", "Refining tries", "whole", "By the estimator or by halving.", example="3", more=True),
    Field("delta_loss", "Settled at", "share", "When the loss falls by less than this share.", more=True),
    Field("seed", "Seed", "whole", example="0", more=True),
)
RECOVER: tuple[Field, ...] = (
    Field("method", "Method", "choice", "Without training, on calibration data.",
          tuple((m, m) for m in METHODS), value="least-squares"),
    Field("samples", "Calibration", "whole", unit="samples", example="1024"),
    Field("seed", "Seed", "whole", example="0", more=True),
)  # fmt: skip
ACTIONS: Mapping[str, tuple[Field, ...]] = {"prune": PRUNE, "recover": RECOVER, "fine-tune": FINE_TUNE, "auto": AUTO}


def fields_of(action: str) -> tuple[Field, ...]:
    """The fields of an action; criteria are asked for now, because plug-ins bring some."""
    return tuple(
        field if field.name != "criterion" else replace(field, choices=_criteria()) for field in ACTIONS[action]
    )
