from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.cli.conftest import Call, cnn, model_of, save, weight


def custom(folder: Path) -> Path:
    """A chain with an operator in the middle that nobody knows."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="dense1"),
        helper.make_node("Foo", ["a"], ["b"], name="foo", domain="com.acme"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="dense2"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    proto = model_of(helper.make_graph(nodes, "custom", [x], [y], [weight("w1", 6, 12), weight("w2", 12, 4)]))
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    return save(proto, folder / "custom.onnx")


class TestJson:
    def test_totals(self, call: Call, cnn_file: Path) -> None:
        result = call("inspect", cnn_file, "--json")
        assert (result.code, result.err) == (0, "")
        parameters = 8 * 9 + 8 + 16 * 8 * 9 + 16 + 3 * 16 + 3
        assert result.json["parameters"] == parameters
        assert result.json["bytes"] == 4 * parameters
        assert result.json["macs"] == 64 * (8 * 9 + 16 * 8 * 9) + 3 * 16

    def test_groups(self, call: Call, cnn_file: Path) -> None:
        first, second = call("inspect", cnn_file, "--json").json["groups"]
        assert (first["name"], first["kind"], first["units"], first["exact"]) == ("conv1", "filters", 8, True)
        assert first["parameters"] == 8 * 9 + 8 + 16 * 8 * 9
        assert {"tensor": "conv1.weight", "axis": 0} in first["tensors"]
        assert {"tensor": "conv2.weight", "axis": 1} in first["tensors"]
        assert (second["name"], second["units"]) == ("conv2", 16)

    def test_frozen_axes_with_their_reasons(self, call: Call, cnn_file: Path) -> None:
        frozen = call("inspect", cnn_file, "--json").json["frozen"]
        assert {"tensor": "fc.weight", "axis": 0, "reason": "graph output `scores`"} in frozen

    def test_operators_without_a_rule(self, call: Call, tmp_path: Path) -> None:
        found = call("inspect", custom(tmp_path), "--json").json
        assert found["unknown_ops"] == {"com.acme.Foo": 1}
        assert found["groups"] == []
        assert any("com.acme.Foo" in row["reason"] for row in found["frozen"])

    def test_an_output_may_be_let_go(self, call: Call, cnn_file: Path) -> None:
        names = [g["name"] for g in call("inspect", cnn_file, "--json", "--allow-io", "scores:1").json["groups"]]
        assert names == ["conv1", "conv2", "fc"]

    @pytest.mark.parametrize(("sizes", "factor"), [("1,1,8,8", 1), ("2,1,8,8", 2)])
    def test_macs_follow_the_shape(self, sizes: str, factor: int, call: Call, tmp_path: Path) -> None:
        path = save(cnn(), tmp_path / "cnn.onnx")
        plain = call("inspect", path, "--json").json["macs"]
        assert call("inspect", path, "--json", "--shape", f"x={sizes}").json["macs"] == factor * plain


class TestText:
    def test_groups_and_reasons(self, call: Call, cnn_file: Path) -> None:
        result = call("inspect", cnn_file)
        assert result.code == 0
        for words in ("conv1", "filters", "2 groups, 24 units", "graph output `scores`", "fc.weight[0]"):
            assert words in result.out

    def test_operators_without_a_rule(self, call: Call, tmp_path: Path) -> None:
        assert "com.acme.Foo" in call("inspect", custom(tmp_path)).out

    def test_long_names_are_not_cut(self, call: Call, tmp_path: Path) -> None:
        proto = cnn()
        name = "a/very/long/name/of/a/node/that/an/exporter/made/from/every/module/on/the/way[3]/Conv"
        proto.graph.node[0].name = name
        for tensor in (proto.graph.initializer[0], proto.graph.initializer[1]):
            tensor.name = tensor.name.replace("conv1", name)
        proto.graph.node[0].input[1:] = [f"{name}.weight", f"{name}.bias"]
        out = call("inspect", save(proto, tmp_path / "long.onnx")).out
        assert "the/way[3]" in out
