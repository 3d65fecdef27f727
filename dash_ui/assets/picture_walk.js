// A part of the page as one SVG that stands alone, as it is seen: boxes are shapes, words are text, canvases and
// pictures are images, drawings are copied. It has no script, no style sheet and points to nothing outside.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const { add, added, box, drawn, field, make, named, picture, placed, shape, turned, within, words } = shared.ink;
  const EDGE = 8; // pixels around what is drawn
  // Commands are no part of a picture; what was chosen is.
  const COMMANDS = ".primary, .plain, .ghost:not(.architecture-legend > *), .menu, .plan-tools, .tree-tools, .tree-own, .cards-tools";
  const UNSEEN = ".unseen, .modebar-container, .plan-lock[aria-pressed=false], script, style, template, datalist, dialog, .plan-shot";

  // -- the walk --------------------------------------------------------------------------------------------------------

  // What lies above is drawn later.
  function level(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) return 0;
    const { position, zIndex } = getComputedStyle(node);
    if (position === "static") return 0;
    const z = zIndex === "auto" ? 0 : Number(zIndex);
    return z < 0 ? z - 0.5 : z + 0.5;
  }

  function cropped(drawing, element, at, into, clip) {
    const inner = { x: at.x + element.clientLeft, y: at.y + element.clientTop, width: element.clientWidth, height: element.clientHeight };
    const seen = within(inner, clip);
    const style = getComputedStyle(element);
    const fits = element.scrollWidth <= element.clientWidth && element.scrollHeight <= element.clientHeight;
    if (!seen || (fits && parseFloat(style.borderTopLeftRadius) === 0)) return [into, seen];
    const id = named(drawing);
    drawing.defs.append(make("clipPath", { id, clipPathUnits: "userSpaceOnUse" }, shape(style, inner, {})));
    const group = make("g", { "clip-path": `url(#${id})` });
    into.append(group);
    return [group, seen];
  }

  function visit(drawing, element, into, clip) {
    const style = getComputedStyle(element);
    if (element.matches(COMMANDS) || element.matches(UNSEEN) || style.display === "none") return;
    if (style.opacity === "0" || style.clipPath.startsWith("inset") || style.maskImage !== "none") return;
    let at = placed(drawing, element.getBoundingClientRect());
    let place = into;
    if (Number(style.opacity) < 1) {
      place = make("g", { opacity: style.opacity });
      into.append(place);
    }
    const shown = style.visibility === "visible";
    if (shown && style.display !== "contents" && element !== drawing.root) {
      const [own, group] = turned(element, style, at, place);
      box(drawing, style, own, group, clip);
    }
    if (element instanceof SVGElement) return shown && drawn(drawing, element, style, at, place, clip);
    if (element instanceof HTMLCanvasElement || element instanceof HTMLImageElement) return shown && picture(drawing, element, style, at, place, clip);
    if (element.matches("input, select, textarea")) return shown && field(drawing, element, style, at, place, clip);
    let seen = clip;
    if (style.overflow !== "visible" && style.display !== "inline") [place, seen] = cropped(drawing, element, at, place, clip);
    if (!seen) return undefined;
    if (shown) added(drawing, element, "::before", place, seen);
    const children = [...element.childNodes].map((node) => [node, level(node)]).sort((a, b) => a[1] - b[1]);
    for (const [node] of children) {
      if (node.nodeType === Node.ELEMENT_NODE) visit(drawing, node, place, seen);
      else if (node.nodeType === Node.TEXT_NODE && shown) words(drawing, node, style, place, seen);
    }
    if (shown) added(drawing, element, "::after", place, seen);
    return undefined;
  }

  // {text, width, height}: the drawing as it is seen now, in the colour of its panel, ending where what it shows ends.
  shared.pictureOf = async function (root, title) {
    const rect = root.getBoundingClientRect();
    const whole = { x: 0, y: 0, width: root.clientWidth, height: root.clientHeight };
    const drawing = { root, from: rect, defs: make("defs", {}), waits: [], count: 0, used: { x: Infinity, y: Infinity, right: 0, bottom: 0 } };
    const body = make("g", {});
    visit(drawing, root, body, whole);
    await Promise.all(drawing.waits);
    const { used } = drawing;
    const [x, y] = Number.isFinite(used.x) ? [Math.max(used.x - EDGE, 0), Math.max(used.y - EDGE, 0)].map(Math.floor) : [0, 0];
    const width = Math.ceil(Math.min(used.right + EDGE, whole.width)) - x || 1;
    const height = Math.ceil(Math.min(used.bottom + EDGE, whole.height)) - y || 1;
    body.setAttribute("transform", `translate(${-x} ${-y})`);
    const ground = getComputedStyle(document.documentElement).getPropertyValue("--surface").trim();
    const words = make("title", {}, shared.xml(title));
    const paper = make("rect", { width, height, fill: ground });
    const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, words, drawing.defs, paper, body);
    return { text: new XMLSerializer().serializeToString(svg), width, height };
  };
})();
