"""Gradients of Conv and ConvTranspose against torch autograd: every rank, grouping, stride, dilation and padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from onnxprune.errors import UnsupportedModel
from onnxprune.model import Model
from tests.doubles import Runner
from tests.gradients import differentiated
from tests.ops.cases import Net
from tests.oracle import Array

INS, OUTS = 6, 12
SIZES = {1: (11,), 2: (9, 8), 3: (6, 5, 7)}


def net_of(op: str, x: tuple[int | str, ...], w: tuple[int, ...], attrs: Mapping[str, Any]) -> Model:
    """One convolution of a graph input with a weight and a bias."""
    net = Net()
    outs = w[0] if op == "Conv" else w[1] * attrs.get("group", 1)
    return net.model(net.op(op, net.input(x), net.param(*w), net.param(outs), **attrs))


def check(op: str, model: Model, attrs: Mapping[str, Any], batches: tuple[tuple[int, ...], ...]) -> None:
    """One graph for all batches: float64 to 1e-12, and float32 with onnxruntime to 1e-5, of what torch finds."""
    single = differentiated(model)
    for made, dtype, rtol in ((single, np.float32, 1e-5), (differentiated(model, in_double=True), np.float64, 1e-12)):
        run = Runner(made.model)
        for shape in batches:
            rng = np.random.default_rng(1)
            point = {"x": rng.standard_normal(shape), **{k: np.asarray(a) for k, a in made.parameters.items()}}
            wanted, y = by_torch(op, point, attrs, made.seeds, rng)
            feeds = {name: a.astype(dtype) for name, a in (point | y).items()}
            found = run(feeds)
            for name, gradient in wanted.items():
                mine = found[made.names[name]]
                assert mine.shape == gradient.shape
                assert mine.dtype == dtype
                assert np.abs(mine - gradient).max() <= rtol * np.abs(gradient).max(), name


def by_torch(
    op: str, point: Mapping[str, Array], attrs: Mapping[str, Any], seeds: Mapping[str, str], rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Gradients in float64, and the cotangent that they belong to."""
    x, w, b = (torch.tensor(np.asarray(a, np.float64), requires_grad=True) for a in point.values())
    rank = x.dim() - 2
    strides, dilations = (attrs.get(key, [1] * rank) for key in ("strides", "dilations"))
    pads = attrs.get("pads", [0] * 2 * rank)
    if op == "Conv":
        around = [n for axis in reversed(range(rank)) for n in (pads[axis], pads[axis + rank])]
        function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        y = function(F.pad(x, around), w, b, strides, 0, dilations, attrs.get("group", 1))
    else:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        extra = attrs.get("output_padding", [0] * rank)
        y = function(x, w, b, strides, pads[:rank], extra, attrs.get("group", 1), dilations)
    seed = rng.standard_normal(tuple(y.shape))
    gradients = torch.autograd.grad(y, (x, w, b), torch.tensor(seed))
    (seed_name,) = seeds.values()
    return {name: g.numpy() for name, g in zip(point, gradients, strict=True)}, {seed_name: seed}


GROUPS = {"one": (INS, OUTS, 1), "two": (INS, OUTS, 2), "depthwise": (INS, INS, INS), "multiplied": (INS, OUTS, INS)}
SHAPES = [
    pytest.param(kernel, stride, dilation, pads, id=f"k{kernel}s{stride}d{dilation}p{pads[0]}{pads[1]}")
    for kernel, stride, dilation, pads in [
        (1, 1, 1, (0, 0)),
        (1, 2, 1, (0, 0)),
        (3, 1, 1, (1, 1)),
        (3, 1, 1, (0, 0)),
        (3, 2, 1, (1, 1)),
        (3, 2, 1, (0, 1)),
        (3, 1, 2, (2, 2)),
        (2, 2, 1, (0, 0)),
        (2, 3, 2, (1, 0)),
        (5, 1, 1, (3, 2)),
        (2, 1, 1, (2, 3)),
    ]
]


WHERE = [(rank, grouping) for rank in (1, 2) for grouping in GROUPS] + [(3, "one"), (3, "two")]
EVERYWHERE = pytest.mark.parametrize(("rank", "grouping"), WHERE)


