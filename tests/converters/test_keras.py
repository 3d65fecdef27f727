"""Run in the environment that has TensorFlow: ``make test`` does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip(
    "tensorflow", reason="TensorFlow has an environment of its own: .venvs/keras", exc_type=ImportError
)
keras = pytest.importorskip("keras")

from converters.keras import convert  # noqa: E402 - keras first: without it there is nothing to test
from onnxprune import runtime  # noqa: E402
from onnxprune.errors import ConversionError  # noqa: E402

if TYPE_CHECKING:
    from onnxprune.model import Model

layers = keras.layers
# Keras turns variables into arrays in a way that NumPy 2 has retired.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def randomised(model: Any) -> Any:
    """All weights drawn anew, so that no bias is 0 and no norm the identity."""
    rng = np.random.default_rng(0)
    model.set_weights([
        rng.uniform(0.6, 1.4, w.shape) if w.ndim == 1 else rng.normal(0, w[..., 0].size ** -0.5, w.shape)
        for w in model.get_weights()
    ])  # fmt: skip
    return model


def cnn() -> Any:
    """NHWC, SAME padding with a stride, BatchNorm, depthwise, a residual."""
    image = keras.Input((9, 9, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(10, 3, padding="same", use_bias=False)(image)))
    x = layers.Add()([x, layers.Conv2D(10, 3, padding="same")(x)])
    x = layers.ReLU(max_value=6.0)(layers.DepthwiseConv2D(3, strides=2, padding="same")(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(14, 1, activation="swish")(x))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="classes")(layers.Flatten()(x)))


def lstm() -> Any:
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(layers.Embedding(12, 8)(tokens))
    return keras.Model(tokens, layers.Dense(4, name="scores")(layers.GlobalAveragePooling1D()(x)))


def two_inputs() -> Any:
    left, right = keras.Input((4,), name="left"), keras.Input((5, 6), name="right")
    x = layers.GRU(7)(right)
    y = layers.Dense(3, name="scores")(layers.Concatenate()([left, x]))
    return keras.Model([left, right], [y, layers.Dense(2, name="other")(x)])


def attention() -> Any:
    x = keras.Input((6, 10), name="x")
    y = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 5)(x, x))
    return keras.Model(x, layers.Dense(10, activation="gelu", name="y")(y))


def dims(model: Model, number: int = 0) -> list[int | str]:
    shape = model.proto.graph.input[number].type.tensor_type.shape
    return [dim.dim_param or dim.dim_value for dim in shape.dim]


@pytest.mark.parametrize("make", [cnn, lstm, two_inputs, attention])
def test_agrees_at_several_batch_sizes(make: Callable[[], Any]) -> None:
    model = randomised(make())
    converted = convert(model)
    assert converted.parity is not None
    assert converted.parity < 1e-4
    assert dims(converted.model)[0] == "batch"
    assert [value.name for value in converted.model.proto.graph.output] == list(model.output_names)


def test_images_stay_channels_last() -> None:
    model = randomised(cnn())
    converted = convert(model)
    assert dims(converted.model) == ["batch", 9, 9, 3]
    x = np.random.default_rng(1).standard_normal((5, 9, 9, 3)).astype(np.float32)
    found = runtime.session(converted.model).run({"image": x})["classes"]
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-5)


def test_keras_file(tmp_path: Path) -> None:
    model = randomised(cnn())
    model.save(tmp_path / "net.keras")
    converted = convert(tmp_path / "net.keras")
    assert converted.parity is not None
    x = np.ones((2, 9, 9, 3), np.float32)
    found = runtime.session(converted.model).run({"image": x})["classes"]
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-5)


def test_sequential_model_and_fixed_batch() -> None:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(2)])
    converted = convert(model, example_inputs=np.ones((3, 6), np.float32), dynamic_batch=False, opset=17)
    assert dims(converted.model) == [3, 6]
    assert next(o.version for o in converted.model.proto.opset_import if not o.domain) == 17


def test_open_sizes_are_taken_from_the_example() -> None:
    x = keras.Input((None, 5), name="x")
    model = keras.Model(x, layers.Conv1D(4, 3, padding="same")(x))
    with pytest.raises(ConversionError, match=r"input `x` has shape \(None, None, 5\)"):
        convert(model)
    converted = convert(model, example_inputs={"x": np.ones((2, 8, 5), np.float32)})
    assert dims(converted.model) == ["batch", 8, 5]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    with pytest.raises(ConversionError, match=r"broken\.keras cannot be read by keras"):
        convert(tmp_path / "broken.keras")
    with pytest.raises(ConversionError, match="list is not a Keras model"):
        convert([])
    with pytest.raises(ConversionError, match="has no inputs yet"):
        convert(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ConversionError, match="the model has 2 inputs, example_inputs 1"):
        convert(two_inputs(), example_inputs=np.ones((2, 4)))


def with_layer(call: Callable[[Any], Any]) -> Any:
    """A model that ends in a layer of the test's own."""

    class Own(layers.Layer):
        def call(self, x: Any) -> Any:
            return call(x)

    x = keras.Input((3,), name="x")
    return keras.Model(x, Own()(layers.Dense(3)(x)))


def test_disagreement_is_an_error() -> None:
    model = with_layer(lambda x: x if tf.executing_eagerly() else x + 1)
    with pytest.raises(ConversionError, match="does not agree with its source: output `own`"):
        convert(model)
    assert convert(model, check=False).parity is None


def test_an_operator_without_onnx_form_is_named() -> None:
    with pytest.raises(ConversionError, match="no ONNX form for TensorFlow's Lgamma"):
        convert(with_layer(tf.math.lgamma))


def test_a_layer_that_cannot_be_exported() -> None:
    model = with_layer(lambda x: x + keras.random.normal((3,), seed=keras.random.SeedGenerator(1)))
    with pytest.raises(ConversionError, match="Keras cannot export this model: ValueError"):
        convert(model)
