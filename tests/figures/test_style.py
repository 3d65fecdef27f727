"""Names, colours and labels at sizes that are hard to draw."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from onnxprune.figures.style import PALETTE, VARIANTS, look, luminance, mixed, short_names, shorten, spread


@given(st.text(max_size=80), st.integers(5, 40))
def test_shortened_names_fit_and_keep_both_ends(text: str, length: int) -> None:
    short = shorten(text, length)
    assert len(short) == min(len(text), length)
    assert short == text or (text.startswith(short.split("…")[0]) and text.endswith(short[-1]))


def test_group_names_that_differ_in_the_middle_stay_apart() -> None:
    names = [f"/model/encoder/layers.{i}/self_attn/{'qkv'[i % 3]}_proj/MatMul_output_0" for i in range(300)]
    short = short_names(names)
    assert len(set(short)) == 300
    assert max(map(len, short)) <= 28
    assert short[4] == "…4/self_attn/k…"


@given(st.lists(st.text("ab/.", min_size=1, max_size=60), min_size=1, max_size=20, unique=True))
def test_different_names_are_never_shortened_to_one(names: list[str]) -> None:
    assert len(set(short_names(names))) == len(names)


def test_looks_differ_as_far_as_an_eye_can_tell() -> None:
    for count in (1, 7, 21, 100):
        assert len({look(i, count) for i in range(count)}) == count
    assert {look(i, 21).variant for i in range(21)} == set(range(VARIANTS))


def test_every_colour_stands_out_from_white_paper() -> None:
    assert max(luminance(colour) for colour in PALETTE) < 0.75
    assert max(luminance(look(i, 100).colour) for i in range(100)) < 0.75


def test_a_ramp_meets_its_stops() -> None:
    stops = ("#000000", "#808080", "#ffffff")
    assert [mixed(stops, at) for at in (-1, 0, 0.5, 1, 2)] == ["#000000", *stops, "#ffffff"]
    assert mixed(stops, 0.25) == "#404040"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_spread_labels_do_not_touch(places: list[float]) -> None:
    moved = spread(places, 0.1)
    order = sorted(moved)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(order))
    assert order[-1] <= 1
    assert sorted(range(len(places)), key=lambda i: (places[i], i)) == sorted(
        range(len(places)), key=lambda i: (moved[i], i)
    )


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([0.9, 0.1, 0.5], 0.1) == [0.9, 0.1, 0.5]
