"""The options of ``finetune`` and ``train``, and how their text becomes values."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.options import keep_input, writable
from onnxprune.errors import OptionError
from onnxprune.losses import KINDS as LOSSES
from onnxprune.model import Model
from onnxprune.train import DECAY, OPTIMIZERS, SCHEDULES, Augment, Optimizer, Saving
from onnxprune.train.division import HELD_OUT

__all__ = [
    "AugmentOption",
    "BatchNormOption",
    "BatchOption",
    "CheckpointOption",
    "ClipOption",
    "DeltaLossOption",
    "EpochsOption",
    "FreezeOption",
    "HistoryOption",
    "KeepEpochsOption",
    "KeepZerosOption",
    "LossOption",
    "MetricOption",
    "MomentumOption",
    "OptimizerOption",
    "OutOption",
    "PatienceOption",
    "RateOption",
    "ResumeOption",
    "SamplesOption",
    "SavingSecondsOption",
    "ScheduleOption",
    "TargetOption",
    "TeacherOption",
    "TimeLimitOption",
    "TrainingDataOption",
    "ValidationOption",
    "VerboseOption",
    "WeightDecayOption",
    "augmentation",
    "check_files",
    "duration",
    "epochs_of",
    "optimizer_of",
    "target_of",
]

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

OutOption = Annotated[
    Path, typer.Option("--out", "-o", metavar="OUT", help="The ONNX file to write.", show_default=False)
]
TrainingDataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="PATH",
        help="What to train on, its training part where it has one: .npz, .npy, a folder (docs/datasets.md).",
        show_default=False,
    ),
]
ValidationOption = Annotated[
    str | None,
    typer.Option(
        "--validation",
        metavar="SHARE|SPLIT",
        help="What the epochs are measured on: a share that is held out (0.1), a split of the data, or none. By "
        f"default the validation part, and where there is none a share of {HELD_OUT:g}. The test part is looked at "
        "when all is done.",
        show_default=False,
    ),
]
TeacherOption = Annotated[
    Path | None,
    typer.Option(
        "--teacher",
        metavar="MODEL",
        help="The original, whose outputs are to be met (distillation): labels are not needed then.",
        show_default=False,
    ),
]
LossOption = Annotated[
    str | None,
    typer.Option(
        "--loss",
        metavar="LOSS",
        help=f"{', '.join(LOSSES)}, with settings, or a sum: 'cross-entropy(label_smoothing=0.1)', 'cross-entropy + "
        "0.5*distillation'. By default what the labels call for; with a teacher distillation.",
        show_default=False,
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        help="Times through the data, at most. By default as many as make 2500 steps, 5 to 60.",
        show_default=False,
    ),
]
BatchOption = Annotated[int, typer.Option("--batch", metavar="N", help="Samples in a step.")]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate", metavar="X", help="The highest learning rate. By default one for the optimizer.", show_default=False
    ),
]
OptimizerOption = Annotated[str, typer.Option("--optimizer", metavar="NAME", help=f"{', '.join(OPTIMIZERS)}.")]
MomentumOption = Annotated[float, typer.Option("--momentum", metavar="X", help="Of sgd.")]
WeightDecayOption = Annotated[
    float | None,
    typer.Option(
        "--weight-decay",
        metavar="X",
        help=f"Pull of all weights towards 0. By default {DECAY:g} with adamw, 0 with the others.",
        show_default=False,
    ),
]
ScheduleOption = Annotated[
    str,
    typer.Option(
        "--schedule",
        metavar="NAME",
        help=f"How the rate changes: {', '.join(SCHEDULES)}, with settings: 'cosine(warmup=0.1,end=0.01)'.",
    ),
]
ClipOption = Annotated[
    float | None,
    typer.Option(
        "--clip", metavar="X", help="Make the gradients shorter where their norm is larger.", show_default=False
    ),
]
FreezeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--freeze",
        metavar="PATTERN",
        help="Weights that stay as they are: a name, or a pattern (conv1*). May be repeated.",
        show_default=False,
    ),
]
BatchNormOption = Annotated[
    str,
    typer.Option(
        "--batchnorm",
        metavar="frozen|batch",
        help="BatchNorm with its statistics as they are, or with those of each batch, which renew them.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="METRIC=V", help="Stop when a metric is as good (accuracy=0.98).", show_default=False
    ),
]
DeltaLossOption = Annotated[
    float | None,
    typer.Option(
        "--delta-loss",
        metavar="X",
        help="Stop when epochs lower the loss by less than this share (0.01).",
        show_default=False,
    ),
]
PatienceOption = Annotated[
    int, typer.Option("--patience", metavar="N", help="So many epochs in a row, for --delta-loss.")
]
TimeLimitOption = Annotated[
    str | None,
    typer.Option("--time-limit", metavar="TIME", help="Stop after this time: 60s, 5m, 1h.", show_default=False),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="The best epoch is the one that is best in this. By default the task's first.",
        show_default=False,
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option("--samples", metavar="N", help="Train on no more than N samples.", show_default=False),
]
AugmentOption = Annotated[
    str | None,
    typer.Option(
        "--augment",
        metavar="FILE.py:NAME",
        help="A function (feeds, labels, rng) -> (feeds, labels) that changes each batch.",
        show_default=False,
    ),
]
KeepZerosOption = Annotated[
    bool,
    typer.Option("--keep-zeros", help="All weights that are 0 stay 0. What a plan masked does so anyway."),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="Write there after each epoch all that is needed to go on.",
        show_default=False,
    ),
]
SavingSecondsOption = Annotated[
    str, typer.Option("--checkpoint-every", metavar="TIME", help="Write it inside of epochs as well, so often.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, where there is one.")]
KeepEpochsOption = Annotated[
    str | None,
    typer.Option(
        "--keep-epochs",
        metavar="N,N",
        help="Epochs whose weights stay in the checkpoint, to rewind to (0: the start).",
        show_default=False,
    ),
]
HistoryOption = Annotated[
    Path | None,
    typer.Option("--history", metavar="FILE", help="Write losses and metrics there, as JSON.", show_default=False),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show every epoch.")]


def optimizer_of(kind: str, momentum: float, weight_decay: float | None) -> Optimizer:
    """The optimizer. Raises OptionError."""
    if weight_decay is None:
        weight_decay = DECAY if kind == "adamw" else 0.0
    return Optimizer(kind, momentum=momentum, weight_decay=weight_decay)


def duration(option: str, text: str) -> float:
    """``60s``, ``5m``, ``1.5h`` or ``90`` in seconds. Raises OptionError."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|m|min|h|)\s*", text)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds > 0:
        raise OptionError(f"{option} {text}: expected a time above 0", "Write it as 60s, 5m or 1h.")
    return seconds


