"""Latency: enough calls, turns that treat all alike, figures that make sense, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.errors import DataError, ModelError, OptionError
from onnxprune.model import from_proto
from onnxprune.runtime import Latency, compare_latency, latency, measure_latency
from onnxprune.runtime.latency import TURN
from tests.protos import mlp, node, proto, value, values

X = {"x": values(4, 20, seed=9)}
SMALL, LARGE = from_proto(mlp(width=16)), from_proto(mlp(width=40_000))


class TestMeasured:
    def test_figures(self) -> None:
        found = measure_latency(from_proto(mlp()), X, runs=7, warmup=1, seconds=0, threads=1, provider="cpu")
        assert isinstance(found, Latency)
        assert 0 < found.p10_ms <= found.median_ms <= found.p90_ms
        assert (found.runs, found.threads, found.provider, found.batch) == (7, 1, "cpu", 4)
        assert found.per_second == pytest.approx(4000 / found.median_ms)

    def test_for_at_least_that_long(self) -> None:
        found = measure_latency(SMALL, X, runs=7, seconds=0.1, threads=1)
        assert found.runs > 1000
        assert found.runs * found.median_ms < 200

    def test_more_work_takes_longer(self) -> None:
        small, large = compare_latency([SMALL, LARGE], {"x": values(64, 20)}, threads=1)
        assert large.median_ms > 3 * small.median_ms

    def test_equal_models_take_equal_times(self) -> None:
        feeds = {"x": values(64, 20)}
        one, other = compare_latency([LARGE, from_proto(mlp(width=40_000))], feeds, runs=60, threads=1)
        assert one.median_ms == pytest.approx(other.median_ms, rel=0.3)

    def test_feeds_of_their_own(self) -> None:
        one, other = compare_latency([SMALL, SMALL], [X, {"x": values(9, 20)}], runs=3, seconds=0)
        assert (one.batch, other.batch) == (4, 9)

    def test_a_type_that_numpy_lacks(self) -> None:
        model = from_proto(
            proto([node("Cast", ["x"], ["y"], to=16)], [value("x", [2, 3])], [value("y", None, 16)])
        )  # to bfloat16
        assert measure_latency(model, {"x": values(2, 3)}, runs=3, seconds=0).runs == 3

    def test_progress(self) -> None:
        told: list[tuple[str, int, int]] = []
        compare_latency([SMALL, SMALL], X, runs=200, seconds=0.1, progress=lambda *what: told.append(what))
        assert {(stage, total) for stage, _, total in told} == {("measuring latency", 100)}
        done = [d for _, d, _ in told]
        assert done == sorted(done)
        assert done[-1] == 100


class TestTurns:
    """With a clock that moves by what each call takes."""

    def timeline(
        self, monkeypatch: pytest.MonkeyPatch, costs: dict[str, list[float]], runs: int, seconds: float
    ) -> str:
        """Who was called when; each model repeats its list of costs."""
        clock, calls = [0.0], []
        monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])

        def calling(name: str) -> object:
            def call() -> None:
                clock[0] += costs[name][calls.count(name) % len(costs[name])]
                calls.append(name)

            return call

        self.timed = [latency._Timed(calling(name)) for name in costs]  # type: ignore[arg-type]
        latency._take_turns(self.timed, runs, seconds, None)
        return "".join(calls)

    def test_slow_models_alternate_there_and_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.timeline(monkeypatch, {"a": [1.0], "b": [2.0]}, 4, 0) == "abbaabba"
        assert [one.times for one in self.timed] == [[1.0] * 4, [2.0] * 4]

    def test_the_first_call_of_a_turn_does_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # 5 ms when the caches are cold, then 4: a turn of 20 ms has room for the cold one and four warm ones
        costs = [0.005, 0.004, 0.004, 0.004, 0.004]
        order = self.timeline(monkeypatch, {"a": costs, "b": costs}, 8, 0)
        assert order == "aaaaabbbbbbbbbbaaaaa"
        assert [one.times for one in self.timed] == [pytest.approx([0.004] * 8)] * 2

    def test_a_drift_hits_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine that slows down all the time: measured one after the other, the second would look twice as slow."""
        costs = [0.03 * (1 + step / 100) for step in range(100)]
        self.timeline(monkeypatch, {"a": costs, "b": costs}, 100, 0)
        one, other = (float(np.median(timed.times)) for timed in self.timed)
        assert one == pytest.approx(other, rel=0.02)

    def test_time_counts_as_well_as_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order = self.timeline(monkeypatch, {"a": [2 * TURN]}, 2, 19 * TURN)
        assert len(order) == 10


class TestRefused:
    @pytest.mark.parametrize(("runs", "warmup"), [(0, 0), (1, -1)])
    def test_numbers_without_sense(self, runs: int, warmup: int) -> None:
        with pytest.raises(OptionError, match=f"{runs} runs after {warmup}"):
            measure_latency(SMALL, X, runs=runs, warmup=warmup)

    def test_models_and_feeds_that_are_not_paired(self) -> None:
        with pytest.raises(OptionError, match="2 models, feeds for 1"):
            compare_latency([SMALL, SMALL], [X])
        with pytest.raises(OptionError, match="0 models"):
            compare_latency([], X)

    def test_options(self) -> None:
        with pytest.raises(OptionError, match="no provider `tpu`"):
            measure_latency(SMALL, X, provider="tpu")
        with pytest.raises(OptionError, match="0 threads"):
            measure_latency(SMALL, X, threads=0)

    def test_feeds_and_models_that_do_not_run(self) -> None:
        with pytest.raises(DataError, match="takes float32"):
            measure_latency(SMALL, {"x": values(4, 19)})
        nodes = [node("Constant", [], ["s"], value_ints=[3, 3]), node("Reshape", ["x", "s"], ["y"], name="bad reshape")]
        broken = from_proto(proto(nodes, [value("x", ["n", 4])], [value("y", None)]))
        with pytest.raises(ModelError, match=r"failed to run: .*bad reshape"):
            measure_latency(broken, {"x": values(1, 4)})
