// What style sheets say, in the words of SVG: colours, fills that change along a line, and the properties of shapes.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const SVG = "http://www.w3.org/2000/svg";
  const round = (value) => String(Math.round(value * 100) / 100);

  function make(name, attributes, ...children) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(key, typeof value === "number" ? round(value) : value);
    }
    node.append(...children);
    return node;
  }

  // A computed colour as [colour, opacity]; null for none. (`color-mix` comes as `color(srgb 0.1 0.2 0.3 / 0.5)`.)
  function colour(text) {
    const found = /^(rgba?|color)\(/.exec(text);
    if (!found) return null;
    const [r, g, b, a = 1] = text.match(/-?[\d.]+(e-?\d+)?/g).map(Number);
    const whole = found[1] === "color" ? 255 : 1;
    return a <= 0 ? null : ["rgb(" + [r, g, b].map((part) => Math.round(part * whole)).join(",") + ")", a];
  }

  // The attributes that paint with a computed colour. `how`: fill or stroke.
  function paint(how, text) {
    const found = colour(text);
    if (!found) return { [how]: "none" };
    return { [how]: found[0], [how + "-opacity"]: found[1] < 1 ? round(found[1]) : null };
  }

  // Splits at commas that are not within brackets.
  function parts(text) {
    const found = [""];
    let deep = 0;
    for (const letter of text) {
      if (letter === "(") deep += 1;
      if (letter === ")") deep -= 1;
      if (letter === "," && !deep) found.push("");
      else found[found.length - 1] += letter;
    }
    return found.map((part) => part.trim());
  }

  const length = (text, whole) => (text.endsWith("%") ? (parseFloat(text) / 100) * whole : parseFloat(text));

  // Places of the stops that have none lie evenly between their neighbours.
  function placed(stops, last) {
    if (stops[0].at === null) stops[0].at = 0;
    if (stops[stops.length - 1].at === null) stops[stops.length - 1].at = last;
    for (let k = 1; k < stops.length; k++) {
      if (stops[k].at !== null) {
        stops[k].at = Math.max(stops[k].at, stops[k - 1].at);
        continue;
      }
      const next = stops.findIndex((stop, i) => i > k && stop.at !== null);
      stops[k].at = stops[k - 1].at + (stops[next].at - stops[k - 1].at) / (next - k + 1);
    }
    return stops;
  }

  const SIDES = { "to top": 0, "to right": 90, "to bottom": 180, "to left": 270 };

  // `linear-gradient(...)`, also the repeating one, over a box {x, y, width, height}; null for another picture.
  function gradient(text, box, id) {
    const found = /^(repeating-)?linear-gradient\((.*)\)$/.exec(text);
    if (!found) return null;
    const words = parts(found[2]);
    const turned = words[0] in SIDES ? SIDES[words[0]] : /^-?[\d.]+deg$/.test(words[0]) ? parseFloat(words[0]) : null;
    const angle = ((turned === null ? 180 : turned) * Math.PI) / 180;
    const [dx, dy] = [Math.sin(angle), -Math.cos(angle)];
    const long = Math.abs(box.width * dx) + Math.abs(box.height * dy);
    const [x, y] = [box.x + (box.width - dx * long) / 2, box.y + (box.height - dy * long) / 2];
    const stops = [];
    for (const word of words.slice(turned === null ? 0 : 1)) {
      const [, tone, rest] = /^(\w+\(.*?\)|[#\w]+)\s*(.*)$/.exec(word);
      for (const at of rest ? rest.split(/\s+/) : [null]) stops.push({ tone, at: at === null ? null : length(at, long) });
    }
    placed(stops, long);
    const end = found[1] ? stops[stops.length - 1].at : long;
    const nodes = stops.map((stop) => {
      const [tone, opacity] = colour(stop.tone) || ["rgb(0,0,0)", 0];
      return make("stop", { offset: String(stop.at / (end || 1)), "stop-color": tone, "stop-opacity": opacity });
    });
    const line = { x1: x, y1: y, x2: x + dx * end, y2: y + dy * end };
    return make("linearGradient", { id, gradientUnits: "userSpaceOnUse", spreadMethod: found[1] ? "repeat" : "pad", ...line }, ...nodes);
  }

  // `radial-gradient(one 1px, other 1.2px)` in small tiles: dots on a ground; null for another picture.
  function dots(text, tile, id) {
    const found = /^radial-gradient\((.*)\)$/.exec(text);
    const stops = found ? parts(found[1]).map((word) => /^(\w+\([^)]*\)) ([\d.]+)px$/.exec(word)) : [];
    if (stops.length !== 2 || !stops[0] || !stops[1] || !(tile.width > 0)) return null;
    const ground = make("rect", { width: tile.width, height: tile.height, ...paint("fill", stops[1][1]) });
    const dot = make("circle", { cx: tile.width / 2, cy: tile.height / 2, r: Number(stops[0][2]), ...paint("fill", stops[0][1]) });
    return make("pattern", { id, patternUnits: "userSpaceOnUse", ...tile }, ground, dot);
  }

  // -- shapes of the page ----------------------------------------------------------------------------------------------

  const HANDED = [ // what a shape has of what it is in
    "fill-rule", "clip-rule", "stroke-width", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin",
    "font-family", "font-size", "font-weight", "font-style", "font-variant-numeric", "letter-spacing", "text-anchor",
    "visibility", "shape-rendering", "image-rendering", "dominant-baseline",
  ];
  const OWN = { opacity: "1", display: ["inline", "block"], "vector-effect": "none", "clip-path": "none", mask: "none" };
  const LEFT = ".draglayer, .hoverlayer, .zoomlayer, .menulayer, script, style, foreignObject, animate, animateTransform";
  const KEPT_OUT = /^(on|data-|aria-)|^(style|class|tabindex|role|pointer-events)$/;
  const near = (text) => text.replace(/url\(["']?[^"')]*#([^"')]+)["']?\)/g, "url(#$1)");

  function toned(how, style) {
    const value = style.getPropertyValue(how);
    if (value.startsWith("url(")) return [near(value), style.getPropertyValue(how + "-opacity")];
    const found = colour(value);
    return found ? [found[0], round(found[1] * Number(style.getPropertyValue(how + "-opacity")))] : ["none", "1"];
  }

  function looks(node) {
    const style = getComputedStyle(node);
    const found = {};
    for (const name of HANDED) found[name] = style.getPropertyValue(name).replace(/(\d)px/g, "$1");
    [found.fill, found["fill-opacity"]] = toned("fill", style);
    [found.stroke, found["stroke-opacity"]] = toned("stroke", style);
    const own = {};
    const scaled = node.viewportElement && node.viewportElement.hasAttribute("viewBox");
    for (const [name, usual] of Object.entries(OWN)) {
      const value = near(style.getPropertyValue(name));
      if (name === "vector-effect" && !scaled) continue; // lines grow with a picture that is enlarged
      if (value && ![].concat(usual).includes(value) && !value.startsWith("none")) own[name] = value;
    }
    return [found, own];
  }

  // A copy of a drawing of the page that needs no style sheet. `images`: is called with every <image> of it.
  function copied(node, images, around) {
    if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(shared.xml(node.data));
    if (node.nodeType !== Node.ELEMENT_NODE || node.matches(LEFT)) return null;
    const copy = document.createElementNS(SVG, node.localName);
    for (const { name, value } of node.attributes) {
      if (KEPT_OUT.test(name) || name.startsWith("xmlns")) continue;
      if (/(^|:)href$/.test(name)) {
        if (value.startsWith("#") || value.startsWith("data:image/")) copy.setAttribute("href", value);
      } else if (!name.includes(":")) copy.setAttribute(name, near(value));
    }
    const [found, own] = looks(node);
    if (node.getAttribute("display") === "none" || getComputedStyle(node).display === "none") return null;
    for (const [name, value] of Object.entries(found)) {
      copy.removeAttribute(name);
      if (!around || around[name] !== value) copy.setAttribute(name, value);
    }
    for (const name of Object.keys(OWN)) copy.removeAttribute(name);
    for (const [name, value] of Object.entries(own)) copy.setAttribute(name, value);
    if (node.localName === "image") images(node, copy);
    for (const child of node.childNodes) {
      const made = copied(child, images, found);
      if (made) copy.append(made);
    }
    return copy;
  }

  // Letters that XML has no place for.
  shared.xml = (text) => text.replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "\uFFFD");

  shared.ink = { make, colour, paint, parts, length, gradient, dots, copied, round };
})();