def target_of(text: str | None) -> tuple[str, float] | None:
    """``accuracy=0.98``. Raises OptionError."""
    if text is None:
        return None
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise OptionError(f"--target {text}: expected METRIC=VALUE", "For example --target accuracy=0.98.") from None


def epochs_of(text: str | None) -> tuple[int, ...]:
    """``0,1,5``. Raises OptionError."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")})) if text else ()
    except ValueError:
        raise OptionError(f"--keep-epochs {text}: expected numbers of epochs", "Write them as 0,1,5.") from None


def augmentation(text: str | None) -> Augment | None:
    """The function ``NAME`` of a Python file, for ``file.py:NAME``. Raises OptionError."""
    if text is None:
        return None
    file, colon, name = text.rpartition(":")
    path = Path(file)
    if not (colon and name and path.suffix == ".py"):
        raise OptionError(f"--augment {text}: expected FILE.py:FUNCTION", "For example --augment moves.py:shifted.")
    if not path.is_file():
        raise OptionError(f"--augment {text}: there is no file {path}", "Check the spelling and the folder.")
    function = getattr(_module(path), name, None)
    if not callable(function):
        raise OptionError(f"--augment {text}: there is no function {name} in {path}", "Name one that is defined there.")
    found: Callable[..., Any] = function
    return found


def _module(path: Path) -> Any:
    """A file as a module; its folder is searched for what it imports, as when it is run."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise OptionError(f"{path} cannot be read as Python", "Name a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise OptionError(
            f"{path} cannot be run: {type(error).__name__}: {error}", "See that it can be imported."
        ) from error
    finally:
        sys.path.pop(0)
    return module


def check_files(
    inputs: tuple[Model, ...], data: Path, out: Path, saving: Saving, resume: bool, *others: Path | None
) -> None:
    """Find out before the work that a result cannot be written, or would replace something."""
    outputs = [path for path in (out, saving.path, *others) if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise OptionError(f"{out}: two results would go into one file", "Give each a name of its own.")
    for path in outputs:
        writable(path)
        if path.exists() and data.exists() and path.samefile(data):
            raise OptionError(f"{path}: writing it would replace the data", "Give the result another name.")
    for model in inputs:
        keep_input(model, *outputs)
    if resume and saving.path is None:
        raise OptionError("--resume, but no checkpoint is named", "Give its file: --checkpoint FILE.")
    if saving.keep and saving.path is None:
        raise OptionError("--keep-epochs needs a file to keep them in", "Give one: --checkpoint FILE.")
