"""Two evaluations side by side, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.errors import DataError
from onnxprune.evaluate import Comparison, Evaluation, compare, evaluate_generated, evaluate_pair
from onnxprune.model import from_proto
from tests.evaluate.models import Array, dataset, deciding, measure, passing

RNG = np.random.default_rng(4)
BEFORE, AFTER = RNG.standard_normal((2, 80, 4))
LABELS = RNG.integers(0, 4, 80)
NAMES = ("sea", "forest", "street", "buildings")


def measured(logits: Array, labels: Array | None = LABELS, names: tuple[str, ...] = NAMES) -> Evaluation:
    return measure(passing(*logits.shape[1:]), logits, labels, names)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(measured(BEFORE), measured(AFTER))


class TestInstances:
    RIGHT = BEFORE.argmax(1) == LABELS, AFTER.argmax(1) == LABELS

    def test_degenerated_and_improved(self, found: Comparison) -> None:
        old, new = self.RIGHT
        assert np.array_equal(found.degenerated, np.flatnonzero(old & ~new))  # type: ignore[arg-type]
        assert np.array_equal(found.improved, np.flatnonzero(~old & new))  # type: ignore[arg-type]
        assert np.array_equal(found.moved, np.flatnonzero(BEFORE.argmax(1) != AFTER.argmax(1)))  # type: ignore[arg-type]

    def test_class_by_class(self, found: Comparison) -> None:
        old, new = self.RIGHT
        for c, cls in enumerate(found.per_class):
            own = c == LABELS
            assert (cls.name, cls.support) == (NAMES[c], own.sum())
            assert cls.degenerated == (old & ~new)[own].sum()
            assert cls.improved == (~old & new)[own].sum()
            assert cls.change("recall").delta == pytest.approx(new[own].mean() - old[own].mean())

    def test_they_account_for_the_change_of_accuracy(self, found: Comparison) -> None:
        balance = len(found.improved) - len(found.degenerated)  # type: ignore[arg-type]
        assert found.change("accuracy").delta == pytest.approx(balance / 80)

    def test_pictures_get_better_or_worse_by_their_share(self) -> None:
        labels = RNG.integers(0, 3, (2, 2, 2))
        right, wrong = np.moveaxis(np.eye(3)[[labels, (labels + 1) % 3]], -1, 2)
        right, wrong = 9 * right, 9 * wrong
        mixed = np.where(np.arange(2) == 0, right, wrong)
        before, after = np.stack([right[0], wrong[1]]), np.stack([mixed[0], mixed[1]])
        found = compare(measured(before, labels, ()), measured(after, labels, ()))
        assert found.degenerated is not None
        assert found.improved is not None
        assert (found.degenerated.tolist(), found.improved.tolist()) == ([0], [1])
        assert {cls.degenerated for cls in found.per_class} == {None}


def test_metrics_and_their_verdict(found: Comparison) -> None:
    loss = found.change("loss")
    assert loss.delta == pytest.approx(loss.after.value - loss.before.value)
    assert loss.verdict == ("worse" if loss.delta > 0 else "better")
    assert loss.text.endswith("nats")
    assert found.change("accuracy").text.endswith("points")
    same = compare(measured(BEFORE), measured(BEFORE))
    assert {change.verdict for change in same.changes} == {""}
    assert not same.degenerated.size  # type: ignore[union-attr]


def test_the_difference_of_the_confusions(found: Comparison) -> None:
    confusions = [np.zeros((4, 4), int) for _ in range(2)]
    for confusion, logits in zip(confusions, (BEFORE, AFTER), strict=True):
        for label, decided in zip(LABELS, logits.argmax(1), strict=True):
            confusion[label, decided] += 1
    assert np.array_equal(found.confusion, confusions[1] - confusions[0])  # type: ignore[arg-type]


def test_regression_has_no_right_and_wrong() -> None:
    x, y = RNG.standard_normal((2, 30, 1))
    found = compare(measured(x, y, ()), measured(x / 2, y, ()))
    assert (found.degenerated, found.improved, found.moved, found.per_class) == (None, None, None, ())
    assert found.change("mse").delta == pytest.approx(((x / 2 - y) ** 2).mean() - ((x - y) ** 2).mean(), rel=1e-5)


def test_models_that_put_out_more_or_fewer_classes() -> None:
    labels = np.arange(12) % 3
    found = compare(measure(deciding(), labels, labels), measure(deciding(), labels + 2 * (labels == 2), labels))
    assert found.confusion is not None
    assert (found.confusion.shape, found.confusion[2].tolist()) == ((5, 5), [0, 0, -4, 0, 4])


class TestPair:
    def test_one_pass_gives_what_two_give(self) -> None:
        data = dataset(BEFORE, LABELS, NAMES)
        old, new = evaluate_pair(passing(4), passing(4, op="Abs"), data, size=9)
        for told, model in ((old, passing(4)), (new, passing(4, op="Abs"))):
            alone = measure(model, BEFORE, LABELS, NAMES)
            assert [told.value(m.name) for m in alone] == pytest.approx([m.value for m in alone])
        assert [metric.name for metric in compare(old, new).fidelity] == [
            "cosine",
            "largest_difference",
            "kl",
            "agreement",
        ]

    def test_without_labels_there_is_fidelity(self) -> None:
        old, new = evaluate_pair(passing(4), passing(4, op="Abs"), dataset(BEFORE))
        found = compare(old, new)
        assert (found.changes, found.degenerated) == ((), None)
        moved = BEFORE.argmax(1) != np.abs(BEFORE).argmax(1)
        assert np.array_equal(found.moved, np.flatnonzero(moved))  # type: ignore[arg-type]
        assert new.value("agreement") == pytest.approx(1 - moved.mean())


class TestGenerated:
    def test_without_any_data(self) -> None:
        seen: list[int] = []
        model = passing(4, op="Softmax")
        old, new = evaluate_generated(model, model, samples=100, progress=lambda _, done, __: seen.append(done))
        assert (new.samples, seen) == (128, [64, 100])
        assert new.value("largest_difference") == 0
        assert new.value("agreement") == 1
        assert "128 generated inputs and no data" in new.notes[0]
        assert compare(old, new).moved is not None

    def test_seeded(self) -> None:
        model, other = passing(4), passing(4, op="Abs")
        one, same, another = (
            evaluate_generated(model, other, samples=10, seed=seed)[1].value("cosine") for seed in (1, 1, 2)
        )
        assert one == same != another

    def test_a_fixed_batch(self) -> None:
        model = passing(4, batch=3)
        assert evaluate_generated(model, model, samples=7)[1].samples == 9

    def test_an_output_that_is_not_by_samples_makes_a_run_one_sample(self) -> None:
        proto = passing(4, batch=3).to_proto()
        proto.graph.node[0].op_type = "ReduceMean"
        proto.graph.output[0].type.tensor_type.shape.ClearField("dim")
        proto.graph.node[0].attribute.add(name="keepdims", i=0, type=2)
        model = from_proto(proto)
        assert evaluate_generated(model, model, samples=5)[1].samples == 5

    def test_given_shapes(self) -> None:
        model = passing("length", batch="n")
        assert evaluate_generated(model, model, samples=5, shapes={"x": (5, 17)})[1].samples == 5


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (measured(AFTER[:70], LABELS[:70]), "measured on 80 and on 70 samples"),
        (measured(AFTER, LABELS[::-1].copy()), r"the labels differ: in row \d+ "),
        (measured(AFTER, LABELS, ("sea", "forest", "street", "houses")), r"different classes: 4 \(sea, .* and 4 \(sea"),
        (measured(np.pad(AFTER, ((0, 0), (0, 1))), LABELS, ()), "different classes"),
        (measured(AFTER, AFTER, ()), "two tasks cannot be compared: classification and regression"),
    ],
)
def test_what_cannot_be_compared(other: Evaluation, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compare(measured(BEFORE), other)


def test_json_holds_all_of_it(found: Comparison) -> None:
    told = found.as_dict()
    assert told["metrics"][0]["delta"] == pytest.approx(found.change("accuracy").delta)
    assert [c["name"] for c in told["classes"]] == list(NAMES)
    assert (told["task"], told["samples"], told["notes"]) == ("classification", 80, ())
