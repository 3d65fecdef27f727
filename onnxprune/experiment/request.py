"""What is wanted, beside how much of it (`allocate.Budget`), and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxprune.allocate import Floor, FloorReport, Reached
from onnxprune.cost import Cost
from onnxprune.errors import OptionError
from onnxprune.evaluate import Evaluation
from onnxprune.losses import Loss
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.proof import Proof, Zeroed
from onnxprune.recover import Recovered, check_method
from onnxprune.runtime import Latency, check_running
from onnxprune.values import Coupling, Options

__all__ = ["GRANULARITIES", "MODES", "NO_REPAIR", "Progress", "Pruned", "Request"]

MODES = ("remove", "mask")
GRANULARITIES = ("unit", "weight")
NO_REPAIR = "none"

# Called with a stage in words, how much of it is done, and out of how many (0: unknown).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What is wanted, beside how much of it (the ``Budget``).

    ``mode``: "remove", "mask", or None for the one that fits: single weights can only be masked. ``granularity``:
    whole "unit"s or single "weight"s. ``recover``: a repair (`recover.METHODS`), "none", or None for the one that
    belongs to the criterion. ``floors``: what metrics must not fall below, repair included. ``samples``: of the data
    at most so many are scored and repaired on. ``evaluate``: measure metrics before and after. ``seed``: for whatever
    is drawn at random. ``provider`` and ``threads``: what models are run on (`runtime.session`); the proof takes
    "auto" for the CPU. ``normalise`` and ``losses``: of scores, see `criteria.Settings`. Raises OptionError.
    """

    criterion: str = "l2"
    mode: str | None = None
    granularity: str = "unit"
    options: Options = field(default_factory=Options)
    seed: int = 0
    provider: str = "auto"
    threads: int | None = None
    recover: str | None = None
    floors: tuple[Floor, ...] = ()
    samples: int | None = None
    evaluate: bool = False
    normalise: bool | str = True
    losses: tuple[Loss, ...] | None = None

    def __post_init__(self) -> None:
        check_running(self.provider, self.threads)
        for name, known in (("mode", (None, *MODES)), ("granularity", GRANULARITIES)):
            if getattr(self, name) not in known:
                words = " or ".join(k for k in known if k)
                raise OptionError(f"{name}: got {getattr(self, name)!r}, expected {words}", "Leave it out.")
        if self.mode == "remove" and self.granularity == "weight":
            raise OptionError("single weights cannot be removed, only masked", "Use --mode mask, or whole units.")
        if self.recover not in (None, NO_REPAIR):
            check_method(self.recover)
        if self.samples is not None and self.samples < 1:
            raise OptionError(f"samples: got {self.samples}, expected 1 or more", "Leave it out for the default.")

    @property
    def masks(self) -> bool:
        """Whether shapes stay as they are."""
        return self.mode == "mask" or self.granularity == "weight"


@dataclass(frozen=True, eq=False)
class Pruned:
    """The new model and everything that is known about how it came to be.

    ``proof``: None for masks, and where it was not wanted. ``before`` and ``after`` hold for a batch of 1, or for the
    shapes that were given. ``signature``: inputs and outputs whose shape changed, in words. ``timings``: seconds.
    ``masked``: zeros were written and shapes are as they were. ``latencies``: measured here before and after, where
    that was wanted and possible. ``recovered``: the repair, whose model is ``model``. ``evaluations``: metrics of the
    "original", the "pruned" and, after a repair, the "repaired" model, where they were wanted. ``floors``: None where
    there were none. ``data``: which data were used for what, in words. ``zeroed``: what a check of every weight found,
    where the plan names single ones.
    """

    model: Model
    plan: Plan
    coupling: Coupling
    proof: Proof | None
    before: Cost
    after: Cost
    reached: Reached
    signature: tuple[str, ...]
    warnings: tuple[str, ...]
    timings: Mapping[str, float]
    masked: bool = False
    latencies: tuple[Latency, Latency] | None = None
    recovered: Recovered | None = None
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    floors: FloorReport | None = None
    data: tuple[str, ...] = ()
    zeroed: Zeroed | None = None

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the budget said."""
        return self.reached.asked
