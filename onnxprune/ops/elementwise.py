"""Element-wise operators: one, two or many operands, NumPy broadcasting; an axis of size 1 ties to nothing."""

from __future__ import annotations

from collections.abc import Callable

from onnxprune.graph import Node
from onnxprune.ops.activation_gradients import ACTIVATIONS, CONTRIB_ACTIVATIONS
from onnxprune.ops.elementwise_gradients import ARITHMETIC, FLAT, train_dropout
from onnxprune.ops.rule import Role, Rule, Zeros, zero_all, zero_any, zero_keeps, zero_lost
from onnxprune.ops.ties import Ties

KEEP_ZERO = (
    "Abs Asin Asinh Atan Atanh Ceil Celu Elu Erf Floor Gelu HardSwish Identity LeakyRelu Mish Neg PRelu Relu Round "
    "Selu Shrink Sign Sin Sinh Softsign Sqrt Swish Tan Tanh ThresholdedRelu Dropout"
).split()
LOSE_ZERO = "Acos Acosh BitwiseNot Cos Cosh Exp HardSigmoid IsInf IsNaN Log Not Reciprocal Sigmoid Softplus".split()
COMPARE = "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor BitwiseAnd BitwiseOr BitwiseXor".split()


def broadcast(node: Node, t: Ties, inputs: range | tuple[int, ...], output: str) -> None:
    """Tie every axis of every operand to the output axis that it lines up with from the right."""
    shape = t.sizes(output)
    for k in inputs:
        tensor = node.input(k)
        if not tensor:
            continue
        offset = len(shape) - t.rank(tensor)
        mine = t.sizes(tensor)
        t.tie_like(
            tensor,
            output,
            [(a, a + offset) for a, size in enumerate(mine) if size == shape[a + offset] and size > 1],
            k,
        )


def couple_elementwise(node: Node, t: Ties) -> None:
    """y = f(a, b, ...), broadcasting."""
    broadcast(node, t, range(len(node.inputs)), node.output(0))


def couple_first_input(node: Node, t: Ties) -> None:
    """y = f(x; parameters that are scalars). A mask output (Dropout) has the same axes."""
    for output in node.outputs:
        if output and t.shape(output) is not None:
            t.tie_like(node.input(0), output, [(a, a) for a in range(t.rank(output))], 0)


def couple_prelu(node: Node, t: Ties) -> None:
    """y = max(x, 0) + slope * min(x, 0); the slope broadcasts to x."""
    broadcast(node, t, (0, 1), node.output(0))


def zero_first_input(node: Node, z: Zeros) -> None:
    """0 where the first input is 0, whatever the parameters are."""
    outputs = z.outputs(node)
    z.set(outputs, False)
    for k, source, target in z.records(node):
        if k == 0:
            z.flags[target[z.flags[source]]] = True


def zero_clip(node: Node, z: Zeros) -> None:
    """Clip keeps 0 when 0 lies between its bounds."""
    low, high = (_bound(node, z, k, name) for k, name in ((1, "min"), (2, "max")))
    keeps = low is not None and high is not None and low <= 0 <= high
    (zero_keeps if keeps else zero_lost)(node, z)


def _bound(node: Node, z: Zeros, k: int, name: str) -> float | None:
    if node.input(k):
        value = z.graph.value(node.input(k))
        return None if value is None or value.size != 1 else float(value.reshape(-1)[0])
    default = float("-inf") if name == "min" else float("inf")
    return float(node.attrs.get(name, default))


def zero_divide(node: Node, z: Zeros) -> None:
    """a / b is 0 where a is; where b is 0 as well (or alone) the masked model would make NaN or Inf: a hazard."""
    zero_first_input(node, z)
    weight = z.graph.weights.get(node.input(1))
    if weight is not None and weight.array().all():
        return
    outputs = z.outputs(node)
    zero = [target[z.flags[source]] for k, source, target in z.records(node) if k == 1]
    for bad in zero if weight is None else [outputs[z.flags[outputs]]]:
        z.flags[bad] = False
        z.hazards.append(bad)


