from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.errors import PlanError
from onnxprune.plan import Plan
from tests.plan_cases import MODEL, plans, small


class TestJson:
    @given(plans())
    def test_round_trip(self, plan: Plan) -> None:
        text = plan.to_json()
        assert Plan.from_json(text) == plan
        assert Plan.from_json(text).to_json() == text

    @given(plan=plans())
    def test_round_trip_through_a_file(self, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.getbasetemp() / "plan.json"
        plan.save(path)
        assert Plan.load(path) == plan

    def test_a_file_name_that_is_not_utf8_survives(self, tmp_path: Path) -> None:
        plan = Plan(MODEL, model_name=b"caf\xe9.onnx".decode("utf-8", "surrogateescape"))
        plan.save(tmp_path / "plan.json")
        assert Plan.load(tmp_path / "plan.json") == plan

    def test_the_text_is_one_that_a_person_can_read(self) -> None:
        lines = small().to_json().splitlines()
        assert '    "conv1": {"units": 9, "removed": [0, 3, 7]},' in lines
        assert '    "criterion": "l2",' in lines
        assert '    "shapes": {"x": [1, 3, 8, 8]}' in lines
        assert any(line.startswith('    "w": {"shape": [2, 3], "removed": 3, "mask": "') for line in lines)
        assert len(lines) < 40

    def test_masks_are_packed_bits_little_end_first_in_c_order(self) -> None:
        entry = json.loads(small().to_json())["weights"]["w"]
        assert zlib.decompress(base64.b64decode(entry["mask"])) == bytes([0b100101])

    def test_names_are_written_as_they_are(self) -> None:
        assert '"卷积"' in Plan(MODEL, group_sizes={"卷积": 3}).to_json()


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(small().to_json())
    change(document)
    return json.dumps(document)


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


BAD_FIELDS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (put("format", value="other"), 'p.json: format: not a plan: got "other"'),
    (lambda d: d.pop("format"), "p.json: format: not a plan: got null"),
    (put("schema", value=0), "schema: got 0, expected a whole number from 1 to 1"),
    (put("schema", value="1"), 'schema: got "1", expected a whole number'),
    (put("schema", value=True), "schema: got true, expected a whole number"),
    (put("schema", value=2), "schema: version 2 is newer than this onnxprune reads .1.\nUpgrade onnxprune"),
    (lambda d: d.pop("groups"), "the document: the field 'groups' is missing"),
    (put("extra", value=1), "the document: unknown field 'extra'"),
    (put("model", value=[]), r"model: got \[\], expected an object"),
    (put("model", "hash", value=1), "model.hash: got 1, expected a text"),
    (put("model", "hash", value=""), "model.hash: empty"),
    (put("recipe", value="l2"), 'recipe: got "l2", expected an object'),
    (put("options", "attention", value="tails"), 'options.attention: got "tails", expected one of heads, dims'),
    (put("options", "attention", value=[]), r"options.attention: got \[\], expected one of heads, dims"),
    (put("options", "norm_groups", value=None), "options.norm_groups: got null"),
    (put("options", "include_inexact", value=1), "options.include_inexact: got 1, expected true or false"),
    (put("options", "allow_io", value=["a", 2]), r"options.allow_io\[1\]: got 2, expected a text"),
    (
        put("options", "shapes", "x", value=[1, -3]),
        r'options.shapes\["x"\]: got \[1, -3\], expected sizes of 0 or more',
    ),
    (lambda d: d["options"].pop("shapes"), "options: the field 'shapes' is missing"),
    (put("groups", "fc", value=[0]), r'p.json: groups\["fc"\]: got \[0\], expected an object'),
    (put("groups", "fc", "remvoed", value=[]), r"groups\[\"fc\"\]: unknown field 'remvoed', expected units, removed"),
    (put("groups", "fc", "units", value=1.0), r'groups\["fc"\].units: got 1.0, expected a whole number'),
    (put("groups", "fc", "units", value=-2), r'groups\["fc"\].units: got -2, expected 1 or more'),
    (put("groups", "fc", "removed", value=3), r'groups\["fc"\].removed: got 3, expected a list'),
    (put("groups", "conv1", "removed", value=[0, "1"]), r'groups\["conv1"\].removed\[1\]: got "1", expected a whole'),
    (put("groups", "conv1", "removed", value=[0, True]), r"removed\[1\]: got true, expected a whole number"),
    (put("groups", "conv1", "removed", value=[0, 9]), r"removed\[1\]: unit 9 is out of range, the group has 9 units"),
    (put("groups", "conv1", "removed", value=[-1]), r"removed\[0\]: unit -1 is out of range"),
    (put("groups", "conv1", "removed", value=[10**30]), r"removed\[0\]: unit 10+ is out of range"),
    (put("groups", "conv1", "removed", value=[2, 2]), "unit 2 is there twice"),
    (put("weights", "w", "shape", value=[2, "3"]), r'weights\["w"\].shape\[1\]: got "3", expected a whole number'),
    (put("weights", "w", "shape", value=[2, -3]), r'weights\["w"\].shape: .*expected sizes of 0 or more'),
    (put("weights", "w", "shape", value=[2, 30]), r'weights\["w"\].mask: wrong length: got 1 bytes, expected 8'),
    (put("weights", "w", "shape", value=[0]), r'weights\["w"\].mask: wrong length: got more than 0 bytes, expected 0'),
    (put("weights", "w", "mask", value="§"), r'weights\["w"\].mask: not base64 of zlib'),
    (put("weights", "w", "mask", value="AAAA"), r'weights\["w"\].mask: not base64 of zlib'),
    (put("weights", "w", "removed", value=2), r'weights\["w"\].removed: says 2 weights, but the mask removes 3'),
]


