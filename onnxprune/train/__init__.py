"""Training an ONNX model as it is: fine-tuning after pruning, training from fresh weights, distillation.

::

    trained = train(load("pruned.onnx"), data, validation=test, epochs=10)
    save(trained.model, "tuned.onnx")
    recovery_capability(trained.history).damage

run          ``train``
├── running      the loop
├── step         one graph: loss, gradients, update        (optimizers)
├── batches      order, augmentation                       (division)
├── schedules    learning rates
├── stops        when it ends
├── judge        metrics, and which epoch is the best
├── masks        weights that stay zero
└── checkpoint   a training in one file                    (settings)
history      rows of epochs and steps
recovery     figures that are derived from them
initialise   fresh weights
"""

from onnxprune.train.batches import Augment
from onnxprune.train.checkpoint import Checkpoint, load_checkpoint, weights_at
from onnxprune.train.division import Division, divided, hold_out
from onnxprune.train.history import EpochRow, History, StepRow, load_history
from onnxprune.train.initialise import initialise
from onnxprune.train.masks import kept_zeros, plan_of, zeros_text
from onnxprune.train.optimizers import KINDS as OPTIMIZERS
from onnxprune.train.optimizers import Optimizer
from onnxprune.train.recovery import (
    LossFluctuation,
    RecoveryCapability,
    RecoveryCost,
    loss_fluctuation,
    recovery_capability,
    recovery_cost,
)
from onnxprune.train.run import DECAY, KEEP_ZEROS, MASKED, RATES, Trained, train
from onnxprune.train.running import Saving
from onnxprune.train.schedules import KINDS as SCHEDULES
from onnxprune.train.schedules import Schedule, parse_schedule
from onnxprune.train.step import Step
from onnxprune.train.stops import Stops

__all__ = [
    "DECAY",
    "KEEP_ZEROS",
    "MASKED",
    "OPTIMIZERS",
    "RATES",
    "SCHEDULES",
    "Augment",
    "Checkpoint",
    "Division",
    "EpochRow",
    "History",
    "LossFluctuation",
    "Optimizer",
    "RecoveryCapability",
    "RecoveryCost",
    "Saving",
    "Schedule",
    "Step",
    "StepRow",
    "Stops",
    "Trained",
    "divided",
    "hold_out",
    "initialise",
    "kept_zeros",
    "load_checkpoint",
    "load_history",
    "loss_fluctuation",
    "parse_schedule",
    "plan_of",
    "recovery_capability",
    "recovery_cost",
    "train",
    "weights_at",
    "zeros_text",
]