def zero_hazard(node: Node, z: Zeros) -> None:
    """Log and Reciprocal of 0 are not finite."""
    for _, source, target in z.records(node):
        z.hazards.append(target[z.flags[source]])
    zero_lost(node, z)


def zero_pow(node: Node, z: Zeros) -> None:
    """0 ** p is 0 for p > 0, 1 for p = 0, Inf below."""
    exponent = z.graph.value(node.input(1))
    if exponent is not None and (exponent > 0).all():
        zero_first_input(node, z)
    else:
        zero_hazard(node, z)


def zero_where(node: Node, z: Zeros) -> None:
    """Both branches must be 0, whatever the condition says."""
    outputs = z.outputs(node)
    hits: dict[int, int] = {}
    z.set(outputs, False)
    for k in (1, 2):
        for j, source, target in z.records(node):
            if j == k:
                for e in target[z.flags[source]].tolist():
                    hits[e] = hits.get(e, 0) + 1
    constant_zero = sum((v := z.graph.value(node.input(k))) is not None and not v.any() for k in (1, 2))
    for e, n in hits.items():
        if n + constant_zero >= 2:
            z.flags[e] = True


LIN, BOUND, DATA = Role.LINEAR, Role.BOUND, Role.DATA
Zero = Callable[[Node, Zeros], None]
Couple = Callable[[Node, Ties], None]


VJPS = {**ARITHMETIC, **ACTIVATIONS}


def _rule(op: str, zero: Zero, *roles: Role, couple: Couple = couple_elementwise, domain: str = "") -> Rule:
    """A rule with the gradient that is in the tables."""
    vjp = (CONTRIB_ACTIVATIONS if domain else VJPS).get(op)
    train = train_dropout if op == "Dropout" else None
    return Rule(op, couple, roles, zero, domain=domain, vjp=vjp, train=train, flat=op in FLAT)


RULES = (
    *(
        _rule(op, zero_keeps, DATA, BOUND, couple=couple_first_input)
        for op in KEEP_ZERO
        if op not in ("PRelu", "Identity")
    ),
    _rule("Identity", zero_keeps, Role.PASS, couple=couple_first_input),
    *(
        _rule(op, zero_hazard if op in ("Log", "Reciprocal") else zero_lost, DATA, couple=couple_first_input)
        for op in LOSE_ZERO
    ),
    *(_rule(op, zero_lost, BOUND) for op in COMPARE),
    _rule("PRelu", zero_first_input, DATA, LIN, couple=couple_prelu),
    _rule("Cast", zero_keeps, Role.PASS, couple=couple_first_input),
    _rule("CastLike", zero_keeps, Role.PASS, DATA, couple=couple_first_input),
    _rule("Clip", zero_clip, DATA, BOUND, couple=couple_first_input),
    _rule("Add", zero_all, LIN),
    _rule("Sub", zero_all, LIN),
    _rule("Sum", zero_all, LIN),
    _rule("Mul", zero_any, LIN),
    _rule("Div", zero_divide, LIN, Role.DIVISOR),
    _rule("BitShift", zero_first_input, DATA, BOUND),
    _rule("Mod", zero_divide, DATA, Role.DIVISOR),
    _rule("Pow", zero_pow, DATA, Role.EXPONENT),
    _rule("Max", zero_all, BOUND),
    _rule("Min", zero_all, BOUND),
    _rule("Mean", zero_all, LIN),
    _rule("Where", zero_where, Role.CONDITION, LIN),
    _rule("QuickGelu", zero_keeps, DATA, couple=couple_first_input, domain="com.microsoft"),
    _rule("Gelu", zero_keeps, DATA, couple=couple_first_input, domain="com.microsoft"),
    _rule("BiasGelu", zero_all, LIN, domain="com.microsoft"),
    _rule("FastGelu", zero_all, LIN, domain="com.microsoft"),
)
