/* The tree: bars and outlines in pixels, clicks with Shift, arrow keys, and the estimator that is dragged. */
(function () {
  "use strict";

  const BOX = 18, BAR = 46, AROUND = 7, BELOW = { quality: 13.5, left: 19.5 };
  const now = { selection: {}, base: null, zoomed: false, near: false, view: null, points: null, units: null };

  const plot = () => document.querySelector("#tree-graph .js-plotly-plot");
  const tell = (id, data) => window.dash_clientside.set_props(id, { data });

  /* Where the view begins: the whole tree, or, after the button was pressed again, the surroundings of what is selected. */
  function ranges(meta) {
    const place = meta.places[String(now.selection.step)], [low, high] = meta.ranges.x;
    if (!now.near || !place || high - low < AROUND) return meta.ranges;
    const middle = Math.min(Math.max(place[0], low + AROUND / 2), high - AROUND / 2);
    const [bottom, top] = meta.ranges.y, part = (top - bottom) * 0.3;
    const level = Math.min(Math.max(place[1], bottom + part), top - part);
    return { x: [middle - AROUND / 2, middle + AROUND / 2], y: [level - part, level + part] };
  }

  /* What is seen at the moment: ranges, and pixels of the plot. */
  function seen() {
    const gd = plot(), full = gd && gd._fullLayout;
    const box = document.getElementById("tree-graph");
    const width = full && full.xaxis ? full.xaxis._length : Math.max(200, (box ? box.clientWidth : 400) - 70);
    const height = full && full.yaxis ? full.yaxis._length : Math.max(200, (box ? box.clientHeight : 500) - 20);
    const x = now.zoomed && full ? full.xaxis.range : now.ranges.x;
    const y = now.zoomed && full ? full.yaxis.range : now.ranges.y;
    now.room = [width, height];
    return { across: (x[1] - x[0]) / width, up: (y[1] - y[0]) / height };
  }

  function segments(meta, view) {
    const lines = { tracks: [[], []], quality: [[], []], left: [[], []] };
    const length = Math.min(BAR, 1 / view.across - 4);
    if (length < 9) return lines;
    const add = (line, x, size, y) => { line[0].push(x, x + size, null); line[1].push(y, y, null); };
    for (const [x, y, quality, left] of meta.bars) {
      for (const [share, name] of [[quality, "quality"], [left, "left"]]) {
        if (share === null) continue;
        const start = x - (length / 2) * view.across, at = y - BELOW[name] * view.up;
        add(lines.tracks, start, length * view.across, at);
        add(lines[name], start, length * share * view.across, at);
      }
    }
    return lines;
  }

  /* The figure for the browser: the server's, with bars for this zoom, outlines, and what the filter leaves. */
  function draw(base, selection, relayout, room, filter, fit) {
    if (!base || !base.layout) return window.dash_clientside.no_update;
    const triggered = (window.dash_clientside.callback_context.triggered || []).map((t) => t.prop_id);
    const meta = base.layout.meta, traces = meta.traces;
    const fitted = triggered.some((t) => t.startsWith("tree-fit"));
    if (fitted || (now.base && now.base.layout.uirevision !== base.layout.uirevision)) {
      now.zoomed = false;
      now.near = fitted && !now.near;
    } else if (triggered.some((t) => t.includes("relayoutData")) && relayout) {
      if ("xaxis.range[0]" in relayout || "xaxis.range" in relayout || "yaxis.range[0]" in relayout) now.zoomed = true;
      if (relayout["xaxis.autorange"]) now.zoomed = false;
    }
    now.base = base;
    now.selection = selection || {};
    now.ranges = ranges(meta);
    const view = seen(), data = base.data.slice();
    now.view = view;
    const lines = segments(meta, view);
    for (const name of ["tracks", "quality", "left"]) {
      data[traces[name]] = { ...data[traces[name]], x: lines[name][0], y: lines[name][1] };
    }
    const marks = data[traces.marks], nudge = (list, by) => list.map((v) => v + by);
    data[traces.marks] = {
      ...marks, x: nudge(marks.x, 15 * view.across), y: nudge(marks.y, 8 * view.up), visible: 1 / view.across > 24,
    };
    const wide = 1 / view.across, size = Math.max(4, Math.min(BOX, (wide < 15 ? 0.62 : 0.75) * wide));  /* dots where there is no room for numbers */
    const words = (filter || "").trim().toLowerCase();
    const opacity = meta.words.map((text, k) => (words && !text.includes(words) ? 0.15 : meta.faded[k] ? 0.45 : 1));
    const boxes = data[traces.boxes];
    data[traces.boxes] = {
      ...boxes,
      mode: size < 11 ? "markers" : "markers+text",
      marker: {
        ...boxes.marker, size, opacity,
        color: size < 11 ? boxes.marker.line.color : boxes.marker.color,
      },
      textfont: { ...boxes.textfont, size: Math.min(boxes.textfont.size, size - 4) },
    };
    const outline = (name, step, more) => {
      const place = step === null || step === undefined ? null : meta.places[String(step)];
      const trace = data[traces[name]];
      data[traces[name]] = {
        ...trace, x: place ? [place[0]] : [], y: place ? [place[1]] : [], marker: { ...trace.marker, size: size + more },
      };
    };
    outline("other", now.selection.other, 8);
    outline("halo", now.selection.step, 10);
    outline("selected", now.selection.step, 6);
    requestAnimationFrame(() => { attach(0); if (plot() && plot()._fullLayout) settled(); });
    const layout = { ...base.layout, uirevision: `${base.layout.uirevision}-${fit || 0}` };
    const full = now.zoomed && plot() && plot()._fullLayout;
    layout.xaxis = { ...layout.xaxis, range: full ? full.xaxis.range.slice() : now.ranges.x };
    layout.yaxis = { ...layout.yaxis, range: full ? full.yaxis.range.slice() : now.ranges.y };
    return { data, layout };
  }

  /* Labels and a new size of the panel change the room: what is placed in pixels is placed again. */
  function settled() {
    const full = plot()._fullLayout, size = full.xaxis && [full.xaxis._length, full.yaxis._length];
    if (size && now.room && size.some((value, k) => Math.abs(value - now.room[k]) > 1)) tell("tree-room", size);
    place();
  }

  function select(step, compare) {
    if (step === null || step === undefined) return;
    const change = compare ? { other: now.selection.other === step ? null : step } : { step };
    now.selection = { ...window.onnxprune.selection, ...change };
    tell("selection", now.selection);
  }

  /* Plotly's own event, because Dash does not tell of a second click on the same node, nor of Shift. */
  function attach(tries) {
    const gd = plot();
    if (!gd || !gd.on) {
      if (tries < 40) setTimeout(() => attach(tries + 1), 50);
      return;
    }
    if (gd.dataset.tree) return;
    gd.dataset.tree = "on";
    gd.on("plotly_click", (event) => {
      const point = event.points && event.points.find((p) => p.customdata !== undefined);
      if (point) select(point.customdata, event.event && event.event.shiftKey);
    });
    gd.on("plotly_afterplot", settled);
    gd.on("plotly_relayout", place);
    gd.on("plotly_relayouting", () => { now.zoomed = true; place(); });
  }

  /* Up: the parent; down: the first child; left and right: the neighbour at about this height. */
  function neighbour(key) {
    const { places, parents } = now.base.layout.meta, at = now.selection.step;
    if (!(String(at) in places)) return null;
    if (key === "ArrowUp") return parents[at];
    const numbers = Object.keys(places).map(Number);
    if (key === "ArrowDown") return numbers.find((n) => parents[n] === at);
    const side = key === "ArrowLeft" ? -1 : 1, [x, y] = places[at];
    let best = null, least = Infinity;
    for (const n of numbers) {
      const across = (places[n][0] - x) * side;
      if (across <= 0) continue;
      const far = across / now.view.across + Math.abs(places[n][1] - y) / now.view.up;
      if (far < least) { least = far; best = n; }
    }
    return best;
  }

  document.addEventListener("keydown", (event) => {
    if (!now.base || !document.activeElement || !document.activeElement.closest("#tree-keys")) return;
    if (!event.key.startsWith("Arrow") || document.activeElement.closest("#tree-estimator")) return;
    const next = neighbour(event.key);
    event.preventDefault();
    select(next, event.shiftKey);
  });

  /* ---- the estimator ------------------------------------------------------------------------------------------- */

  /* The estimate at a number of units: between two known counts each figure changes linearly. */
  function estimate(points, units) {
    if (!points || !points.length) return null;
    let k = points.findIndex((p) => p.units <= units);
    if (k === -1) k = points.length - 1;
    const low = points[k], high = points[Math.max(0, k - 1)];
    const t = high.units === low.units ? 0 : (units - low.units) / (high.units - low.units);
    const found = { units, between: [high.step, low.step] };
    for (const name of ["value", "low", "high", "parameters", "macs"]) {
      const a = low[name], b = high[name];
      found[name] = a === null || b === null || a === undefined || b === undefined ? null : a + t * (b - a);
    }
    return found;
  }

  const short = (value) => {
    if (value === null) return "-";
    for (const [size, prefix] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
      if (Math.abs(value) >= size) return Number((value / size).toPrecision(3)) + prefix;
    }
    return String(Math.round(value));
  };
  const figure = (value, info) => {
    if (value === null) return "-";
    return info.percent ? `${(100 * value).toFixed(1)}%` : `${Number(value.toPrecision(4))}${info.unit ? " " + info.unit : ""}`;
  };

  function estimator(stored) {
    now.points = stored && stored.points && stored.points.length > 1 ? stored : null;
    const whole = document.getElementById("tree-estimator"), knob = document.getElementById("tree-estimator-knob");
    if (!now.points) { whole.hidden = true; return window.dash_clientside.no_update; }
    const { points } = now.points, most = points[0].units, least = points[points.length - 1].units;
    if (now.units === null || now.units > most || now.units < least || now.from !== now.points.step) {
      now.units = Math.round(stored.start);
      now.from = now.points.step;
    }
    whole.hidden = false;
    knob.setAttribute("aria-valuemin", least);
    knob.setAttribute("aria-valuemax", most);
    requestAnimationFrame(place);
    return window.dash_clientside.no_update;
  }

  function move(units) {
    const { points } = now.points;
    now.units = Math.round(Math.min(points[0].units, Math.max(points[points.length - 1].units, units)));
    place();
  }

  /* Put the knob where its count is on the axis, and say what is estimated there. */
  function place() {
    const whole = document.getElementById("tree-estimator"), gd = plot();
    if (!whole || !now.points || !gd || !gd._fullLayout || !gd._fullLayout.yaxis || !now.base) return;
    const full = gd._fullLayout, found = estimate(now.points.points, now.units), info = now.points;
    const spot = now.base.layout.meta.places[String(info.step)];
    const y = full._size.t + full.yaxis.d2p(now.units);
    const x = full._size.l + (spot ? full.xaxis.d2p(spot[0]) : full.xaxis._length / 2);
    const inside = y > full._size.t - 4 && y < full._size.t + full.yaxis._length + 4;
    const knob = document.getElementById("tree-estimator-knob"), level = whole.querySelector(".level");
    for (const part of [knob, level]) {
      part.style.visibility = inside ? "inherit" : "hidden";
      part.style.top = `${y}px`;
    }
    knob.style.left = `${Math.min(Math.max(x, full._size.l + 10), full._size.l + full.xaxis._length - 10)}px`;
    whole.classList.toggle("above", y < full._size.t + full.yaxis._length / 2);
    knob.setAttribute("aria-valuenow", now.units);
    const set = (name, text) => { document.getElementById(`tree-estimator-${name}`).textContent = text; };
    const root = info.root;
    set("units", `${now.units.toLocaleString("en")} ${info.noun}`);
    set("value", found.value === null ? "not known here" : `about ${figure(found.value, info)}`);
    set("band", found.low === null || found.high === null ? "-" : `${figure(found.low, info)} to ${figure(found.high, info)}`);
    set("parameters", found.parameters === null ? "-" : `${short(found.parameters)} (${(100 * found.parameters / root.parameters).toFixed(0)}%)`);
    set("macs", found.macs === null ? "-" : `${short(found.macs)} (${(100 * found.macs / root.macs).toFixed(0)}%)`);
    const go = document.getElementById("tree-estimator-go");
    go.textContent = `Prune to ${now.units.toLocaleString("en")}`;
    go.disabled = !(now.units < info.units);
    go.title = go.disabled ? `Step ${info.step} has ${info.units} already: drag further down.` : `Remove ${info.units - now.units} ${info.noun} of step ${info.step}`;
    knob.setAttribute("aria-valuetext", `${now.units} ${info.noun}, ${info.metric} ${figure(found.value, info)}`);
  }

  document.addEventListener("pointerdown", (event) => {
    const knob = event.target.closest && event.target.closest("#tree-estimator-knob");
    if (!knob || !now.points) return;
    event.preventDefault();
    knob.focus();
    knob.setPointerCapture(event.pointerId);
    const drag = (e) => {
      const gd = plot(), box = gd.getBoundingClientRect();
      move(gd._fullLayout.yaxis.p2d(e.clientY - box.top - gd._fullLayout._size.t));
    };
    const end = () => { knob.removeEventListener("pointermove", drag); knob.removeEventListener("pointerup", end); };
    knob.addEventListener("pointermove", drag);
    knob.addEventListener("pointerup", end);
  });

  document.addEventListener("keydown", (event) => {
    if (!now.points || !document.activeElement || document.activeElement.id !== "tree-estimator-knob") return;
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(now.units + by * (event.shiftKey ? 10 : 1));
  });

  function wanted(clicks) {
    if (!clicks || !now.points) return window.dash_clientside.no_update;
    const { step, units } = now.points;
    return { step, units: now.units, of: units, ratio: 1 - now.units / units, asked: clicks };
  }

  /* ---- small things ---------------------------------------------------------------------------------------------- */

  /* The step whose tree is to be fetched: one that is not in the tree that is shown. */
  function missing(selection, base) {
    const step = selection ? selection.step : null, there = base && base.layout && String(step) in base.layout.meta.places;
    return there ? window.dash_clientside.no_update : { step };
  }

  function copy(clicks, command) {
    if (clicks && command) {
      const old = () => {
        const area = document.createElement("textarea");
        area.value = command;
        document.body.appendChild(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      };
      if (navigator.clipboard) navigator.clipboard.writeText(command).catch(old);
      else old();
      tell("toast", { kind: "done", text: "The command line is copied.", hint: command });
    }
    return window.dash_clientside.no_update;
  }

  function compare(clicks, selection) {
    if (!clicks || !selection || selection.step === null) return window.dash_clientside.no_update;
    return { ...selection, other: selection.other === selection.step ? null : selection.step };
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, { tree: { draw, missing, estimator, wanted, copy, compare, estimate } });
})();
