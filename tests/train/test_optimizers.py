"""Ten steps of every optimiser in float64, weight by weight as torch.optim makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from onnxprune.errors import OptionError
from onnxprune.train.optimizers import KINDS, Optimizer
from onnxprune.train.step import Step
from tests.train.step_nets import feeds_of, mlp, mlp_in_torch, mlp_weights, objective_for, samples

Made = Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]
RATES = (0.1, 0.05, 0.1, 0.2, 0.01, 0.1, 0.1, 0.1, 0.03, 0.1)

CASES: dict[str, tuple[Optimizer, Made]] = {
    "sgd": (Optimizer("sgd", momentum=0), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (Optimizer("sgd"), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "nesterov": (
        Optimizer("sgd", momentum=0.8, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.1),
    ),
    "adam": (Optimizer("adam"), lambda p: torch.optim.Adam(p, 0.1)),
    "adam with decay": (
        Optimizer("adam", betas=(0.8, 0.95), eps=1e-2, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.95), eps=1e-2, weight_decay=0.1),
    ),
    "adamw": (Optimizer("adamw", weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1)),
    "adamw without decay": (Optimizer("adamw"), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0)),
}


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("name", CASES)
def test_ten_steps_are_those_of_torch(name: str, clip: float | None) -> None:
    ours, theirs = CASES[name]
    x, y = samples(24, np.float64)
    model = mlp(np.float64)
    objective = objective_for(model, x, y)
    step = Step(model, objective, ours, clip=clip, provider="cpu", threads=1)
    weights = {key: torch.tensor(value, requires_grad=True) for key, value in mlp_weights().items()}
    optimizer = theirs(list(weights.values()))
    norms = []
    for number, rate in enumerate(RATES):
        rows = slice(number, number + 12)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(mlp_in_torch(weights, torch.tensor(x[rows])), torch.tensor(y[rows]))
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            norms.append(float(torch.nn.utils.clip_grad_norm_(weights.values(), clip)))
        optimizer.step()
        assert step.run(feeds_of(objective, x[rows], y[rows]), rate) == pytest.approx(loss.item(), rel=1e-10)
        for key, value in step.weights().items():
            np.testing.assert_allclose(value, weights[key].detach().numpy(), rtol=1e-9, atol=1e-11, err_msg=key)
    assert clip is None or max(norms) > clip


def test_float32_drifts_no_further_than_torch_does() -> None:
    """Against float64: at most twice as far away as torch's own float32, for every optimiser."""
    x, y = samples(24, np.float64)
    for ours, theirs in CASES.values():
        exact, single = (_ten_steps(theirs, x, y, kind) for kind in (torch.float64, torch.float32))
        model = mlp()
        objective = objective_for(model, x.astype(np.float32), y)
        step = Step(model, objective, ours, provider="cpu", threads=1)
        for rate in RATES:
            step.run(feeds_of(objective, x.astype(np.float32), y), rate)
        for key, value in step.weights().items():
            own = np.abs(single[key] - exact[key]).max()
            assert np.abs(value - exact[key]).max() <= max(2 * own, 5e-6)


def _ten_steps(make: Made, x: Any, y: Any, kind: torch.dtype) -> dict[str, Any]:
    weights = {
        key: torch.tensor(value.astype(np.float32)).to(kind).requires_grad_() for key, value in mlp_weights().items()
    }
    optimizer = make(list(weights.values()))
    for rate in RATES:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        scores = mlp_in_torch(weights, torch.tensor(x.astype(np.float32)).to(kind))
        torch.nn.functional.cross_entropy(scores, torch.tensor(y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {key: value.detach().double().numpy() for key, value in weights.items()}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "rmsprop"}, "got 'rmsprop', expected one of sgd, adam, adamw"),
        ({"kind": "sgd", "momentum": 1.0}, "momentum is 1.0, expected a number from 0 to below 1"),
        ({"kind": "adam", "betas": (0.9, 1.0)}, "betas is 1.0"),
        ({"kind": "adam", "eps": 0.0}, "eps is 0.0, expected a number more than 0"),
        ({"kind": "adamw", "weight_decay": -0.1}, "weight_decay is -0.1, expected a number at least 0"),
        ({"kind": "adamw", "weight_decay": float("nan")}, "weight_decay is nan"),
        ({"kind": "adam", "nesterov": True}, "nesterov belongs to sgd with momentum"),
        ({"kind": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov belongs to sgd with momentum"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Optimizer(**settings)


def test_every_kind_is_compared() -> None:
    assert {optimizer.kind for optimizer, _ in CASES.values()} == set(KINDS)
