"""Options that several commands have, and how their text becomes values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from onnxprune.errors import ModelSaveError, OptionError
from onnxprune.losses import KINDS, Loss, parse_loss
from onnxprune.model import Model
from onnxprune.values import Options

__all__ = [
    "AllowIoOption",
    "Attention",
    "AttentionOption",
    "CriterionOption",
    "DataOption",
    "GradientsOfOption",
    "Granularity",
    "GranularityOption",
    "InexactOption",
    "JsonOption",
    "Mode",
    "ModelArgument",
    "NormGroups",
    "NormGroupsOption",
    "NormaliseOption",
    "OwnNormaliseOption",
    "Provider",
    "ProviderOption",
    "SamplesOption",
    "Scale",
    "Scope",
    "SeedOption",
    "ShapeOption",
    "ThreadsOption",
    "coupling_options",
    "examples",
    "files_of",
    "group_ratios",
    "keep_input",
    "losses_of",
    "writable",
]


class Scope(StrEnum):
    """Where scores are compared."""

    LOCAL = "local"
    GLOBAL = "global"


class Mode(StrEnum):
    """What becomes of what is pruned."""

    REMOVE = "remove"
    MASK = "mask"


class Granularity(StrEnum):
    """What is pruned."""

    UNIT = "unit"
    WEIGHT = "weight"


class Attention(StrEnum):
    """What a unit of an attention layer is."""

    HEADS = "heads"
    DIMS = "dims"


class NormGroups(StrEnum):
    """What a unit behind a group normalisation is."""

    WHOLE = "whole"
    WITHIN = "within"


class Scale(StrEnum):
    """Over what scores of units are normalised."""

    LAYER = "layer"
    MODEL = "model"
    NONE = "none"


class Provider(StrEnum):
    """What models are run on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX file.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1,3,224,224",
        help="Shape of one input, where the model leaves it open. May be repeated.",
        show_default=False,
    ),
]
AllowIoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-io",
        metavar="NAME[:AXIS]",
        help="Let an input or output lose elements (drop classes); `cache`: past and present of a decoder. "
        "May be repeated.",
        show_default=False,
    ),
]
InexactOption = Annotated[
    bool,
    typer.Option(
        "--include-inexact", help="Prune groups that a normalisation runs over, too; the proof corrects for it."
    ),
]
AttentionOption = Annotated[
    Attention,
    typer.Option("--attention", metavar="heads|dims", help="Remove whole heads, or dimensions inside all heads."),
]
NormGroupsOption = Annotated[
    NormGroups,
    typer.Option(
        "--norm-groups", metavar="whole|within", help="Remove whole normalisation groups, or channels within each."
    ),
]

CriterionOption = Annotated[
    str,
    typer.Option(
        "--criterion",
        metavar="NAME",
        help="How importance is scored: l2, l1, lap, bn-scale, obspa, ... (docs/criteria.md).",
    ),
]
NORMALISE = "Divide the scores of units by their L2 norm over the layer or the model; none: leave sums."
NormaliseOption = Annotated[Scale, typer.Option("--normalise", metavar="layer|model|none", help=NORMALISE)]
OwnNormaliseOption = Annotated[
    Scale | None,
    typer.Option(
        "--normalise",
        metavar="layer|model|none",
        help=f"{NORMALISE} By default what belongs to the criterion.",
        show_default=False,
    ),
]
GradientsOfOption = Annotated[
    str | None,
    typer.Option(
        "--loss",
        metavar="LOSS",
        help="What criteria with gradients differentiate: "
        f"{', '.join(kind for kind in KINDS if kind != 'distillation')}, with settings, or a sum. By default what the "
        "labels call for; without labels the size of the outputs.",
        show_default=False,
    ),
]
GranularityOption = Annotated[
    Granularity,
    typer.Option(
        "--granularity", metavar="unit|weight", help="Whole units (filters, neurons, heads), or single weights."
    ),
]
ProviderOption = Annotated[
    Provider,
    typer.Option(
        "--provider",
        metavar="auto|cpu|cuda",
        help="What to run models on. auto: the GPU where one works, but the CPU for shapes and for the proof.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", help="Threads of a run. onnxruntime decides by default.", show_default=False
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="For everything that is drawn at random.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="A dataset: .npz, .npy, a folder of images or arrays (docs/datasets.md).",
        show_default=False,
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--samples",
        metavar="N",
        help="Scores and repairs look at no more than N samples of the data's training part.",
        show_default=False,
    ),
]


def coupling_options(
    include_inexact: bool,
    attention: Attention,
    norm_groups: NormGroups,
    allow_io: Sequence[str] | None,
    shape: Sequence[str] | None,
) -> Options:
    """What the groups depend on, from the text of the options."""
    shapes = tuple(shapes_of(shape).items())
    return Options(include_inexact, attention.value, norm_groups.value, tuple(allow_io or ()), shapes)


def examples(*lines: str) -> str:
    """The end of a command's help: examples, one per line."""
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


def group_ratios(texts: Sequence[str] | None) -> dict[str, float]:
    """``NAME=RATIO`` ... -> name -> ratio. A name may have ``=`` in it."""
    result: dict[str, float] = {}
    for text in texts or ():
        name, equals, ratio = text.rpartition("=")
        if not (name and equals):
            raise OptionError(f"--group {text}: expected NAME=RATIO", "Write it as --group conv1=0.5.")
        try:
            result[name] = float(ratio)
        except ValueError:
            raise OptionError(f"--group {text}: {ratio!r} is not a number", "Write it as 0.5.") from None
    return result


def losses_of(text: str | None) -> tuple[Loss, ...] | None:
    """The losses that a text names; None for those that the labels call for. Raises OptionError."""
    return None if text is None else parse_loss(text)


def shapes_of(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,224,224`` ... -> name -> shape."""
    result = {}
    for text in texts or ():
        name, equals, sizes = text.rpartition("=")
        parts = [part.strip() for part in sizes.split(",")]
        if not (name and equals) or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
            raise OptionError(f"--shape {text}: expected NAME=1,3,224,224", "Give every size as a number from 1 up.")
        result[name] = tuple(int(part) for part in parts)
    return result


def files_of(model: Model) -> tuple[Path, ...]:
    """The files on the disk that a model consists of."""
    return tuple(path for path in (model.path, *model.data_files) if path is not None and path.exists())


def keep_input(model: Model, *outputs: Path) -> None:
    """Refuse an output that would replace a file of the input, its weights included: raises OptionError."""
    files = files_of(model)
    for out in outputs:
        for written in (out, out.with_name(f"{out.name}.data")):
            if written.exists() and any(written.samefile(file) for file in files):
                raise OptionError(
                    f"{out}: writing it would replace {written}, which belongs to the input",
                    "Give the result another name, so that the input is not lost.",
                )


def writable(path: Path) -> None:
    """Find out before the work, not after it, that a result cannot be written: raises ModelSaveError."""
    if not path.parent.is_dir():
        raise ModelSaveError(f"{path} cannot be written: there is no folder {path.parent}", "Make the folder first.")
    if path.is_dir():
        raise ModelSaveError(f"{path} cannot be written: it is a folder", "Name a file in it.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise ModelSaveError(f"{path} cannot be written: no permission", "Choose another place, or change it.")
