// Words of the page as text of a drawing: line by line, at the end that they are aligned to.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const { add, box, make, paint, placed, within } = shared.ink;
  const pen = document.createElement("canvas").getContext("2d");

  // -- words -----------------------------------------------------------------------------------------------------------

  const ANCHORS = { right: "end", end: "end", center: "middle", "-webkit-center": "middle", "-webkit-right": "end" };

  function write(drawing, style, text, at, into, clip, anchor) {
    pen.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const { fontBoundingBoxAscent: above, fontBoundingBoxDescent: below } = pen.measureText(text);
    const side = anchor || ANCHORS[style.textAlign] || "start";
    const upper = style.textTransform === "uppercase" ? text.toUpperCase() : text;
    const lines = style.textDecorationLine;
    add(drawing, into, clip, at, make("text", {
      x: at.x + { start: 0, middle: at.width / 2, end: at.width }[side], y: at.y + (at.height - above - below) / 2 + above,
      "text-anchor": side === "start" ? null : side, ...paint("fill", style.color), "font-family": style.fontFamily,
      "font-size": style.fontSize, "font-weight": style.fontWeight === "400" ? null : style.fontWeight,
      "font-style": style.fontStyle === "normal" ? null : style.fontStyle,
      "letter-spacing": style.letterSpacing === "normal" ? null : style.letterSpacing,
      "text-decoration": lines && lines !== "none" ? lines : null,
      style: style.fontVariantNumeric === "normal" ? null : "font-variant-numeric:" + style.fontVariantNumeric,
    }, shared.xml(upper)));
  }

  // Where letters from..to of a text stand; null where they take no room.
  function reach(node, from, to) {
    const range = document.createRange();
    range.setStart(node, from);
    range.setEnd(node, to);
    const found = range.getBoundingClientRect();
    return found.width > 0 ? found : null;
  }

  // The text as its lines: [from, to] of the first and the last letter that is seen.
  function linesOf(node) {
    const words = [...node.data.matchAll(/\S+/g)].map((found) => [found.index, found.index + found[0].length]);
    const lines = [];
    for (const [from, to] of words) {
      const range = document.createRange();
      range.setStart(node, from);
      range.setEnd(node, to);
      const broken = range.getClientRects().length > 1; // a word that is itself broken
      for (let k = from; k < to; k = broken ? k + 1 : to) {
        const at = reach(node, k, broken ? k + 1 : to);
        const last = lines[lines.length - 1];
        if (!at) continue;
        if (last && Math.abs(last.y - at.y) < at.height / 2) last.to = broken ? k + 1 : to;
        else lines.push({ from: k, to: broken ? k + 1 : to, y: at.y });
      }
    }
    return lines;
  }

  // What is left of a line where dots stand for the rest.
  function shortened(node, found, holder, style) {
    const room = holder && holder.getBoundingClientRect();
    const whole = reach(node, found.from, found.to);
    const text = node.data.slice(found.from, found.to);
    if (!room || (whole.right <= room.right + 1 && whole.x >= room.x - 1)) return [text, whole];
    pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const dots = pen.measureText("…").width;
    let { from, to } = found;
    if (style.direction === "rtl") {
      while (from < to && (reach(node, from, to) || whole).x < room.x + dots) from += 1;
      const at = reach(node, from, to) || whole;
      return ["…" + node.data.slice(from, to), new DOMRect(at.x - dots, at.y, at.width + dots, at.height)];
    }
    while (to > from && (reach(node, from, to) || whole).right > room.right - dots) to -= 1;
    const at = reach(node, from, to) || new DOMRect(whole.x, whole.y, 0, whole.height);
    return [node.data.slice(from, to) + "…", new DOMRect(at.x, at.y, at.width + dots, at.height)];
  }

  function words(drawing, node, style, into, clip) {
    const element = node.parentElement;
    const holder = [element, element.parentElement].find((one) => getComputedStyle(one).textOverflow === "ellipsis" && one.scrollWidth > one.clientWidth);
    for (const found of linesOf(node)) {
      const [text, at] = shortened(node, found, holder, style);
      const spaced = style.whiteSpace.startsWith("pre") ? text.replace(/ /g, "\u00a0") : text.replace(/\s+/g, " ");
      write(drawing, style, spaced, placed(drawing, at), into, clip, text.startsWith("…") ? "end" : null);
    }
  }

  // What a style sheet adds before or after: a mark with a place of its own, or words at an end of the element.
  function added(drawing, element, which, into, clip) {
    const style = getComputedStyle(element, which);
    if (style.content === "none" || style.content === "normal" || style.display === "none" || style.maskImage !== "none") return;
    const text = (/^"(.*)"$/.exec(style.content) || ["", ""])[1];
    const at = placed(drawing, element.getBoundingClientRect());
    if (style.position !== "absolute") {
      if (text.trim()) write(drawing, style, text.trim(), at, into, clip, which === "::after" ? "end" : "start");
      return;
    }
    let holder = element;
    while (getComputedStyle(holder).position === "static" && holder !== drawing.root) holder = holder.parentElement;
    const frame = placed(drawing, holder.getBoundingClientRect());
    const [x, y] = [frame.x + holder.clientLeft + parseFloat(style.left), frame.y + holder.clientTop + parseFloat(style.top)];
    const border = (one, other) => parseFloat(style[`border${one}Width`]) + parseFloat(style[`border${other}Width`]);
    const pad = (one, other) => parseFloat(style[`padding${one}`]) + parseFloat(style[`padding${other}`]);
    const outer = style.boxSizing === "border-box" ? 0 : 1;
    const width = parseFloat(style.width) + outer * (border("Left", "Right") + pad("Left", "Right"));
    const height = parseFloat(style.height) + outer * (border("Top", "Bottom") + pad("Top", "Bottom"));
    const found = { x, y, width, height };
    if (![x, y, width, height].every(Number.isFinite)) return;
    box(drawing, style, found, into, clip);
    if (text) write(drawing, style, text, found, into, clip, style.placeItems.includes("center") ? "middle" : null);
  }

  function field(drawing, element, style, at, into, clip) {
    if (element.type === "checkbox" || element.type === "radio") {
      if (style.opacity === "0" || style.appearance === "none") return;
      const look = element.checked ? paint("fill", style.accentColor === "auto" ? style.color : style.accentColor) : { fill: "none" };
      const edge = paint("stroke", style.color);
      return add(drawing, into, clip, at, make("rect", { ...at, rx: element.type === "radio" ? at.height / 2 : 2, ...look, ...edge }));
    }
    if (element.type === "range") {
      const part = (element.value - element.min) / (element.max - element.min || 1);
      const r = Math.min(8, at.height / 2);
      const [x, y] = [at.x + r + part * (at.width - 2 * r), at.y + at.height / 2];
      const css = getComputedStyle(document.documentElement);
      add(drawing, into, clip, at, make("rect", { x: at.x, y: y - 2, width: at.width, height: 4, rx: 2, fill: css.getPropertyValue("--grid").trim() }));
      return add(drawing, into, clip, at, make("circle", { cx: x, cy: y, r, fill: css.getPropertyValue("--gone").trim() }));
    }
    const text = (element.tagName === "SELECT" ? (element.selectedOptions[0] || {}).text : element.value || element.placeholder) || "";
    if (!text.trim()) return undefined;
    const looks = element.value ? style : getComputedStyle(element, "::placeholder");
    const [left, right] = [parseFloat(style.paddingLeft) + parseFloat(style.borderLeftWidth), parseFloat(style.paddingRight) + parseFloat(style.borderRightWidth)];
    const inner = { ...at, x: at.x + left, width: at.width - left - right };
    const seen = within(inner, clip);
    return seen && write(drawing, looks, text, inner, into, seen, ANCHORS[style.textAlign]);
  }

  Object.assign(shared.ink, { added, field, words });
})();
