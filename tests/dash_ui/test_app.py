"""The app without a browser: the page, its promises, what the server hands out, and the command that starts it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from dash import html
from dash.development.base_component import Component

from dash_ui.app import all_views, content_policy, create
from dash_ui.cli import unpack
from dash_ui.desk import Desk, Kept, Stale
from dash_ui.serving import Server
from dash_ui.theme import DARK, LIGHT, Theme
from dash_ui.top import why_not
from dash_ui.views import AREAS
from onnxprune.errors import WorkspaceError
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace

RUN = "import sys; from onnxprune.cli import main; sys.exit(main())"
ASSETS = Path(__file__).parents[2] / "dash_ui" / "assets"


@pytest.fixture
def server(small: Path) -> Iterator[Server]:
    app = create(small)
    with Server(app.server, port=0, content_policy=content_policy(app)) as running:
        running.start()
        yield running
    app.server.config["desk"].close()


def get(server: Server, path: str, **headers: str) -> tuple[int, str, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Security-Policy", ""), answer.read().decode("utf-8", "replace")


def everything(component: Component) -> list[Component]:
    return [component, *component._traverse()]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_views_have_areas_and_names_of_their_own() -> None:
    found = all_views()
    assert {view.area for view in found} <= set(AREAS)
    assert len({view.name for view in found}) == len(found)


def test_every_id_is_used_once_and_every_button_is_labelled(small: Path) -> None:
    app = create(small)
    page = app.layout()
    found = [part for part in everything(page) if isinstance(part, Component)]
    for view in all_views():
        if not any(getattr(part, "id", None) == f"slot-{view.name}" and part.children for part in found):
            found += [part for part in everything(view.layout()) if isinstance(part, Component)]
    ids = [str(part.id) for part in found if getattr(part, "id", None) is not None]
    assert sorted(ids) == sorted(set(ids))
    for button in (part for part in found if isinstance(part, html.Button)):
        label = getattr(button, "aria-label", None) or getattr(button, "title", None)
        assert label or text_of(button).strip(), f"a button without a name: {button}"
    app.server.config["desk"].close()


def text_of(component: object) -> str:
    if isinstance(component, str):
        return component
    children = getattr(component, "children", None)
    return "".join(map(text_of, children)) if isinstance(children, list | tuple) else text_of(children or "")


def test_the_style_sheet_has_the_colours_of_the_figures() -> None:
    sheet = (ASSETS / "style.css").read_text(encoding="utf-8")
    light, dark = sheet.split('[data-theme="dark"] {')
    assert variables(light.split("}")[0]) >= colours(LIGHT)
    assert variables(dark.split("}")[0]) >= colours(DARK)


def variables(block: str) -> set[tuple[str, str]]:
    return set(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))


def colours(theme: Theme) -> set[tuple[str, str]]:
    return {(name.replace("_", "-"), value) for name, value in asdict(theme).items() if str(value).startswith("#")}


def test_nothing_in_the_assets_leads_outside() -> None:
    for file in (path for path in ASSETS.rglob("*") if path.suffix in (".css", ".js")):
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert not re.search(r"https?://|@import|\beval\(|innerHTML|new Function", text), file.name


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="there is no such folder"):
        create(tmp_path / "nowhere")


# -- what the server hands out -----------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_outside_and_its_one_script_is_allowed(server: Server) -> None:
    status, rules, text = get(server, "/")
    assert status == 200
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)  # Dash has a word for Internet Explorer
    inline = [
        body
        for attributes, body in re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL)
        if "src=" not in attributes and "application/json" not in attributes
    ]
    assert len(inline) == 1, "a clientside callback is given as text: name a ClientsideFunction instead"
    digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in rules


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../app.py", "/assets/..%2fapp.py", "/assets/%2e%2e/app.py", "/assets/..%5capp.py",
        "/assets//etc/passwd", "/assets/....//app.py", "/_dash-component-suites/dash_ui/app.py",
        "/_dash-component-suites/../../etc/passwd", "/.onnxprune/tree.sqlite", "/assets/%00",
    ],
)  # fmt: skip
def test_paths_do_not_lead_out(server: Server, path: str) -> None:
    status, _, text = get(server, path)
    inside = "from __future__" not in text and "root:" not in text and "SQLite" not in text
    assert inside
    assert status in (404, 500) or "_dash-config" in text  # what is no file is the page


def test_what_changed_is_told(server: Server, small: Path) -> None:
    first = json.loads(get(server, "/_now?step=1")[2])
    assert json.loads(get(server, "/_now?step=1")[2]) == first
    with Workspace.open(small) as workspace:
        workspace.drafts.add(1, {"group": "conv1", "remove": [0]})
    second = json.loads(get(server, "/_now?step=1")[2])
    assert second["draft"] != first["draft"]
    assert second["revision"] == first["revision"]
    with Workspace.open(small) as workspace:
        workspace.steps.describe(1, note="seen")
        Jobs(workspace.database).add("prune", 1, {"ratio": 0.5})
    third = json.loads(get(server, "/_now?step=1")[2])
    assert third["revision"]["tree"] != first["revision"]["tree"]
    assert third["revision"]["jobs"] != first["revision"]["jobs"]
    for odd in ("", "?step=", "?step=x", "?step=-1", f"?step={10**40}", "?step=%00", "?step=²"):
        assert json.loads(get(server, f"/_now{odd.replace('²', '%C2%B2')}")[2])["draft"] is None


# -- the desk ----------------------------------------------------------------------------------------------------------


def test_a_change_for_another_draft_is_refused(small: Path) -> None:
    desk = Desk(small)
    desk.open()
    seen = desk.draft_revision(1)
    fresh = desk.edit(1, {"group": "conv1", "remove": [0]}, seen)
    with pytest.raises(Stale, match="changed elsewhere"):
        desk.edit(1, {"group": "conv1", "remove": [1]}, seen)
    assert desk.draft_revision(1) == fresh
    desk.close()


def test_a_folder_that_may_only_be_read_is_shown(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.workspace.workspace._writable", lambda _: False)
    desk = Desk(small)
    desk.open()
    with desk.workspace() as workspace:
        assert workspace.readonly
        assert [step.kind for step in workspace.steps.all()] == ["original"]
    revisions = desk.revisions()
    assert desk.revisions() == revisions
    with pytest.raises(WorkspaceError, match="opened for viewing"):
        desk.edit(1, {"group": "conv1", "remove": [0]}, None)
    desk.close()
    assert not (small / ".onnxprune").exists()


def test_a_tree_that_was_taken_away_comes_anew(small: Path) -> None:
    desk = Desk(small)
    desk.open()
    assert desk.revisions()["tree"]
    shutil.rmtree(small / ".onnxprune")
    assert desk.revisions()["tree"]
    desk.close()


def test_slow_results_are_made_once_and_the_oldest_go() -> None:
    kept, made = Kept(2), []
    for key in ("a", "b", "a", "c", "b"):
        kept.get(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "b"]
    with pytest.raises(ZeroDivisionError):
        kept.get("d", lambda: 1 / 0)
    assert kept.get("d", lambda: 7) == 7


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_example_is_unpacked_once(tmp_path: Path) -> None:
    unpack(tmp_path / "new")
    model = tmp_path / "new" / "models" / "digits_cnn.onnx"
    assert model.stat().st_size > 100_000
    model.write_bytes(b"mine")
    unpack(tmp_path / "new")
    assert model.read_bytes() == b"mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot be put there"):
        unpack(tmp_path / "file")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN, "ui", "--demo", str(tmp_path / "d"), "--no-browser", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]  # none where it has ended
        found = json.loads("".join(lines))
        with closing(http.client.HTTPConnection("127.0.0.1", found["port"], timeout=30)) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
        process.send_signal(end)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Ended." in errors
    assert "Traceback" not in errors


def test_the_command_refuses_what_it_cannot_open(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, "ui", str(tmp_path / "nowhere"), "--no-browser"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "there is no such folder" in result.stderr


def test_why_a_file_cannot_be_used_does_not_repeat_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.onnx").write_bytes(b"no protobuf")
    with Workspace.open(tmp_path) as workspace:
        (entry,) = workspace.files.listed("model")
        assert why_not(workspace, entry).startswith("is not an ONNX file")
        assert str(tmp_path) not in why_not(workspace, entry)
