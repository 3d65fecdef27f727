from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import torch
import typer
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import nn
from typer.testing import CliRunner, Result

from converters import convert, framework_of
from converters.cli import register
from onnxprune.errors import ConversionError, DataError, ModelSaveError, OnnxPruneError, OptionError
from onnxprune.model import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pt2 file, a .joblib file and example inputs."""
    folder = tmp_path_factory.mktemp("sources")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(net.eval(), (torch.randn(3, 1, 4, 4),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "net.pt2")
    x, y = load_digits(return_X_y=True)
    mlp = MLPClassifier((12,), max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        joblib.dump(mlp.fit(x[:200], y[:200]), folder / "mlp.joblib")
    np.savez(folder / "rows.npz", x=x[:5])
    np.savez(folder / "empty.npz")
    return folder


def run(*arguments: str | Path) -> Result:
    """The command in an application of its own; what it raises comes out as it is."""
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["convert", *(str(a) for a in arguments)])
    if result.exception is not None:
        raise result.exception
    return result


def test_framework_of_objects_and_files() -> None:
    assert framework_of(nn.Linear(1, 1)) == "torch"
    assert framework_of(MLPClassifier()) == "sklearn"
    assert [framework_of(f"net{s}") for s in (".pt2", ".keras", ".JOBLIB")] == ["torch", "keras", "sklearn"]
    with pytest.raises(ConversionError, match=r"builtins\.list is not a model of a known framework"):
        framework_of([])
    with pytest.raises(ConversionError, match="suffix does not say"):
        framework_of("net.bin")
    with pytest.raises(ConversionError, match="is an ONNX file already"):
        framework_of("net.onnx")


def test_convert_dispatches() -> None:
    converted = convert(nn.Linear(4, 2), example_inputs=torch.zeros(2, 4), exporter="torchscript")
    assert converted.parity == 0 or (converted.parity is not None and converted.parity < 1e-5)
    with pytest.raises(OptionError, match="there is no converter for 'jax'"):
        convert(nn.Linear(4, 2), framework="jax")
    with pytest.raises(ConversionError, match="does not exist"):
        convert("nowhere.pt2")


def test_a_framework_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'")
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", missing)
    from converters.keras import convert as convert_keras  # noqa: PLC0415 - after the patch

    with pytest.raises(ConversionError, match=r"needs the package `tensorflow`[\s\S]*onnxprune\[keras\]"):
        convert_keras("net.keras")


def test_command_converts_torch(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    result = run(folder / "net.pt2", "-o", out, "--keep-batchnorm")
    assert result.exit_code == 0, result.output
    assert "net.onnx written" in result.output
    assert "BatchNormalization" in {node.op_type for node in load(out).proto.graph.node}


def test_command_converts_sklearn_and_prints_json(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mlp.onnx"
    result = run(folder / "mlp.joblib", "-o", out, "--trust-pickle", "--json", "--inputs", folder / "rows.npz")
    figures = json.loads(result.stdout)
    assert figures["parity"] < 1e-4
    assert figures["hash"] == load(out).hash
    onnx.checker.check_model(onnx.load(out))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("mlp.joblib",), ConversionError, "runs whatever code"),
        (("gone.pt2",), ConversionError, r"gone\.pt2 does not exist"),
        ((".", "--framework", "torch"), ConversionError, "is a folder"),
        (("mlp.joblib", "--trust-pickle", "--keep-batchnorm"), OptionError, "--keep-batchnorm is for torch"),
        (("net.pt2", "--labels"), OptionError, "--labels is for sklearn"),
        (("net.pt2", "--inputs", "gone.npz"), DataError, r"gone\.npz cannot be read"),
        (("net.pt2", "--inputs", "mlp.joblib"), DataError, r"mlp\.joblib cannot be read"),
        (("net.pt2", "--inputs", "empty.npz"), DataError, r"empty\.npz holds no arrays"),
    ],
)
def test_bad_input_writes_nothing(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], error: type[OnnxPruneError], message: str
) -> None:
    out = tmp_path / "out.onnx"
    full = [folder / a if a == "." or a.endswith((".pt2", ".joblib", ".npz")) else a for a in arguments]
    with pytest.raises(error, match=message):
        run(*full, "-o", out)
    assert list(tmp_path.iterdir()) == []


def test_missing_output_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelSaveError, match="there is no folder"):
        run(folder / "net.pt2", "-o", tmp_path / "gone" / "net.onnx")
