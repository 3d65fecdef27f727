"""Decoding against Pillow, and what a model's input makes of a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxprune.data import Dataset, Preprocess, batches, fit
from onnxprune.data.images import Images
from onnxprune.data.prepare import Look
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (7, 6, 9, 3)).astype(np.uint8)  # 7 images, 6 high, 9 wide


def info(*sample: Any, dtype: Any = np.float32) -> TensorInfo:
    return TensorInfo("in", np.dtype(dtype), ("n", *sample))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    result = [tmp_path / f"{k}.png" for k in range(len(PIXELS))]
    for file, pixels in zip(result, PIXELS, strict=True):
        Image.fromarray(pixels).save(file)
    return result


def fitted(files: list[Path], model: TensorInfo, **recipe: Any) -> Array:
    data = fit(Dataset({"x": Images(files)}, prepare={"": Preprocess(**recipe)}), [model])
    found = np.concatenate([b.feeds["in"] for b in batches(data, 3)])
    assert (data.inputs["in"].shape, data.inputs["in"].dtype) == (found.shape, found.dtype)
    return found


def resized(height: int, width: int) -> Array:
    return np.stack([np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR)) for p in PIXELS])


def grey(pixels: Array) -> Array:
    return np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in pixels])


class TestColumn:
    @pytest.fixture(params=[0, 1 << 30], ids=["threads", "one"], autouse=True)
    def small(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onnxprune.data.images.SMALL", request.param)

    def test_pixels_in_any_order(self, files: list[Path]) -> None:
        column = Images(files)
        assert (column.shape, column.dtype) == (PIXELS.shape, np.dtype(np.uint8))
        np.testing.assert_array_equal(column[2:5], PIXELS[2:5])
        np.testing.assert_array_equal(column[np.array([6, 0, 6, 3, 1, 2])], PIXELS[[6, 0, 6, 3, 1, 2]])
        np.testing.assert_array_equal(np.asarray(column), PIXELS)

    def test_only_rows_that_are_asked_for_are_decoded(self, files: list[Path]) -> None:
        column = Images(files)
        files[5].write_bytes(b"broken")
        assert len(column[0:5]) == 5
        with pytest.raises(DataError, match=r"5.png: cannot be decoded as an image: cannot identify"):
            column[4:6]

    def test_a_truncated_file_is_named(self, files: list[Path]) -> None:
        column = Images(files)
        files[2].write_bytes(files[2].read_bytes()[:-60])
        with pytest.raises(DataError, match=r"2.png: cannot be decoded as an image: (.|\n)*Replace the file"):
            column[0:7]

    def test_different_sizes(self, files: list[Path], tmp_path: Path) -> None:
        Image.fromarray(PIXELS[0, :4]).save(tmp_path / "flat.png")
        with pytest.raises(DataError, match=r"flat.png: 4 x 9 \(height x width\), but 0.png is 6 x 9\n.*resize"):
            np.asarray(Images([*files, tmp_path / "flat.png"]))
        assert Images([*files, tmp_path / "flat.png"], Look(size=(3, 3)))[6:8].shape == (2, 3, 3, 3)


class TestColours:
    @pytest.mark.parametrize(
        ("color", "expected"),
        [
            ("rgb", PIXELS),
            ("bgr", PIXELS[..., ::-1]),
            ("grey", grey(PIXELS)[..., None]),
            ("rgba", np.concatenate([PIXELS, np.full((7, 6, 9, 1), 255, np.uint8)], axis=-1)),
        ],
    )
    def test_wanted(self, color: str, expected: Array, files: list[Path]) -> None:
        np.testing.assert_array_equal(Images(files, Look(color))[0:7], expected)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
    @pytest.mark.parametrize("color", ["grey", "rgb"])
    def test_any_file_mode(self, mode: str, color: str, tmp_path: Path) -> None:
        source = Image.fromarray(PIXELS[0]).convert(mode)
        source.save(tmp_path / "a.tif")
        expected = np.asarray(source.convert("L" if color == "grey" else "RGB"))
        np.testing.assert_array_equal(Images([tmp_path / "a.tif"], Look(color))[0:1][0].squeeze(), expected)

    def test_a_palette_with_transparency(self, tmp_path: Path) -> None:
        Image.fromarray(PIXELS[0]).convert("P").save(tmp_path / "a.png", transparency=b"\x00\x80\xff")
        assert Images([tmp_path / "a.png"], Look("rgb"))[0:1].shape == (1, 6, 9, 3)

    def test_16_bits_keep_their_upper_byte(self, tmp_path: Path) -> None:
        values = RNG.integers(0, 65536, (6, 9)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "a.png")
        found = Images([tmp_path / "a.png"])
        assert found.look.color == "grey"
        np.testing.assert_array_equal(found[0:1][0, ..., 0], values >> 8)

    def test_turned_as_the_camera_was_held(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        Image.fromarray(PIXELS[0]).save(tmp_path / "a.png", exif=exif)
        found = Images([tmp_path / "a.png"])
        assert found.shape == (1, 9, 6, 3)
        np.testing.assert_array_equal(found[0:1][0], np.rot90(PIXELS[0], -1))


class TestFromTheModel:
    def test_nchw(self, files: list[Path]) -> None:
        found = fitted(files, info(3, 4, 5))
        np.testing.assert_allclose(found, resized(4, 5).transpose(0, 3, 1, 2) / 255, rtol=1e-5)

    def test_nhwc(self, files: list[Path]) -> None:
        np.testing.assert_allclose(fitted(files, info(4, 5, 3)), resized(4, 5) / 255, rtol=1e-5)

    def test_grey_with_and_without_an_axis_for_it(self, files: list[Path]) -> None:
        expected = grey(PIXELS) / 255
        np.testing.assert_allclose(fitted(files, info(1, 6, 9))[:, 0], expected, rtol=1e-5)
        np.testing.assert_allclose(fitted(files, info(6, 9)), expected, rtol=1e-5)

    def test_bytes_stay_bytes(self, files: list[Path]) -> None:
        found = fitted(
            files,
            info(6, 9, 3, dtype=np.uint8),
        )
        np.testing.assert_array_equal(found, PIXELS)

    def test_open_sizes_keep_the_images(self, files: list[Path]) -> None:
        assert fitted(files, info(3, "h", "w")).shape == (7, 3, 6, 9)
        assert fitted(files, TensorInfo("in", np.dtype(np.float32), ("n", "c", "h", "w"))).shape == (7, 3, 6, 9)

    def test_channels_that_images_cannot_have(self, files: list[Path]) -> None:
        with pytest.raises(DataError, match=r"float32 \(7, 3, 4, 5\).* takes float32 \(n, 2, 4, 5\)"):
            fitted(files, info(2, 4, 5))


class TestRecipes:
    def test_values(self, files: list[Path]) -> None:
        found = fitted(files, info(3, 6, 9), scale=1.0, mean=(100.0, 110.0, 120.0), std=(50.0,), color="bgr")
        expected = (PIXELS[..., ::-1].astype(np.float32) - [100, 110, 120]) / 50
        np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)

    def test_cover_and_cut_the_centre(self, files: list[Path]) -> None:
        found = fitted(files, info(3, 4, 4), resize=(4, 4), resize_mode="crop", scale=1.0)
        np.testing.assert_array_equal(found, resized(4, 6)[:, :, 1:5].transpose(0, 3, 1, 2))

    def test_a_centre_after_resizing(self, files: list[Path]) -> None:
        found = fitted(files, info(3, 2, 4), resize=(4, 6), crop=(2, 4), scale=1.0)
        np.testing.assert_array_equal(found, resized(4, 6)[:, 1:3, 1:5].transpose(0, 3, 1, 2))

    def test_a_centre_alone(self, files: list[Path]) -> None:
        found = fitted(files, info(3, 4, 5), crop=(4, 5), scale=1.0)
        np.testing.assert_array_equal(found, PIXELS[:, 1:5, 2:7].transpose(0, 3, 1, 2))

    def test_a_centre_that_is_too_large(self, files: list[Path]) -> None:
        with pytest.raises(DataError, match=r"0.png: .* a centre of 8 x 5 cannot be cut out of 6 x 9"):
            fitted(files, info(3, 8, 5), crop=(8, 5))

    def test_flat_for_a_network_of_vectors(self, files: list[Path]) -> None:
        found = fitted(files, info(54), color="grey", reshape=(54,))
        np.testing.assert_allclose(found, grey(PIXELS).reshape(7, 54) / 255, rtol=1e-5)

    def test_another_size_than_the_model(self, files: list[Path]) -> None:
        with pytest.raises(DataError, match=r"\(7, 3, 5, 5\).* takes float32 \(n, 3, 4, 4\)"):
            fitted(files, info(3, 4, 4), resize=(5, 5))

    def test_files_have_no_layout(self, files: list[Path]) -> None:
        with pytest.raises(DataError, match=r"layout = 'NHWC', but images in files have none\n.*model_layout"):
            fitted(files, info(3, 4, 4), layout="NHWC")

    def test_the_layout_of_an_open_shape(self, files: list[Path]) -> None:
        assert fitted(files, info("a", "b", "c"), model_layout="NHWC").shape == (7, 6, 9, 3)