class TestBadFiles:
    @pytest.mark.parametrize(("change", "message"), BAD_FIELDS, ids=[message for _, message in BAD_FIELDS])
    def test_each_bad_field_is_named(self, change: Callable[[dict[str, Any]], object], message: str) -> None:
        with pytest.raises(PlanError, match=message) as caught:
            Plan.from_json(edited(change), "p.json")
        assert caught.value.message.startswith("p.json: ")
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "line 1, column 1: not JSON: it ends too early"),
            ("not json", "line 1, column 1: not JSON: Expecting value"),
            ("[]", r"the document: got \[\], expected an object"),
            ("null", "the document: got null, expected an object"),
            ('{"a": 1, "a": 2}', '"a": the name is there twice'),
            ('{"a": NaN}', "NaN is not a number that JSON has"),
            ("[" * 100_000, "not a plan: nested too deeply"),
            ('{"a": ' + "9" * 5000 + "}", "not JSON: .*digits"),
        ],
        ids=["empty", "words", "list", "null", "twice", "nan", "deep", "digits"],
    )
    def test_what_is_no_plan_at_all(self, text: str, message: str) -> None:
        with pytest.raises(PlanError, match=f"p.json: {message}|p.json: the document: {message}"):
            Plan.from_json(text, "p.json")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
    def test_a_truncated_file(self, share: float, tmp_path: Path) -> None:
        text = small().to_json().rstrip()
        (tmp_path / "p.json").write_text(text[: int(len(text) * share)], encoding="utf-8")
        with pytest.raises(PlanError, match=r"p.json: line \d+, column \d+: not JSON"):
            Plan.load(tmp_path / "p.json")

    @given(st.data())
    def test_no_damage_to_the_text_raises_anything_but_plan_errors(self, data: st.DataObject) -> None:
        text = small().to_json()
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 20)))
        damaged = text[:start] + data.draw(st.text(max_size=5)) + text[end:]
        try:
            Plan.from_json(damaged)
        except PlanError as error:
            assert error.message.startswith("plan: ")  # noqa: PT017 - most damages are refused, some are harmless

    def test_a_huge_mask_is_not_unpacked(self) -> None:
        bomb = base64.b64encode(zlib.compress(bytes(10**8))).decode()
        with pytest.raises(PlanError, match="wrong length: got more than 1 bytes, expected 1"):
            Plan.from_json(edited(put("weights", "w", "mask", value=bomb)))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match=r"none.json: cannot read the plan: No such file"):
            Plan.load(tmp_path / "none.json")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match="cannot read the plan: Is a directory"):
            Plan.load(tmp_path)
        with pytest.raises(PlanError, match=r"cannot write the plan: .* is not a regular file"):
            small().save(tmp_path)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(b"\x08\x0a\xff\xfe")
        with pytest.raises(PlanError, match=r"model.onnx: not a plan: not UTF-8 text \(byte 2\)"):
            Plan.load(tmp_path / "model.onnx")


class TestSave:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match=r"p.json: cannot write the plan: No such file"):
            small().save(tmp_path / "none" / "p.json")

    def test_a_full_disk_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        small().save(tmp_path / "p.json")
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(PlanError, match="cannot write the plan: No space left on device"):
            Plan(MODEL).save(tmp_path / "p.json")
        assert Plan.load(tmp_path / "p.json") == small()
        assert [path.name for path in tmp_path.iterdir()] == ["p.json"]

    def test_a_link_is_followed_and_the_mode_kept(self, tmp_path: Path) -> None:
        real, link = tmp_path / "real.json", tmp_path / "link.json"
        real.write_text("old", encoding="utf-8")
        real.chmod(0o640)
        link.symlink_to(real)
        small().save(link)
        assert link.is_symlink()
        assert Plan.load(real) == small()
        assert real.stat().st_mode & 0o777 == 0o640
