"""Magnitude against lookahead: accuracy of the example nets with 80% and 90% of their weights zeroed in one go.

    python -m benchmarks.map_lap [--only PATTERN] [--seeds N] [--markdown] [--json FILE]

Single weights, the same share of every layer's matrix (the last layer's too, biases left whole), no retraining. MAP is
``l1``; LAP and its variants are those of Park et al. (arXiv:2002.04809), ``lap-sequential`` told the ratio,
``lap-act`` given the training images. Accuracy is that of the held-out quarter (450 digits; 143 rows of the table,
where one row is 0.7 points). Each net is trained from five seeds, by the recipes of ``examples/`` and on one thread, so
that a seed gives the same net again on the same machine; seed 0 is the committed file. No net is left out, whatever
accuracy it reached. Trained nets are kept in ``.cache/map_lap`` until a training script or torch changes; all of them
take about five minutes on a free core.

A difference d (LAP less MAP, in points of accuracy) is the mean over the seeds of a net, and its standard error
s / sqrt(seeds). Over nets k = 1..K, the seeds being what is drawn at random::

    mean = sum d_k / K        standard error = sqrt(sum SE_k^2) / K

Over both ratios, a seed counts with its mean difference. Wanted: that mean is not below -1 standard error.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import emit, save_json
from onnxprune.allocate import Budget, allocate
from onnxprune.criteria import Settings, score_weights
from onnxprune.data import Dataset, open_dataset
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.model import Model, load, save
from onnxprune.surgery import mask

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, CACHE = ROOT / "examples", ROOT / ".cache" / "map_lap"
SCRIPTS = ("digits.py", "nets_torch.py", "train_digits.py", "train_nets.py", "training.py")
DIGITS, TABLE = ROOT / "onnxprune" / "demo_data" / "digits.npz", EXAMPLES / "nets" / "breast_cancer.npz"
NETS = ("digits_cnn", "residual", "vgg", "mlp", "lstm", "vit", "tabular_mlp")
SEEDS, RATIOS = 5, (0.8, 0.9)
MAP, LAP = "l1", "lap"
OTHERS = ("lfp", "lbp", "lap-sequential", "lap-act")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One net of one seed at one ratio: accuracy before, and by criterion after; all between 0 and 1."""

    net: str
    seed: int
    ratio: float
    dense: float
    accuracy: dict[str, float]

    @property
    def difference(self) -> float:
        return self.accuracy[LAP] - self.accuracy[MAP]


@dataclass(frozen=True)
class Difference:
    """LAP less MAP, and its standard error."""

    mean: float
    error: float

    @property
    def passed(self) -> bool:
        return self.mean >= -self.error

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f}"


