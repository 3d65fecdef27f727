from __future__ import annotations

import pytest

from onnxprune.errors import OptionError
from onnxprune.losses import KINDS, Loss, parse_loss


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(kind: str) -> None:
    assert parse_loss(kind) == (Loss(kind),)
    assert parse_loss(f" {kind.upper().replace('-', '_')} ") == (Loss(kind),)


def test_settings_and_sums_are_read() -> None:
    assert parse_loss("huber(delta=2)") == (Loss("huber", delta=2.0),)
    text = "cross-entropy(class_weights=[1, 2.5, 0], label_smoothing=0.1) + 0.5 * distillation(temperature=4, output=y)"
    assert parse_loss(text) == (
        Loss("cross-entropy", class_weights=(1.0, 2.5, 0.0), label_smoothing=0.1),
        Loss("distillation", weight=0.5, temperature=4.0, output="y"),
    )
    assert parse_loss("1e+1*mse+2e-3*huber") == (Loss("mse", 10.0), Loss("huber", 2e-3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crossentropy", "Did you mean cross-entropy?"),
        ("", "cannot read ''"),
        ("mse + ", r"cannot read ' '"),
        ("mse huber", "cannot read 'huber'"),
        ("huber(delta=0)", "delta is 0.0, expected a number more than 0"),
        ("huber(delta=big)", "delta is 'big', expected a number"),
        ("huber(size=3)", r"cannot read the setting 'size=3'(.|\n)*Settings are output"),
        ("mse(temperature=2)", r"mse has no temperature(.|\n)*belongs to distillation"),
        ("distillation(temperature=-1)", "temperature is -1.0"),
        ("cross-entropy(label_smoothing=1)", "from 0 to below 1"),
        ("cross-entropy(class_weights=[1, -1])", "class_weights is -1.0, expected a number at least 0"),
        ("cross-entropy(class_weights=[0, 0])", "all class_weights are 0"),
        ("cross-entropy(class_weights=[])", "class_weights is '', expected a number"),
        ("0*mse", "weight is 0.0, expected a number more than 0"),
        ("1e999*mse", "weight is inf"),
    ],
)
def test_what_is_wrong_is_told(text: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        parse_loss(text)
