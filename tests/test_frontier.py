"""What a model computes behind a cut, from kept activations, is what it computes from its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.allocate import Budget, allocate_units
from onnxprune.criteria import score
from onnxprune.data import Dataset, batches, fit, open_dataset
from onnxprune.experiment import analyse
from onnxprune.frontier import Frontier, first_change
from onnxprune.graph import build_graph
from onnxprune.model import Model, from_proto, load
from onnxprune.runtime import model_inputs, session
from onnxprune.samples import generate
from onnxprune.surgery import remove
from tests.nets import export
from tests.oracle import assert_close

DEMO = Path(__file__).parent.parent / "onnxprune" / "demo_data"


def outputs(model: Model, dataset: Dataset) -> list[np.ndarray]:
    run = session(model)
    rows = [run.run(b.feeds) for b in batches(fit(dataset, model_inputs(model)), 5)]
    return [np.concatenate([r[name] for r in rows]) for name in run.outputs]


def generated(model: Model, samples: int) -> Dataset:
    batch = dict.fromkeys((str(i.shape[0]) for i in model_inputs(model)), samples)
    return Dataset(generate(build_graph(model, batch)))


@pytest.mark.parametrize("net", ["resnet_basic", "vit", "lstm_bidirectional", "encoder_bert", "unet", "inception"])
def test_tail_of_a_candidate_computes_what_the_candidate_computes(net: str) -> None:
    inlined, coupling = analyse(from_proto(export(net)))
    dataset = generated(inlined, 7)
    scores = score(inlined, coupling, "random")
    frontier = Frontier(inlined, dataset, size=3)
    jobs = []
    for group in coupling.groups:
        plan, _ = allocate_units(coupling, scores, Budget(group_ratios={group.name: 0.5}, round_to=1))
        jobs.append((first_change(coupling, plan), plan))
    moved = set()
    for position, plan in sorted(jobs, key=lambda job: job[0]):
        candidate = remove(inlined, coupling, plan)
        frontier.move(position)
        assert frontier.position <= position
        moved.add(frontier.position)
        for a, b in zip(outputs(candidate, dataset), outputs(frontier.tail(candidate), frontier.dataset), strict=True):
            assert_close(a, b)
    assert len(jobs) == 1 or len(moved) > 1, "the frontier never moved"


def test_the_tail_is_shorter() -> None:
    model, dataset = load(DEMO / "digits_cnn.onnx"), open_dataset(DEMO / "digits.npz")
    frontier = Frontier(model, dataset)
    whole = len(model.proto.graph.node)
    frontier.move(whole - 1)
    assert len(frontier.tail(model).proto.graph.node) < whole / 2
    before = frontier.position
    frontier.move(0)
    assert frontier.position == before, "a frontier never goes back"


def test_activations_that_do_not_fit_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.frontier.MEMORY", 1000)
    frontier = Frontier(load(DEMO / "digits_cnn.onnx"), open_dataset(DEMO / "digits.npz"))
    frontier.move(5)
    assert frontier.position == 0
    assert frontier.kept == {}
