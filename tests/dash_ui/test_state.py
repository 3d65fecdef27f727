"""What is selected, in the address and back."""

from __future__ import annotations

import pytest

from dash_ui.shell import next_group, open_in
from dash_ui.state import Selection, from_query, opened, to_query

FULL = Selection(3, 1, "layer1.0/conv 1+ä&=", "l2", 0.125, "history:cards drawer:jobs", "data/a b.npz")


def test_the_address_round_trips() -> None:
    assert from_query(to_query(FULL)) == FULL
    assert to_query(Selection()) == ""
    assert from_query("") == from_query(None) == Selection()


@pytest.mark.parametrize(
    "text",
    ["?step=x", "?step=-1", "?step=0", f"?step={10**30}", "?threshold=nan", "?threshold=inf", "?threshold=",
     "?other=1.5", "?nothing=1", "?step", "???", "?%zz=%"],
)  # fmt: skip
def test_what_cannot_be_read_is_left_out(text: str) -> None:
    assert from_query(text) == Selection()


def test_a_store_of_another_version_is_read() -> None:
    assert Selection.of({"step": 2, "unknown": 1}) == Selection(step=2)
    assert Selection.of(None) == Selection()
    assert Selection.of({"step": 2}).changed(group="conv1")["group"] == "conv1"


def test_open_tabs() -> None:
    assert opened("history:cards drawer:jobs") == {"history": "cards", "drawer": "jobs"}
    assert opened("nonsense a:b:c") == {"a": "b:c"}
    assert opened(None) == {}
    selection = Selection(tab="history:cards drawer:jobs")
    assert open_in(selection, "drawer", None) == "history:cards"
    assert opened(open_in(selection, "inspect", "mask"))["inspect"] == "mask"
    assert open_in(Selection(tab="drawer:jobs"), "drawer", None) is None


def test_the_next_group_goes_round() -> None:
    names = ["conv1", "conv2", "fc"]
    assert next_group(names, "conv1", 1) == "conv2"
    assert next_group(names, "fc", 1) == "conv1"
    assert next_group(names, "conv1", -1) == "fc"
    assert next_group(names, None, 1) == "conv1"
    assert next_group(names, "gone", -1) == "fc"
    assert next_group([], None, 1) is None
