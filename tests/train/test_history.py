"""Histories as values and files, and the figures that are derived from them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from onnxprune.errors import DataError
from onnxprune.evaluate import measured
from onnxprune.train.history import EpochRow, History, StepRow, load_history
from onnxprune.train.recovery import loss_fluctuation, recovery_capability, recovery_cost

ACCURACY = (0.3, 0.7, 0.95, 0.94)
LOSSES = (math.nan, 1.0, 0.5, 0.4)


def history() -> History:
    rows = tuple(
        EpochRow(k, 10 * k, loss, 0.1, (measured("accuracy", value), measured("loss", 1 - value)), 2.0 * k)
        for k, (loss, value) in enumerate(zip(LOSSES, ACCURACY, strict=True))
    )
    steps = tuple(StepRow(5 * k, (k + 1) // 2, loss, 0.1, float(k)) for k, loss in enumerate((1.2, 0.8, 0.6, 0.4), 1))
    return History(rows, steps, "accuracy", "abc")


class TestFiles:
    def test_there_and_back(self, tmp_path: Path) -> None:
        history().save(tmp_path / "h.json")
        again = load_history(tmp_path / "h.json")
        assert math.isnan(again.epochs[0].loss)
        assert again.epochs[1:] == history().epochs[1:]
        assert (again.steps, again.chosen, again.model_hash) == (history().steps, "accuracy", "abc")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"onnxprune_history": 99}', '{"onnxprune_history": 1}'])
    def test_a_file_that_is_none(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "h.json").write_text(text)
        with pytest.raises(DataError, match=r"h\.json: not the history of a training"):
            load_history(tmp_path / "h.json")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot read the history"):
            load_history(tmp_path / "h.json")
        with pytest.raises(DataError, match="cannot write the history"):
            history().save(tmp_path / "nowhere" / "h.json")


class TestRows:
    def test_before_and_after(self) -> None:
        assert history().before == history().epochs[0] or math.isnan(history().epochs[0].loss)
        assert [row.epoch for row in history().trained] == [1, 2, 3]
        assert history().of(2).loss == 0.5
        with pytest.raises(DataError, match="no epoch 9"):
            history().of(9)

    def test_values(self) -> None:
        assert history().values("accuracy") == tuple(enumerate(ACCURACY))
        assert history().values("loss") == tuple((k, 1 - v) for k, v in enumerate(ACCURACY))
        assert history().values("kl") == ()
        bare = History(tuple(EpochRow(k, k, loss, 0.1) for k, loss in enumerate(LOSSES)))
        assert bare.values("loss") == ((1, 1.0), (2, 0.5), (3, 0.4))


class TestRecovery:
    def test_capability(self) -> None:
        found = recovery_capability(history(), original=0.98)
        assert (found.before, found.best, found.last) == (0.3, 0.95, 0.94)
        assert found.damage == pytest.approx(0.65)
        assert found.values == ACCURACY
        assert found.share == pytest.approx((0.95 - 0.3) / (0.98 - 0.3))

    def test_capability_where_lower_is_better(self) -> None:
        found = recovery_capability(history(), "loss")
        assert found.best == pytest.approx(0.05)
        assert math.isnan(found.share)

    def test_fluctuation(self) -> None:
        found = loss_fluctuation(history())
        assert (found.steps, found.losses) == ((5, 10, 15, 20), (1.2, 0.8, 0.6, 0.4))
        assert (found.first, found.last, found.lowest) == (1.2, 0.4, 0.4)
        assert found.span == pytest.approx(0.8)
        assert found.roughness == pytest.approx((0.4 + 0.2 + 0.2) / 3 / 0.75)

    def test_cost(self) -> None:
        found = recovery_cost(history())
        assert (found.epochs, found.steps, found.seconds) == (3, 30, 6.0)
        assert (found.until_epoch, found.until_step, found.until_seconds) == (2, 20, 4.0)

    def test_nothing_to_derive_from(self) -> None:
        with pytest.raises(DataError, match="has no steps"):
            loss_fluctuation(History())
        with pytest.raises(DataError, match=r"no values of 'kl'"):
            recovery_capability(history(), "kl")
