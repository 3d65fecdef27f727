"""Which devices work here, and what is said where one does not, or where two builds of onnxruntime fight."""

from __future__ import annotations

from importlib import metadata

import pytest

from onnxprune.errors import OptionError
from onnxprune.model import from_proto
from onnxprune.runtime import check_install, check_running, device_of, devices, providers, session
from tests.protos import mlp


def test_providers_are_names_that_work() -> None:
    assert providers()[-1] == "cpu"
    for provider in providers():
        assert session(from_proto(mlp()), provider=provider).provider == provider


class TestWhatIsRefused:
    def test_an_unknown_provider(self) -> None:
        with pytest.raises(OptionError, match="no provider `tpu`"):
            session(from_proto(mlp()), provider="tpu")

    def test_a_provider_that_does_not_work_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "providers", lambda: ("cpu",))
        with pytest.raises(OptionError, match="`cuda` does not work on this machine"):
            session(from_proto(mlp()), provider="cuda")

    @pytest.mark.parametrize("threads", [0, -1])
    def test_threads(self, threads: int) -> None:
        with pytest.raises(OptionError, match=f"^{threads} threads"):
            check_running("auto", threads)

    def test_what_works_is_not(self) -> None:
        for provider in ("auto", *providers()):
            check_running(provider, 1)


def test_auto_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "providers", lambda: ("cuda", "cpu"))
    assert (device_of("auto"), device_of("cpu"), device_of("cuda")) == ("cuda", "cpu", "cuda")
    monkeypatch.setattr(devices, "providers", lambda: ("cpu",))
    assert device_of("auto") == "cpu"


def test_two_builds_of_onnxruntime_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"onnxruntime-gpu"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    assert check_install() is None
    installed.add("onnxruntime")
    assert "Both onnxruntime and onnxruntime-gpu are installed" in (check_install() or "")
