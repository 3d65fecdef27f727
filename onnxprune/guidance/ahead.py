"""The most that can go at once within the loss, of what was tried out ahead (`speculate`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnxprune.guidance.preview import Preview
from onnxprune.guidance.subject import Subject
from onnxprune.guidance.suggestion import COUNTED, MEASURED, Action, Effect, Suggestion, worse

__all__ = ["ahead"]


def ahead(about: Subject, known: Mapping[str, Preview], loss: float) -> Iterator[Suggestion]:
    """For each criterion that was tried at some ratios the largest one that holds."""
    best: dict[str, tuple[float, Preview]] = {}
    for preview in known.values():
        if not preview.removed or worse(preview.metric, preview.value - preview.baseline) > loss:
            continue
        for recipe in preview.recipes:
            if "ratio" in recipe:
                mine = (float(recipe["ratio"]), preview)
                best[recipe["criterion"]] = max(best.get(recipe["criterion"], mine), mine, key=lambda pair: pair[0])
    for criterion, (ratio, preview) in best.items():
        effects = (
            Effect("parameters", about.before.parameters, preview.parameters, COUNTED),
            Effect("macs", about.before.macs, preview.macs, COUNTED),
            Effect(
                preview.metric, preview.baseline, preview.value, MEASURED,
                f"on {preview.samples} samples, before any training",
            ),
        )  # fmt: skip
        reason = (
            f"Tried out ahead on {preview.samples} samples: {ratio:.0%} of every group by {criterion} stays within "
            f"{loss:.2%} of {preview.metric}, before any training; of the ratios that were tried no larger one does."
        )
        options = {"criterion": criterion, "ratio": ratio, **({} if about.data is None else {"data": about.data})}
        yield Suggestion(
            "ahead", f"Prune {ratio:.0%} by {criterion}", reason, 0.9,
            effects=effects, action=Action("prune", about.step.number, options),
        )  # fmt: skip
