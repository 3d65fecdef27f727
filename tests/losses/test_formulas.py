"""Every loss and its gradient against torch, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from torch.nn import functional

from tests.losses.nets import Measured, measured, net

Array = NDArray[Any]
RTOL = 1e-12
WEIGHTS = [1.0, 2.0, 0.5, 0.0]
PLACES = {
    "classes": (("n", 4), (9, 4), (9,)),
    "pixels": (("n", 4, "h", "w"), (3, 4, 5, 2), (3, 5, 2)),
    "fixed pixels": ((3, 4, 5, 2), (3, 4, 5, 2), (3, 5, 2)),
    "words": (("n", "t", 4), (3, 5, 4), (3, 5)),
}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def against_torch(found: Measured, x: Array, loss: Callable[[torch.Tensor], torch.Tensor]) -> None:
    z = torch.tensor(x, requires_grad=True)
    value = loss(z)
    value.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert found.loss == pytest.approx(value.item(), rel=RTOL)
    np.testing.assert_allclose(found.gradient, z.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("place", PLACES)
def test_cross_entropy(place: str, weights: list[float] | None, smoothing: float) -> None:
    declared, shape, labels = PLACES[place]
    x, y = 3 * rng().standard_normal(shape), rng().integers(0, 4, labels)
    if y.ndim > 1:
        y.reshape(-1)[::3] = -100
    settings = [f"label_smoothing={smoothing}"] if smoothing else []
    settings += [f"class_weights={weights}"] if weights else []
    text = f"cross-entropy({', '.join(settings)})" if settings else "cross-entropy"

    def loss(z: torch.Tensor) -> torch.Tensor:
        z = z.movedim(-1, 1) if place == "words" else z
        table = None if weights is None else torch.tensor(weights, dtype=z.dtype)
        return functional.cross_entropy(z, torch.tensor(y), table, label_smoothing=smoothing)

    against_torch(measured(net(declared), x, y, text), x, loss)


def test_another_label_may_be_the_one_that_does_not_count() -> None:
    x, y = rng().standard_normal((3, 5, 4)), rng().integers(0, 4, (3, 5))
    found = measured(net(("n", "t", 4)), x, y, ignore_label=2)
    against_torch(found, x, lambda z: functional.cross_entropy(z.movedim(-1, 1), torch.tensor(y), ignore_index=2))


def test_the_number_of_classes_may_be_left_open() -> None:
    x, y = rng().standard_normal((9, 4)), rng().integers(0, 4, 9)
    found = measured(net(("n", "c")), x, y, "cross-entropy(label_smoothing=0.2)")
    against_torch(found, x, lambda z: functional.cross_entropy(z, torch.tensor(y), label_smoothing=0.2))


@pytest.mark.parametrize("columns", [1, 3])
def test_binary_cross_entropy(columns: int) -> None:
    x, y = 40 * rng().standard_normal((9, columns)), rng().integers(0, 2, (9, columns))
    y = y[:, 0] if columns == 1 else y
    found = measured(net(("n", columns)), x, y)
    assert found.objective.losses[0].kind == "binary-cross-entropy"
    y2 = torch.tensor(y.reshape(9, columns), dtype=torch.float64)
    against_torch(found, x, lambda z: functional.binary_cross_entropy_with_logits(z, y2))


def test_binary_pixels_that_do_not_count() -> None:
    x, y = rng().standard_normal((3, 1, 4, 2)), rng().integers(0, 2, (3, 4, 2))
    y[0, 0] = -100
    found = measured(net(("n", 1, "h", 2)), x, y)
    counts = torch.tensor(y >= 0, dtype=torch.float64)

    def loss(z: torch.Tensor) -> torch.Tensor:
        target = torch.tensor(np.where(y < 0, 0, y), dtype=torch.float64)
        each = functional.binary_cross_entropy_with_logits(z[:, 0], target, reduction="none")
        return (each * counts).sum() / counts.sum()

    against_torch(found, x, loss)


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3), (7, 2, 3)])
def test_mse_and_huber(shape: tuple[int, ...]) -> None:
    x, y = 3 * rng().standard_normal(shape), rng().standard_normal(shape)
    model = net(("n", *shape[1:]))
    target = torch.tensor(y)
    against_torch(measured(model, x, y), x, lambda z: functional.mse_loss(z, target))
    for delta in (0.3, 1.0, 100.0):
        found = measured(model, x, y, f"huber(delta={delta})")
        against_torch(found, x, lambda z, d=delta: functional.huber_loss(z, target, delta=d))


def test_numbers_are_targets_where_mse_is_asked_for() -> None:
    x, y = rng().standard_normal((7, 1)), rng().integers(0, 9, 7)
    target = torch.tensor(y[:, None], dtype=torch.float64)
    against_torch(measured(net(("n", 1)), x, y, "mse"), x, lambda z: functional.mse_loss(z, target))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("labels", [False, True])
def test_distillation_of_class_scores(temperature: float, labels: bool) -> None:
    x, y = 2 * rng().standard_normal((9, 4)), rng().integers(0, 4, 9) if labels else None
    scale = np.array(-0.7)
    teacher = net(("n", 4), ("Mul", {}), inputs={"Mul": ["s"]}, constants={"s": scale})
    found = measured(net(("n", 4)), x, y, f"distillation(temperature={temperature})", teacher=teacher)

    def loss(z: torch.Tensor) -> torch.Tensor:
        target = functional.softmax(torch.tensor(x * scale) / temperature, 1)
        return temperature**2 * functional.kl_div(
            functional.log_softmax(z / temperature, 1), target, reduction="batchmean"
        )

    against_torch(found, x, loss)


def test_distillation_for_each_word() -> None:
    x = rng().standard_normal((3, 5, 4))
    teacher = net(("n", "t", 4), ("Neg", {}))
    found = measured(net(("n", "t", 4)), x, None, teacher=teacher)

    def loss(z: torch.Tensor) -> torch.Tensor:
        target = functional.log_softmax(torch.tensor(-x), 2)
        each = functional.kl_div(functional.log_softmax(z, 2), target, reduction="none", log_target=True)
        return each.sum() / 15

    against_torch(found, x, loss)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_of_marks(temperature: float) -> None:
    x, y = rng().standard_normal((9, 3)), rng().integers(0, 2, (9, 3))
    teacher = net(("n", 3), ("Neg", {}))
    found = measured(net(("n", 3)), x, y, f"distillation(temperature={temperature})", teacher=teacher)

    def loss(z: torch.Tensor) -> torch.Tensor:
        q = torch.sigmoid(torch.tensor(-x) / temperature)
        both = functional.binary_cross_entropy_with_logits(z / temperature, q)
        return temperature**2 * (both - functional.binary_cross_entropy(q, q))

    against_torch(found, x, loss)


def test_distillation_of_numbers_is_mse() -> None:
    x, y = rng().standard_normal((9, 3)), rng().standard_normal((9, 3))
    found = measured(net(("n", 3)), x, y, "distillation", teacher=net(("n", 3), ("Neg", {})))
    assert "MSE" in found.objective.words
    against_torch(found, x, lambda z: functional.mse_loss(z, torch.tensor(-x)))


def test_a_weighted_sum() -> None:
    x, y = rng().standard_normal((9, 4)), rng().integers(0, 4, 9)
    text = f"cross-entropy(class_weights={WEIGHTS}) + 0.5*distillation"
    found = measured(net(("n", 4)), x, y, text, teacher=net(("n", 4), ("Neg", {})))
    assert found.objective.words.count("`y`") == 2

    def loss(z: torch.Tensor) -> torch.Tensor:
        first = functional.cross_entropy(z, torch.tensor(y), torch.tensor(WEIGHTS, dtype=z.dtype))
        target = functional.softmax(torch.tensor(-x), 1)
        return first + 0.5 * functional.kl_div(functional.log_softmax(z, 1), target, reduction="batchmean")

    against_torch(found, x, loss)


def test_rows_are_independent() -> None:
    """The loss of a sample is the same whatever the others are."""
    x, y = rng().standard_normal((6, 5, 4)), rng().integers(0, 4, (6, 5))
    y[1, :3] = -100
    together = measured(net(("n", "t", 4)), x, y)
    for row in range(6):
        alone = measured(net(("n", "t", 4)), x[row : row + 1], y[row : row + 1])
        assert alone.per_sample[0] == pytest.approx(together.per_sample[row], rel=RTOL)
        np.testing.assert_allclose(alone.gradient[0] * alone.count, together.gradient[row] * together.count, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_narrower_types(dtype: type) -> None:
    """The loss of float16 scores is computed in float32; gradients come back in the type of the scores."""
    x, y = (3 * rng().standard_normal((9, 4))).astype(dtype), rng().integers(0, 4, 9)
    model = net(("n", 4), dtype=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    found = measured(model, x, y)
    exact = measured(net(("n", 4)), x.astype(np.float64), y)
    assert found.per_sample.dtype == np.float32
    assert found.gradient.dtype == dtype
    assert found.loss == pytest.approx(exact.loss, rel=1e-6)
    np.testing.assert_allclose(found.gradient, exact.gradient, rtol=2e-3 if dtype == np.float16 else 1e-5, atol=1e-6)
