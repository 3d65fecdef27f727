"""Running models on onnxruntime: sessions, usable devices, what it accepts, measured latency and measured memory.

========== ======================================================================================================
native     session options; sessions that fail instead of falling back; a terminal that stays clean
devices    which providers work here, found out once; checks of ``provider`` and ``threads``
versions   whether the installed onnxruntime knows a model's IR version and opsets
arrays     NumPy arrays to onnxruntime's values and back, with the types that NumPy lacks
cache      native sessions by the content of their model, so that equal models share one
sessions   ``session``: a model ready to run
latency    milliseconds per call, several models in turns
memory     bytes of main memory, in a process of their own (``probe``)
========== ======================================================================================================

Only these files and ``deploy`` import onnxruntime.
"""

from __future__ import annotations

from onnxprune._feeds import TensorInfo, model_inputs
from onnxprune.runtime.cache import clear_sessions
from onnxprune.runtime.devices import check_install, check_running, device_of, providers
from onnxprune.runtime.latency import Latency, compare_latency, measure_latency
from onnxprune.runtime.memory import Memory, measure_memory
from onnxprune.runtime.sessions import Session, session
from onnxprune.runtime.versions import check_versions

__all__ = [
    "Latency",
    "Memory",
    "Session",
    "TensorInfo",
    "check_install",
    "check_running",
    "check_versions",
    "clear_sessions",
    "compare_latency",
    "device_of",
    "measure_latency",
    "measure_memory",
    "model_inputs",
    "providers",
    "session",
]
