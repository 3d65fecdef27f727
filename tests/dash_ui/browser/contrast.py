"""Contrast of text against what is really behind it, as WCAG 2.2 (1.4.3) counts it, measured on a rendered page.

Where text stands and which colour it has the browser says; what is behind it is read from a screenshot in which all
letters are made invisible, so that pictures, plots and anything half transparent count as they are seen.

    L = 0.2126 R + 0.7152 G + 0.0722 B    of linear light
    ratio = (L1 + 0.05) / (L2 + 0.05)     the lighter over the darker

A text fails where over a quarter of the ground under its letters is too near to it. What is disabled is left out, as
WCAG does; large text (24 px, or 18.66 px and bold) needs 3, other text 4.5.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

__all__ = ["LARGE", "SMALL", "Text", "failing", "luminance", "ratio", "texts"]

SMALL, LARGE = 4.5, 3.0
TOLERANCE = 0.02  # screenshots round colours to 8 bits
GRID = 9, 31  # points looked at under a text, down and across
TRIES, PAUSE = 40, 250  # until nothing moves; milliseconds
QUARTER = 25  # percent of these that may be too near

HIDDEN = """
    *, *::before, *::after, *::placeholder { -webkit-text-fill-color: transparent !important;
        text-shadow: none !important; caret-color: transparent !important;
        text-decoration-color: transparent !important; transition: none !important; }
    svg text, svg tspan { fill-opacity: 0 !important; }
"""

TEXTS = r"""
(root) => {
    const place = (node) => {
        const parts = [];
        for (let at = node; at && at !== document.body && parts.length < 4; at = at.parentElement) {
            if (at.id && typeof at.id === "string" && !at.id.startsWith("{")) { parts.unshift("#" + at.id); break; }
            const word = typeof at.className === "string" ? at.className : at.className.baseVal;
            parts.unshift(at.tagName.toLowerCase() + (word ? "." + word.trim().split(/\s+/)[0] : ""));
        }
        return parts.join(" > ");
    };
    const rgba = (text) => {
        if (!rgba.paint) {
            const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
            rgba.paint = canvas.getContext("2d", {willReadFrequently: true});
        }
        const paint = rgba.paint;
        paint.clearRect(0, 0, 1, 1);
        paint.fillStyle = "#000";
        paint.fillStyle = text;
        paint.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const dim = (node) => {
        let found = 1;
        for (let at = node; at; at = at.parentElement) found *= Number(getComputedStyle(at).opacity);
        return found;
    };
    const room = (node) => {
        let left = 0, top = 0, right = innerWidth, bottom = innerHeight;
        for (let at = node; at && at !== document.body; at = at.parentElement) {
            const style = getComputedStyle(at);
            const within = at instanceof SVGElement && !(at instanceof SVGSVGElement);
            if (style.overflow === "visible" || within) continue;
            const box = at.getBoundingClientRect();
            left = Math.max(left, box.left); top = Math.max(top, box.top);
            right = Math.min(right, box.right); bottom = Math.min(bottom, box.bottom);
        }
        return {left, top, right, bottom};
    };
    const LAYERS = "[id^=drawer-], .panel, .top, .menu-body, .toast, dialog, [role=dialog], .dash-dropdown-content";
    const seen = (node, box) => {
        if (!node.checkVisibility({visibilityProperty: true, opacityProperty: true})) return false;
        if (node.closest(":disabled, [aria-disabled=true], .unseen, defs")) return false;
        const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2, inside = room(node);
        if (x < inside.left || x > inside.right || y < inside.top || y > inside.bottom) return false;
        if (box.bottom > inside.bottom + 1 || box.top < inside.top - 1) return false;
        const hit = document.elementFromPoint(x, y);
        return !hit || hit.contains(node) || node.contains(hit) || hit.closest(LAYERS) === node.closest(LAYERS);
    };
    const found = [];
    const add = (node, box, colour, text, style, more, opacity) => {
        if (box.width < 2 || box.height < 2 || !seen(node, box)) return;
        const size = parseFloat(style.fontSize);
        const fill = rgba(colour);
        const part = room(node);
        const left = Math.max(box.left, part.left), right = Math.min(box.right, part.right);
        found.push({
            place: place(node) + more, text: text.trim().slice(0, 40), colour: fill.slice(0, 3),
            alpha: fill[3] * opacity * dim(node), left, top: box.top, width: right - left, height: box.height,
            large: size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700),
        });
    };
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const owner = node.parentElement;
        if (!node.data.trim() || !owner || owner.closest("script, style, noscript, title, select, textarea")) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        const style = getComputedStyle(owner);
        const drawn = owner.closest("text");
        if (drawn && style.fill === "none") continue;
        const box = [...range.getClientRects()].find((one) => one.width > 1) || range.getBoundingClientRect();
        add(owner, box, drawn ? style.fill : style.color, node.data, style, "", drawn ? Number(style.fillOpacity) : 1);
    }
    for (const node of root.querySelectorAll("input, textarea, select")) {
        if (["checkbox", "radio", "range", "hidden", "file", "color"].includes(node.type)) continue;
        const style = getComputedStyle(node), box = node.getBoundingClientRect();
        const before = getComputedStyle(node, "::placeholder").color;
        if (node.value) add(node, box, style.color, node.value, style, "", 1);
        else if (node.placeholder) add(node, box, before, node.placeholder, style, "::placeholder", 1);
    }
    return found;
}
"""


@dataclass(frozen=True)
class Text:
    """One piece of text: where it is, what it says, its colour as shown, the ground's, and their ratio."""

    place: str
    says: str
    colour: str
    ground: str
    ratio: float
    large: bool

    @property
    def needed(self) -> float:
        return LARGE if self.large else SMALL

    def __str__(self) -> str:
        return f"{self.ratio:.2f} (needs {self.needed}) {self.colour} on {self.ground}: {self.place} {self.says!r}"


