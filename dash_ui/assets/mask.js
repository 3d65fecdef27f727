// The mask: what it asks the server for, brushes over the picture and at its edges, and what is under the mouse. Places
// go to the server as numbers of rows and columns (cell r, c is the square around them); it works out what they mean
// (dash_ui/rows/brush.py). Keys are in mask_keys.js.
(() => {
  "use strict";
  const CLICK = 4; // pixels that a hand may move during a click
  const SOON = 50; // milliseconds until what is not there yet is looked for again
  const SVG = "http://www.w3.org/2000/svg";
  const XLINK = "http://www.w3.org/1999/xlink";
  const shared = (window.onnxprune = window.onnxprune || {});
  const S = { drag: null, hover: 0, cell: "", at: null, tensor: null, revision: null, window: null, size: null,
    wanted: new Set(), brushes: [], busy: false, selection: null, theme: null, square: false, back: null };
  const $ = (id) => document.getElementById(id);
  const plot = () => {
    const gd = document.querySelector("#mask-graph .js-plotly-plot");
    return window.Plotly && gd && gd._fullLayout && gd._fullLayout.xaxis ? gd : null;
  };
  const chosen = (id) => {
    const input = document.querySelector(`#${id} input:checked`);
    return input && input.value;
  };
  const mask = (shared.mask = { plot, chosen });

  // Questions ------------------------------------------------------------------------------------------------------

  const question = (what, more) => ({
    what, selection: S.selection, tensor: S.tensor, theme: S.theme, square: S.square, size: S.size, window: S.window,
    ...more,
  });

  mask.ask = async (what, more) => {
    const sent = await fetch("_mask", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question(what, more)),
    });
    if (!sent.ok) throw new Error(sent.statusText);
    const found = await sent.json();
    if (found.problem) shared.toast(found.problem);
    return found;
  };

  // One question at a time; what is wanted meanwhile is asked together when the answer is there, brushes one by one.
  const next = async () => {
    if (S.busy || !(S.brushes.length || S.wanted.size)) return;
    if (!S.selection || !S.selection.step || !$("mask-frame")) return;
    measure();
    if ($("mask-frame").offsetParent === null) return; // another tab is open: it is asked when this one is
    S.busy = true;
    $("mask-frame").setAttribute("aria-busy", "true");
    try {
      if (S.brushes.length) await brushed(S.brushes.shift());
      else await show();
    } catch (error) {
      shared.toast({ kind: "error", text: "The server does not answer.", hint: "What you see is kept; try again." });
    } finally {
      S.busy = false;
      $("mask-frame").removeAttribute("aria-busy");
    }
    if (S.late && S.late !== S.revision) S.wanted.add("picture").add("facts");
    S.late = null;
    next();
  };

  const want = (...parts) => {
    for (const part of parts) S.wanted.add(part);
    next();
  };

  const show = async () => {
    const first = S.wanted.has("weights") || S.wanted.has("picture");
    const parts = [...S.wanted].filter((part) => part !== "facts" || !first); // the picture does not wait for counts
    for (const part of parts) S.wanted.delete(part);
    const asked = { tensor: S.tensor, step: S.selection.step };
    const found = await mask.ask("show", { parts });
    if (S.selection.step !== asked.step || S.tensor !== asked.tensor) return; // another one is wanted by now
    if (found.weights) weights(found.weights);
    if (found.revision) S.revision = found.revision;
    if (found.figure) await picture(found);
    if (found.facts) facts(found.facts);
  };

  const brushed = async (event) => {
    const found = await mask.ask("brush", { event, seen: S.revision });
    if (!found.revision) {
      want("picture", "facts"); // where it was refused because the draft is another one by now
      return;
    }
    S.revision = found.revision;
    $("mask-said").textContent = found.said;
    if (found.source) source(found.source);
    if (found.facts) facts(found.facts);
    // The rest of the page hears of it when this is seen.
    requestAnimationFrame(() => setTimeout(() => shared.send("draft-changed", found.revision)));
  };

  // Answers --------------------------------------------------------------------------------------------------------

  const weights = (found) => {
    const none = found.value === null;
    $("mask-empty").hidden = !none;
    $("mask-body").hidden = none;
    const same = JSON.stringify(found) === S.offered;
    S.offered = JSON.stringify(found);
    if (S.tensor !== found.value) S.window = null;
    S.tensor = found.value;
    if (!same) setTimeout(() => window.dash_clientside.set_props("mask-weight", found));
  };

  // Drawn without Dash, which would compare the whole figure for every brush.
  const picture = async (found) => {
    while (!window.Plotly) await new Promise((done) => setTimeout(done, SOON)); // it comes with the histogram
    $("mask-low").textContent = "−" + found.scale;
    $("mask-high").textContent = found.scale;
    const gd = document.querySelector("#mask-graph .mask-plot");
    const { data, layout } = found.figure;
    if (plot()) await window.Plotly.react(gd, data, layout);
    else {
      await window.Plotly.newPlot(gd, data, layout, JSON.parse(gd.dataset.config));
      gd.on("plotly_relayout", zoomed);
    }
    shape();
    if (mask.drawn) mask.drawn();
  };

  // Only the picture is another one: nothing is laid out again.
  const source = (address) => {
    const gd = plot();
    const image = gd && gd.querySelector(".imagelayer image");
    if (!image || !gd.layout.images) return;
    gd.layout.images[0].source = address;
    image._imgSrc = address;
    if (image.hasAttribute("href")) image.setAttribute("href", address);
    else image.setAttributeNS(XLINK, "xlink:href", address);
  };

  // What is dragged on the histogram is heard from Plotly itself, which is sooner than from Dash.
  const hear = () => {
    const gd = document.querySelector("#mask-histogram .js-plotly-plot");
    if (!gd || !gd.on) setTimeout(hear, SOON);
    else if (!gd._mask) {
      gd._mask = true;
      gd.on("plotly_selected", (selected) => {
        const range = selected && selected.range && selected.range.x;
        if (!range || range[0] === range[1]) return;
        const [low, high] = [Math.min(...range), Math.max(...range)];
        mask.emit({ magnitude: [Math.max(low, 0), high >= S.largest ? null : high] });
      });
    }
  };

  const facts = (found) => {
    const rows = $("mask-counts").tBodies[0].rows;
    found.counts.forEach((one, k) => {
      rows[k].hidden = one === null;
      if (one === null) return;
      const [head, gone, left, share] = rows[k].cells;
      head.textContent = head.title = one.of;
      for (const [cell, value] of [[gone, one.gone], [left, one.left], [share, one.share]]) {
        const text = cell === share ? (100 * value).toFixed(1) + "%" : value.toLocaleString("en-US");
        if (cell.textContent !== text) cell.textContent = text;
        cell.dataset.value = value;
      }
    });
    $("mask-note").textContent = found.note;
    S.back = found.back;
    $("mask-branch").hidden = found.back === null;
    $("mask-branch").textContent = `Branch from #${found.back}`;
    S.largest = found.histogram.layout.meta.largest;
    found.histogram.layout.selectionrevision = Date.now(); // what was dragged there is done
    window.dash_clientside.set_props("mask-histogram", { figure: found.histogram });
    hear();
  };

  // Where the mouse is: in pixels of the plot, and as row and column -----------------------------------------------

  const place = (event) => {
    const gd = plot();
    if (!gd) return null;
    const { xaxis, yaxis } = gd._fullLayout;
    const box = gd.getBoundingClientRect();
    const px = event.clientX - box.left - xaxis._offset;
    const py = event.clientY - box.top - yaxis._offset;
    const across = px >= 0 && px <= xaxis._length;
    const down = py >= 0 && py <= yaxis._length;
    let zone = across && down ? "plot" : "";
    if (!zone && down && px < 0) zone = "rows";
    if (!zone && across && py < 0) zone = "columns";
    return { px, py, x: xaxis.p2d(px), y: yaxis.p2d(py), zone, xaxis, yaxis, box };
  };

  // Brushes --------------------------------------------------------------------------------------------------------

  // What is drawn over the picture: the brush, and what the keyboard marked.
  const shape = () => {
    const layer = $("mask-layer");
    const gd = plot();
    if (!layer) return;
    layer.replaceChildren();
    const marked = mask.marked ? mask.marked() : null;
    if (!gd || !(S.drag || marked)) return;
    const svg = document.createElementNS(SVG, "svg");
    layer.append(svg);
    const frame = $("mask-frame").getBoundingClientRect();
    const box = gd.getBoundingClientRect();
    const { xaxis, yaxis } = gd._fullLayout;
    const left = box.left - frame.left + xaxis._offset;
    const top = box.top - frame.top + yaxis._offset;
    const add = (name, kind, attributes) => {
      const made = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      made.setAttribute("class", kind);
      svg.append(made);
    };
    const rectangle = (kind, x0, x1, y0, y1, least = 0) => {
      const [wide, high] = [Math.max(Math.abs(x1 - x0), least), Math.max(Math.abs(y1 - y0), least)];
      const [x, y] = [(x0 + x1 - wide) / 2, (y0 + y1 - high) / 2];
      add("rect", kind, { x: left + x, y: top + y, width: wide, height: high });
    };
    for (const { kind, rows, columns } of marked || []) {
      const x = columns.map((at, k) => xaxis.d2p(at + k - 0.5));
      const y = rows.map((at, k) => yaxis.d2p(at + k - 0.5));
      rectangle(kind, ...x, ...y, 7);
    }
    const drag = S.drag;
    if (!drag) return;
    const kind = `mask-brush ${drag.verb}`;
    if (drag.kind === "lasso") {
      add("polygon", kind, { points: drag.points.map((p) => `${left + p.px},${top + p.py}`).join(" ") });
      return;
    }
    let [x0, x1, y0, y1] = [drag.from.px, drag.to.px, drag.from.py, drag.to.py];
    if (drag.kind === "rows") [x0, x1] = [-28, xaxis._length];
    if (drag.kind === "columns") [y0, y1] = [-18, yaxis._length];
    rectangle(kind, x0, x1, y0, y1);
  };
  mask.shape = shape;

  mask.emit = (geometry, verb) => {
    S.brushes.push({ ...geometry, verb: verb || chosen("mask-verb"), snap: chosen("mask-snap") });
    next();
  };

  const end = (finished) => {
    const drag = S.drag;
    S.drag = null;
    if (drag && finished) {
      const { from, to } = drag;
      const still = drag.far < CLICK;
      if (drag.kind === "rows") mask.emit({ rows: [from.y, still ? from.y : to.y] });
      else if (drag.kind === "columns") mask.emit({ columns: [from.x, still ? from.x : to.x] });
      else if (still) mask.emit({ click: { x: from.x, y: from.y } });
      else if (drag.kind === "lasso") {
        mask.emit({ lassoPoints: { x: drag.points.map((p) => p.x), y: drag.points.map((p) => p.y) } });
      } else mask.emit({ range: { x: [from.x, to.x], y: [from.y, to.y] } });
    }
    shape();
  };

  document.addEventListener("mousedown", (event) => {
    if (event.button !== 0 || !event.target.closest || !event.target.closest("#mask-frame")) return;
    if (event.target.closest(".modebar, button")) return;
    if (mask.left) mask.left();
    const from = place(event);
    const tool = chosen("mask-tool");
    if (!from || !from.zone || (from.zone === "plot" && tool === "zoom")) return;
    event.preventDefault();
    event.stopPropagation();
    $("mask-frame").focus({ preventScroll: true });
    const kind = from.zone === "plot" ? tool : from.zone;
    S.drag = { kind, from, to: from, points: [from], far: 0, verb: chosen("mask-verb") };
    hide();
  }, true);

  document.addEventListener("mousemove", (event) => {
    const drag = S.drag;
    if (!drag) return;
    const to = place(event);
    if (!to) return;
    drag.to = to;
    drag.far = Math.max(drag.far, Math.hypot(to.px - drag.from.px, to.py - drag.from.py));
    if (drag.kind === "lasso") drag.points.push(to);
    if (drag.far >= CLICK) shape();
    event.stopPropagation();
  }, true);

  document.addEventListener("mouseup", (event) => {
    if (!S.drag) return;
    event.stopPropagation();
    end(true);
  }, true);

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && S.drag) {
      event.stopPropagation();
      end(false);
    }
  }, true);

  // Under the mouse ------------------------------------------------------------------------------------------------

  function hide() {
    clearTimeout(S.hover);
    S.cell = "";
    const tip = $("mask-tip");
    if (tip) tip.hidden = true;
  }
  mask.hide = hide;

  const move = () => {
    const tip = $("mask-tip");
    const frame = $("mask-frame");
    if (!tip || !frame || !S.at) return;
    const box = frame.getBoundingClientRect();
    const x = S.at.clientX - box.left;
    const y = S.at.clientY - box.top;
    tip.style.left = `${x > box.width / 2 ? x - tip.offsetWidth - 14 : x + 14}px`;
    tip.style.top = `${Math.max(0, Math.min(y - tip.offsetHeight / 2, box.height - tip.offsetHeight))}px`;
  };

  // What there is to say of a cell, at this place of the window, after a moment; ``then`` gets the answer as well.
  mask.look = (row, column, at, wait, then) => {
    const cell = `${S.tensor} ${row} ${column}`;
    S.at = at;
    if (cell === S.cell && !then) return move();
    hide();
    S.cell = cell;
    S.hover = setTimeout(async () => {
      const found = await mask.ask("cell", { row, column }).catch(() => ({}));
      const tip = $("mask-tip");
      if (!tip || S.cell !== cell || !found.lines) return;
      tip.replaceChildren(...found.lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
      tip.hidden = false;
      move();
      if (then) then(found);
    }, wait);
    return undefined;
  };

  document.addEventListener("mousemove", (event) => {
    const frame = event.target.closest && event.target.closest("#mask-frame");
    if (S.drag || !frame || event.buttons) {
      if (S.cell && !(mask.typing && mask.typing())) hide();
      return;
    }
    const at = place(event);
    frame.dataset.zone = at ? at.zone : "";
    if (!at || at.zone !== "plot") hide();
    else mask.look(Math.round(at.y), Math.round(at.x), event, 40);
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest) return;
    if (event.target.closest("#mask-whole")) whole();
    if (event.target.closest("#mask-branch") && S.back !== null) shared.select({ step: S.back });
    for (const help of document.querySelectorAll(".mask-help[open]")) {
      if (!help.contains(event.target)) help.open = false;
    }
  });

  // Zoom -----------------------------------------------------------------------------------------------------------

  const settle = () => {
    const gd = plot();
    if (!gd) return;
    const { xaxis, yaxis } = gd._fullLayout;
    S.window = { key: gd.layout.uirevision, x: xaxis.range.slice(), y: yaxis.range.slice() };
    shape();
    want("picture");
  };

  // The pixels of the plot: what the frame leaves beside the margins (HEADER and TOP in figures/mask.py). True where they are
  // others than before.
  function measure() {
    const frame = $("mask-frame");
    if (!frame) return false;
    if (S.frame !== frame) {
      sizes.disconnect();
      sizes.observe(frame);
      S.frame = frame;
    }
    if (frame.clientWidth < 100) return false;
    const now = [Math.max(40, frame.clientHeight - 44), Math.max(80, frame.clientWidth - 70)];
    const same = S.size && now[0] === S.size[0] && now[1] === S.size[1];
    if (!same) S.size = now;
    return !same;
  }

  const sizes = new ResizeObserver(() => {
    clearTimeout(S.resize);
    S.resize = setTimeout(() => {
      if (plot() && $("mask-frame").clientWidth) window.Plotly.Plots.resize(plot());
      if (measure()) want("picture");
      else next();
      shape();
    }, 120);
  });

  document.addEventListener("dblclick", (event) => {
    if (!event.target.closest || !event.target.closest("#mask-frame .nsewdrag")) return;
    if (chosen("mask-tool") === "zoom") whole();
  }, true);

  function whole() {
    const gd = plot();
    if (!gd || !gd.layout.meta) return;
    const [rows, columns] = gd.layout.meta.shape;
    mask.zoom([-0.5, columns - 0.5], [rows - 0.5, -0.5]);
  }
  mask.whole = whole;

  mask.zoom = (x, y) => window.Plotly.relayout(plot(), { "xaxis.range": x, "yaxis.range": y });

  // Ranges come as xaxis.range[0], as xaxis.range or as xaxis.autorange: what the axes say now holds for all.
  function zoomed(change) {
    const keys = Object.keys(change || {});
    if (keys.some((key) => key.endsWith(".autorange"))) whole();
    else if (keys.some((key) => /^[xy]axis\.range/.test(key))) settle();
  }

  const none = () => window.dash_clientside.no_update;
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    mask: {
      changed: (selection, draft, theme, value, square) => {
        const before = S.selection || {};
        const fresh = S.seen !== $("mask-body");
        S.seen = $("mask-body");
        const [dark, cells] = [theme, Boolean(square && square.length)];
        if (fresh || !selection || selection.step !== before.step || selection.group !== before.group) {
          if (selection && selection.group !== before.group) S.tensor = null; // the one that fits the group
          S.wanted.add("weights").add("picture").add("facts");
        } else if (value && value !== S.tensor) {
          [S.tensor, S.window] = [value, null];
          S.wanted.add("picture").add("facts");
        }
        if (S.busy) S.late = draft; // the answer that is on its way may know it
        else if (draft && draft !== S.revision) S.wanted.add("picture").add("facts");
        if (dark !== S.theme) S.wanted.add("picture").add("facts");
        if (cells !== S.square) S.wanted.add("picture");
        [S.selection, S.theme, S.square] = [selection, dark, cells];
        next();
        return none();
      },
    },
  });
})();
