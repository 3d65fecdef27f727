"""Plans to test with: one small by hand, and any that hypothesis can think of."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxprune.plan import Plan
from onnxprune.values import Options

NAMES = st.text(min_size=1, max_size=8)
MODEL = "1f" * 32
OPTIONS = Options(include_inexact=True, attention="dims", allow_io=("logits:1",), shapes=(("x", (1, 3, 8, 8)),))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def options(draw: st.DrawFn) -> Options:
    shapes = draw(st.dictionaries(NAMES, st.lists(st.integers(0, 9), max_size=4), max_size=2))
    return Options(
        include_inexact=draw(st.booleans()),
        attention=draw(st.sampled_from(["heads", "dims"])),
        norm_groups=draw(st.sampled_from(["whole", "within"])),
        allow_io=tuple(draw(st.lists(NAMES, max_size=2))),
        shapes=tuple((name, tuple(dims)) for name, dims in shapes.items()),
    )


@st.composite
def plans(
    draw: st.DrawFn, sizes: dict[str, int] | None = None, shapes: dict[str, tuple[int, ...]] | None = None
) -> Plan:
    """Any plan; of one model with these groups and weights where they are given."""
    one_model = sizes is not None
    sizes = draw(st.dictionaries(NAMES, st.integers(1, 40), max_size=4)) if sizes is None else sizes
    shapes = (
        draw(st.dictionaries(NAMES, hnp.array_shapes(min_dims=0, min_side=0), max_size=3)) if shapes is None else shapes
    )
    units = {
        name: draw(st.lists(st.integers(0, n - 1), unique=True)) for name, n in sizes.items() if draw(st.booleans())
    }
    return Plan(
        model_hash=MODEL if one_model else draw(NAMES),
        units=units,
        group_sizes=sizes,
        weights={name: draw(hnp.arrays(np.bool_, shape)) for name, shape in shapes.items()},
        options=OPTIONS if one_model else draw(options()),
        recipe=draw(st.dictionaries(st.text(), JSON_VALUES, max_size=3)),
        model_name=draw(st.text()),
    )


SIZES, SHAPES = {"conv1": 9, "a.attn (heads)": 4, "überlauf": 1}, {"fc.weight": (3, 5), "scalar": ()}
SAME_MODEL = plans(SIZES, SHAPES)


def small() -> Plan:
    return Plan(
        MODEL,
        units={"conv1": [7, 0, 3], "fc": [1]},
        group_sizes={"conv1": 9, "fc": 2},
        weights={"w": np.array([[True, False, True], [False, False, True]])},
        options=OPTIONS,
        recipe={"criterion": "l2", "ratio": 0.5, "groups": {"fc": 0.25}, "seed": np.int64(7)},
        model_name="net.onnx",
    )
