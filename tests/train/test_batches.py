"""The order of the samples, even batches, augmentation, and data that are held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.train.batches import Feeder
from onnxprune.train.division import hold_out


def dataset(count: int = 23, fixed: int | None = None) -> Dataset:
    x = np.arange(count, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    return Dataset({"x": x}, np.arange(count) % 4, fixed=fixed)


def flip(feeds: dict[str, Any], labels: Any, rng: np.random.Generator) -> Any:
    return {"x": feeds["x"] + rng.random(feeds["x"].shape, np.float32)}, labels


class TestOrder:
    def test_every_sample_once_in_even_batches(self) -> None:
        feeder = Feeder(dataset(), 10, seed=0)
        order = feeder.order(1)
        assert sorted(len(rows) for rows in order) == [7, 8, 8]
        assert len(feeder) == len(order)
        assert sorted(np.concatenate(order)) == list(range(23))

    def test_seeded_by_epoch(self) -> None:
        one, same, other = Feeder(dataset(), 23, 0), Feeder(dataset(), 23, 0), Feeder(dataset(), 23, 1)
        assert np.array_equal(one.order(2)[0], same.order(2)[0])
        assert not np.array_equal(one.order(2)[0], one.order(3)[0])
        assert not np.array_equal(one.order(2)[0], other.order(2)[0])

    def test_a_fixed_batch_is_filled_up(self) -> None:
        feeder = Feeder(dataset(fixed=10), 64, seed=0)
        order = feeder.order(1)
        assert [len(rows) for rows in order] == [10, 10, 3]
        batch = feeder.batch(order[2], 1, 2)
        assert (batch.feeds["x"].shape, batch.count) == ((10, 3), 3)
        assert batch.labels is not None
        assert len(batch.labels) == 3

    def test_more_than_there_is(self) -> None:
        assert [len(rows) for rows in Feeder(dataset(5), 64, 0).order(1)] == [5]

    def test_no_batch(self) -> None:
        with pytest.raises(OptionError, match="batch: got 0"):
            Feeder(dataset(), 0, 0)

    def test_nan_is_told_by_row(self) -> None:
        data = dataset()
        x = np.array(data.inputs["x"])
        x[17] = np.nan
        feeder = Feeder(replace(data, inputs={"x": x}), 23, 0)
        with pytest.raises(DataError, match=r"NaN or Inf in 1 rows: 17"):
            feeder.batch(feeder.order(1)[0], 1, 0)


class TestAugmentation:
    def test_drawn_anew_for_each_batch_and_the_same_again(self) -> None:
        rows = np.arange(4)
        feeder = Feeder(dataset(), 4, seed=0, augment=flip)
        plain = Feeder(dataset(), 4, seed=0).batch(rows, 1, 0).feeds["x"]
        one = feeder.batch(rows, 1, 0).feeds["x"]
        assert np.all((one >= plain) & (one < plain + 1))
        assert np.array_equal(one, feeder.batch(rows, 1, 0).feeds["x"])
        assert not np.array_equal(one, feeder.batch(rows, 1, 1).feeds["x"])
        assert not np.array_equal(one, feeder.batch(rows, 2, 0).feeds["x"])

    def test_the_data_are_not_changed(self) -> None:
        def spoil(feeds: dict[str, Any], labels: Any, _: np.random.Generator) -> Any:
            feeds["x"][:] = 7
            labels[:] = 0
            return feeds, labels

        data = dataset()
        assert (Feeder(data, 23, 0, spoil).batch(np.arange(23), 1, 0).feeds["x"] == 7).all()
        assert np.array_equal(np.asarray(data.inputs["x"])[:, 0], np.arange(23))
        assert np.array_equal(np.asarray(data.labels), np.arange(23) % 4)

    def test_padding_stays(self) -> None:
        feeder = Feeder(dataset(fixed=10), 10, 0, flip)
        batch = feeder.batch(np.array([3, 5]), 1, 0)
        assert (batch.feeds["x"].shape, batch.count) == ((10, 3), 2)
        assert (batch.feeds["x"][2:] == 5).all()

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda feeds, _labels, _rng: feeds, "the augmentation failed: ValueError"),
            (lambda _feeds, labels, _rng: (1 / 0, labels), "the augmentation failed: ZeroDivisionError"),
            (lambda _feeds, labels, _rng: ({}, labels), "returned nothing for the input `x`"),
            (lambda feeds, labels, _rng: ({"x": feeds["x"][:, :2]}, labels), r"float32 \(4, 2\) for the input `x`"),
            (lambda feeds, labels, _rng: ({"x": feeds["x"].astype(float)}, labels), "returned float64"),
            (lambda feeds, _labels, _rng: (feeds, None), "returned nothing for the labels"),
        ],
    )
    def test_what_it_does_wrong(self, function: Any, words: str) -> None:
        with pytest.raises(DataError, match=words):
            Feeder(dataset(), 4, 0, function).batch(np.arange(4), 1, 0)


class TestHoldOut:
    def test_by_class(self) -> None:
        rest, held = hold_out(dataset(40), 0.2, seed=1)
        assert (len(rest), len(held)) == (32, 8)
        assert held.labels is not None
        assert np.bincount(np.asarray(held.labels)).tolist() == [2, 2, 2, 2]
        both = np.concatenate([np.asarray(part.inputs["x"])[:, 0] for part in (rest, held)])
        assert sorted(both) == list(range(40))

    def test_seeded(self) -> None:
        data = replace(dataset(40), labels=None)
        one, same, other = (np.asarray(hold_out(data, 0.2, seed)[1].inputs["x"]) for seed in (1, 1, 2))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 0.001, 0.999, float("nan")])
    def test_nothing_on_one_side(self, share: float) -> None:
        with pytest.raises(OptionError, match="validation: a share"):
            hold_out(dataset(10), share)
