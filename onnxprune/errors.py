"""Every error that a person can cause, as one tree.

::

    OnnxPruneError                 says what, where, and what to do next; the command line exits with 2
    ├── ModelError                 the ONNX file or graph itself
    │   ├── ModelLoadError         cannot be read (not ONNX, truncated, weights missing, cyclic ...)
    │   ├── ModelSaveError         cannot be written (permission, disk full); the old file survives
    │   └── UnsupportedModel       valid, but newer than the installed onnxruntime, or no kernel for it
    ├── OptionError                a value out of range, a malformed option
    │   └── GroupNotFound          no group of that name; the nearest names are offered
    ├── PlanError                  a plan file that cannot be read or does not fit
    │   └── PlanMismatch           a plan made for another model; both hashes are named
    ├── DataError                  a dataset that cannot be read or does not fit the model
    ├── NothingToPrune             no unit can be removed, or the result would equal the input
    ├── BudgetError                a budget out of reach; the best reachable is named
    ├── SurgeryError               an operator refuses the cut
    ├── ProofError                 the removed model does not agree with the masked one
    ├── ConversionError            a framework model that cannot become ONNX
    └── WorkspaceError             a workspace that cannot be opened or written
        ├── StaleDraft             a change made for a draft that is another one by now
        ├── StoreDamaged           its database or a blob is not what was written
        └── StepNotFound           no step of that number or name
"""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "ConversionError",
    "DataError",
    "GroupNotFound",
    "ModelError",
    "ModelLoadError",
    "ModelSaveError",
    "NothingToPrune",
    "OnnxPruneError",
    "OptionError",
    "PlanError",
    "PlanMismatch",
    "ProofError",
    "StaleDraft",
    "StepNotFound",
    "StoreDamaged",
    "SurgeryError",
    "UnsupportedModel",
    "WorkspaceError",
]


class OnnxPruneError(Exception):
    """Base of all errors that a person can cause.

    ``hint`` is the next step, in one sentence; ``str(error)`` holds both.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n{hint}" if hint else message)

    def __reduce__(self) -> tuple[type[OnnxPruneError], tuple[str, str]]:
        """Errors come from other processes as they were raised there."""
        return type(self), (self.message, self.hint)


class ModelError(OnnxPruneError):
    """The ONNX file or graph is at fault."""


class ModelLoadError(ModelError):
    """The file cannot be read as a valid ONNX model."""


class ModelSaveError(ModelError):
    """The file cannot be written; whatever was there before is still there."""


class UnsupportedModel(ModelError):
    """The model is valid, but the installed onnxruntime cannot run it."""


class OptionError(OnnxPruneError):
    """An option has a value that makes no sense."""


class GroupNotFound(OptionError):
    """No group of that name."""


class PlanError(OnnxPruneError):
    """A plan cannot be read, or names what the model does not have."""


class PlanMismatch(PlanError):
    """The plan was made for another model."""


class DataError(OnnxPruneError):
    """A dataset cannot be read, or does not fit the model."""


class NothingToPrune(OnnxPruneError):
    """Nothing can be removed, or the result would equal the input."""


class BudgetError(OnnxPruneError):
    """The budget cannot be reached."""


class SurgeryError(OnnxPruneError):
    """An operator cannot be cut as planned."""


class ProofError(OnnxPruneError):
    """The removed model does not agree with the masked one."""


class ConversionError(OnnxPruneError):
    """A framework model cannot be converted to ONNX."""


class WorkspaceError(OnnxPruneError):
    """A workspace cannot be opened, or not be written."""


class StaleDraft(WorkspaceError):
    """Somebody else changed the draft that a change was made for; nothing was applied."""


class StoreDamaged(WorkspaceError):
    """The database or a blob of a workspace is not what was written."""


class StepNotFound(WorkspaceError):
    """No step of that number or name."""
