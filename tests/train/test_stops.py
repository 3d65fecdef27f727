"""When a training ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxprune.errors import OptionError
from onnxprune.evaluate import measured
from onnxprune.train.history import EpochRow, History
from onnxprune.train.stops import DELTA, EPOCHS, TARGET, TIME, Stops, Watch


def history(losses: list[float], metric: str = "accuracy", values: list[float] | None = None) -> History:
    """Epochs 0, 1, ... ; ``values`` of a metric, epoch 0 included."""
    values = values or [0.0] * (len(losses) + 1)
    rows = [EpochRow(k, k, loss, 0.1, (measured(metric, values[k]),)) for k, loss in enumerate([math.nan, *losses])]
    return History(tuple(rows))


class TestEpochsAndTime:
    def test_epochs(self) -> None:
        assert Stops(epochs=2).reason(history([1.0]), 0) is None
        assert Stops(epochs=2).reason(history([1.0, 1.0]), 0) == EPOCHS

    def test_time(self) -> None:
        assert Stops(time_limit=5).reason(history([1.0]), 4.9) is None
        assert Stops(time_limit=5).reason(history([1.0]), 5.0) == TIME


class TestDeltaLoss:
    stops = Stops(epochs=99, delta_loss=0.1, patience=2)

    def test_going_down_fast_enough(self) -> None:
        assert self.stops.reason(history([1.0, 0.8, 0.6, 0.5]), 0) is None

    def test_one_slow_epoch_is_not_enough(self) -> None:
        assert self.stops.reason(history([1.0, 0.99]), 0) is None
        assert self.stops.reason(history([1.0, 0.99, 0.5]), 0) is None

    def test_two_in_a_row(self) -> None:
        assert self.stops.reason(history([1.0, 0.99, 0.98]), 0) == DELTA

    def test_up_and_down_is_no_improvement(self) -> None:
        assert self.stops.reason(history([1.0, 1.5, 1.0]), 0) == DELTA

    def test_nothing_to_compare_with(self) -> None:
        assert self.stops.reason(history([1.0]), 0) is None
        assert self.stops.reason(history([]), 0) is None

    def test_at_zero_loss(self) -> None:
        assert self.stops.reason(history([1.0, 0.0, 0.0, 0.0]), 0) == DELTA


class TestTarget:
    def test_higher_is_better(self) -> None:
        stops = Stops(epochs=9, target=("accuracy", 0.9))
        assert stops.reason(history([1.0], values=[0.5, 0.89]), 0) is None
        assert stops.reason(history([1.0], values=[0.5, 0.9]), 0) == TARGET

    def test_lower_is_better(self) -> None:
        stops = Stops(epochs=9, target=("mae", 0.2))
        assert stops.reason(history([1.0], "mae", [0.5, 0.3]), 0) is None
        assert stops.reason(history([1.0], "mae", [0.5, 0.2]), 0) == TARGET

    def test_good_enough_from_the_start(self) -> None:
        assert Stops(target=("accuracy", 0.9)).reason(history([], values=[0.95]), 0) == TARGET

    def test_another_metric_was_measured(self) -> None:
        assert Stops(epochs=9, target=("mae", 0.2)).reason(history([1.0]), 0) is None


class TestWatch:
    def fed(self, losses: list[float]) -> Watch:
        watch = Watch()
        for loss in losses:
            watch = watch.seen(loss)
        return watch

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_no_number(self, bad: float) -> None:
        assert self.fed([2.3, 1.0, bad]).diverged

    def test_far_above_the_best(self) -> None:
        assert self.fed([2.3] + [0.1] * 300 + [8.0] * 40).diverged

    def test_back_to_where_it_began(self) -> None:
        assert self.fed([2.3] + [0.05] * 300 + [2.3] * 200).diverged

    def test_noise_of_a_small_loss(self) -> None:
        rng = np.random.default_rng(0)
        assert not self.fed([2.3, *rng.exponential(0.002, 500), 0.2, *rng.exponential(0.002, 100)]).diverged

    def test_a_model_that_knew_its_data_by_heart_may_learn_anew(self) -> None:
        assert not self.fed([5e-6] * 50 + [5e-3] * 50 + [0.3] * 20).diverged
        assert self.fed([5e-6] * 50 + [9.0] * 50).diverged

    def test_a_normal_training(self) -> None:
        assert not self.fed([2.3 * 0.99**k + 0.1 * (k % 3) for k in range(500)]).diverged

    def test_dictionary_and_back(self) -> None:
        for watch in (Watch(), self.fed([2.0, 1.0])):
            again = Watch.from_dict(watch.as_dict())
            assert repr(again) == repr(watch)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs: got 0"),
        ({"patience": 0}, "patience: got 0"),
        ({"delta_loss": -0.1}, "delta loss: got -0.1"),
        ({"delta_loss": math.nan}, "delta loss: got nan"),
        ({"time_limit": 0.0}, "time limit: got 0.0"),
        ({"target": ("speed", 1.0)}, "'speed' is no metric to train towards"),
        ({"target": ("support", 1.0)}, "'support' is no metric"),
        ({"target": ("parameters", 1.0)}, "'parameters' is no metric"),
        ({"target": ("accuracy", math.nan)}, "is not a number"),
    ],
)
def test_bad_values(values: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Stops(**values)  # type: ignore[arg-type]
