"""Bad input: a message that names the thing and the next step, exit code 2, no traceback, no output file."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.plan import Plan
from tests.cli.conftest import Call, Result, cnn, mlp, model_of, one_layer, save, weight

Make = Callable[[Path], Path]


def refused(result: Result, *words: str) -> None:
    """The command said no, calmly, and said these words."""
    assert result.code == 2, result.err
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert len(result.err.splitlines()) >= 2, f"no next step: {result.err}"
    for word in words:
        assert word in result.err


def only(folder: Path, *names: str) -> None:
    """Nothing else was written, temporary files included."""
    assert {path.name for path in folder.iterdir()} == set(names)


# -- the file ---------------------------------------------------------------------------------------------------------


def not_onnx(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_text("these are not the weights that you are looking for\n" * 20)
    return path


def truncated(folder: Path) -> Path:
    path = folder / "model.onnx"
    content = cnn().SerializeToString()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def empty(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.touch()
    return path


def directory(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.mkdir()
    return path


def missing(folder: Path) -> Path:
    save(cnn(), folder / "cnn.onnx")
    return folder / "cmm.onnx"


def zip_file(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    return path


def external(folder: Path, location: str, size: int) -> Path:
    """A model whose first weight is in another file, of ``size`` bytes where that file is in the folder."""
    proto = mlp()
    tensor = proto.graph.initializer[0]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        tensor.external_data.add(key=key, value=value)
    if size:
        (folder / location).write_bytes(content[:size])
    return save(proto, folder / "model.onnx")


def external_missing(folder: Path) -> Path:
    return external(folder, "weights.bin", 0)


def external_short(folder: Path) -> Path:
    return external(folder, "weights.bin", 100)


def external_absolute(folder: Path) -> Path:
    return external(folder, str((folder / "weights.bin").absolute()), 0)


def external_parent(folder: Path) -> Path:
    return external(folder, "../weights.bin", 0)


# -- the graph --------------------------------------------------------------------------------------------------------


def chain(folder: Path, nodes: list[onnx.NodeProto], opset: int = 17, ir: int = 8) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    weights = [weight("w1", 6, 12), weight("w2", 12, 4)]
    return save(model_of(helper.make_graph(nodes, "bad", [x], [y], weights), opset, ir), folder / "model.onnx")


def cycle(folder: Path) -> Path:
    return chain(
        folder,
        [
            helper.make_node("Add", ["x", "b"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"], name="second"),
            helper.make_node("Identity", ["b"], ["y"], name="third"),
        ],
    )


def dangling(folder: Path) -> Path:
    return chain(folder, [helper.make_node("MatMul", ["x", "nowhere"], ["y"], name="dense")])


def two_producers(folder: Path) -> Path:
    return chain(
        folder,
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"], name="one"),
            helper.make_node("MatMul", ["x", "w1"], ["h"], name="two"),
            helper.make_node("MatMul", ["h", "w2"], ["y"], name="three"),
        ],
    )


GOOD = [
    helper.make_node("MatMul", ["x", "w1"], ["h"], name="one"),
    helper.make_node("MatMul", ["h", "w2"], ["y"], name="two"),
]


def new_opset(folder: Path) -> Path:
    return chain(folder, GOOD, opset=99)


def new_ir(folder: Path) -> Path:
    return chain(folder, GOOD, ir=99)


BAD_MODELS: list[tuple[Make, tuple[str, ...]]] = [
    (not_onnx, ("model.onnx", "not an ONNX file")),
    (truncated, ("model.onnx", "truncated")),
    (empty, ("model.onnx", "empty")),
    (directory, ("model.onnx", "folder")),
    (missing, ("cmm.onnx", "does not exist", "cnn.onnx")),
    (zip_file, ("model.onnx", "zip archive", "convert")),
    (external_missing, ("weights.bin", "w1")),
    (external_short, ("weights.bin", "w1", "too short")),
    (external_absolute, ("weights.bin", "w1")),
    (external_parent, ("../weights.bin", "w1")),
    (cycle, ("cycle", "first")),
    (dangling, ("nowhere", "dense")),
    (two_producers, ("`h`", "one", "two")),
    (new_opset, ("opset", "99")),
    (new_ir, ("IR", "99")),
]


@pytest.mark.parametrize(("make", "words"), BAD_MODELS, ids=[make.__name__ for make, _ in BAD_MODELS])
class TestModels:
    def test_prune(self, make: Make, words: tuple[str, ...], call: Call, tmp_path: Path) -> None:
        path = make(tmp_path)
        before = {p.name for p in tmp_path.iterdir()}
        refused(call("prune", path, "-o", tmp_path / "out.onnx", "--ratio", "0.5"), *words)
        only(tmp_path, *before)

    def test_inspect(self, make: Make, words: tuple[str, ...], call: Call, tmp_path: Path) -> None:
        refused(call("inspect", make(tmp_path), "--json"), *words)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ratio", "1.5"), ("1.5", "0", "1")),
        (("--ratio", "-0.1"), ("-0.1",)),
        (("--ratio", "nan"), ("nan",)),
        (("--ratio", "inf"), ("inf",)),
        (("--group", "conv1=2"), ("conv1", "2")),
        (("--group", "conv1=nan"), ("conv1", "nan")),
        (("--group", "conv1"), ("conv1", "NAME=RATIO")),
        (("--group", "conv1=half"), ("conv1=half", "number")),
        (("--group", "cnov1=0.5"), ("cnov1", "conv1")),
        (("--ratio", "0.5", "--skip", "cnov1"), ("cnov1", "conv1")),
        (("--ratio", "0.5", "--round-to", "0"), ("round", "0")),
        (("--ratio", "0.5", "--criterion", "l22"), ("l22", "l2")),
        (("--ratio", "0.5", "--shape", "x=1,a,8,8"), ("x=1,a,8,8",)),
        (("--ratio", "0.5", "--shape", "x"), ("NAME=",)),
        (("--ratio", "0.5", "--allow-io", "score"), ("score", "scores")),
        (("--target-params", "nan"), ("nan",)),
        (("--target-params", "0"), ("0",)),
        (("--target-macs", "much"), ("much", "number")),
        (("--ratio", "0.5", "--target-macs", "0.5"), ("ratio", "target")),
        ((), ("ratio",)),
        (("--ratio", "0.5", "--granularity", "weight", "--mode", "remove"), ("mask",)),
    ],
)
def test_options(options: tuple[str, ...], words: tuple[str, ...], call: Call, cnn_file: Path, out: Path) -> None:
    refused(call("prune", cnn_file, "-o", out, *options), *words)
    only(out.parent, cnn_file.name)


def test_an_option_that_does_not_exist(call: Call, cnn_file: Path, out: Path) -> None:
    result = call("prune", cnn_file, "-o", out, "--rato", "0.5")
    assert result.code == 2
    assert "--rato" in result.err
    assert not out.exists()


# -- plans ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def plan_file(call: Call, cnn_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    assert call("prune", cnn_file, "-o", tmp_path / "cut.onnx", "--ratio", "0.5", "--save-plan", path).code == 0
    (tmp_path / "cut.onnx").unlink()
    return path


@pytest.mark.parametrize("command", ["prune", "apply"])
def test_a_plan_of_another_model(command: str, call: Call, plan_file: Path, mlp_file: Path, out: Path) -> None:
    options: dict[str, tuple[str | Path, ...]] = {
        "prune": ("prune", mlp_file, "-o", out, "--plan", plan_file),
        "apply": ("plan", "apply", plan_file, mlp_file, "-o", out),
    }
    plan = Plan.load(plan_file)
    refused(call(*options[command]), "mlp.onnx", "cnn.onnx", plan.model_hash)
    assert not out.exists()


def test_a_plan_that_is_none(call: Call, cnn_file: Path, out: Path) -> None:
    refused(call("prune", cnn_file, "-o", out, "--plan", cnn_file), "cnn.onnx", "not a plan")
    assert not out.exists()


def test_plans_of_different_models(call: Call, plan_file: Path, mlp_file: Path, out: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    assert call("prune", mlp_file, "-o", out, "--ratio", "0.5", "--save-plan", other).code == 0
    refused(call("plan", "diff", plan_file, other), "cnn.onnx", "mlp.onnx")


def test_plan_and_ratio(call: Call, plan_file: Path, cnn_file: Path, out: Path) -> None:
    refused(call("prune", cnn_file, "-o", out, "--plan", plan_file, "--ratio", "0.5"), "--plan", "--ratio")
    assert not out.exists()


# -- datasets ---------------------------------------------------------------------------------------------------------


X = np.zeros((4, 1, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((4, 64), np.float32), "y": np.arange(4) % 3}, ("float32 (4, 64)", "float32 (batch, 1, 8, 8)")),
        ({"x": np.zeros((4, 1, 8, 8), np.int64), "y": np.arange(4) % 3}, ("int64", "float32")),
        ({"x": np.zeros((4, 3, 8, 8), np.float32), "y": np.arange(4) % 3}, ("(4, 3, 8, 8)", "(batch, 1, 8, 8)")),
        ({"x": X, "y": np.arange(5) % 3}, ("`x` 4", "`y` 5")),
        ({"x": X, "y": np.arange(4)}, ("label 3 in row 3", "3 classes (0 to 2)")),
        ({"x": X, "y": np.zeros((4, 7), np.float32)}, ("float32 (4, 7)", "`scores` float32 (4, 3)")),
        ({"pictures": X, "y": np.arange(4) % 3}, ("`x`", "`pictures`")),
        ({"x": X}, ("no labels",)),
        ({"x": X[:0], "y": np.zeros(0, np.int64)}, ("0 samples",)),
    ],
)
def test_datasets_that_do_not_fit(
    arrays: dict[str, np.ndarray], words: tuple[str, ...], call: Call, cnn_file: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    refused(call("evaluate", cnn_file, "--data", tmp_path / "data.npz"), *words)


def test_a_split_that_is_not_there(call: Call, cnn_file: Path, data_file: Path) -> None:
    refused(call("evaluate", cnn_file, "--data", data_file, "--split", "val"), "'val'", "test, train")


def test_a_dataset_that_is_none(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"PK\x03\x04 but nothing more")
    refused(call("evaluate", cnn_file, "--data", path), "data.npz", "cannot be read")
    refused(call("evaluate", cnn_file, "--data", tmp_path / "date.npz"), "date.npz", "data.npz")
    refused(call("evaluate", cnn_file, "--data", cnn_file), "cnn.onnx", ".npz")


def test_the_proof_refuses_them_too(call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 64), np.float32))
    refused(call("prune", cnn_file, "-o", out, "--ratio", "0.5", "--data", tmp_path / "data.npz"), "float32 (4, 64)")
    assert not out.exists()


# -- weights that are no numbers --------------------------------------------------------------------------------------


@pytest.fixture
def broken_file(tmp_path: Path) -> Path:
    proto = cnn()
    array = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    array[2, 0, 0, 0], array[3, 0, 1, 1] = np.nan, np.inf
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "conv1.weight"))
    return save(proto, tmp_path / "broken.onnx")


class TestNotANumber:
    def test_inspect_warns(self, call: Call, broken_file: Path) -> None:
        result = call("inspect", broken_file, "--json")
        assert result.code == 0
        assert result.json["groups"]
        assert "Warning: weight `conv1.weight` has 2 entries that are NaN or Inf" in result.err

    def test_score_warns_and_scores(self, call: Call, broken_file: Path, tmp_path: Path) -> None:
        result = call("score", broken_file, "-o", tmp_path / "scores.npz")
        assert result.code == 0
        assert "conv1.weight" in result.err
        with np.load(tmp_path / "scores.npz") as scores:
            assert not np.isnan(scores["conv1"]).any()

    def test_removal_is_refused(self, call: Call, broken_file: Path, out: Path) -> None:
        refused(call("prune", broken_file, "-o", out, "--ratio", "0.5"), "conv1.weight")
        assert not out.exists()

    @pytest.mark.parametrize("options", [("--no-verify",), ("--mode", "mask")])
    def test_what_goes_on_with_a_warning(
        self, options: tuple[str, ...], call: Call, broken_file: Path, out: Path
    ) -> None:
        result = call("prune", broken_file, "-o", out, "--ratio", "0.5", *options)
        assert result.code == 0, result.err
        assert "Warning: weight `conv1.weight`" in result.err
        assert out.exists()


# -- nothing to do ----------------------------------------------------------------------------------------------------


def test_nothing_can_be_pruned(call: Call, out: Path, tmp_path: Path) -> None:
    path = save(one_layer(), tmp_path / "line.onnx")
    refused(call("prune", path, "-o", out, "--ratio", "0.5"), "graph input `x`", "graph output `y`")
    assert not out.exists()


@pytest.mark.parametrize("options", [("--ratio", "0"), ("--ratio", "0.01"), ("--ratio", "0.5", "--round-to", "64")])
def test_no_unit_goes(options: tuple[str, ...], call: Call, cnn_file: Path, out: Path) -> None:
    refused(call("prune", cnn_file, "-o", out, *options), "No unit goes", "2 groups", "round")
    assert not out.exists()


def test_the_result_would_equal_the_input(call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
    mask = ("--ratio", "0.5", "--mode", "mask", "--round-to", "1")
    assert call("prune", cnn_file, "-o", tmp_path / "masked.onnx", *mask).code == 0
    refused(call("prune", tmp_path / "masked.onnx", "-o", out, *mask), "would equal the input")
    assert not out.exists()


# -- the output -------------------------------------------------------------------------------------------------------


def test_the_output_is_the_input(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    before = cnn_file.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(cnn_file)
    for name in (cnn_file, link):
        refused(call("prune", cnn_file, "-o", name, "--ratio", "0.5"), "input")
    refused(call("prune", cnn_file, "-o", tmp_path / "a.onnx", "--save-plan", cnn_file, "--ratio", "0.5"), "input")
    assert cnn_file.read_bytes() == before


def test_the_output_is_the_data_of_the_input(call: Call, tmp_path: Path) -> None:
    path = external(tmp_path, "b.onnx.data", 4 * 6 * 12)
    before = (tmp_path / "b.onnx.data").read_bytes()
    refused(call("prune", path, "-o", tmp_path / "b.onnx", "--ratio", "0.5"), "b.onnx.data")
    assert (tmp_path / "b.onnx.data").read_bytes() == before


def test_model_and_plan_in_one_file(call: Call, cnn_file: Path, out: Path) -> None:
    refused(call("prune", cnn_file, "-o", out, "--save-plan", out, "--ratio", "0.5"), "--save-plan", "out.onnx")
    assert not out.exists()


def test_no_folder(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    refused(call("prune", cnn_file, "-o", tmp_path / "no" / "out.onnx", "--ratio", "0.5"), "no folder")
    refused(call("prune", cnn_file, "-o", tmp_path, "--ratio", "0.5"), "folder")


def test_no_permission(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "out.onnx").write_bytes(b"the old one")
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # the superuser may write anywhere but where the kernel says no
        folder = Path("/sys/kernel")
    refused(call("prune", cnn_file, "-o", folder / "out.onnx", "--ratio", "0.5"), "out.onnx", "cannot be written")
    (tmp_path / "locked").chmod(0o700)
    assert (tmp_path / "locked" / "out.onnx").read_bytes() == b"the old one"


def test_disk_full(cnn_file: Path, out: Path, tmp_path: Path) -> None:
    """The system refuses to make a file longer than 1000 bytes, which it reports as it does a full disk."""
    out.write_bytes(b"the old one")
    limit = 1000
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from onnxprune.cli import main; sys.exit(main())",
         "prune", str(cnn_file), "-o", str(out), "--ratio", "0.5"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    refused(Result(done.returncode, done.stdout, done.stderr), "out.onnx", "cannot be written")
    assert out.read_bytes() == b"the old one"
    only(tmp_path, cnn_file.name, out.name)
