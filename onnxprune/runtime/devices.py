"""Devices that models run on: which of them work here, and whether what is asked for makes sense."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib import metadata

import onnxruntime as ort

from onnxprune.errors import OptionError
from onnxprune.runtime.native import ERRORS, NATIVE, Setup, native, runs_on, tiny

__all__ = ["check_install", "check_running", "device_of", "providers"]


@cache
def providers() -> tuple[str, ...]:
    """Devices that really work here, the fastest first: ("cuda", "cpu") or ("cpu",). Found out once per process."""
    return ("cuda", "cpu") if _cuda_works() else ("cpu",)


def device_of(provider: str) -> str:
    """The device that ``provider`` ("auto", "cpu" or "cuda") means here. Raises OptionError."""
    if provider == "auto":
        return providers()[0]
    if provider not in NATIVE:
        raise OptionError(f"there is no provider `{provider}`", "Use auto, cpu or cuda.")
    if provider != "cpu" and provider not in providers():
        raise OptionError(
            f"provider `{provider}` does not work on this machine",
            "Use cpu, or install onnxruntime-gpu with the CUDA and cuDNN libraries that it asks for.",
        )
    return provider


def check_running(provider: str, threads: int | None) -> None:
    """Raise OptionError unless ``provider`` works here and ``threads`` is None or at least 1."""
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads", "Ask for at least one, or leave the number to onnxruntime.")
    if provider != "auto":
        device_of(provider)


def check_install() -> str | None:
    """A warning when both builds of onnxruntime are installed: they share one folder and overwrite each other."""
    found = {name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)}
    if len(found) < 2:
        return None
    return (
        "Both onnxruntime and onnxruntime-gpu are installed; they overwrite each other's files, so that either may "
        "be broken. Uninstall both, then install one: pip uninstall onnxruntime onnxruntime-gpu && pip install "
        "onnxruntime-gpu"
    )


@cache
def _cuda_works() -> bool:
    """The GPU build lists CUDA on machines that have none, so that only an attempt tells."""
    if NATIVE["cuda"] not in ort.get_available_providers():
        return False
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            ort.preload_dlls()
            return runs_on(native(tiny(), Setup("cuda", 1, optimize=False))) == "cuda"
        except ERRORS:
            return False


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
