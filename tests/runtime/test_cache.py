"""Equal models share a native session; what is kept is bounded, and keeps nothing of a model alive."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onnxprune.model import ArrayWeight, Model, from_proto, load, save
from onnxprune.runtime import cache, clear_sessions, session
from onnxprune.runtime.cache import SessionCache, sessions
from tests.protos import mlp, mlp_output, node, proto, value, values, with_body

ROOT = Path(__file__).parent.parent.parent
X = {"x": values(4, 20, seed=9)}


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    clear_sessions()
    yield
    clear_sessions()


def shared(*models: Model, **arguments: object) -> bool:
    """Whether all of them got one native session."""
    return len({id(session(model, **arguments).native) for model in models}) == 1  # type: ignore[arg-type]


def writable_copy(model: Model) -> tuple[Model, dict[str, np.ndarray]]:
    """The same model with weights in arrays that are still written to."""
    editor = model.edit()
    arrays = {name: np.array(weight.array()) for name, weight in model.weights.items()}
    for name, array in arrays.items():
        editor.set_weight(name, ArrayWeight(array))
    return editor.build(), arrays


class TestWhatIsShared:
    def test_equal_models(self, tmp_path: Path) -> None:
        model = from_proto(mlp(width=400))
        save(model, tmp_path / "inline.onnx")
        save(model, tmp_path / "external.onnx", external=True)
        models = (model, from_proto(mlp(width=400)), load(tmp_path / "inline.onnx"), load(tmp_path / "external.onnx"))
        assert shared(*models)
        for one in models:
            np.testing.assert_allclose(session(one).run(X)["y"], mlp_output(X["x"], width=400), rtol=1e-4, atol=1e-4)

    def test_metadata_do_not_matter(self) -> None:
        model = from_proto(mlp())
        editor = model.edit()
        editor.set_metadata("written by", "a test")
        assert shared(model, editor.build())

    def test_one_other_weight_does(self) -> None:
        model = from_proto(mlp())
        changed, arrays = writable_copy(model)
        assert shared(model, changed)
        arrays["w2"][0, 0] += 1
        other, _ = writable_copy(changed)
        assert not shared(model, other)
        assert not np.array_equal(session(model).run(X)["y"], session(other).run(X)["y"])

    def test_other_arguments_do(self) -> None:
        model = from_proto(mlp())
        made = [
            session(model), session(model, threads=1), session(model, threads=2), session(model, prepack=False),
            session(model, outputs=["y"]), session(model, outputs=["h"]), session(model, outputs=["h", "y"]),
            session(model, outputs=["y", "h"]), session(model, tf32=True),
        ]  # fmt: skip
        assert len({id(one.native) for one in made}) == len(made)
        assert made[6].outputs == ("h", "y")
        assert session(model, outputs=["h", "y"]).native is made[6].native

    def test_messages_name_the_model_at_hand(self, tmp_path: Path) -> None:
        session(from_proto(mlp()))
        save(from_proto(mlp()), tmp_path / "mine.onnx")
        with pytest.raises(Exception, match=r"mine.onnx takes `x`"):
            session(load(tmp_path / "mine.onnx")).run({})

    @pytest.mark.parametrize("arguments", [{"cache": False}, {"optimize": False}, {"profile": True}])
    def test_what_is_not_kept(self, arguments: dict[str, bool]) -> None:
        model = from_proto(mlp())
        assert not shared(model, model, **arguments) or len(sessions) == 0
        assert len(sessions) == 0

    def test_large_models_are_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = from_proto(mlp(width=400))
        monkeypatch.setattr("onnxprune.runtime.sessions.LARGEST", model.nbytes - 1)
        session(model)
        assert len(sessions) == 0

    def test_one_that_was_fed_much_is_forgotten(self) -> None:
        ready = session(from_proto(mlp()))
        ready.run(X)
        assert len(sessions) == 1
        many = {"x": np.zeros((1 + cache.FED_MOST // 80, 20), np.float32)}
        assert len(ready.run(many)["y"]) == len(many["x"])
        assert len(sessions) == 0
        np.testing.assert_allclose(ready.run(X)["y"], mlp_output(X["x"]), atol=1e-4)


class TestNothingIsKeptAlive:
    @pytest.mark.parametrize("build", [lambda: mlp(width=4000), lambda: mlp(width=400, constant=True), with_body])
    def test_what_happens_to_the_arrays_does_not_matter(self, build: object) -> None:
        """onnxruntime has its own copy: these arrays may go, or change, or be a file that is cut short."""
        model, arrays = writable_copy(from_proto(build()))  # type: ignore[operator]
        feeds = {
            info.name: np.ones((4, 20 if info.shape[1:] == (20,) else 8), np.float32)
            for info in session(model).inputs[:1]
        }
        feeds |= {info.name: np.array(True) for info in session(model).inputs[1:]}
        before = session(model).run(feeds)["y"]
        for array in arrays.values():
            array[...] = np.nan
        np.testing.assert_array_equal(session(model).run(feeds)["y"], before)

    def test_arrays_and_models_go(self) -> None:
        model, arrays = writable_copy(from_proto(mlp(width=4000)))
        watched = [weakref.ref(model), *(weakref.ref(array) for array in arrays.values())]
        session(model).run(X)
        del model, arrays
        gc.collect()
        assert len(sessions) == 1
        assert [ref() is None for ref in watched] == [True] * len(watched)

    @pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux lists what a process has mapped")
    def test_no_file_stays_mapped(self, tmp_path: Path) -> None:
        file = tmp_path / "large.onnx"
        save(from_proto(mlp(width=100_000)), file)
        session(load(file)).run(X)
        gc.collect()
        assert len(sessions) == 1
        assert str(file) not in Path("/proc/self/maps").read_text()


class TestBounds:
    def test_number(self) -> None:
        models = [from_proto(mlp(width=width)) for width in range(1, cache.MOST + 3)]
        made = [session(model).native for model in models]
        assert len(sessions) == cache.MOST
        assert session(models[-1]).native is made[-1]
        assert session(models[0]).native is not made[0]

    def test_bytes_and_order(self) -> None:
        kept = SessionCache(most=10, limit=100)
        natives = [object() for _ in range(4)]
        for number, native in enumerate(natives[:3]):
            kept.put(number, native, 30)
        assert kept.get(0) is natives[0]  # used, so that it is not the next to go
        kept.put(3, natives[3], 40)
        assert [kept.get(number) for number in range(4)] == [natives[0], None, natives[2], natives[3]]
        kept.put(4, object(), 101)
        assert len(kept) == 0

    def test_clear_and_forget(self) -> None:
        kept = SessionCache()
        first, second = object(), object()
        kept.put("a", first, 1)
        kept.put("b", first, 1)
        kept.put("c", second, 1)
        kept.forget(first)
        assert [kept.get(key) for key in "abc"] == [None, None, second]
        kept.clear()
        assert len(kept) == 0


def test_threads_get_right_answers() -> None:
    """More models than are kept, so that sessions are made, used and dropped all the time."""
    models = [from_proto(mlp(width=width)) for width in range(1, cache.MOST + 5)]
    expected = [session(model, threads=1, cache=False).run(X)["y"] for model in models]

    def once(number: int) -> bool:
        which = number * 7 % len(models)
        return np.allclose(session(models[which], threads=1).run(X)["y"], expected[which], atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(once, range(300)))
    assert len(sessions) <= cache.MOST


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_begins_anew() -> None:
    """The threads of a session do not survive a fork: to run it there would wait for ever."""
    code = """
import os, sys
from onnxprune.model import from_proto
from onnxprune.runtime import session
from tests.protos import mlp, values
model, x = from_proto(mlp(width=400)), {"x": values(512, 20)}
session(model, threads=2).run(x)
child = os.fork()
session(model, threads=2).run(x)
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)  # as multiprocessing does
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0


def test_finding_one_is_quicker_than_making_it() -> None:
    nodes, inputs = [], "x"
    for number in range(60):
        nodes.append(node("Conv", [inputs, "w"], [f"t{number}"], pads=[1] * 4))
        inputs = f"t{number}"
    model = from_proto(proto(nodes, [value("x", [1, 64, 8, 8])], [value(inputs, None)], {"w": values(64, 64, 3, 3)}))

    def seconds() -> float:
        start = time.perf_counter()
        session(model)
        return time.perf_counter() - start

    made = seconds()
    assert min(seconds() for _ in range(5)) < made / 3
