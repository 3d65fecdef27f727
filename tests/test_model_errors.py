"""Bad files and full disks: each error names the thing and the next step, and an old file survives."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune import model as model_module
from onnxprune.errors import ModelError, ModelLoadError, ModelSaveError, OnnxPruneError, UnsupportedModel
from onnxprune.model import Model, check, from_proto, load, save
from tests.protos import inner_constant, mlp, node, outside, proto, value, values, with_body, with_function
from tests.test_model import holding, write


def refused(path: Path, message: str, hint: str = "", error: type[OnnxPruneError] = ModelLoadError) -> None:
    """Loading fails with that message, which names the file, and with a hint."""
    with pytest.raises(error, match=message) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert re.search(hint, caught.value.hint)


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        refused(tmp_path / "no.onnx", "does not exist", "Check the spelling")

    def test_misspelt(self, tmp_path: Path) -> None:
        write(tmp_path / "resnet.onnx", mlp())
        refused(tmp_path / "resnt.onnx", "does not exist", "Did you mean .*resnet.onnx")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").touch()
        refused(tmp_path / "m.onnx", r"is empty \(0 bytes\)", "fetch it again")

    def test_a_folder(self, tmp_path: Path) -> None:
        refused(tmp_path, "is a folder", "Name the .onnx file")
        write(tmp_path / "m.onnx", mlp())
        refused(tmp_path, "is a folder", "It holds .*m.onnx")

    def test_not_a_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        refused(tmp_path / "pipe", "is not a regular file")

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "m.onnx", mlp())

        def no(*_: object) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", no)
        refused(tmp_path / "m.onnx", "cannot be read: Permission denied", "permissions")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"hello world, this is no model", "is not an ONNX file, or it is truncated"),
            (b"PK\x03\x04" + b"\0" * 40, r"a zip archive, as PyTorch"),
            (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "an HDF5 file"),
            (b"\x1c\0\0\0TFL3" + b"\0" * 40, "a TensorFlow Lite model"),
            (b"\x80\x04\x95" + b"\0" * 40, "a pickle"),
            (b"<!DOCTYPE html><html></html>", "a web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
            (b"\x08\x0a", "it holds no graph"),
        ],
    )
    def test_not_onnx(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "m.onnx").write_bytes(content)
        refused(tmp_path / "m.onnx", words)

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
    def test_truncated(self, tmp_path: Path, share: float) -> None:
        content = mlp(width=500, constant=True).SerializeToString()
        (tmp_path / "m.onnx").write_bytes(content[: int(share * len(content))])
        refused(tmp_path / "m.onnx", "truncated", "cut off|fetch")

    def test_any_damage_is_an_error_or_a_model(self, tmp_path: Path) -> None:
        path, generator = tmp_path / "m.onnx", np.random.default_rng(0)
        for whole in (with_body().SerializeToString(), with_function().SerializeToString()):
            structure = [i for i in range(len(whole)) if i < 120 or i > len(whole) - 300]
            for _ in range(400):
                damaged = bytearray(whole)
                for at in generator.choice(structure, generator.integers(1, 5)):
                    damaged[at] = generator.choice((0, 1, 127, 255, generator.integers(256)))
                path.write_bytes(damaged)
                try:
                    model = load(path)
                except OnnxPruneError:
                    continue
                assert len(model.hash) == 64
                assert model.to_bytes()


class TestExternalData:
    def model_with(self, folder: Path, location: str, **entries: int | str) -> Path:
        content = mlp()
        outside(content.graph.initializer[0], location, **entries)
        return write(folder / "m.onnx", content)

    def test_missing(self, tmp_path: Path) -> None:
        path = self.model_with(tmp_path, "w.bin")
        refused(path, f"`w.bin` of tensor `w1` is missing: expected at {tmp_path / 'w.bin'}", "together")

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "w.bin").mkdir()
        refused(self.model_with(tmp_path, "w.bin"), "`w.bin` of tensor `w1` is not a file")

    @pytest.mark.parametrize(
        ("entries", "need"), [({}, "0 to 2,560"), ({"offset": 100, "length": 2560}, "100 to 2,660")]
    )
    def test_too_short(self, tmp_path: Path, entries: dict[str, int], need: str) -> None:
        (tmp_path / "w.bin").write_bytes(bytes(2559))
        path = self.model_with(tmp_path, "w.bin", **entries)
        refused(path, f"`w.bin` is too short: tensor `w1` needs bytes {need}, the file has 2,559", "fetch")

    @pytest.mark.parametrize(
        "location", ["/etc/passwd", "../w.bin", "a/../../w.bin", "C:\\w.bin", "..\\w.bin", "\\\\host\\share", "C:w.bin"]
    )
    def test_outside_the_folder(self, tmp_path: Path, location: str) -> None:
        (tmp_path / "models").mkdir()
        (tmp_path / "w.bin").write_bytes(bytes(2560))
        path = self.model_with(tmp_path / "models", location)
        refused(path, "of tensor `w1` points outside the model's folder: refused", "beside the model")

    def test_a_link_out_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "models").mkdir()
        (tmp_path / "secret").write_bytes(bytes(2560))
        (tmp_path / "models" / "w.bin").symlink_to(tmp_path / "secret")
        refused(self.model_with(tmp_path / "models", "w.bin"), "is a link to .*secret, outside the model's folder")

    def test_in_a_folder_below(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "w.bin").write_bytes(values(20, 32, seed=1).tobytes())
        assert load(self.model_with(tmp_path, "data/w.bin")).hash == from_proto(mlp()).hash

    @pytest.mark.parametrize(
        ("entries", "words"),
        [
            ({"offset": -4}, "the offset of its external data is `-4`, expected a number"),
            ({"offset": "9" * 5000}, "the offset of its external data is `9+`, expected a number"),
            ({"length": "many"}, "the length of its external data is `many`"),
            ({"length": 4}, r"`w1` has 4 bytes of data, expected 2,560 for shape \[20, 32\]"),
        ],
    )
    def test_wrong_entries(self, tmp_path: Path, entries: dict[str, int | str], words: str) -> None:
        (tmp_path / "w.bin").write_bytes(bytes(2560))
        refused(self.model_with(tmp_path, "w.bin", **entries), words)

    def test_no_location(self, tmp_path: Path) -> None:
        refused(self.model_with(tmp_path, ""), "`w1` keeps its data in another file, but does not name it")

    def test_of_a_proto_without_a_path(self) -> None:
        content = mlp()
        outside(content.graph.initializer[0], "w.bin")
        with pytest.raises(ModelLoadError, match="there is no folder to look in"):
            from_proto(content)

    def test_a_skeleton_is_not_a_model(self) -> None:
        with pytest.raises(ModelLoadError, match="the data of tensor `w1` is not in this proto") as caught:
            from_proto(from_proto(mlp()).proto)
        assert "to_proto" in caught.value.hint

    def test_of_strings(self, tmp_path: Path) -> None:
        tensor = numpy_helper.from_array(np.array(["a"], dtype=object), "w")
        tensor.ClearField("string_data")
        (tmp_path / "w.bin").write_bytes(b"a")
        path = write(tmp_path / "m.onnx", holding(outside(tensor, "w.bin")))
        refused(path, "`w` keeps strings in another file")

    def test_missing_inside_a_body(self, tmp_path: Path) -> None:
        content = with_body()
        outside(inner_constant(content), "w.bin")
        refused(write(tmp_path / "m.onnx", content), "`w.bin` of tensor ``inner` inside node `if`` is missing")


def tensor_with(change: Callable[[onnx.TensorProto], object]) -> onnx.ModelProto:
    tensor = numpy_helper.from_array(values(3, 4), "w")
    change(tensor)
    return proto([], [], [value("w", None)], {"w": tensor})


def sparse_with(indices: np.ndarray, dims: list[int]) -> onnx.ModelProto:
    content = proto([node("Identity", ["w"], ["y"])], [], [value("y", None)])
    one = numpy_helper.from_array(np.ones(len(indices), np.float32), "w")
    content.graph.sparse_initializer.append(helper.make_sparse_tensor(one, numpy_helper.from_array(indices), dims))
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tensor_with(lambda t: setattr(t, "raw_data", b"12")), r"`w` has 2 bytes of data, expected 48 for shape"),
        (tensor_with(lambda t: t.ClearField("raw_data")), r"`w` has too few or too many data for shape \[3, 4\]"),
        (tensor_with(lambda t: setattr(t, "data_type", 99)), "`w` has element type 99, which is unknown"),
        (tensor_with(lambda t: setattr(t, "data_type", 0)), "`w` has element type 0"),
        (tensor_with(lambda t: t.dims.append(-1)), "`w` has a negative dimension"),
        (tensor_with(lambda t: t.segment.SetInParent()), "`w` is stored in segments"),
        (tensor_with(lambda t: setattr(t, "data_type", TensorProto.STRING)), "`w` has 0 strings of data, expected 12"),
        (sparse_with(np.array([99]), [4, 5]), "`w` has indices outside of"),
        (sparse_with(np.array([-1]), [4, 5]), "`w` has indices outside of"),
        (sparse_with(np.array([[9, 9]]), [4, 5]), "`w` has indices outside of"),
        (sparse_with(np.array([1]), [2**40]), "`w` of shape .* cannot be made dense"),
    ],
)  # fmt: skip
def test_wrong_tensors(tmp_path: Path, content: onnx.ModelProto, words: str) -> None:
    refused(write(tmp_path / "m.onnx", content), words)


def chain(*nodes: onnx.NodeProto, **parts: object) -> onnx.ModelProto:
    return proto(list(nodes), [value("x", [2])], [value("y", None)], **parts)  # type: ignore[arg-type]


def body_reading(name: str) -> onnx.ModelProto:
    then = helper.make_graph([node("Relu", [name], ["t"])], "then", [], [value("t", None)])
    return proto(
        [node("If", ["c"], ["y"], name="if", then_branch=then, else_branch=then)],
        [value("c", [], TensorProto.BOOL), value("x", [2])],
        [value("y", None)],
    )


STRUCTURE = {
    "cycle": (
        chain(node("Add", ["x", "b"], ["a"], name="n1"), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])),
        r"the graph has a cycle: (.* -> )?node `n1` \(Add\) -> the Relu that makes `b`( -> .*)?",
    ),
    "self loop": (chain(node("Add", ["x", "y"], ["y"], name="n")), r"cycle: node `n` \(Add\) -> node `n` \(Add\)"),
    "long cycle": (
        chain(node("Relu", ["t29"], ["t0"]), *(node("Relu", [f"t{i}"], [f"t{i + 1}"], name=f"r{i}") for i in range(29)),
              node("Relu", ["t29"], ["y"])),
        "more ...",
    ),
    "dangling input": (chain(node("Add", ["x", "gone"], ["y"], name="n")), "`n` .Add. reads `gone`, which nothing"),
    "dangling inside a body": (body_reading("gone"), "the Relu that makes `t` reads `gone`"),
    "dangling output": (chain(node("Relu", ["x"], ["z"])), "output `y` of the graph is produced by nothing"),
    "two nodes": (
        chain(node("Relu", ["x"], ["y"], name="a"), node("Abs", ["x"], ["y"], name="b")),
        r"`y` has two producers: node `a` \(Relu\) and node `b` \(Abs\)",
    ),
    "node and input": (chain(node("Relu", ["x"], ["x"]), node("Relu", ["x"], ["y"])), "producers: an input of the gr"),
    "node and initializer": (
        chain(node("Relu", ["x"], ["w"]), node("Relu", ["w"], ["y"]), weights={"w": values(2)}),
        "producers: an initializer of the graph and",
    ),
    "two inputs": (
        proto([node("Relu", ["x"], ["y"])], [value("x", [2]), value("x", [2])], [value("y", None)]),
        "`x` stands 2 times among the inputs",
    ),
    "no operator": (chain(node("", ["x"], ["y"], name="n")), "node `n` has no operator"),
    "no opset": (chain(node("Relu", ["x"], ["y"]), opsets={"": 1}), "names no opset"),
    "no IR version": (chain(node("Relu", ["x"], ["y"])), "no IR version"),
    "two opsets": (chain(node("Relu", ["x"], ["y"])), "imports 2 opsets of domain `ai.onnx`"),
    "nameless initializer": (chain(node("Relu", ["x"], ["y"]), weights={"": values(2)}), "one of the initializers"),
}  # fmt: skip
del STRUCTURE["no opset"][0].opset_import[:]
STRUCTURE["no IR version"][0].ClearField("ir_version")
STRUCTURE["two opsets"][0].opset_import.append(helper.make_opsetid("", 19))


def test_an_opset_that_is_named_twice_is_one() -> None:
    """As skl2onnx writes a logistic regression."""
    twice = chain(node("Relu", ["x"], ["y"]))
    twice.opset_import.append(twice.opset_import[0])
    assert from_proto(twice).hash


@pytest.mark.parametrize(("content", "words"), STRUCTURE.values(), ids=STRUCTURE)
def test_wrong_structure(tmp_path: Path, content: onnx.ModelProto, words: str) -> None:
    refused(write(tmp_path / "m.onnx", content), words)
    with pytest.raises(ModelError, match=words):
        check(Model(content, {}))


def test_a_broken_model_is_not_saved(tmp_path: Path) -> None:
    editor = from_proto(mlp()).edit()
    del editor.proto.graph.node[0]
    with pytest.raises(ModelSaveError, match="reads `h`, which nothing produces"):
        save(editor.build(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_bodies_may_reuse_names_and_read_from_outside() -> None:
    check(from_proto(body_reading("x")))
    check(from_proto(with_body()))


class TestTooNew:
    RUNTIME = re.escape(f"onnxruntime {onnxruntime.__version__}")

    def test_opset(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m.onnx", chain(node("Relu", ["x"], ["y"]), opsets={"": 999}))
        refused(
            path, rf"uses opset of domain ai.onnx 999; {self.RUNTIME}.* goes up to \d\d\n", "Update", UnsupportedModel
        )

    def test_opset_of_another_domain(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m.onnx", chain(node("Relu", ["x"], ["y"]), opsets={"": 20, "ai.onnx.ml": 99}))
        refused(path, r"domain ai.onnx.ml 99; .* goes up to \d\n", "Update", UnsupportedModel)

    def test_ir_version(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m.onnx", chain(node("Relu", ["x"], ["y"]), ir_version=999))
        refused(path, rf"has IR version 999; {self.RUNTIME}.* goes up to \d\d\n", "Update", UnsupportedModel)

    def test_the_limits_named_are_accepted(self) -> None:
        for part, pattern in (({"opsets": {"": 999}}, r"up to (\d+)"), ({"ir_version": 999}, r"up to (\d+)")):
            with pytest.raises(UnsupportedModel) as caught:
                from_proto(chain(node("Relu", ["x"], ["y"]), **part))
            limit = int(re.search(pattern, caught.value.message)[1])  # type: ignore[index]
            newest = {"opsets": {"": limit}} if "opsets" in part else {"ir_version": limit}
            check(from_proto(chain(node("Relu", ["x"], ["y"]), **newest)))


class FullDisk:
    """A file that takes so many bytes."""

    def __init__(self, file: object, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes | memoryview) -> int:
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)  # type: ignore[attr-defined, no-any-return]

    def writelines(self, lines: Iterator[bytes]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # type: ignore[attr-defined]


class TestSaving:
    @pytest.mark.parametrize("external", [False, True])
    @pytest.mark.parametrize("room", [0, 100, 20_000, 46_200])
    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool, room: int) -> None:
        path = tmp_path / "m.onnx"
        save(from_proto(mlp(width=400)), path, external=external)
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        real = Path.open
        disks: list[FullDisk] = []

        def full(self: Path, mode: str = "r") -> object:
            file = real(self, mode)
            if "x" not in mode:
                return file
            disks.append(FullDisk(file, room))
            return disks[-1]

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(ModelSaveError, match=r"m.onnx cannot be written: No space left on device") as caught:
            save(from_proto(mlp(width=500)), path, external=external)
        assert "unchanged" in caught.value.hint
        assert disks
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "m.onnx", mlp())
        before = path.read_bytes()

        def no(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", no)
            with pytest.raises(ModelSaveError, match="cannot be written: Permission denied"):
                save(from_proto(mlp(width=500)), path)
        assert path.read_bytes() == before

    def test_a_write_protected_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "m.onnx", mlp())
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ModelSaveError, match="it is write-protected"):
            save(from_proto(mlp()), path)

    def test_a_folder_without_write_permission(self, tmp_path: Path) -> None:
        """For root, who may write everywhere, the kernel's own folder stands in."""
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
        target = Path("/proc") if os.geteuid() == 0 else folder
        with pytest.raises(ModelSaveError, match=r"m.onnx cannot be written: "):
            save(from_proto(mlp()), target / "m.onnx")
        assert not list(folder.iterdir())

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelSaveError, match=r"there is no folder .*nowhere"):
            save(from_proto(mlp()), tmp_path / "nowhere" / "m.onnx")

    def test_onto_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelSaveError, match="it is a folder"):
            save(from_proto(mlp()), tmp_path)

    def test_data_onto_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx.data").mkdir()
        with pytest.raises(ModelSaveError, match="not a regular file"):
            save(from_proto(mlp()), tmp_path / "m.onnx", external=True)
        assert not (tmp_path / "m.onnx").exists()

    def test_too_large_for_one_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model_module, "PROTOBUF_LIMIT", 10_000)
        with pytest.raises(ModelSaveError, match=r"takes [\d,]+ bytes, and a file without external data holds"):
            save(from_proto(mlp(width=500)), tmp_path / "m.onnx", external=False)

    def test_too_large_for_one_message(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onnxprune._model.PROTOBUF_LIMIT", 10_000)
        with pytest.raises(ModelError, match="one ONNX message holds at most 10,000") as caught:
            from_proto(mlp(width=500)).to_proto()
        assert "external=True" in caught.value.hint
