"""Train the example nets on scikit-learn's data and write them to ``examples/nets``.

    python examples/train_nets.py [--only residual]

Needs ``pip install 'onnxprune[torch]'``. Digits (8 x 8 images, the split of the demo) for all but ``tabular_mlp``,
which takes the breast cancer table; its split is written as ``breast_cancer.npz``. Seeded; about ten minutes of
processor time for all. A net that does not reach its accuracy on the held-out quarter is not written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from digits import SEED, TEST_SHARE, Split, load_split
from nets_torch import Lstm, Mlp, Residual, TabularMlp, Vgg, Vit
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from training import accuracy, train

from converters.torch import convert
from onnxprune.model import Model, save

OUT = Path(__file__).resolve().parent / "nets"


class Recipe(NamedTuple):
    """How one net is trained: ``required`` is the accuracy on held-out data below which nothing is written."""

    make: Callable[[], nn.Module]
    epochs: int
    rate: float
    required: float
    images: bool = True
    moved: bool = True  # an MLP has no notion of neighbouring pixels, and learns the images where they are
    keep_batchnorm: bool = False


RECIPES = {
    "residual": Recipe(Residual, 25, 2e-3, 0.98, keep_batchnorm=True),
    "vgg": Recipe(Vgg, 25, 2e-3, 0.98),
    "mlp": Recipe(Mlp, 40, 2e-3, 0.97, moved=False),
    "lstm": Recipe(Lstm, 60, 4e-3, 0.97),
    "vit": Recipe(Vit, 160, 2e-3, 0.97),
    "tabular_mlp": Recipe(TabularMlp, 40, 1e-3, 0.95, images=False, moved=False),
}


def table() -> Split:
    """The breast cancer table, standardised with the training part's means; a stratified quarter is held out."""
    data = load_breast_cancer()
    x, y = data.data.astype(np.float64), data.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=TEST_SHARE, stratify=y, random_state=SEED)
    mean, spread = x_train.mean(0), x_train.std(0)
    standard = [((part - mean) / spread).astype(np.float32) for part in (x_train, x_test)]
    return Split(standard[0], y_train, standard[1], y_test)


def trained(recipe: Recipe, split: Split, seed: int = SEED) -> tuple[Model, float]:
    """One net, trained and converted, and its accuracy on the held-out samples."""
    x_train, x_test = (torch.from_numpy(x[:, None] if recipe.images else x) for x in (split.x_train, split.x_test))
    y_train, y_test = torch.from_numpy(split.y_train), torch.from_numpy(split.y_test)
    net = train(recipe.make, x_train, y_train, epochs=recipe.epochs, rate=recipe.rate, moved=recipe.moved, seed=seed)
    converted = convert(net, example_inputs=x_test[:2], exporter="torchscript", keep_batchnorm=recipe.keep_batchnorm)
    return converted.model, accuracy(net, x_test, y_test)


def make(name: str, recipe: Recipe) -> None:
    """Train, check, write."""
    split = load_split() if recipe.images else table()
    model, reached = trained(recipe, split)
    if reached < recipe.required:
        raise SystemExit(f"{name}: accuracy {reached:.4f} is less than {recipe.required}: nothing written")
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.onnx"
    save(model, path)
    if not recipe.images:
        names = np.array(load_breast_cancer().target_names)
        np.savez_compressed(OUT / "breast_cancer.npz", **split._asdict(), class_names=names)
    print(f"{name}: accuracy {reached:.4f}, {path.stat().st_size / 1000:.0f} kB", flush=True)


def main() -> None:
    """Train the nets asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=RECIPES, help="train this one only")
    only = parser.parse_args().only
    for name, recipe in RECIPES.items():
        if only in (None, name):
            make(name, recipe)


if __name__ == "__main__":
    main()
