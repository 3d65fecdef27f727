"""Reverse-mode differentiation: one loop over the nodes, last to first, and a table of rules.

    cotangent of an input = sum over the nodes that read it of vjp(cotangents of their outputs)

Summing over broadcast axes, adding up and types are seen to here, once. Griewank and Walther, *Evaluating Derivatives*,
describe the method.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise

from onnxprune.errors import UnsupportedModel
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.ops.emitter import FLOATS, UnknownShape, Value
from onnxprune.ops.quantized import carries_quantised
from onnxprune.ops.tape import Tape

UNDEFINED = 0  # ONNX's number for what is not a tensor
__all__ = ["backward", "differentiable"]


def backward(tape: Tape, seeds: Mapping[str, Value], wanted: Collection[str]) -> dict[str, Value]:
    """Write the gradients of ``sum over tensors y of <seeds[y], y>`` with respect to the tensors ``wanted``.

    ``seeds``: forward tensor -> cotangent of its shape. Returns name -> gradient; a wanted tensor that no seed depends
    on is not in it. Raises UnsupportedModel, naming the node, where an operator on the way has no rule.
    """
    on_way = _reached(tape, wanted)
    found: dict[str, list[Value]] = {name: [seed] for name, seed in seeds.items()}
    for node in reversed(tape.graph.nodes):
        if len(node.where) > 1 or not any(name in found for name in node.outputs if name):
            continue
        inputs = tape.reads(node)
        needed = tuple(name in on_way for name in inputs)
        if node.bodies and not on_way.isdisjoint(_reads(tape, node)):
            raise _no_rule(tape, node)
        if not any(needed):
            continue
        rule = rule_for(node.domain, node.op)
        if rule is not None and rule.flat:
            continue
        if rule is None or rule.vjp is None:
            raise _no_rule(tape, node)
        tape.visit(node, tuple(_added(found, name) for name in node.outputs), needed)
        try:
            gradients = rule.vjp(node, tape)
        except UnknownShape as error:
            raise UnsupportedModel(
                f"the gradient of {node} needs the shape of `{error.args[0]}`, which depends on the data",
                "Export the model with fixed sizes there, or ask for gradients of later tensors only.",
            ) from error
        for name, wants, gradient in zip(inputs, needed, gradients, strict=False):
            if wants and gradient is not None:
                found.setdefault(name, []).append(fitted(tape, gradient, tape.tensor(name)))
    return {name: total for name in wanted if (total := _added(found, name)) is not None}


def fitted(tape: Tape, gradient: Value, target: Value) -> Value:
    """The gradient in the shape and type of what it is the gradient of: broadcast axes are summed over."""
    if gradient.sizes is not None and target.sizes is not None and gradient.sizes != target.sizes:
        extra = gradient.rank - target.rank
        if extra > 0:
            gradient = tape.sum(gradient, range(extra))
        wide = [a for a, (g, t) in enumerate(zip(gradient.known, target.known, strict=True)) if t == 1 and g != 1]
        if wide:
            gradient = tape.sum(gradient, wide, keep=True)
        if gradient.sizes != target.sizes:
            gradient = tape.expand(gradient, target)
    return tape.cast(gradient, target.dtype) if target.dtype in FLOATS else gradient


def differentiable(tape: Tape, outputs: Collection[str], names: Collection[str]) -> frozenset[str]:
    """Those of the tensors ``names`` that gradients of ``outputs`` can reach with the rules that there are."""
    live = set(outputs)
    for node in reversed(tape.graph.nodes):
        if len(node.where) > 1 or live.isdisjoint(node.outputs):
            continue
        rule = rule_for(node.domain, node.op)
        if rule is not None and rule.vjp is not None:
            live.update(name for name in tape.reads(node) if name and _real(tape, name))
    return frozenset(name for name in names if name in live)


def _reached(tape: Tape, wanted: Collection[str]) -> set[str]:
    """The wanted tensors, and every floating-point tensor that is computed from one of them."""
    reached = set(wanted)
    for node in tape.graph.nodes:
        if len(node.where) == 1 and not reached.isdisjoint(_reads(tape, node)):
            reached.update(name for name in node.outputs if name and _real(tape, name))
    return reached


def _real(tape: Tape, name: str) -> bool:
    """Whether a tensor holds real numbers, quantised ones among them."""
    kind, node = tape.tensor(name).dtype, tape.graph.producer.get(name)
    holds = kind == UNDEFINED  # a sequence or an optional
    return kind in FLOATS or holds or (node is not None and carries_quantised(node, kind))


def _reads(tape: Tape, node: Node) -> set[str]:
    """What a node reads, from inside its bodies as well."""
    names = set(tape.reads(node))
    if node.bodies:
        prefix = node.where
        inner = (n for n in tape.graph.nodes if len(n.where) > len(prefix) and n.where[: len(prefix)] == prefix)
        names.update(name for n in inner for name in tape.reads(n))
    return names - {""}


def _added(found: dict[str, list[Value]], name: str) -> Value | None:
    """The sum of what has come so far, written once."""
    parts = found.get(name)
    if not parts:
        return None
    total = parts[0]
    for _, part in pairwise(parts):
        total = total + part
    found[name] = [total]
    return total


def _no_rule(tape: Tape, node: Node) -> UnsupportedModel:
    """Which node, and what could still be trained."""
    behind = {node.output(0)}
    for other in tape.graph.nodes[node.number + 1 :]:
        if not behind.isdisjoint(other.inputs):
            behind.update(other.outputs)
    later = [n for n in tape.graph.nodes[node.number + 1 :] if not behind.isdisjoint(n.outputs)]
    weights = [name for n in later for name in tape.reads(n) if name in tape.graph.weights]
    names = list(dict.fromkeys(name for name in weights if tape.tensor(name).dtype in FLOATS))
    if node.bodies:
        return UnsupportedModel(
            f"{node} has no gradient rule, and the gradients asked for pass through it",
            "It can be taken apart where the number of rounds follows from constants and fixed sizes, or where both "
            "branches give the same shapes: try with whole shapes of the inputs.",
        )
    can = f"What lies behind it can: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}." if names else ""
    return UnsupportedModel(
        f"{node} has no gradient rule, and the gradients asked for pass through it",
        can or "Nothing behind it has weights; ask for gradients of later tensors.",
    )
