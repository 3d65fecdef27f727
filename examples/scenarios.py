"""Five pieces of work, done with the digits: what one types, and what comes out.

    python -m examples.scenarios                         # all five, in a few minutes
    python -m examples.scenarios rescue repeats --json

They are the case studies of CNNPruner (arXiv:2009.09940) with data that are here: pruning until an iteration fails; two
stages, the second with the estimator; a class that is rescued by other filters at the same size; repeats, to tell a
better plan from a lucky seed; images with wrong labels. Every command is printed as it is typed; docs/scenarios.md
tells the story with the figures.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.cli import main as onnxprune
from onnxprune.criteria import load_scores
from onnxprune.plan import Plan

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "onnxprune" / "demo_data" / "digits_cnn.onnx"
DATA = ROOT / "onnxprune" / "demo_data" / "digits.npz"
LEAST = 0.985  # accuracy that is required
HARD, CRITERION = 0.8, "l1"  # what goes at once where a class suffers, and by which score
FLOOR = 0.9  # recall that every class is to keep
SWAPPED = 1  # filters of each layer that change places
WRONG = 0.02  # share of labels that are made wrong

Found = dict[str, Any]


@dataclass(frozen=True)
class Pace:
    """``epochs``: of each fine-tuning of an automatic run; ``short``: after a hard cut; ``fresh``: of a new net.

    ``most``: iterations of the automatic run at most; ``tries``: of the second stage; ``seeds``: of the repeats;
    ``halves``: how many halves of the data are searched for wrong labels.
    """

    epochs: int = 20
    short: int = 3
    fresh: int = 20
    most: int = 8
    tries: int = 4
    seeds: int = 10
    halves: int = 2


@dataclass(frozen=True)
class Swap:
    """``lost``: the class that suffers from step ``cut`` (fine-tuned: ``tuned``); ``swapped``: the other plan."""

    lost: str
    cut: int
    tuned: int
    swapped: int


class Bench:
    """A folder with the digits, in which commands are typed."""

    def __init__(self, folder: Path, pace: Pace | None = None, tell: Callable[[str], None] = print) -> None:
        self.folder, self.pace, self.tell = folder, pace or Pace(), tell
        self.swap: Swap | None = None  # of the rescue, where it was made
        for name, source in (("models", MODEL), ("data", DATA)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)

    def type(self, *words: object, folder: Path | None = None) -> Found:
        """Type a command; what it answers with ``--json``. Raises SystemExit where it fails."""
        texts = [str(word) for word in words]
        self.tell(f"  $ onnxprune {shlex.join(texts)}")
        if texts[0] not in ("train", "score"):
            texts += ["--folder", str(folder or self.folder)]
        answer = io.StringIO()
        with redirect_stdout(answer):
            code = onnxprune([*texts, "--json"])
        if code:
            raise SystemExit(code)
        return dict(json.loads(answer.getvalue()))

    def recalls(self, step: int) -> dict[str, float]:
        """Class -> share of its images that a step gets right."""
        classes = self.type("ws", "show", step)["classes"]
        return {row["class"]: row["value"] for row in classes if row["metric"] == "recall"}


def automatic(bench: Bench) -> Found:
    """A third of the filters goes, the rest is fine-tuned, and again, until an iteration fails what is required."""
    run = _coarse(bench, "1/3")
    for row in run:
        bench.tell(_tried(row))
    held = [row for row in run if row["holds"]]
    best = held[-1] if held else None
    if best is not None:
        bench.tell(
            f"  Step {best['step']} is the smallest that holds: {best['units']} filters, "
            f"{best['parameters_left']:.1%} of the parameters, {best['macs_left']:.1%} of the MACs."
        )
    return {"least": LEAST, "tries": [_row(row) for row in run], "result": best and best["step"]}


def _coarse(bench: Bench, ratio: str) -> list[Mapping[str, Any]]:
    """The tries of an automatic run."""
    pace = bench.pace
    options = ("--min", f"accuracy={LEAST}", "--epochs", pace.epochs, "--iterations", pace.most)
    return list(bench.type("auto", 1, "--ratio", ratio, *options)["tries"])


def two_stages(bench: Bench) -> Found:
    """Half each time until one fails; then by hand, with the estimator, between the last two."""
    bench = Bench(bench.folder / "two-stages", bench.pace, bench.tell)  # the estimator is to know these steps only
    run = _coarse(bench, "1/2")
    for row in run:
        bench.tell(_tried(row))
    held, failed = [row for row in run if row["holds"]], [row for row in run if not row["holds"]]
    if not (held and failed):
        bench.tell("  There is nothing between the last that held and the first that failed.")
        return {"tries": [_row(row) for row in run], "second": [], "result": None}
    first = best = held[-1]
    worst, tried = failed[0], []
    for _ in range(bench.pace.tries):
        if best["units"] - worst["units"] < 2:
            break
        needed = f"accuracy={LEAST}"
        hint = bench.type("estimate", worst["step"], "--over", "tree", "--min", needed)["suggestion"]
        asked = hint["units"] if hint else best["units"]
        units = min(max(asked, worst["units"] + 1), best["units"] - 1)
        bench.tell(f"  The estimator says {asked} filters; {units} are tried.")
        more = ("--min", needed, "--criterion", "taylor", "--epochs", bench.pace.epochs)
        row = bench.type("auto", best["step"], "--strategy", "manual", "--units", units, *more)["tries"][-1]
        bench.tell(_tried(row))
        tried.append({**_row(row), "asked": asked})
        best, worst = (row, worst) if row["holds"] else (best, row)
    bench.tell(f"  The second stage: from {first['units']} filters to {best['units']} (step {best['step']}).")
    return {
        "tries": [_row(row) for row in run], "second": tried, "result": best["step"],
        "units": [first["units"], best["units"]],
    }  # fmt: skip


def rescue(bench: Bench) -> Found:
    """After a hard cut one class is hardly recognised. Other filters at the same size bring it back."""
    swap = _rescue(bench)
    steps = swap.tuned, bench.type("ws", "finetune", swap.swapped, "--epochs", bench.pace.short)["number"]
    recalls = [bench.recalls(step) for step in steps]
    change = bench.type("ws", "compare", *steps)
    accuracy = next((row["before"], row["after"]) for row in change["metrics"] if row["metric"] == "accuracy")
    for words, value, recall in zip(("as cut", "swapped"), accuracy, recalls, strict=True):
        under = [cls for cls in recall if recall[cls] < FLOOR]
        bench.tell(
            f"  {words}: accuracy {value:.2%}, class {swap.lost} {recall[swap.lost]:.1%}; "
            f"below {FLOOR:.0%}: {', '.join(under) or 'none'}"
        )
    bench.tell(f"  {change['degenerated']} images degenerated, {change['improved']} improved.")
    return {
        "class": swap.lost, "floor": FLOOR, "steps": steps, "accuracy": accuracy,
        "recall": [recall[swap.lost] for recall in recalls],
        "degenerated": change["degenerated"], "improved": change["improved"],
    }  # fmt: skip


def _rescue(bench: Bench) -> Swap:
    """A hard cut, the class that suffers most from it, and a plan with other filters; made once."""
    if bench.swap is None:
        cut = bench.type("ws", "prune", 1, "--ratio", HARD, "--criterion", CRITERION, "--name", "hard")["number"]
        tuned = bench.type("ws", "finetune", cut, "--epochs", bench.pace.short)["number"]
        recall = bench.recalls(tuned)
        lost = min(recall, key=lambda cls: recall[cls])
        bench.tell(f"  Class {lost} suffers most: {recall[lost]:.1%} of its images are still right.")
        bench.swap = Swap(lost, cut, tuned, _swap(bench, cut, lost))
    return bench.swap


def _swap(bench: Bench, cut: int, lost: str) -> int:
    """In every layer the filter that matters most for a class comes back, and the one that matters least goes."""
    file = bench.folder / f"class-{lost}.npz"
    data = ("--data", bench.folder / "data" / DATA.name, "--class", lost)
    bench.type("score", bench.folder / "models" / MODEL.name, "--criterion", "taylor", *data, "-o", file)
    scores = load_scores(file)
    bench.type("ws", "export", cut, bench.folder / "hard")
    plan = Plan.load(bench.folder / "hard" / "plan.json")
    words: list[str] = []
    for group, gone in plan.units.items():
        score = np.asarray(scores[group])
        kept = np.setdiff1d(np.arange(plan.group_sizes[group]), gone)
        back, out = gone[np.argsort(-score[gone])[:SWAPPED]], kept[np.argsort(score[kept])[:SWAPPED]]
        bench.tell(f"  {group}: {_numbers(back)} comes back, {_numbers(out)} goes")
        left = np.union1d(np.setdiff1d(gone, back), out)
        words += ["--remove", f"{group}={','.join(map(str, left))}"]
    bench.type("ws", "draft", 1, *words)
    return int(bench.type("ws", "edit", 1, "--name", "swapped")["number"])


def repeats(bench: Bench) -> Found:
    """Ten fine-tunings of each of the two plans tell whether the second one is better, or was lucky with its seed."""
    swap = _rescue(bench)
    found: Found = {"class": swap.lost, "plans": [swap.cut, swap.swapped]}
    for metric in ("accuracy", f"recall:{swap.lost}"):
        seeds = ("--seeds", bench.pace.seeds, "--tune", f"epochs={bench.pace.short}", "--run", "scenario")
        answer = bench.type("repeat", swap.cut, swap.swapped, *seeds, "--metric", metric)
        for row in answer["steps"]:
            bench.tell(
                f"  step {row['of']} {row['name']}: {metric} {row['mean']:.2%} ± {row['std']:.2%} "
                f"({row['low']:.2%} to {row['high']:.2%}, {row['runs']} seeds)"
            )
        bench.tell(f"  {answer['difference']['words']}")
        found[metric.partition(":")[0]] = {
            "mean": [row["mean"] for row in answer["steps"]], "std": [row["std"] for row in answer["steps"]],
            **{name: answer["difference"][name] for name in ("p", "low", "high")},
        }  # fmt: skip
    return found


def mislabelled(bench: Bench) -> Found:
    """Two in a hundred labels are wrong; nets that were trained on half of the images point them out."""
    place = bench.folder / "mislabelled"
    halves, wrong = _spoilt(place / "data")
    hits: dict[tuple[str, str], list[float]] = {}
    for name in halves[: bench.pace.halves]:
        model, data = place / "models" / f"{name}.onnx", place / "data" / f"{name}.npz"
        model.parent.mkdir(exist_ok=True)
        bench.type("train", MODEL, "--init", "--data", data, "--epochs", bench.pace.fresh, "-o", model)
        root = next(step for step in bench.type("ws", "tree", folder=place)["steps"] if step["name"] == name)["number"]
        more = ("--data", name, "--iterations", 2, "--epochs", bench.pace.fresh // 2, "--ratio", "1/2")
        small = bench.type("auto", root, *more, folder=place)["tries"][-1]["step"]
        for split in ("test", "train"):
            rows = wrong[name, split]
            options = ("--data", name, "--split", split, "--top", len(rows))
            for words, asked in (("original", [root]), ("all steps", [small]), ("smallest", [small, "--alone"])):
                answer = bench.type("suspects", *asked, *options, folder=place)
                hits.setdefault((split, words), []).append(_share(answer["suspects"], rows))
    found: Found = {"chance": WRONG}
    for (split, words), shares in hits.items():
        found.setdefault(split, {})[words] = float(np.mean(shares))
    for split, told in (("test", "images that the nets have not seen"), ("train", "images that they were trained on")):
        figures = ", ".join(f"{words} {share:.0%}" for words, share in found[split].items())
        bench.tell(f"  As many as are wrong, of the {told}, are really wrong: {figures}; by chance {WRONG:.0%}")
    return found


def _spoilt(place: Path) -> tuple[list[str], dict[tuple[str, str], set[int]]]:
    """Two files, each with one half of the digits to train on, the other to test on; and the rows that are wrong."""
    place.mkdir(parents=True)
    with np.load(DATA) as held:
        x, y = (np.concatenate([held[f"{name}_train"], held[f"{name}_test"]]) for name in "xy")
        names = held["class_names"]
    rng = np.random.default_rng(0)
    rows = rng.choice(len(y), round(WRONG * len(y)), replace=False)
    y[rows] = (y[rows] + rng.integers(1, len(names), len(rows))) % len(names)
    order = rng.permutation(len(y))
    halves = order[: len(y) // 2], order[len(y) // 2 :]
    wrong = {}
    for name, (seen, searched) in zip(("first", "second"), (halves, halves[::-1]), strict=True):
        np.savez(
            place / f"{name}.npz", x_train=x[seen], y_train=y[seen], x_test=x[searched], y_test=y[searched],
            class_names=names,
        )  # fmt: skip
        for split, part in (("train", seen), ("test", searched)):
            wrong[name, split] = set(np.flatnonzero(np.isin(part, rows)).tolist())
    return ["first", "second"], wrong


def _share(suspects: Sequence[Mapping[str, Any]], wrong: set[int]) -> float:
    """How many of those that are listed were made wrong."""
    return sum(one["row"] in wrong for one in suspects) / len(suspects)


SCENARIOS: Mapping[str, Callable[[Bench], Found]] = {
    "automatic": automatic, "two-stages": two_stages, "rescue": rescue, "repeats": repeats, "mislabelled": mislabelled,
}  # fmt: skip


def _row(row: Mapping[str, Any]) -> Found:
    return {name: row[name] for name in ("step", "units", "value", "holds", "parameters_left", "macs_left", "epochs")}


def _tried(row: Mapping[str, Any]) -> str:
    return (
        f"  step {row['step']}: {row['units']} filters, {row['parameters_left']:.1%} of the parameters, accuracy "
        f"{row['value']:.2%}: {'holds' if row['holds'] else 'fails'}"
    )


def _numbers(units: Sequence[int]) -> str:
    return ", ".join(str(int(unit)) for unit in units)


@contextmanager
def _somewhere(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="scenarios-") as place:
        yield Path(place)


def main() -> None:
    """Go through them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout; the rest goes to stderr")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for the workspace, to look at it later")
    given = parser.parse_args()
    for name in given.names:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")

    def tell(text: str) -> None:
        print(text, file=sys.stderr if given.json else sys.stdout, flush=True)

    with _somewhere(given.keep) as folder:
        bench = Bench(folder, tell=tell)
        found = {}
        for name in given.names or SCENARIOS:
            tell(f"{name}: {SCENARIOS[name].__doc__.splitlines()[0]}")
            found[name] = SCENARIOS[name](bench)
            tell("")
    if given.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
