"""The page ``docs/criteria.md``, made from the registry."""

from __future__ import annotations

import sys

from onnxprune.criteria.base import Criterion
from onnxprune.criteria.registry import built_in

__all__ = ["reference"]

HEAD = """# Criteria

Made by `python -m onnxprune.criteria.reference > docs/criteria.md`; a test compares. A criterion gives every unit, or
every single weight, a score; higher = keep. `onnxprune score MODEL --criterion NAME -o FILE.npz` writes the scores,
`onnxprune prune MODEL --criterion NAME` removes what scores lowest. **Needs**: a dataset (`data`), one with `labels`,
BatchNorm nodes that are still in the model (`batchnorm`), the ratio (`ratios`: a target will not do), operators with a
gradient rule between a layer and the outputs (`gradients`). **Repair**: what belongs to the criterion and is applied
with it unless told otherwise.

| criterion | scores | formula | needs | cost | repair | paper |
|---|---|---|---|---|---|---|
"""
TAIL = """
What a unit's parameters are, `normalise` and `sides` say (`onnxprune.criteria.Settings`): by default all slices of
weights, biases and scales that belong to the unit, on the side that produces it and on the side that reads it, and the
mean over their number. `--normalise layer` or `model` divides the scores of units by their L2 norm over the layer or
the model; `sensitivity` does so by default, over the layer. Gradients are those of the loss that the labels call for,
or of `--loss`; without labels those of half the squared norm of the outputs, and a warning says so.

More about each formula, with its corner cases, is in the file of that criterion in `onnxprune/criteria/`. A criterion
of your own is a module with a tuple `CRITERIA`, named by an entry point of the group `onnxprune.criteria`.
"""


def reference() -> str:
    """The whole page: the criteria that come with the package."""
    rows = (_row(criterion) for criterion in built_in().values())
    return HEAD + "\n".join(rows) + "\n" + TAIL


def _row(criterion: Criterion) -> str:
    kinds = [word for word, function in (("units", criterion.units), ("weights", criterion.weights)) if function]
    cells = (
        f"`{criterion.name}`",
        ", ".join(kinds),
        criterion.formula,
        ", ".join(criterion.needs),
        criterion.cost,
        criterion.recover,
        _link(criterion.paper),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _link(paper: str) -> str:
    number = paper.removeprefix("arXiv:")
    return f"[{paper}](https://arxiv.org/abs/{number})" if number != paper else paper


if __name__ == "__main__":
    sys.stdout.write(reference())
