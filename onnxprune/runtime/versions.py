"""Whether the installed onnxruntime knows a model's versions: tried out on a model of one node, for want of a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NoReturn

import onnx

from onnxprune.errors import UnsupportedModel
from onnxprune.runtime.native import ERRORS, OLD_IR, Setup, native, tiny, version

__all__ = ["check_versions"]

UPDATE = "Update onnxruntime, or export the model for an older version."


def check_versions(proto: onnx.ModelProto, label: str) -> None:
    """Raise UnsupportedModel when the IR version or an opset is newer than the installed onnxruntime knows."""
    if not _accepts(proto.ir_version, "", 1):
        _too_new(label, "has IR version", proto.ir_version, _newest(lambda ir: _accepts(ir, "", 1), proto.ir_version))
    imports = (*proto.opset_import, *(opset for function in proto.functions for opset in function.opset_import))
    for domain, number in dict.fromkeys(("" if o.domain == "ai.onnx" else o.domain, o.version) for o in imports):
        if not _accepts(OLD_IR, domain, number):
            newest = _newest(lambda v, d=domain: _accepts(OLD_IR, d, v), number)  # type: ignore[misc]
            _too_new(label, f"uses opset of domain {domain or 'ai.onnx'}", number, newest)


@cache
def _accepts(ir_version: int, domain: str, number: int) -> bool:
    """Whether onnxruntime loads a model of that IR version that imports that opset."""
    try:
        native(tiny(ir_version, domain, number), Setup("cpu", 1, optimize=False))
    except ERRORS:
        return False
    return True


def _newest(accepted: Callable[[int], bool], refused: int) -> int:
    """The last accepted version below a refused one, by bisection; 0 where there is none."""
    low, high = 0, refused
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepted(middle) else (low, middle)
    return low


def _too_new(label: str, what: str, number: int, newest: int) -> NoReturn:
    raise UnsupportedModel(
        f"{label} {what} {number}; onnxruntime {version()}, which is installed, goes up to {newest}", UPDATE
    )