def luminance(colour: NDArray[Any]) -> NDArray[np.float64]:
    """Relative luminance of sRGB colours (..., 3) in 0..255."""
    share = np.asarray(colour, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def ratio(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Contrast of colours, 1 to 21."""
    first, second = luminance(one), luminance(other)
    return np.asarray((np.maximum(first, second) + 0.05) / (np.minimum(first, second) + 0.05))


def texts(page: Page, root: str = "body") -> list[Text]:
    """All text that is seen within an element, with its contrast, at a moment at which nothing moves."""
    place = page.locator(root).first
    for _ in range(TRIES):
        found = place.evaluate(TEXTS)
        sheet = page.add_style_tag(content=HIDDEN)
        try:
            ground = _pixels(page)
        finally:
            sheet.evaluate("node => node.remove()")
        if found == place.evaluate(TEXTS):
            return [text for entry in found if (text := _text(entry, ground)) is not None]
        page.wait_for_timeout(PAUSE)
    raise AssertionError(f"the page never came to rest: {root}")


def failing(found: list[Text]) -> list[str]:
    """Those without the contrast that they need, once for each place and pair of colours, the worst first."""
    bad = [text for text in found if text.ratio < text.needed - TOLERANCE]
    kept: dict[tuple[str, str, str], Text] = {}
    for text in sorted(bad, key=lambda one: one.ratio):
        kept.setdefault((text.place, text.colour, text.ground), text)
    return [str(text) for text in kept.values()]


def _pixels(page: Page) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(page.screenshot(animations="disabled", scale="css"))) as picture:
        return np.asarray(picture.convert("RGB"))


def _text(entry: dict[str, Any], ground: NDArray[np.uint8]) -> Text | None:
    rows = np.linspace(entry["top"] + 0.2 * entry["height"], entry["top"] + 0.8 * entry["height"], GRID[0]).round()
    columns = np.linspace(entry["left"] + 1, entry["left"] + entry["width"] - 1, GRID[1]).round()
    height, width, _ = ground.shape
    rows, columns = rows[(rows >= 0) & (rows < height)], columns[(columns >= 0) & (columns < width)]
    if not (rows.size and columns.size):
        return None
    under = ground[np.ix_(rows.astype(int), columns.astype(int))].reshape(-1, 3).astype(np.float64)
    alpha = min(max(entry["alpha"], 0.0), 1.0)
    letters = alpha * np.array(entry["colour"]) + (1 - alpha) * under
    ratios = ratio(letters, under)
    place = int(np.argsort(ratios)[len(ratios) * QUARTER // 100])
    names = ["#" + "".join(f"{round(float(v)):02x}" for v in one) for one in (letters[place], under[place])]
    return Text(entry["place"], entry["text"], *names, float(ratios[place]), entry["large"])
