from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from converters.sklearn import convert
from onnxprune import runtime
from onnxprune.errors import ConversionError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return x[:300].astype(np.float32), y[:300]


def classifier(data: tuple[np.ndarray, np.ndarray], **options: Any) -> MLPClassifier:
    return MLPClassifier((24, 16), max_iter=30, random_state=0, **options).fit(*data)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_classifier_gives_its_probabilities(data: tuple[np.ndarray, np.ndarray], activation: str) -> None:
    estimator = classifier(data, activation=activation)
    converted = convert(estimator, example_inputs=data[0])
    assert converted.parity is not None
    assert converted.parity < 1e-5
    session = runtime.session(converted.model)
    assert list(session.outputs) == ["probabilities"]
    found = session.run({"x": data[0][:7]})["probabilities"]
    np.testing.assert_allclose(found, estimator.predict_proba(data[0][:7]), atol=1e-5)


@pytest.mark.parametrize("scaler", [StandardScaler, MinMaxScaler])
def test_pipeline_with_a_scaler(data: tuple[np.ndarray, np.ndarray], scaler: type) -> None:
    x, y = data
    pipeline = make_pipeline(scaler(), MLPClassifier((20,), max_iter=30, random_state=0)).fit(x, y)
    converted = convert(pipeline, example_inputs=x)
    assert converted.parity is not None
    assert converted.parity < 1e-4
    assert "classes in order: 0, 1, 2" in converted.notes[1]


@pytest.mark.parametrize("targets", [1, 3])
def test_regressor(data: tuple[np.ndarray, np.ndarray], targets: int) -> None:
    x, y = data
    y = y if targets == 1 else np.stack([y, -y, y**2], 1)
    estimator = MLPRegressor(hidden_layer_sizes=(18,), max_iter=40, random_state=0).fit(x / 16, y)
    converted = convert(estimator, example_inputs=x / 16)
    assert converted.parity is not None
    assert converted.parity < 1e-4
    (value,) = runtime.session(converted.model).run({"x": x[:5] / 16}).values()
    assert value.shape == (5, targets)


def test_labels_on_request_are_strings_where_the_classes_are(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    names = np.array(["even", "odd"])[y % 2]
    estimator = MLPClassifier((12,), max_iter=30, random_state=0).fit(x, names)
    converted = convert(estimator, example_inputs=x, labels=True)
    assert [value.name for value in converted.model.proto.graph.output] == ["label", "probabilities"]


def test_fixed_batch(data: tuple[np.ndarray, np.ndarray]) -> None:
    converted = convert(classifier(data), example_inputs=data[0][:3], dynamic_batch=False)
    sizes = [dim.dim_value for dim in converted.model.proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [3, 64]


def test_a_pickle_is_read_only_when_trusted(data: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "mlp.joblib"
    joblib.dump(classifier(data), path)
    with pytest.raises(ConversionError, match="runs whatever code is in it"):
        convert(path)
    assert convert(path, trust_pickle=True).parity is not None
    path.write_bytes(b"not a pickle")
    with pytest.raises(ConversionError, match=r"mlp\.joblib cannot be read"):
        convert(path, trust_pickle=True)


def test_refusals(data: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ConversionError, match="MLPClassifier is not fitted"):
        convert(MLPClassifier())
    with pytest.raises(ConversionError, match="dict is not a scikit-learn estimator"):
        convert({})  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match="skl2onnx cannot convert DBSCAN"):
        convert(DBSCAN().fit(data[0]))
    with pytest.raises(ConversionError, match=r"shape \(3, 5\), MLPClassifier takes rows of 64"):
        convert(classifier(data), example_inputs=np.zeros((3, 5)))


def test_disagreement_is_an_error(data: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = classifier(data)
    monkeypatch.setattr(estimator, "predict_proba", lambda x: np.full((len(x), 10), 0.1))
    with pytest.raises(ConversionError, match="does not agree with its source: output `probabilities`"):
        convert(estimator, example_inputs=data[0])
    assert convert(estimator, example_inputs=data[0], check=False).parity is None


def test_weights_are_matrices_that_can_be_pruned(data: tuple[np.ndarray, np.ndarray]) -> None:
    model = convert(classifier(data)).model
    onnx.checker.check_model(model.to_proto())
    assert {(64, 24), (24, 16), (16, 10)} <= {weight.shape for weight in model.weights.values()}
