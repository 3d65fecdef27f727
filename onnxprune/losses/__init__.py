"""What training makes small: losses held against a model and a dataset, and written as ONNX nodes.

::

    objective = choose_objective(model, dataset)                  # or "cross-entropy + 0.5*distillation"
    tape = open_tape(model, training=True)
    written = write_objective(tape, objective)
    gradients = backward(tape, written.cotangents, weights)
    feeds = batch.feeds | objective.feeds(batch)

loss        names and settings, and how they are written on a command line
choosing    which loss fits an output and the labels
objective   the labels of a batch as the graph takes them, what the teacher says
heads       from an output back to the logits
formulas    the losses and their gradients, as nodes
writing     an objective on a tape
"""

from onnxprune.losses.choosing import choose_objective
from onnxprune.losses.loss import KINDS, Loss, parse_loss
from onnxprune.losses.objective import Objective
from onnxprune.losses.writing import Written, write_objective

__all__ = ["KINDS", "Loss", "Objective", "Written", "choose_objective", "parse_loss", "write_objective"]
