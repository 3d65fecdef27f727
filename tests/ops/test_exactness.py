"""What is not exact is known as such: removal changes what the survivors see, and the analysis says so beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune import surgery
from onnxprune.coupling import couple
from onnxprune.values import Options
from tests.ops import cases_norms, cases_reduction
from tests.ops.cases import HIDDEN, Case
from tests.ops.cases_reduction import LEAKY, NEUTRAL, OTHERS, apply, over
from tests.oracle import errors, run
from tests.plans import half

ASKED = Options(include_inexact=True)
TOLERANCE = 1e-5  # that of the proof
NAMES = ("sigmoid", "exp", "elu+1")


def distance(case: Case, options: Options = ASKED) -> float:
    """How far masked and removed are apart, at worst, when everything is removed that may be on request."""
    model = case.build()
    coupling = couple(model, options)
    assert coupling.units == HIDDEN
    assert not any(group.exact for group in coupling.groups)
    worst = 0.0
    for seed in range(4):
        plan = half(coupling, seed, 0.75)
        feeds = {
            value.name: np.random.default_rng(seed)
            .normal(size=[d.dim_value or 64 for d in value.type.tensor_type.shape.dim])
            .astype(np.float32)
            for value in model.proto.graph.input
        }
        masked, removed = (f(model, coupling, plan) for f in (surgery.mask, surgery.remove))
        worst = max(worst, *errors(run(masked, feeds), run(removed, feeds)).values())
    return worst


@pytest.mark.parametrize("op", [*NEUTRAL, *OTHERS])
@pytest.mark.parametrize("before", LEAKY, ids=NAMES)
def test_what_leaks_into_a_reduction_is_inexact(op: str, before: object) -> None:
    """Sigmoid, Exp and elu + 1 turn a removed 0 into a number that the reduction sees in the masked model only."""
    assert couple(over(op, before).build()).units == 0
    neutral = op == "ReduceProd" and before is not LEAKY[0]  # they turn it into 1, which a product does not notice
    assert (distance(over(op, before)) > TOLERANCE) is not neutral


@pytest.mark.parametrize("op", NEUTRAL)
def test_zero_is_neutral_to_sums_and_norms(op: str) -> None:
    coupling = couple(over(op, apply("Relu")).build(), ASKED)
    assert all(group.exact for group in coupling.groups)


def test_a_mean_sees_how_many_there_are() -> None:
    assert distance(over("ReduceMean", apply("Relu"))) > TOLERANCE
    assert distance(cases_reduction.hidden_mean_case()) > TOLERANCE


@pytest.mark.parametrize("key", [("", "LayerNormalization"), ("", "SimplifiedLayerNormalization")])
def test_a_norm_over_the_units_is_inexact(key: tuple[str, str]) -> None:
    assert distance(cases_norms.CASES[key][0]) > TOLERANCE


def test_equal_counts_inside_normalisation_groups_are_inexact() -> None:
    case = cases_norms.CASES["", "GroupNormalization"][0]
    options = Options(include_inexact=True, norm_groups="within")
    coupling = couple(case.build(), options)
    assert len(coupling.constraints) == 1
    assert distance(case, options) > TOLERANCE


def test_a_frozen_neighbourhood_stays_frozen_on_request() -> None:
    """No reference exists for a window over channels."""
    case = cases_norms.CASES["", "LRN"][0]
    assert couple(case.build(), ASKED).units == 0
