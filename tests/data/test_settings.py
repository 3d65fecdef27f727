from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Preprocess, open_dataset, parse_settings, splits_of
from onnxprune.data.settings import GENERAL, PREPROCESS, read_settings
from onnxprune.errors import DataError

X = np.arange(40, dtype=np.float32).reshape(10, 4)


class TestParsing:
    def test_everything(self) -> None:
        found = parse_settings(
            {
                "labels": "target",
                "class_names": ["cat", "dog"],
                "allow_nan": True,
                "scale": "1/255",
                "split": {"train": "training", "test": [5, 10]},
                "inputs": {
                    "image": {"mean": [0.5, 0.25], "std": 2, "resize": 32, "resize_mode": "Crop", "color": "BGR"},
                    "table": {"scale": 1, "reshape": [2, 2], "layout": "nhwc", "dtype": "float32", "crop": [4, 5]},
                },
            }
        )
        assert (found.labels, found.class_names, found.allow_nan) == ("target", ("cat", "dog"), True)
        assert found.splits == {"train": "training", "test": (5, 10)}
        assert found.inputs == {
            "": Preprocess(scale=1 / 255),
            "image": Preprocess(
                scale=1 / 255, mean=(0.5, 0.25), std=(2.0,), resize=(32, 32), resize_mode="crop", color="bgr"
            ),
            "table": Preprocess(scale=1.0, reshape=(2, 2), layout="NHWC", dtype="float32", crop=(4, 5)),
        }

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"maen": 0.5}, r"dataset.toml: there is no key `maen`\nNearest: mean"),
            ({"splits": {}}, r"no key `splits`\nNearest: split"),
            ({"inputs": {"x": {"labels": "y"}}}, r"no key `labels`\nNearest: (?!labels)"),
            ({"qqq": 1}, r"no key `qqq`\nNearest: labels, class_names, .*resize"),
            ({"scale": "a lot"}, r"scale = 'a lot': expected a number, or a fraction"),
            ({"scale": "1/0"}, r"scale = '1/0'"),
            ({"scale": True}, r"scale = True: expected a number"),
            ({"scale": float("nan")}, r"scale = nan: expected a finite number"),
            ({"mean": []}, r"mean = \[\]: expected a number, or one for each channel"),
            ({"std": [1, 0]}, r"std = \[1, 0\]: expected numbers above 0"),
            ({"resize": [3]}, r"resize = \[3\]: expected \[height, width\]"),
            ({"resize": "big"}, r"resize = 'big': expected a list of sizes"),
            ({"reshape": [2, -1]}, r"expected a list of sizes above 0"),
            ({"layout": "HWC"}, r"layout = 'HWC': expected one of NCHW, NHWC"),
            ({"color": "cmyk"}, r"expected one of grey, rgb, bgr, rgba"),
            ({"dtype": "float33"}, r"dtype = 'float33': expected a type such as float32"),
            ({"class_names": ["a", "a"]}, r"expected a list of different names"),
            ({"labels": 3}, r"labels = 3: expected a name"),
            ({"allow_nan": 1}, r"allow_nan = 1: expected true or false"),
            ({"split": {"train": [5, 5]}}, r"train: expected \[first row, row behind the last\]"),
            ({"split": "train"}, r"expected a table \[split\]"),
            ({"inputs": {"x": 3}}, r"inputs.x = 3, expected a table"),
            ({"inputs": 3}, r"inputs = 3, expected a table"),
        ],
    )
    def test_mistakes(self, values: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            parse_settings(values)


class TestDocumentation:
    DOCS = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")

    def test_every_example_is_accepted(self) -> None:
        examples = re.findall(r"^```toml\n(.*?)^```", self.DOCS, re.DOTALL | re.MULTILINE)
        assert len(examples) > 3
        for example in examples:
            parse_settings(tomllib.loads(example))

    @pytest.mark.parametrize("key", [*GENERAL, *PREPROCESS])
    def test_every_key_has_its_row(self, key: str) -> None:
        assert re.search(rf"^\| `{key}` \|", self.DOCS, re.MULTILINE)


class TestFiles:
    def test_beside_the_data_its_own_first(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.toml").write_text("scale = 2")
        assert read_settings(tmp_path / "d.npz").inputs[""].scale == 2
        assert read_settings(tmp_path).inputs[""].scale == 2
        (tmp_path / "d.toml").write_text("scale = 3")
        assert read_settings(tmp_path / "d.npz").inputs[""].scale == 3
        assert read_settings(tmp_path / "other.npy").inputs[""].scale == 2

    def test_no_toml(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.toml").write_text("scale = \n")
        with pytest.raises(DataError, match=r"dataset.toml: cannot be read as TOML: .*line 1"):
            read_settings(tmp_path)

    def test_not_even_text(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(DataError, match=r"dataset.toml: cannot be read as TOML"):
            read_settings(tmp_path)


class TestEffects:
    def test_labels_of_another_name(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X, target=np.arange(10))
        (tmp_path / "d.toml").write_text('labels = "target"\nclass_names = ["a", "b"]\nallow_nan = true')
        found = open_dataset(tmp_path / "d.npz")
        assert np.asarray(found.labels).tolist() == list(range(10))
        assert (list(found.inputs), found.class_names, found.allow_nan) == (["x"], ("a", "b"), True)

    def test_labels_beside_any_array_file(self, tmp_path: Path) -> None:
        np.save(tmp_path / "features.npy", X)
        np.save(tmp_path / "target.npy", np.arange(10))
        (tmp_path / "dataset.toml").write_text('labels = "target"')
        assert len(open_dataset(tmp_path / "features.npy").labels or ()) == 10

    def test_labels_that_are_not_there(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X)
        (tmp_path / "d.toml").write_text('labels = "target"')
        with pytest.raises(DataError, match=r"d.npz: there is no array `target` for the labels; it holds x"):
            open_dataset(tmp_path / "d.npz")

    def test_splits_of_other_names(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x_fold1=X[:7], x_fold2=X[7:])
        (tmp_path / "d.toml").write_text('[split]\ntrain = "fold1"\ntest = "fold2"')
        assert splits_of(tmp_path / "d.npz") == ("test", "train")
        assert len(open_dataset(tmp_path / "d.npz", "train")) == 7
        assert len(open_dataset(tmp_path / "d.npz")) == 3

    def test_splits_by_rows(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X, y=np.arange(10))
        (tmp_path / "d.toml").write_text("[split]\ntrain = [0, 8]\nheldout = [8, 10]")
        assert splits_of(tmp_path / "d.npz") == ("train", "heldout")
        assert np.asarray(open_dataset(tmp_path / "d.npz", "heldout").labels).tolist() == [8, 9]
        assert len(open_dataset(tmp_path / "d.npz")) == 8

    def test_rows_that_are_not_there(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X)
        (tmp_path / "d.toml").write_text("[split]\ntrain = [0, 11]")
        with pytest.raises(DataError, match=r"\(train\): rows 0 to 11, but there are 10 samples"):
            open_dataset(tmp_path / "d.npz", "train")
