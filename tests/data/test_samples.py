from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.data import batches, fit, open_dataset
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

Array = np.ndarray[Any, Any]
COUNT = 10
INPUTS = np.random.default_rng(0).standard_normal((COUNT, 3)).astype(np.float32)


def make() -> Iterator[tuple[Array, int]]:
    for k in range(COUNT):
        yield INPUTS[k], k


class Walked:
    """Samples one after the other; counts the passes."""

    def __init__(self, said: int | None = None) -> None:
        self.passes, self.given = 0, 0
        self.said = said

    def __iter__(self) -> Iterator[tuple[Array, int]]:
        self.passes += 1
        for sample in make():
            self.given += 1
            yield sample


class Counted(Walked):
    def __len__(self) -> int:
        return self.said or COUNT


class Indexed:
    """As a PyTorch dataset: single samples by number, no iterator of its own."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> tuple[Array, int]:
        return INPUTS[row], row


class Stream(Walked):
    """As a PyTorch IterableDataset: inherits a `[]` that does not work."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> Any:
        raise NotImplementedError


SOURCES: dict[str, Callable[[], Any]] = {
    "function": lambda: make,
    "list": lambda: list(make()),
    "iterable": Walked,
    "iterable with a length": Counted,
    "indexed": Indexed,
    "stream": Stream,
}


@pytest.mark.parametrize("kind", SOURCES)
class TestSources:
    @given(st.integers(1, 12))
    @settings(deadline=None, max_examples=12)
    def test_batches_are_the_whole(self, kind: str, size: int) -> None:
        data = open_dataset(SOURCES[kind]())
        assert len(data) == COUNT
        for _ in range(2):  # every pass gives the same
            found = list(batches(data, size))
            np.testing.assert_array_equal(np.concatenate([b.feeds["x"] for b in found]), INPUTS)
            assert np.concatenate([b.labels for b in found]).tolist() == list(range(COUNT))  # type: ignore[misc]

    @given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=20), st.integers(1, 7))
    @settings(deadline=None, max_examples=20)
    def test_chosen_rows(self, kind: str, rows: list[int], size: int) -> None:
        found = list(batches(open_dataset(SOURCES[kind]()).select(rows), size))
        np.testing.assert_array_equal(np.concatenate([b.feeds["x"] for b in found]), INPUTS[rows])
        assert np.concatenate([b.labels for b in found]).tolist() == rows  # type: ignore[misc]


class TestPasses:
    def test_one_for_all_batches_and_columns(self) -> None:
        source = Counted()
        data = open_dataset(source)
        source.passes = source.given = 0
        list(batches(data, 3))
        assert (source.passes, source.given) == (1, COUNT)

    def test_a_length_saves_the_counting(self) -> None:
        counted, walked = Counted(), Walked()
        open_dataset(counted)
        open_dataset(walked)
        assert (counted.given, walked.given) == (1, 1 + COUNT)

    def test_an_iterator_that_is_used_up(self) -> None:
        with pytest.raises(DataError, match=r"the generator: a generator can be read only once(.|\n)*without calling"):
            open_dataset(make())

    def test_fewer_than_said(self) -> None:
        with pytest.raises(DataError, match="it gave 10 samples in this pass, but there should be 12"):
            list(batches(open_dataset(Counted(12)), 5))

    def test_a_function_that_gives_its_iterator_twice(self) -> None:
        one = make()
        with pytest.raises(DataError, match=r"the function: it gave 0 samples in this pass"):
            list(batches(open_dataset(lambda: one)))

    def test_mistakes_of_the_source_are_its_own(self) -> None:
        def broken() -> Iterator[Any]:
            yield INPUTS[0], 0
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            open_dataset(broken)


class TestSamples:
    def test_several_inputs(self) -> None:
        data = open_dataset([({"ids": [1, 2], "mask": [1, 0]}, 0), ({"ids": [3, 4], "mask": [1, 1]}, 1)])
        infos = [TensorInfo(name, np.dtype(np.int64), ("n", 2)) for name in ("ids", "mask")]
        (batch,) = batches(fit(data, infos))
        assert batch.feeds["ids"].tolist() == [[1, 2], [3, 4]]
        assert batch.labels is not None
        assert batch.labels.tolist() == [0, 1]

    def test_labels_by_name(self) -> None:
        data = open_dataset([{"ids": [1, 2], "y": 5}, {"ids": [3, 4], "y": 6}])
        assert np.asarray(data.labels).tolist() == [5, 6]

    @pytest.mark.parametrize("source", [[INPUTS[0], INPUTS[1]], [(INPUTS[0], None), (INPUTS[1], None)]])
    def test_no_labels(self, source: Any) -> None:
        data = open_dataset(source)
        assert (len(data), data.labels) == (2, None)

    def test_text_of_any_length(self) -> None:
        data = open_dataset([(["a"], 0), (["much longer"], 1)])
        assert np.asarray(data.inputs["x"]).tolist() == [["a"], ["much longer"]]

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ([], "the list: it gives no samples"),
            ([(np.zeros(3), 0), (np.zeros(4), 1)], r"`x` of sample 1 is float64 \(4,\), of the first .*(.|\n)*padded"),
            ([([1], 0), ([1.5], 1)], r"`x` of sample 1 is float64 \(1,\), of the first int64 \(1,\)\nAll samples need"),
            ([(np.zeros(3), 0), np.zeros(3)], r"sample 1 has `x`, the first has `x`, `y`"),
            ([([[1, 2], [3]], 0)], r"sample 0 is not made of arrays(.|\n)*padded to one length"),
            ([(object(), 0)], r"sample 0 is not made of arrays: object holds neither numbers nor text"),
            (lambda: 3, "the function: it gives a int\nIt must give samples one by one"),
        ],
    )
    def test_mistakes(self, source: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            list(batches(open_dataset(source)))

    def test_batches_instead_of_samples(self) -> None:
        source = [[np.zeros((4, 3), np.float32), np.zeros(4)]]  # as PyTorch's loader gives them
        with pytest.raises(DataError, match="It looks like batches"):
            fit(open_dataset(source), [TensorInfo("in", np.dtype(np.float32), ("n", 3))])
