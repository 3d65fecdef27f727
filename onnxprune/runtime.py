"""Running models on onnxruntime: sessions, usable devices, its limits, and measured latency.

A session gets the model's small skeleton as bytes and the weights as arrays beside it, so that it needs no second
copy of the model and no temporary file, and works beyond 2 GiB. onnxruntime's messages do not reach the terminal;
its errors become UnsupportedModel (no kernel, unknown operator, too new) or ModelError.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from ctypes import c_ubyte
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxprune._model import Model
from onnxprune._tensors import constants
from onnxprune._graphs import keep_outputs
from onnxprune.errors import DataError, ModelError, OptionError, UnsupportedModel
from onnxprune.weights import PACKED_BITS, dtype_of

__all__ = [
    "Latency",
    "Session",
    "TensorInfo",
    "check_install",
    "check_versions",
    "measure_latency",
    "providers",
    "session",
]
