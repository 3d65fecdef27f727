// Boxes of the page and what fills them: colours, borders, outlines, pictures, canvases, drawings.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const { make, paint, colour, parts, length, gradient, dots, copied, round } = shared.ink;
  const FINE = 2; // pixels of an image for one of the page

  // -- what is where ---------------------------------------------------------------------------------------------------

  const within = (box, clip) => {
    const [x, y] = [Math.max(box.x, clip.x), Math.max(box.y, clip.y)];
    const [right, bottom] = [Math.min(box.x + box.width, clip.x + clip.width), Math.min(box.y + box.height, clip.y + clip.height)];
    return right - x > 0.1 && bottom - y > 0.1 ? { x, y, width: right - x, height: bottom - y } : null;
  };

  function placed(drawing, rect) {
    return { x: rect.x - drawing.from.x, y: rect.y - drawing.from.y, width: rect.width, height: rect.height };
  }

  function add(drawing, into, clip, box, node) {
    const seen = within(box, clip);
    if (!seen) return;
    into.append(node);
    const { used } = drawing;
    used.x = Math.min(used.x, seen.x);
    used.y = Math.min(used.y, seen.y);
    used.right = Math.max(used.right, seen.x + seen.width);
    used.bottom = Math.max(used.bottom, seen.y + seen.height);
  }

  const named = (drawing) => "p" + (drawing.count += 1);

  // -- boxes -----------------------------------------------------------------------------------------------------------

  const SIDES = ["Top", "Right", "Bottom", "Left"];
  const DASHES = { dashed: [3, 2], dotted: [1, 1.5] };

  function dashes(kind, wide) {
    return DASHES[kind] ? DASHES[kind].map((part) => part * wide).join(" ") : null;
  }

  const CORNERS = ["TopLeft", "TopRight", "BottomRight", "BottomLeft"];

  // A box with the corners of its style, which may all differ; `out`: so much larger on every side.
  function shape(style, box, look, out = 0) {
    const at = { x: box.x - out, y: box.y - out, width: Math.max(box.width + 2 * out, 0), height: Math.max(box.height + 2 * out, 0) };
    const most = Math.min(at.width, at.height) / 2;
    const radii = CORNERS.map((name) => {
      const found = length(style[`border${name}Radius`].split(" ")[0], box.width) || 0;
      return found ? Math.min(Math.max(found + out, 0), most) : 0;
    });
    const [a, b, c, d] = radii;
    if (radii.every((r) => r === a)) return make("rect", { ...at, rx: a || null, ...look });
    const bend = (r, x, y) => (r ? `a${r} ${r} 0 0 1 ${x * r} ${y * r}` : "");
    const path = `M${at.x + a} ${at.y}H${at.x + at.width - b}${bend(b, 1, 1)}V${at.y + at.height - c}${bend(c, -1, 1)}` +
      `H${at.x + d}${bend(d, -1, -1)}V${at.y + a}${bend(a, 1, -1)}z`;
    return make("path", { d: path, ...look });
  }

  function backgrounds(drawing, style, box, into, clip) {
    if (colour(style.backgroundColor)) add(drawing, into, clip, box, shape(style, box, paint("fill", style.backgroundColor)));
    if (style.backgroundImage === "none") return;
    const sizes = parts(style.backgroundSize);
    parts(style.backgroundImage).reverse().forEach((text, k, all) => {
      const [wide, high = "auto"] = (sizes[(all.length - 1 - k) % sizes.length] || "auto").split(" ");
      const part = { ...box };
      if (wide !== "auto" && text.includes("linear-gradient")) part.width = length(wide, box.width);
      if (high !== "auto" && text.includes("linear-gradient")) part.height = length(high, box.height);
      const id = named(drawing);
      const fill = gradient(text, part, id) || dots(text, { ...part, width: length(wide, 0), height: length(high, 0) }, id);
      if (fill) {
        drawing.defs.append(fill);
        add(drawing, into, clip, part, shape(style, part, { fill: `url(#${id})` }));
      } else if (text.startsWith("url(")) {
        sprite(drawing, text.slice(4, -1).replace(/^["']|["']$/g, ""), style, box, into, clip);
      }
    });
  }

  function line(drawing, box, side, wide, style, tone, into, clip) {
    const half = wide / 2;
    const [right, bottom] = [box.x + box.width, box.y + box.height];
    const ends = {
      Top: [box.x, box.y + half, right, box.y + half], Bottom: [box.x, bottom - half, right, bottom - half],
      Left: [box.x + half, box.y, box.x + half, bottom], Right: [right - half, box.y, right - half, bottom],
    }[side];
    const [x1, y1, x2, y2] = ends;
    const around = { x: Math.min(x1, x2) - half, y: Math.min(y1, y2) - half, width: Math.abs(x2 - x1) + wide, height: Math.abs(y2 - y1) + wide };
    const look = { ...paint("stroke", tone), "stroke-width": wide, "stroke-dasharray": dashes(style, wide) };
    add(drawing, into, clip, around, make("line", { x1, y1, x2, y2, ...look }));
  }

  function borders(drawing, style, box, into, clip) {
    const sides = SIDES.map((side) => [side, parseFloat(style[`border${side}Width`]), style[`border${side}Style`], style[`border${side}Color`]]);
    const seen = sides.filter(([, wide, kind, tone]) => wide > 0 && kind !== "none" && kind !== "hidden" && colour(tone));
    const same = seen.length === 4 && seen.every((side) => side.slice(1).join() === seen[0].slice(1).join());
    if (!same) return seen.forEach(([side, wide, kind, tone]) => line(drawing, box, side, wide, kind, tone, into, clip));
    const [, wide, kind, tone] = seen[0];
    return ring(drawing, style, box, -wide / 2, wide, kind, tone, into, clip);
  }

  // A frame whose middle lies so far outside the box.
  function ring(drawing, style, box, out, wide, kind, tone, into, clip) {
    const look = { fill: "none", ...paint("stroke", tone), "stroke-width": wide, "stroke-dasharray": dashes(kind, wide) };
    const all = out + wide / 2;
    const around = { x: box.x - all, y: box.y - all, width: box.width + 2 * all, height: box.height + 2 * all };
    add(drawing, into, clip, around, shape(style, box, look, out));
  }

  const RING = /^((?:rgba?|color)\([^)]*\)) 0px 0px 0px ([\d.]+)px$/; // a shadow that is a frame

  function box(drawing, style, at, into, clip) {
    const shadow = RING.exec(style.boxShadow);
    if (shadow) ring(drawing, style, at, Number(shadow[2]) / 2, Number(shadow[2]), "solid", shadow[1], into, clip);
    backgrounds(drawing, style, at, into, clip);
    borders(drawing, style, at, into, clip);
    const wide = parseFloat(style.outlineWidth);
    if (wide > 0 && !["none", "auto"].includes(style.outlineStyle) && colour(style.outlineColor)) {
      ring(drawing, style, at, parseFloat(style.outlineOffset) + wide / 2, wide, style.outlineStyle, style.outlineColor, into, clip);
    }
  }

  // A box that is turned stands around its middle; the page tells only the room that it takes.
  function turned(element, style, at, into) {
    const found = style.transform !== "none" && new DOMMatrix(style.transform);
    if (!found || Math.abs(found.b) < 1e-6) return [at, into];
    const scale = Math.hypot(found.a, found.b);
    const [width, height] = [element.offsetWidth * scale, element.offsetHeight * scale];
    const [x, y] = [at.x + at.width / 2, at.y + at.height / 2];
    const group = make("g", { transform: `rotate(${(Math.atan2(found.b, found.a) * 180) / Math.PI} ${x} ${y})` });
    into.append(group);
    return [{ x: x - width / 2, y: y - height / 2, width, height }, group];
  }

  // -- images --------------------------------------------------------------------------------------------------

  function loaded(source) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("a picture of the page could not be read"));
      image.src = source;
    });
  }

  // A part of a picture, at the size that it is seen with; `from`: {x, y, width, height} in its own pixels.
  function cut(image, from, at, sharp) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(at.width * FINE));
    canvas.height = Math.max(1, Math.round(at.height * FINE));
    const brush = canvas.getContext("2d");
    brush.imageSmoothingEnabled = !sharp;
    brush.drawImage(image, from.x, from.y, from.width, from.height, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL();
  }

  function sprite(drawing, source, style, at, into, clip) {
    const node = make("image", { ...at, preserveAspectRatio: "none" });
    add(drawing, into, clip, at, node);
    if (!node.parentNode) return;
    drawing.waits.push(loaded(source).then((image) => {
      const [wide, high] = style.backgroundSize.split(" ");
      const whole = { width: length(wide, at.width) || image.naturalWidth, height: length(high || wide, at.height) || image.naturalHeight };
      const [x, y] = style.backgroundPosition.split(" ").map((word, k) => -length(word, k ? at.height - whole.height : at.width - whole.width));
      const [fx, fy] = [image.naturalWidth / whole.width, image.naturalHeight / whole.height];
      const from = { x: x * fx, y: y * fy, width: at.width * fx, height: at.height * fy };
      node.setAttribute("href", cut(image, from, at, style.imageRendering === "pixelated"));
    }));
  }

  // What a border leaves of a box.
  function inside(style, at) {
    const [left, right, top, bottom] = ["Left", "Right", "Top", "Bottom"].map((side) => parseFloat(style[`border${side}Width`]) || 0);
    return { x: at.x + left, y: at.y + top, width: at.width - left - right, height: at.height - top - bottom };
  }

  function picture(drawing, element, style, whole, into, clip) {
    const at = inside(style, whole);
    const node = make("image", { ...at, preserveAspectRatio: style.objectFit === "contain" ? "xMidYMid" : "none" });
    add(drawing, into, clip, at, node);
    if (!node.parentNode) return;
    if (element instanceof HTMLCanvasElement) {
      if (element.width && element.height) node.setAttribute("href", element.toDataURL());
      return;
    }
    const from = { x: 0, y: 0, width: element.naturalWidth, height: element.naturalHeight };
    if (from.width) node.setAttribute("href", cut(element, from, at, style.imageRendering === "pixelated"));
  }

  function drawn(drawing, element, style, at, into, clip) {
    const images = (node, copy) => {
      const source = node.href.baseVal;
      if (!copy.hasAttribute("href")) drawing.waits.push(loaded(source).then((image) => {
        const whole = { x: 0, y: 0, width: image.naturalWidth, height: image.naturalHeight };
        copy.setAttribute("href", cut(image, whole, { width: whole.width / FINE, height: whole.height / FINE }, true));
      }));
    };
    const copy = copied(element, images, null);
    if (!copy) return;
    for (const [name, value] of Object.entries(inside(style, at))) copy.setAttribute(name, round(value));
    if (style.overflow === "visible") copy.setAttribute("overflow", "visible");
    add(drawing, into, clip, at, copy);
  }

  Object.assign(shared.ink, { add, box, drawn, named, picture, placed, shape, turned, within });
})();
