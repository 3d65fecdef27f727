"""Maps of all units as one picture."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from onnxprune.explain.sheet import BROKEN, TOP, levels_of, png, png_coloured, sheet, tiled


def test_large_maps_become_means_over_blocks() -> None:
    maps = np.arange(2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4)
    found = tiled(maps, 2)
    assert found.shape == (2, 2, 2)
    assert found[0, 0, 0] == maps[0, :3, :2].mean()
    assert found[1, 1, 1] == maps[1, 3:, 2:].mean()  # the last block is smaller
    np.testing.assert_array_equal(tiled(maps, 5), maps)


def test_levels() -> None:
    tiles = np.array([[[0.0, 1, 2]], [[0, 0, 4]]])
    assert levels_of(tiles, signed=False).tolist() == [[[0, 127, TOP]], [[0, 0, TOP]]]
    assert levels_of(tiles, 4.0, signed=False)[0].tolist() == [[0, 64, 127]]
    assert levels_of(tiles - 1, signed=True)[0].tolist() == [[0, 127, TOP]]
    assert levels_of(np.zeros((1, 1, 2)), signed=True).tolist() == [[[127, 127]]]
    assert levels_of(np.array([[[np.nan, np.inf, 1]]]), signed=False).tolist() == [[[BROKEN, BROKEN, TOP]]]


def test_each_unit_has_its_tile() -> None:
    levels = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    found = sheet(levels, 2)
    assert found.shape == (6, 6)
    for unit in range(5):
        row, column = divmod(unit, 2)
        assert (found[2 * row : 2 * row + 2, 3 * column : 3 * column + 3] == unit).all()
    assert (found[4:, 3:] == 0).all()


def test_png_has_the_colours_of_the_palette() -> None:
    levels = np.array([[0, 1], [2, 1]], np.uint8)
    palette = [(1, 2, 3), (40, 50, 60), (255, 0, 9)]
    read = np.asarray(Image.open(io.BytesIO(png(levels, palette))).convert("RGB"))
    np.testing.assert_array_equal(read, np.array(palette, np.uint8)[levels])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_coloured(pixels)))), pixels)