@EVERYWHERE
@pytest.mark.parametrize(("kernel", "stride", "dilation", "pads"), SHAPES)
def test_conv(rank: int, grouping: str, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> None:
    ins, outs, group = GROUPS[grouping]
    attrs = {
        "strides": [stride] * rank,
        "dilations": [dilation] * rank,
        "pads": [pads[0]] * rank + [pads[1]] * rank,
        "group": group,
    }
    model = net_of("Conv", ("n", ins, *SIZES[rank]), (outs, ins // group, *[kernel] * rank), attrs)
    check("Conv", model, attrs, ((2, ins, *SIZES[rank]), (5, ins, *SIZES[rank])))


@EVERYWHERE
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pad", "extra"),
    [
        (1, 1, 1, 0, 0),
        (3, 1, 1, 1, 0),
        (2, 2, 1, 0, 0),
        (4, 2, 1, 1, 0),
        (3, 2, 1, 1, 1),
        (3, 2, 2, 2, 1),
        (1, 2, 1, 0, 1),
    ],
)
def test_conv_transpose(
    rank: int, grouping: str, kernel: int, stride: int, dilation: int, pad: int, extra: int
) -> None:
    ins, outs, group = GROUPS[grouping]
    attrs = {
        "strides": [stride] * rank,
        "dilations": [dilation] * rank,
        "pads": [pad] * 2 * rank,
        "output_padding": [extra] * rank,
        "group": group,
    }
    model = net_of("ConvTranspose", ("n", ins, *SIZES[rank]), (ins, outs // group, *[kernel] * rank), attrs)
    check("ConvTranspose", model, attrs, ((2, ins, *SIZES[rank]), (3, ins, *SIZES[rank])))


@pytest.mark.parametrize("channels", [3, INS])
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("size", [(28, 25), (17, 15)])
@pytest.mark.parametrize(
    ("kernel", "strides", "dilations", "pads"),
    [
        ((3, 3), [1, 1], [1, 1], [1, 1, 1, 1]),
        ((3, 2), [1, 1], [2, 1], [0, 1, 3, 0]),
        ((1, 1), [1, 1], [1, 1], [0, 0, 0, 0]),
        ((3, 3), [2, 2], [1, 1], [1, 1, 1, 1]),
        ((4, 3), [3, 2], [1, 2], [2, 0, 0, 1]),
    ],
)
def test_maps_that_are_large_enough_for_other_formulations(
    channels: int, group: int, size: tuple[int, int], kernel: tuple[int, int], strides: list[int], dilations: list[int],
    pads: list[int],
) -> None:  # fmt: skip
    """Depthwise by products of rows, dW with shifted cotangents, dW by examples, and dW as a convolution."""
    attrs = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    model = net_of("Conv", ("n", channels, *size), (channels, channels // group, *kernel), attrs)
    check("Conv", model, attrs, ((2, channels, *size), (3, channels, *size)))


def test_training_takes_depthwise_convolutions_of_small_maps_apart() -> None:
    """Forward pass and gradients stay what they are; a convolution of large maps stays as it is."""
    attrs = {"group": INS, "pads": [1, 1, 1, 1], "strides": [2, 1]}
    for size, apart in (((7, 6), True), ((40, 40), False)):
        model = net_of("Conv", ("n", INS, *size), (INS, 1, 3, 3), attrs)
        made, plain = differentiated(model, training=True), differentiated(model)
        assert apart == all(node.op_type != "Conv" for node in made.forward.proto.graph.node)
        rng = np.random.default_rng(0)
        feeds = {"x": rng.standard_normal((3, INS, *size)).astype(np.float32), **made.parameters}
        (y,), (other,) = (Runner(m.forward)(feeds).values() for m in (made, plain))
        np.testing.assert_allclose(y, other, rtol=1e-5, atol=1e-5)
        seed = rng.standard_normal(y.shape).astype(np.float32)
        found, wanted = (Runner(m.model)(feeds | {next(iter(m.seeds.values())): seed}) for m in (made, plain))
        for name in made.names:
            a, b = found[made.names[name]], wanted[plain.names[name]]
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("group", [1, 2, INS])
@pytest.mark.parametrize(("op", "extra"), [("Conv", {}), ("ConvTranspose", {"output_padding": [1, 0]})])
@pytest.mark.parametrize("strides", [[1, 1], [2, 3]])
def test_sizes_that_are_not_known(op: str, extra: dict[str, list[int]], strides: list[int], group: int) -> None:
    if strides == [1, 1]:
        extra = {}
    attrs = {"strides": strides, "pads": [1, 0, 1, 2], "group": group, **extra}
    if op == "ConvTranspose":
        attrs["pads"] = [1, 1, 1, 1]
    model = net_of(op, ("n", INS, "h", "w"), (INS, INS // group, 3, 3), attrs)
    check(op, model, attrs, ((2, INS, 8, 9), (3, INS, 7, 11), (1, INS, 6, 4)))


@pytest.mark.parametrize("strides", [[1, 1], [2, 2]])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding_of_a_known_size(mode: str, strides: list[int]) -> None:
    size, kernel = (9, 8), (4, 3)
    model = net_of("Conv", ("n", INS, *size), (OUTS, INS, *kernel), {"auto_pad": mode, "strides": strides})
    pads = [0] * 4
    if mode != "VALID":
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(size, strides, kernel, strict=True)]
        small, large = [n // 2 for n in totals], [n - n // 2 for n in totals]
        pads = small + large if mode == "SAME_UPPER" else large + small
    check("Conv", model, {"strides": strides, "pads": pads}, ((2, INS, *size), (3, INS, *size)))


def test_automatic_padding_of_an_unknown_size_names_the_node() -> None:
    attrs = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    model = net_of("Conv", ("n", INS, "h", "w"), (OUTS, INS, 3, 3), attrs)
    with pytest.raises(UnsupportedModel, match=r"Conv node .* pads by SAME_UPPER over an axis whose size is not known"):
        differentiated(model)
