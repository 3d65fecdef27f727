from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxprune.data import batches, fit, open_calibration, open_dataset, splits_of
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

MODEL = TensorInfo("image", np.dtype(np.float32), ("n", 3, 2, 2))


def draw(root: Path, *files: str) -> Path:
    """Images of 2 x 2 pixels; the first is all 0, the next all 1, and so on, so that they can be told apart."""
    for number, name in enumerate(files):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2), (number,) * 3).save(file)
    return root


def content(root: Path, split: str | None = None) -> list[tuple[int, int]]:
    """(which image, label) of every sample."""
    data = fit(open_dataset(root, split), [MODEL])
    return [
        (round(float(feed[0, 0, 0]) * 255), int(label))
        for b in batches(data, 2)
        for feed, label in zip(b.feeds["image"], b.labels if b.labels is not None else [-1] * b.count, strict=True)
    ]


class TestClasses:
    def test_one_folder_each_sorted(self, tmp_path: Path) -> None:
        draw(tmp_path, "dog/2.jpeg", "cat/b.PNG", "cat/a.bmp", "dog/deeper/1.gif")
        found = open_dataset(tmp_path)
        assert found.class_names == ("cat", "dog")
        assert content(tmp_path) == [(2, 0), (1, 0), (0, 1), (3, 1)]
        assert splits_of(tmp_path) == ()

    def test_what_is_hidden_or_no_image_is_passed_over(self, tmp_path: Path) -> None:
        draw(tmp_path, "cat/a.png", "cat/.b.png", ".git/c.png", "__MACOSX/cat/a.png", "loose.png")
        (tmp_path / "cat" / "Thumbs.db").write_bytes(b"")
        assert content(tmp_path) == [(0, 0)]
        assert open_dataset(tmp_path).class_names == ("cat",)

    def test_an_empty_class_keeps_its_number(self, tmp_path: Path) -> None:
        draw(tmp_path, "cat/a.png", "eel/b.png")
        (tmp_path / "dog").mkdir()
        assert open_dataset(tmp_path).class_names == ("cat", "dog", "eel")
        assert content(tmp_path) == [(0, 0), (1, 2)]

    @pytest.mark.parametrize("file", ["classes.txt", "dataset.toml"])
    def test_another_order(self, file: str, tmp_path: Path) -> None:
        draw(tmp_path, "cat/a.png", "dog/b.png")
        text = "dog\n\nwolf\ncat\n" if file == "classes.txt" else 'class_names = ["dog", "wolf", "cat"]'
        (tmp_path / file).write_text(text)
        assert open_dataset(tmp_path).class_names == ("dog", "wolf", "cat")
        assert content(tmp_path) == [(1, 0), (0, 2)]

    def test_a_folder_that_is_not_listed(self, tmp_path: Path) -> None:
        draw(tmp_path, "cat/a.png", "dogs/b.png")
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
        with pytest.raises(DataError, match=r"folder `dogs` is not among the 2 class names; nearest: dog\n"):
            open_dataset(tmp_path)

    def test_a_list_that_is_no_text(self, tmp_path: Path) -> None:
        draw(tmp_path, "cat/a.png")
        (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
        with pytest.raises(DataError, match=r"classes.txt: cannot be read(.|\n)*UTF-8"):
            open_dataset(tmp_path)

    def test_numbers_are_sorted_as_text(self, tmp_path: Path) -> None:
        draw(tmp_path, "10/a.png", "2/b.png")
        assert open_dataset(tmp_path).class_names == ("10", "2")


class TestSplits:
    def test_above_the_classes(self, tmp_path: Path) -> None:
        draw(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/dog/c.png", "annotations/readme.png")
        (tmp_path / "annotations" / "readme.png").unlink()
        assert splits_of(tmp_path) == ("test", "train")
        assert content(tmp_path, "train") == [(0, 0), (1, 1)]
        assert content(tmp_path) == [(2, 1)]  # dog is class 1, though the test part has no cat
        assert len(open_calibration(tmp_path)) == 2

    def test_of_other_names(self, tmp_path: Path) -> None:
        draw(tmp_path, "training/cat/a.png", "holdout/cat/c.png")
        (tmp_path / "dataset.toml").write_text('[split]\ntrain = "training"\ntest = "holdout"')
        assert splits_of(tmp_path) == ("test", "train")
        assert content(tmp_path, "train") == [(0, 0)]

    def test_without_labels(self, tmp_path: Path) -> None:
        draw(tmp_path, "train/a.png", "test/b.png")
        assert content(tmp_path, "train") == [(0, -1)]
        assert open_dataset(tmp_path).class_names == ()

    def test_a_class_called_train(self, tmp_path: Path) -> None:
        draw(tmp_path, "train/a.png", "bus/b.png")
        assert open_dataset(tmp_path).class_names == ("bus", "train")

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        draw(tmp_path, "train/cat/a.png")
        with pytest.raises(DataError, match=r"there is no split 'val'(.|\n)*Splits there: train"):
            open_dataset(tmp_path, "val")


class TestFlat:
    def test_no_labels(self, tmp_path: Path) -> None:
        draw(tmp_path, "b.png", "a.png")
        found = open_dataset(tmp_path)
        assert (found.labels, found.class_names) == (None, ())
        assert content(tmp_path) == [(1, -1), (0, -1)]

    def test_settings_reach_the_images(self, tmp_path: Path) -> None:
        draw(tmp_path, "a.png", "b.png")
        (tmp_path / "dataset.toml").write_text("scale = 1\nmean = [1, 2, 3]\n")
        (batch,) = batches(fit(open_dataset(tmp_path), [MODEL]))
        assert batch.feeds["image"][:, :, 0, 0].tolist() == [[-1, -2, -3], [0, -1, -2]]

    def test_a_broken_first_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"nothing")
        with pytest.raises(DataError, match=r"a.png: cannot be decoded as an image: cannot identify image file it"):
            open_dataset(tmp_path)

    def test_a_model_of_two_inputs(self, tmp_path: Path) -> None:
        other = TensorInfo("other", np.dtype(np.float32), ("n", 4))
        with pytest.raises(DataError, match="nothing for the model's input `image`"):
            fit(open_dataset(draw(tmp_path, "a.png")), [MODEL, other])
