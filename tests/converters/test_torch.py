from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters.torch import EXPORTERS, convert
from onnxprune import runtime
from onnxprune.errors import ConversionError, OptionError
from onnxprune.model import Model
from tests.nets import NETS


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class TwoInputs(nn.Module):
    """Named arguments, an integer input, a dict of results."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.linear = nn.Embedding(20, 8), nn.Linear(5, 8)

    def forward(self, tokens: Tensor, extra: Tensor) -> dict[str, Any]:
        hidden = self.embed(tokens).mean(1) + self.linear(extra)
        return {"hidden": hidden, "parts": (hidden.sigmoid(), hidden.tanh())}


class Branching(nn.Module):
    """Control flow that depends on the data: a trace of it is wrong for other inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y if x.sum() > 100 else -y


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 3))


def kinds(model: Model) -> list[str]:
    return [node.op_type for node in model.proto.graph.node]


def dims(model: Model, number: int = 0) -> list[int | str]:
    shape = model.proto.graph.input[number].type.tensor_type.shape
    return [dim.dim_param or dim.dim_value for dim in shape.dim]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["resnet_basic", "lstm_bidirectional", "decoder_llama", "fpn"])
def test_nets_agree_at_two_batch_sizes(name: str, exporter: str) -> None:
    spec = NETS[name]
    converted = convert(spec.build(), example_inputs=spec.example_inputs(), exporter=exporter)
    assert converted.parity is not None
    assert converted.parity < 1e-4
    assert dims(converted.model)[0] == "batch"
    assert exporter in converted.notes[0]
    count = len(spec.outputs)
    expected = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    assert [value.name for value in converted.model.proto.graph.output] == expected


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_batchnorm_is_folded_or_kept(exporter: str) -> None:
    spec = NETS["resnet_basic"]
    for keep, count in ((False, 0), (True, 8)):
        converted = convert(spec.build(), example_inputs=spec.example_inputs(), exporter=exporter, keep_batchnorm=keep)
        assert kinds(converted.model).count("BatchNormalization") == count


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_source_is_not_changed_and_is_exported_in_inference_mode(exporter: str) -> None:
    module = small().train()
    before = [p.clone() for p in module.parameters()]
    converted = convert(module, example_inputs=torch.randn(2, 6), exporter=exporter)
    assert module.training
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert "Dropout" not in kinds(converted.model)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_keyword_arguments_and_nested_results(exporter: str) -> None:
    example = {"extra": np.ones((2, 5), np.float32), "tokens": np.array([[1, 19, 3], [0, 4, 4]])}
    if exporter == "torchscript":
        example = {name: example[name] for name in ("tokens", "extra")}
    converted = convert(TwoInputs(), example_inputs=example, exporter=exporter)
    names = [value.name for value in converted.model.proto.graph.input]
    assert set(names) == {"tokens", "extra"}
    assert [value.name for value in converted.model.proto.graph.output] == ["hidden", "parts_0", "parts_1"]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_fixed_batch_and_opset(exporter: str) -> None:
    converted = convert(small(), example_inputs=torch.randn(3, 6), exporter=exporter, dynamic_batch=False, opset=19)
    assert dims(converted.model) == [3, 6]
    assert converted.model.proto.opset_import[0].version == 19


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_example_of_batch_one_gives_a_dynamic_batch(exporter: str) -> None:
    converted = convert(small(), example_inputs=(np.ones((1, 6), np.float32),), exporter=exporter)
    assert dims(converted.model) == ["batch", 6]
    (name,) = [value.name for value in converted.model.proto.graph.input]
    assert runtime.session(converted.model).run({name: np.ones((9, 6), np.float32)})


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_pt2_file(tmp_path: Path, exporter: str) -> None:
    batch = torch.export.Dim("n")
    program = torch.export.export(small().eval(), (torch.randn(4, 6),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    converted = convert(tmp_path / "net.pt2", exporter=exporter)
    assert isinstance(dims(converted.model)[0], str)
    assert converted.parity is not None
    assert converted.parity < 1e-5


def test_pt2_file_with_fixed_sizes_is_noted(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(small().eval(), (torch.randn(4, 6),)), tmp_path / "net.pt2")
    converted = convert(tmp_path / "net.pt2")
    assert dims(converted.model) == [4, 6]
    assert "exported with a fixed batch" in converted.notes[0]


def test_pt2_file_with_another_open_axis(tmp_path: Path) -> None:
    length = torch.export.Dim("length", min=2, max=9)
    net = nn.Conv1d(3, 4, 3, padding=1).eval()
    torch.export.save(
        torch.export.export(net, (torch.randn(2, 3, 9),), dynamic_shapes=({2: length},)), tmp_path / "n.pt2"
    )
    converted = convert(tmp_path / "n.pt2")
    assert dims(converted.model)[:2] == [2, 3]
    assert isinstance(dims(converted.model)[2], str)


def test_a_program_that_refuses_another_batch(tmp_path: Path) -> None:
    batch = torch.export.Dim("n", max=4)
    program = torch.export.export(small().eval(), (torch.randn(4, 6),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ConversionError, match=r"cannot run its own model on inputs of shape \(5, 6\)"):
        convert(tmp_path / "net.pt2")
    assert convert(tmp_path / "net.pt2", check=False).parity is None


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="does not know the shapes of its inputs"):
        convert(small())
    with pytest.raises(ConversionError, match=r"net\.pth: only \.pt2 files hold a whole model"):
        convert(tmp_path / "net.pth")
    (tmp_path / "broken.pt2").write_bytes(b"nothing")
    with pytest.raises(ConversionError, match=r"broken\.pt2 cannot be read by torch"):
        convert(tmp_path / "broken.pt2")
    with pytest.raises(ConversionError, match="int is not a torch model"):
        convert(3, example_inputs=torch.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match="all inputs must be tensors; got Tensor, int"):
        convert(small(), example_inputs=(torch.zeros(1, 6), 3))
    with pytest.raises(ConversionError, match="does not run on the example inputs: RuntimeError"):
        convert(small(), example_inputs=torch.zeros(1, 5))
    with pytest.raises(OptionError, match="there is no exporter 'onnx'"):
        convert(small(), example_inputs=torch.zeros(1, 6), exporter="onnx")


def test_what_an_exporter_cannot_do_names_the_other_one() -> None:
    with pytest.raises(
        ConversionError, match=r"dynamo exporter cannot convert this model[\s\S]*exporter='torchscript'"
    ):
        convert(Branching(), example_inputs=torch.randn(2, 4))


def test_a_wrong_trace_is_found() -> None:
    example = torch.full((2, 4), 100.0)
    with pytest.raises(ConversionError, match="does not agree with its source: output"):
        convert(Branching(), example_inputs=example, exporter="torchscript")
    converted = convert(Branching(), example_inputs=example, exporter="torchscript", check=False)
    assert converted.parity is None
    assert any("trace might not generalize" in note or "incorrect" in note for note in converted.notes)
