"""What operators on maps refuse to differentiate, and Resize against torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from onnxprune.errors import UnsupportedModel
from tests.doubles import Runner
from tests.gradients import differentiated
from tests.ops.cases import HIDDEN, Net

Middle = Callable[[Net, str], str]


def cubic(net: Net, x: str) -> str:
    return net.op("GridSample", x, net.input(("n", 4, 4, 2), name="grid"), mode="cubic")


def maxima(net: Net, x: str) -> str:
    return net.op("RoiAlign", x, net.const(np.ones((2, 4), np.float32)), net.const([0, 0], np.int64), mode="max")


def keeps_ratio(net: Net, x: str) -> str:
    sizes, axes = net.const([9, 12], np.int64), [2, 3]
    return net.op("Resize", x, "", "", sizes, axes=axes, keep_aspect_ratio_policy="not_larger")


def deformed(net: Net, x: str) -> str:
    offsets = net.conv(x, HIDDEN, 18, (3, 3))
    return net.op("DeformConv", x, net.param(HIDDEN, HIDDEN, 3, 3), offsets)


@pytest.mark.parametrize(
    ("middle", "size", "words"),
    [
        (cubic, (6, 6), "GridSample node .* interpolates by cubic"),
        (maxima, (6, 6), r"RoiAlign node .* takes maxima"),
        (keeps_ratio, (6, 6), "Resize node .* keep_aspect_ratio_policy=not_larger"),
        (deformed, ("h", "w"), "DeformConv node .* needs two spatial axes of known size"),
    ],
)
def test_what_has_no_rule_is_named(middle: Middle, size: tuple[int | str, ...], words: str) -> None:
    net = Net()
    h = net.conv(net.input(("n", 3, *size)), 3, HIDDEN)
    model = net.model(middle(net, h))
    with pytest.raises(UnsupportedModel, match=words):
        differentiated(model)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_is_what_torch_differentiates(mode: str, factor: int) -> None:
    """For an input of unknown height and width."""
    net = Net()
    where = "asymmetric" if mode == "nearest" else "half_pixel"
    scales = net.const([1, 1, factor, factor], np.float32)
    attrs = {"mode": mode, "coordinate_transformation_mode": where, "nearest_mode": "floor"}
    made = differentiated(net.model(net.op("Resize", net.input(("n", 3, "h", "w")), "", scales, **attrs)))
    run = Runner(made.model)
    rng = np.random.default_rng(0)
    for shape in ((2, 3, 5, 4), (3, 3, 7, 6)):
        x = torch.tensor(rng.standard_normal(shape), requires_grad=True)
        y = F.interpolate(x, scale_factor=factor, mode="nearest" if mode == "nearest" else "bilinear")
        seed = rng.standard_normal(tuple(y.shape))
        (wanted,) = torch.autograd.grad(y, x, torch.tensor(seed))
        feeds = {"x": x.detach().numpy(), made.seeds[next(iter(made.seeds))]: seed}
        found = run({name: a.astype(np.float32) for name, a in feeds.items()})[made.names["x"]]
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-5)
