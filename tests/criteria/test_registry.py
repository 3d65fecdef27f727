"""Finding criteria: built-in ones and plugins by one hook; what cannot be found is named."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import ModuleType

import numpy as np
import pytest

from onnxprune.coupling import couple
from onnxprune.criteria import Criterion, Settings, UnitScores, criteria, find, registry, score, score_weights
from onnxprune.criteria.registry import usable
from onnxprune.data import open_dataset
from onnxprune.errors import OptionError
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling
from tests.random_graphs import build


def by_size(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    assert model.hash == coupling.model_hash
    return UnitScores({g.name: [float(settings.seed)] * g.units for g in coupling.groups})


def plugin(*found: Criterion, name: str = "plugin") -> ModuleType:
    module = ModuleType(name)
    module.CRITERIA = found  # type: ignore[attr-defined]
    return module


UNITS_ONLY = Criterion("size", "the seed", by_size)


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Lets a test install plugins; the table is found anew before and after."""
    registry.criteria.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    registry.criteria.cache_clear()


def install(entry: pytest.MonkeyPatch, module: ModuleType) -> None:
    point = EntryPoint("mine", "mine.criteria", registry.ENTRY_POINTS)
    entry.setattr(registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])
    entry.setitem(__import__("sys").modules, "mine.criteria", module)


def test_built_in_criteria_are_complete() -> None:
    assert {"l1", "l2", "linf", "random"} <= set(criteria())
    for name, criterion in criteria().items():
        assert criterion.name == name
        assert criterion.formula
        assert criterion.units or criterion.weights


def test_a_plugin_is_found_like_the_others(entry: pytest.MonkeyPatch) -> None:
    install(entry, plugin(UNITS_ONLY))
    model = from_proto(build([0]))
    coupling = couple(model)
    found = score(model, coupling, "size", Settings(seed=4))
    assert found.criterion == "size"
    assert found.model_hash == model.hash
    assert all((values == 4).all() for values in found.values())
    with pytest.raises(OptionError, match=r"criterion 'size' scores whole units only"):
        score_weights(model, coupling, "size")


def test_a_broken_plugin_is_named(entry: pytest.MonkeyPatch) -> None:
    point = EntryPoint("broken", "no.such.module", registry.ENTRY_POINTS)
    entry.setattr(registry, "entry_points", lambda group: [point] if group else [])
    with pytest.raises(OptionError, match=r"plugin 'broken' \(no.such.module\) cannot be loaded: No module"):
        criteria()


def test_two_of_one_name() -> None:
    with pytest.raises(OptionError, match=r"two criteria are called 'size': in a and in b"):
        registry.table([plugin(UNITS_ONLY, name="a"), plugin(UNITS_ONLY, name="b")])


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"(?s)no criterion 'randon'.*Nearest: random"):
        find("randon")
    with pytest.raises(OptionError, match=r"(?s)no criterion 'xyz'.*There are: .*l1, l2"):
        find("xyz")


def test_a_criterion_that_needs_data_says_so(entry: pytest.MonkeyPatch) -> None:
    install(entry, plugin(Criterion("slope", "w * g", by_size, needs=("data",))))
    model = from_proto(build([0]))
    with pytest.raises(OptionError, match=r"(?s)criterion 'slope' needs a dataset\n.*what they need: .*lap, .*l1, l2"):
        score(model, couple(model), "slope")


class TestWhatWouldWork:
    """A criterion that lacks something names those that lack nothing, for this model and what is given."""

    model = from_proto(build([0]))  # has BatchNormalization
    coupling = couple(model)
    data = open_dataset({"x": np.zeros((2, 3, 6, 6), np.float32)})

    def test_by_kind(self) -> None:
        units, weights = (usable(kind, self.coupling) for kind in ("units", "weights"))
        assert {"l1", "lap", "bn-scale", "fpgm", "random"} <= set(units)
        assert {"l1", "lap", "lamp", "random"} <= set(weights)
        assert not {"fpgm", "bn-scale"} & set(weights)
        assert not {"lap-act", "apoz", "lap-sequential", "wanda"} & set(units)

    def test_with_data(self) -> None:
        found = usable("units", self.coupling, Settings(data=self.data))
        assert {"lap-act", "apoz", "wanda"} <= set(found)
        assert "discrimination" not in found
        with pytest.raises(OptionError, match=r"'discrimination' needs a dataset with labels\nGive one with `y` in it"):
            score(self.model, self.coupling, "discrimination", Settings(data=self.data))

    def test_with_a_ratio(self) -> None:
        assert "lap-sequential" in usable("weights", self.coupling, Settings(ratios=0.5))

    def test_without_batchnorm(self) -> None:
        model = from_proto(build([1]))
        assert "bn-scale" not in usable("units", couple(model))

    def test_what_it_does_not_score_is_said_first(self) -> None:
        with pytest.raises(OptionError, match=r"criterion 'bn-scale' scores whole units only"):
            score_weights(self.model, self.coupling, "bn-scale")


def test_a_criterion_for_weights_only(entry: pytest.MonkeyPatch) -> None:
    weights = find("l1").weights
    registry.criteria.cache_clear()
    install(entry, plugin(Criterion("fine", "w", None, weights)))
    model = from_proto(build([0]))
    with pytest.raises(OptionError, match=r"criterion 'fine' scores single weights only"):
        score(model, couple(model), "fine")
