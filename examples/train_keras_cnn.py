"""Train a small Keras CNN on scikit-learn's digits and write ``examples/keras_digits.onnx``.

    .venvs/keras/bin/python examples/train_keras_cnn.py

Needs TensorFlow, Keras and tf2onnx (``make env-keras``); what it writes does not. The input is channels last,
(batch, 8, 8, 1), as Keras has it. One residual block, one depthwise convolution, SAME padding with a stride.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
from digits import SEED, load_split
from keras import layers

from converters.keras import convert
from onnxprune.model import save

TARGET = Path(__file__).resolve().parent / "keras_digits.onnx"
EPOCHS, BATCH = 30, 64
REQUIRED = 0.98  # accuracy on the held-out quarter


def block(x: keras.KerasTensor, channels: int, stride: int = 1, *, act: bool = True) -> keras.KerasTensor:
    """Convolution without bias, BatchNorm and, by default, ReLU."""
    x = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if act else x


def network() -> keras.Model:
    """About 30 thousand parameters."""
    image = keras.Input((8, 8, 1), name="image")
    x = block(image, 24)
    y = block(block(x, 32), 24, act=False)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = block(x, 40, stride=2)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.Conv2D(64, 1, activation="relu")(x)
    x = layers.Dense(48, activation="relu")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(10, name="scores")(x))


def main() -> None:
    """Train, check, write."""
    keras.utils.set_random_seed(SEED)
    split = load_split()
    net = network()
    steps = EPOCHS * -(-len(split.x_train) // BATCH)
    net.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    net.fit(split.x_train[..., None], split.y_train, BATCH, EPOCHS, verbose=0)
    _, reached = net.evaluate(split.x_test[..., None], split.y_test, verbose=0)
    print(f"accuracy: {reached:.4f} test")
    if reached < REQUIRED:
        raise SystemExit(f"less than {REQUIRED}: nothing written")
    converted = convert(net)
    save(converted.model, TARGET)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1000:.0f} kB, parity {converted.parity:.1e}")


if __name__ == "__main__":
    main()