def net_of(name: str, seed: int) -> Model:
    """The trained net: the committed file, the one in the cache, or a new one."""
    if seed == 0:
        return load(EXAMPLES / f"{name}.onnx" if name == "digits_cnn" else EXAMPLES / "nets" / f"{name}.onnx")
    path = CACHE / f"{name}-{seed}-{_key()}.onnx"
    if not path.exists():
        print(f"training {name}, seed {seed}", file=sys.stderr, flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        save(_trained(name, seed), path)
    return load(path)


def _key() -> str:
    """A hash of what a net is made by."""
    digest = hashlib.sha256(version("torch").encode())
    for name in SCRIPTS:
        digest.update((EXAMPLES / name).read_bytes())
    return digest.hexdigest()[:12]


def _trained(name: str, seed: int) -> Model:
    """Train with the scripts of ``examples``, which import each other by their bare names."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    import torch  # noqa: PLC0415 - a second or two, not spent where all nets are in the cache
    import train_digits  # noqa: PLC0415 - as above
    import train_nets  # noqa: PLC0415 - as above

    torch.set_num_threads(1)
    if name == "digits_cnn":
        return train_digits.trained(train_digits.load_split(), seed)[0]
    recipe = train_nets.RECIPES[name]
    split = train_nets.load_split() if recipe.images else train_nets.table()
    return train_nets.trained(recipe, split, seed)[0]


def measure(name: str, seed: int) -> list[Outcome]:
    """All criteria at all ratios, on one net."""
    source = TABLE if name == "tabular_mlp" else DIGITS
    fitted, held_out = open_dataset(source, "train"), open_dataset(source, "test")
    model, coupling = analyse(net_of(name, seed))
    dense = _accuracy(model, held_out)
    outcomes = []
    for ratio in RATIOS:
        settings = Settings(data=fitted, ratios=ratio)
        found = {}
        for criterion in (MAP, LAP, *OTHERS):
            scores = score_weights(model, coupling, criterion, settings)
            plan, _ = allocate(coupling, scores, Budget(ratio=ratio))
            found[criterion] = _accuracy(mask(model, coupling, plan), held_out)
        outcomes.append(Outcome(name, seed, ratio, dense, found))
    return outcomes


def _accuracy(model: Model, dataset: Dataset) -> float:
    return evaluate(model, dataset, curves="none").value("accuracy")


def of_net(outcomes: Sequence[Outcome], net: str) -> Difference:
    """Mean over the seeds of one net; a seed's ratios are averaged first."""
    seeds = sorted({o.seed for o in outcomes if o.net == net})
    values = [np.mean([o.difference for o in outcomes if (o.net, o.seed) == (net, seed)]) for seed in seeds]
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return Difference(float(np.mean(values)), float(error))


def overall(outcomes: Sequence[Outcome]) -> Difference:
    """Mean over the nets, each with its own standard error."""
    found = [of_net(outcomes, net) for net in dict.fromkeys(o.net for o in outcomes)]
    error = float(np.sum(np.square([d.error for d in found]))) ** 0.5 / len(found)
    return Difference(float(np.mean([d.mean for d in found])), error)


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row per net, and one for all."""
    nets = list(dict.fromkeys(o.net for o in outcomes))
    rows = [_row(net, [o for o in outcomes if o.net == net], of_net(outcomes, net)) for net in nets]
    return [*rows, _row("all", outcomes, overall(outcomes))]


def _row(name: str, outcomes: Sequence[Outcome], difference: Difference) -> list[str]:
    """Means over seeds (every net has as many of them)."""
    means = {c: float(np.mean([o.accuracy[c] for o in outcomes])) for c in outcomes[0].accuracy}
    dense = float(np.mean([o.dense for o in outcomes]))
    shares = [f"{100 * share:.1f}" for share in (dense, means[MAP], means[LAP])]
    return [name, *shares, str(difference), *(f"{100 * means[c]:.1f}" for c in OTHERS)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each ratio and the overall difference; 1 if that is below -1 standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.map_lap", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="nets whose name fits")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="5 by default, at least 2")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    nets = [name for name in NETS if fnmatch(name, options.only)]
    if not nets or options.seeds < 2:
        parser.error(f"at least two seeds, and --only one of {', '.join(NETS)}")
    outcomes: list[Outcome] = []
    for net in nets:
        for seed in range(options.seeds):
            outcomes += measure(net, seed)
            print(net, seed, *(f"{o.ratio}: {100 * o.difference:+.1f}" for o in outcomes[-2:]), file=sys.stderr)
    columns = ("net", "dense", "MAP", "LAP", "LAP - MAP", *OTHERS)
    for ratio in RATIOS:
        chosen = [o for o in outcomes if o.ratio == ratio]
        title = f"Accuracy in % with {100 * ratio:.0f}% of the weights zeroed, mean of {options.seeds} seeds"
        emit(title, columns, table(chosen), as_markdown=options.markdown)
    verdict = overall(outcomes)
    print(f"LAP - MAP over both ratios: {verdict} points, wanted: not below -1 standard error, "
          f"{'pass' if verdict.passed else 'FAIL'}")  # fmt: skip
    save_json(options.json, {"outcomes": [asdict(o) for o in outcomes], **asdict(verdict), "passed": verdict.passed})
    return int(not verdict.passed)


if __name__ == "__main__":
    sys.exit(main())
