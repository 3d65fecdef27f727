"""``onnxprune finetune`` and ``onnxprune train``: gradients on the ONNX file, without the framework it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from onnxprune.cli.measures import IgnoreLabelOption, PlotOption
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    JsonOption,
    ModelArgument,
    Provider,
    ProviderOption,
    SeedOption,
    ThreadsOption,
    examples,
)
from onnxprune.cli.training import Job, run_job
from onnxprune.cli.training_options import (
    AugmentOption,
    BatchNormOption,
    BatchOption,
    CheckpointOption,
    ClipOption,
    DeltaLossOption,
    EpochsOption,
    FreezeOption,
    HistoryOption,
    KeepEpochsOption,
    KeepZerosOption,
    LossOption,
    MetricOption,
    MomentumOption,
    OptimizerOption,
    OutOption,
    PatienceOption,
    RateOption,
    ResumeOption,
    SamplesOption,
    SavingSecondsOption,
    ScheduleOption,
    TargetOption,
    TeacherOption,
    TimeLimitOption,
    TrainingDataOption,
    ValidationOption,
    VerboseOption,
    WeightDecayOption,
    augmentation,
    duration,
    epochs_of,
    optimizer_of,
    target_of,
)
from onnxprune.train import KEEP_ZEROS, MASKED, Saving

__all__ = ["finetune", "register", "train"]

# What `train` takes as it is.
PASSED = (
    "epochs", "batch", "rate", "schedule", "clip", "batchnorm", "delta_loss", "patience", "metric", "ignore_label",
    "samples", "seed", "provider", "threads",
)  # fmt: skip
FINETUNE = examples(
    "onnxprune finetune small.onnx --data digits.npz -o tuned.onnx",
    "onnxprune finetune small.onnx --data photos/ -o tuned.onnx --teacher model.onnx --epochs 5",
    "onnxprune finetune small.onnx --data digits.npz -o tuned.onnx --target accuracy=0.98 --delta-loss 0.01",
    "onnxprune finetune small.onnx --data digits.npz -o tuned.onnx --checkpoint tuned.ckpt --resume --plot tuned.html",
    "onnxprune finetune small.onnx --data digits.npz -o tuned.onnx --optimizer sgd --rate 0.01 --schedule cosine",
)
TRAIN = examples(
    "onnxprune train model.onnx --init --data digits.npz -o trained.onnx",
    "onnxprune train model.onnx --init --data digits.npz -o trained.onnx --augment moves.py:shifted --epochs 40",
    "onnxprune train model.onnx --init --data digits.npz -o trained.onnx --checkpoint t.ckpt --keep-epochs 0,2",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="finetune", epilog=FINETUNE)(finetune)
    app.command(name="train", epilog=TRAIN)(train)


def finetune(
    model: ModelArgument,
    data: TrainingDataOption,
    out: OutOption,
    validation: ValidationOption = None,
    teacher: TeacherOption = None,
    loss: LossOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = 32,
    rate: RateOption = None,
    optimizer: OptimizerOption = "adamw",
    momentum: MomentumOption = 0.9,
    weight_decay: WeightDecayOption = None,
    schedule: ScheduleOption = "one-cycle",
    clip: ClipOption = None,
    freeze: FreezeOption = None,
    batchnorm: BatchNormOption = "batch",
    target: TargetOption = None,
    delta_loss: DeltaLossOption = None,
    patience: PatienceOption = 3,
    time_limit: TimeLimitOption = None,
    metric: MetricOption = None,
    ignore_label: IgnoreLabelOption = None,
    samples: SamplesOption = None,
    augment: AugmentOption = None,
    keep_zeros: KeepZerosOption = False,
    checkpoint: CheckpointOption = None,
    checkpoint_every: SavingSecondsOption = "60s",
    resume: ResumeOption = False,
    keep_epochs: KeepEpochsOption = None,
    history: HistoryOption = None,
    seed: SeedOption = 0,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Train a pruned model further, on labels or on what the original says, until it is as good as it was."""
    _run("finetune", locals(), fresh=False)


def train(
    model: ModelArgument,
    data: TrainingDataOption,
    out: OutOption,
    init: Annotated[
        bool,
        typer.Option(
            "--init", help="Begin with fresh weights: He or Xavier by the kind of the layer, drawn from --seed."
        ),
    ] = False,
    validation: ValidationOption = None,
    teacher: TeacherOption = None,
    loss: LossOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = 32,
    rate: RateOption = None,
    optimizer: OptimizerOption = "adamw",
    momentum: MomentumOption = 0.9,
    weight_decay: WeightDecayOption = None,
    schedule: ScheduleOption = "one-cycle",
    clip: ClipOption = None,
    freeze: FreezeOption = None,
    batchnorm: BatchNormOption = "batch",
    target: TargetOption = None,
    delta_loss: DeltaLossOption = None,
    patience: PatienceOption = 3,
    time_limit: TimeLimitOption = None,
    metric: MetricOption = None,
    ignore_label: IgnoreLabelOption = None,
    samples: SamplesOption = None,
    augment: AugmentOption = None,
    keep_zeros: KeepZerosOption = False,
    checkpoint: CheckpointOption = None,
    checkpoint_every: SavingSecondsOption = "60s",
    resume: ResumeOption = False,
    keep_epochs: KeepEpochsOption = None,
    history: HistoryOption = None,
    seed: SeedOption = 0,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Train a model from its weights as they are, or from fresh ones (--init), without another framework."""
    _run("train", locals(), fresh=init)


def _run(command: str, given: Mapping[str, Any], *, fresh: bool) -> None:
    """Make values of the options, which both commands have, and do the work. ``given``: by name of the argument."""
    check_environment(given["provider"], given["threads"])
    limit = given["time_limit"]
    options = {
        **{name: given[name] for name in PASSED},
        "optimizer": optimizer_of(given["optimizer"], given["momentum"], given["weight_decay"]),
        "freeze": tuple(given["freeze"] or ()),
        "target": target_of(given["target"]),
        "time_limit": None if limit is None else duration("--time-limit", limit),
        "augment": augmentation(given["augment"]),
        "masks": KEEP_ZEROS if given["keep_zeros"] else MASKED,
    }
    seconds = duration("--checkpoint-every", given["checkpoint_every"])
    saving = Saving(given["checkpoint"], seconds, epochs_of(given["keep_epochs"]))
    files = {name: given[name] for name in ("model", "out", "data", "validation", "teacher", "loss", "history", "plot")}
    job = Job(command, **files, saving=saving, resume=given["resume"], options=options, fresh=fresh)
    run_job(job, verbose=given["verbose"], json=given["json"])
