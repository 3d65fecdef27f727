"""Gradients of convolutions.

With ``y[n, o, p] = sum over i, k of W[o, i, k] x[n, i, p s + k d - b]`` (stride s, dilation d, padding b):

``dx`` is the convolution of dy with the kernel turned round where the stride is 1, and ConvTranspose elsewhere;
``dW[o, i, k] = sum over n, p of dy[n, o, p] x[n, i, p s + k d - b]`` is one product of matrices per tap k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

from onnxprune.graph import Node
from onnxprune.ops import depthwise_gradients as depthwise
from onnxprune.ops.emitter import Emitter, Sizes, Value
from onnxprune.ops.tape import Tape
from onnxprune.ops.window_gradients import Windows, conv_windows, grown, pad_map, tap, taps, transposed_windows

Cotangents = Sequence[Value | None]
FEW_CHANNELS = 4  # up to which a convolution with exchanged roles is the fastest way to dW
LARGE_MAP, SOME_MAP = 512, 196  # positions from which on dW is summed over examples instead of channels coming last
MANY_WEIGHTS = 128 * 128  # per tap, above which that costs too much


def vjp_conv(node: Node, t: Tape) -> Cotangents:
    """x (N, I, spatial), W (O, I/g, kernel), b (O) -> y (N, O, spatial)."""
    dy, x, w = t.dy(node), t.input(node, 0), t.input(node, 1)
    groups = node.attrs.get("group", 1)
    windows = conv_windows(node, w.known[2:], x.known[2:])
    dx = None
    if t.needs(node, 0):
        small = depthwise.small_maps(windows, (x.known[1], w.known[0]), groups, x.known[2:], dy.known[2:])
        dx = depthwise.backward(t, dy, w, windows, x.known[2:]) if small else spread(t, dy, w, windows, groups, x)
    dw = weight_gradient(t, x, dy, windows, groups) if t.needs(node, 1) else None
    return dx, dw, _bias_gradient(node, t)


def train_conv(node: Node, t: Tape) -> Cotangents:
    """A depthwise convolution of small maps is a product of matrices while it is trained; others stay."""
    x, w, y = t.input(node, 0), t.input(node, 1), t.output(node)
    if x.sizes is None or w.sizes is None or y.sizes is None:
        return (y,)
    windows = conv_windows(node, w.known[2:], x.known[2:])
    channels = (x.known[1], w.known[0])
    if not depthwise.small_maps(windows, channels, node.attrs.get("group", 1), x.known[2:], y.known[2:]):
        return (y,)
    found = depthwise.forward(t, x, w, windows, y.known[2:])
    bias = t.optional(node, 2)
    return (found if bias is None else found + t.reshape(bias, [bias.known[0], *[1] * windows.rank]),)


def vjp_conv_transpose(node: Node, t: Tape) -> Cotangents:
    """x (N, I, spatial), W (I, O/g, kernel), b (O) -> y (N, O, spatial): a convolution the other way round."""
    dy, x, w = t.dy(node), t.input(node, 0), t.input(node, 1)
    groups = node.attrs.get("group", 1)
    windows = transposed_windows(node, w.known[2:], x.known[2:], dy.known[2:])
    dx = gather(t, dy, w, windows, groups, x) if t.needs(node, 0) else None
    dw = weight_gradient(t, dy, x, windows, groups) if t.needs(node, 1) else None
    return dx, dw, _bias_gradient(node, t)


ACTIVATION_NUMBERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}


def expand_fused_conv(node: Node, t: Tape) -> Cotangents:
    """activation(Conv(x, W, b) + z), of which z and the activation may be absent."""
    attrs = {k: v for k, v in node.attrs.items() if not k.startswith("activation")}
    out = t.output(node)
    y = t.op("Conv", t.input(node, 0), t.input(node, 1), t.optional(node, 2), sizes=out.sizes, **attrs)
    residual = t.optional(node, 3)
    if residual is not None:
        y = y + residual
    name = node.attrs.get("activation", "")
    if not name:
        return (y,)
    numbers = dict(zip(ACTIVATION_NUMBERS.get(name, ()), node.attrs.get("activation_params") or (), strict=False))
    if name == "Clip":
        limits = [t.const(numbers[key], y.dtype) if key in numbers else None for key in ("min", "max")]
        return (t.op("Clip", y, *limits, sizes=y.sizes),)
    return (t.unary(name, y, **numbers),)


def _bias_gradient(node: Node, t: Tape) -> Value | None:
    if not t.needs(node, 2):
        return None
    dy = t.dy(node)
    return t.sum(dy, [axis for axis in range(dy.rank) if axis != 1])


def gather(t: Emitter, big: Value, w: Value, windows: Windows, groups: int, small: Value) -> Value:
    """The convolution of ``big`` with W (O, I/g, kernel), in the shape of ``small``."""
    found = t.op(
        "Conv",
        big,
        w,
        sizes=small.sizes,
        strides=list(windows.strides),
        dilations=list(windows.dilations),
        pads=windows.pads,
        group=groups,
    )
    spatial = (*small.known[2:], *big.known[2:])
    if all(size >= 0 for size in spatial) and windows.count(big.known[2:]) != small.known[2:]:
        return cut_to(t, found, small)
    return found


def cut_to(t: Emitter, x: Value, like: Value) -> Value:
    """The beginning of a map, in the spatial shape of another."""
    axes = range(2, like.rank)
    ends = t.shape_vector([t.dim(like, axis) for axis in axes])
    return t.op("Slice", x, t.ints(*[0] * len(axes)), ends, t.ints(*axes), sizes=(*x.known[:2], *like.known[2:]))


def spread(t: Emitter, dy: Value, w: Value, windows: Windows, groups: int, x: Value) -> Value:
    """The transpose of a convolution with W (O, I/g, kernel): dy (N, O, small) -> dx (N, I, big), shaped as ``x``."""
    margins = [(r - 1 - a, r - 1 - b) for r, a, b in zip(windows.reach, windows.begin, windows.end, strict=True)]
    if windows.plain and all(margin >= 0 for pair in margins for margin in pair):
        pads = [pair[0] for pair in margins] + [pair[1] for pair in margins]
        return t.op(
            "Conv",
            dy,
            turned(t, w, groups),
            sizes=x.sizes,
            pads=pads,
            dilations=list(windows.dilations),
            strides=list(windows.strides),
            group=groups,
        )
    fixed = all(size >= 0 for size in (*x.known[2:], *dy.known[2:]))
    extra = windows.left_over(dy.known[2:], x.known[2:]) if fixed else tuple(s - 1 for s in windows.strides)
    found = t.op(
        "ConvTranspose",
        dy,
        w,
        sizes=x.sizes,
        strides=list(windows.strides),
        dilations=list(windows.dilations),
        pads=windows.pads,
        output_padding=list(extra),
        group=groups,
    )
    return found if fixed else cut_to(t, found, x)


def turned(t: Emitter, w: Value, groups: int) -> Value:
    """W (O, I/g, kernel) with its kernel turned round and its channels exchanged: (I, O/g, kernel)."""
    outs, ins, *kernel = w.known
    rank = len(kernel)
    space = range(2, 2 + rank)
    if any(k > 1 for k in kernel):
        w = t.flip(w, [axis for axis in space if w.known[axis] > 1])
    if groups == 1:
        return t.transpose(w, [1, 0, *space])
    if ins == 1 and outs == groups:
        return w
    parts = t.reshape(w, [groups, outs // groups, ins, *kernel])
    parts = t.transpose(parts, [0, 2, 1, *(axis + 1 for axis in space)])
    return t.reshape(parts, [groups * ins, outs // groups, *kernel])


def weight_gradient(t: Emitter, big: Value, small: Value, windows: Windows, groups: int) -> Value:
    """dW (S, B/g, kernel) from the map that windows lie on (N, B, big) and the cotangent of one of S (N, S, small).

    Which of the formulations is fastest was measured on one core; see each for the shapes that it is for.
    """
    if groups > 1:
        return _grouped(t, big, small, windows, groups)
    channels = (big.known[1], small.known[1])
    positions = abs(prod(small.known[2:]))
    if channels[0] <= FEW_CHANNELS and not windows.pointwise:
        return _as_convolution(t, big, small, windows)
    if positions < SOME_MAP or prod(channels) > MANY_WEIGHTS or not windows.plain:
        return _rows(t, big, small, windows)
    if positions >= LARGE_MAP and not windows.pointwise:
        return _shifted(t, big, small, windows)
    return _by_examples(t, big, small, windows, groups)


def _grouped(t: Emitter, big: Value, small: Value, windows: Windows, groups: int) -> Value:
    """Depthwise ones have ways of their own."""
    if depthwise.depthwise((big.known[1], small.known[1]), groups):
        sizes = (big.known[2:], small.known[2:])
        if depthwise.small_maps(windows, (groups, groups), groups, *sizes):
            return depthwise.weight_products(t, big, small, windows)
        if depthwise.by_rows(windows, *sizes):
            return depthwise.row_products(t, big, small, windows)
    return _by_examples(t, big, small, windows, groups)


def _as_convolution(t: Emitter, big: Value, small: Value, windows: Windows) -> Value:
    """A convolution in which batch and channels, and stride and dilation, have changed places."""
    order = [1, 0, *range(2, big.rank)]
    found = t.op(
        "Conv",
        t.transpose(big, order),
        t.transpose(small, order),
        sizes=(big.known[1], small.known[1], *windows.kernel),
        strides=list(windows.dilations),
        dilations=list(windows.strides),
        pads=windows.pads,
    )
    if not windows.plain:  # the kernel does not always end where the map does
        axes = range(2, big.rank)
        found = t.op(
            "Slice", found, t.ints(*[0] * len(axes)), t.ints(*windows.kernel), t.ints(*axes), sizes=found.sizes
        )
    return t.transpose(found, order)


def _rows(t: Emitter, big: Value, small: Value, windows: Windows) -> Value:
    """Channels last: per tap one product of (S, positions of the batch) with (positions of the batch, B)."""
    order = [0, *range(2, big.rank), 1]
    rows = t.transpose(small, order)
    count = t.product([t.dim(rows, axis) for axis in range(rows.rank - 1)])
    ins, outs = big.known[1], small.known[1]
    rows = t.reshape(rows, [count, outs])
    padded = pad_map(t, t.transpose(big, order), windows, first=1)
    spots = small.known[2:]
    parts = [
        t.gemm(rows, t.reshape(tap(t, padded, windows, k, spots, first=1), [count, ins]), trans_a=True)
        for k in taps(windows)
    ]
    return _stacked(t, parts, (outs, ins), windows)


def _by_examples(t: Emitter, big: Value, small: Value, windows: Windows, groups: int) -> Value:
    """Per tap a product for every example and group, summed over the examples."""
    padded = pad_map(t, big, windows)
    ins, outs = big.known[1] // groups, small.known[1] // groups
    spots = t.product([t.dim(small, axis) for axis in range(2, small.rank)])
    examples = t.dim(small, 0)
    rows = t.reshape(small, [examples, groups, outs, spots])
    parts = []
    for k in taps(windows):
        columns = t.reshape(tap(t, padded, windows, k, small.known[2:]), [examples, groups, ins, spots])
        part = t.sum(t.matmul(rows, t.swap(columns)), [0])
        parts.append(t.reshape(part, [groups * outs, ins]))
    return _stacked(t, parts, (groups * outs, ins), windows)


def _shifted(t: Emitter, big: Value, small: Value, windows: Windows) -> Value:
    """For large maps at stride 1: taps of the first axis shift dy, those of the others x, and fewer products are left.

    ``dW[o, i, k, l] = sum over r, c of dy[o, r - k d + b, c] x[i, r, c + l d - b]``, summed over the examples; the
    shifts of dy are stacked as channels.
    """
    examples = t.dim(small, 0)
    ins, outs = big.known[1], small.known[1]
    spare = [r - 1 - a - b for r, a, b in zip(windows.reach, windows.begin, windows.end, strict=True)]
    offsets = [
        [k * d - a for k in range(n)] for n, d, a in zip(windows.kernel, windows.dilations, windows.begin, strict=True)
    ]
    stack = t.concat([_moved(t, small, {2: (by, spare[0] - by)}) for by in offsets[0]], 1)
    spots = t.product([t.dim(big, 2), *(t.dim(small, axis) for axis in range(3, small.rank))])
    stack = t.reshape(stack, [examples, windows.kernel[0] * outs, spots])
    parts = []
    for moves in product(*offsets[1:]):
        cut = {axis: (-by, by - spare[axis - 2]) for axis, by in enumerate(moves, 3)}
        columns = t.reshape(_moved(t, big, cut), [examples, ins, spots])
        parts.append(t.sum(t.matmul(stack, t.swap(columns)), [0]))
    found = t.reshape(t.concat(parts, 0), [len(parts), windows.kernel[0], outs, ins])
    return t.reshape(t.transpose(found, [2, 3, 1, 0]), [outs, ins, *windows.kernel])


def _moved(t: Emitter, x: Value, ends: Mapping[int, tuple[int, int]]) -> Value:
    """Zeros at the beginning and end of some axes; negative numbers take positions away."""
    if not any(any(pair) for pair in ends.values()):
        return x
    begin, end = ([ends.get(axis, (0, 0))[side] for axis in range(x.rank)] for side in (0, 1))
    sizes = tuple(grown(n, a + b) for n, a, b in zip(x.known, begin, end, strict=True))
    return t.op("Pad", x, t.ints(*begin, *end), sizes=sizes)


def _stacked(t: Emitter, parts: Sequence[Value], channels: Sizes, windows: Windows) -> Value:
    """The matrices of all taps as one kernel."""
    stack = t.reshape(t.concat(parts, 0), [len(parts), *channels])
    return t.reshape(t.transpose(stack, [1, 2, 0]), [*channels, *windows.kernel])
