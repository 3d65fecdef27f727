"""The screenshots of README.md and docs/app.md, made again: three nets, pruned and trained, in a real browser.

    python examples/screenshots.py                # all of them, into docs/images/
    python examples/screenshots.py --only residual

It needs ``pip install 'onnxprune[test]'`` and a Chromium: the one that is installed, or Playwright's own.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dash_ui.app import content_policy, create
from dash_ui.serving import Server
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "onnxprune" / "demo_data" / "digits.npz"
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE, HIGH = (1440, 900), (1440, 1240)
COLOURS = 256  # of a file, so that it is small
LONG = 60_000  # milliseconds


@dataclass(frozen=True)
class Shot:
    """``query``: the address that shows it; ``preset``: what to put into the plan, if anything."""

    name: str
    query: str
    theme: str = "light"
    preset: str = ""
    size: tuple[int, int] = SIZE


@dataclass(frozen=True)
class Scene:
    """A folder with one model: the file, what is done to it (action, step, options), the pictures of that."""

    model: Path
    done: tuple[tuple[str, int, Mapping[str, Any]], ...]
    shots: tuple[Shot, ...] = field(default=())


def _prune(step: int, ratio: float, **more: Any) -> tuple[str, int, Mapping[str, Any]]:
    return "prune", step, {"ratio": ratio, "round_to": 1, **more}


def _tune(step: int, epochs: int = 3) -> tuple[str, int, Mapping[str, Any]]:
    return "fine-tune", step, {"epochs": epochs}


SCENES = {
    "digits": Scene(
        ROOT / "onnxprune" / "demo_data" / "digits_cnn.onnx",
        (
            _prune(1, 0.3), _tune(2), _prune(3, 0.3), _tune(4), _prune(1, 0.6, criterion="taylor"), _tune(6),
            _prune(3, 0.7), ("recover", 8, {}),
        ),
        (
            Shot("app-digits", "?step=3&group=conv3", preset="30%"),
            Shot("app-mask", "?step=1&group=conv3&tab=inspect:mask", preset="30%", size=HIGH),
            Shot("app-maps", "?step=3&group=conv3&tab=inspect:maps", preset="30%", size=HIGH),
            Shot("app-digits-dark", "?step=5&group=conv2&tab=statistics:recovery history:cards", theme="dark"),
        ),
    ),
    "residual": Scene(
        ROOT / "examples" / "nets" / "residual.onnx",
        (_prune(1, 0.4, criterion="taylor"), _tune(2)),
        (Shot("app-residual", "?step=3&group=layer2.0.conv1&tab=statistics:classes", preset="20%"),),
    ),
    "transformer": Scene(
        ROOT / "examples" / "nets" / "vit.onnx",
        (_prune(1, 0.3, criterion="taylor"), _tune(2)),
        (Shot("app-transformer", "?step=1&group=blocks.1.mlp.0", theme="dark", preset="30%"),),
    ),
}  # fmt: skip


def workspace_of(scene: Scene, folder: Path) -> None:
    """Put the model and the data into a folder, and do to them what the scene says."""
    (folder / "models").mkdir(parents=True)
    (folder / "data").mkdir()
    shutil.copy(scene.model, folder / "models")
    shutil.copy(DATA, folder / "data")
    with Workspace.open(folder) as workspace:
        workspace.measure(1)
        for action, step, options in scene.done:
            ACTIONS[action](workspace, step, dict(options), _silent, _never)


def _silent(*_: object) -> None:
    """Progress that nobody follows."""


def _never() -> bool:
    return False


def take(browser: Browser, url: str, shot: Shot) -> Path:
    """One picture, when everything in it is there."""
    width, height = shot.size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=_scheme(shot))
    page = context.new_page()
    page.set_default_timeout(LONG)
    expect.set_options(timeout=LONG)
    page.add_init_script("try { localStorage.setItem('onnxprune-toured', 'yes') } catch (e) {}")
    page.goto(url + shot.query)
    if shot.preset:
        button = page.locator(f'[data-preset="{shot.preset}"]')
        expect(button).to_be_enabled()
        button.click()
        expect(page.locator("#top-summary")).to_contain_text("MACs")
    _still(page)
    target = IMAGES / f"{shot.name}.png"
    target.parent.mkdir(exist_ok=True)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        small = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        small.save(target, optimize=True)
    context.close()
    return target


def _scheme(shot: Shot) -> Any:
    return shot.theme


def _still(page: Page) -> None:
    """Wait until nothing in the page waits for the server, and no message lies above it."""
    page.mouse.move(0, 0)
    for _ in range(3):  # an answer may ask for another one
        expect(page.locator('[data-dash-is-loading="true"]')).to_have_count(0)
        page.wait_for_timeout(1500)
    for close in page.locator(".toast-close").all():
        close.click()


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(SCENES), action="append")
    wanted = parser.parse_args().only or list(SCENES)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        installed = next((found for name in BROWSERS if (found := shutil.which(name))), None)
        browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        for name in wanted:
            folder = Path(place) / name
            workspace_of(SCENES[name], folder)
            app = create(folder)
            with Server(app.server, port=0, content_policy=content_policy(app)) as server:
                server.start()
                for shot in SCENES[name].shots:
                    made = take(browser, server.url, shot)
                    print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1000:.0f} kB")
            app.server.config["desk"].close()
        browser.close()


if __name__ == "__main__":
    main()
