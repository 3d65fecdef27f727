// The plan while it changes: threshold line, bubbles, radar, circles, counts. All of it is drawn here, without the
// server, from two stores: the units (what does not change while one drags) and the draft (what goes, and why).
// A unit goes where its x is below the threshold; equal stays. The same rule as in onnxprune/workspace/drafting.py.
(() => {
  "use strict";
  const STEPS = 2000; // places of the slider
  const ROOM = 46; // pixels between the texts of two marks
  const REMOVED = 1;
  const RESTORED = 2;
  const S = {
    units: null, draft: null, selection: null, gone: null, t: null, dragging: false, frame: 0, nonce: 0, queue: [],
    waiting: 0, asking: false, settled: "", boxes: null, clicked: [0, -1], estimate: null,
  };
  const $ = (id) => document.getElementById(id);
  const set = (id, data) => window.dash_clientside.set_props(id, { data });
  const number = (value) => Math.round(value).toLocaleString("en");
  const percent = (value) => `${(100 * value).toFixed(value > 0 && value < 0.0995 ? 1 : 0)}%`;

  // What goes ------------------------------------------------------------------------------------------------------

  const flags = (size, places) => {
    const found = new Uint8Array(size);
    for (const place of places) found[place] = 1;
    return found;
  };

  const take = (units, draft) => {
    const size = units.size;
    S.fixed = flags(size, draft.fixed);
    S.automatic = flags(size, draft.automatic);
    S.hand = flags(size, draft.removed);
    for (const place of draft.restored) S.hand[place] = RESTORED;
    S.alone = flags(units.groups.length, [...draft.locked, ...Object.keys(draft.shares)]);
  };

  // What goes at a threshold; null: at the one of the draft, which may be on another scale.
  const choose = (t) => {
    const { units } = S;
    const gone = new Uint8Array(units.size);
    units.groups.forEach((group, g) => {
      let left = 0;
      let best = group.start;
      for (let i = group.start; i < group.start + group.units; i++) {
        const score = t === null ? S.automatic[i] : S.fixed[i] || (!S.alone[g] && units.x !== null && units.x[i] !== null && units.x[i] < t);
        gone[i] = S.hand[i] === REMOVED || (score && S.hand[i] !== RESTORED) ? 1 : 0;
        if (!gone[i]) left += 1;
        if (units.x !== null && units.x[i] >= units.x[best]) best = i;
      }
      if (!left) gone[best] = 0; // a group keeps its last unit
    });
    return gone;
  };

  const counted = (gone) => S.units.groups.map((group) => {
    let count = 0;
    for (let i = group.start; i < group.start + group.units; i++) count += gone[i];
    return count;
  });

  const left = (values, gone) => {
    let all = 0;
    let kept = 0;
    for (let i = 0; i < values.length; i++) {
      all += values[i];
      if (!gone[i]) kept += values[i];
    }
    return all > 0 ? kept / all : 1;
  };

  // Drawing --------------------------------------------------------------------------------------------------------

  const plot = () => document.querySelector("#plan-graph .js-plotly-plot");
  const radarPlot = () => document.querySelector("#plan-radar .js-plotly-plot");

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const canvasOf = (frame, name) => {
    let canvas = frame.querySelector(`canvas.${name}`);
    if (!canvas) {
      canvas = document.createElement("canvas");
      canvas.className = name;
      canvas.setAttribute("aria-hidden", "true");
      frame.appendChild(canvas);
    }
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = frame;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return [pen, width, height];
  };

  // The axis of the plot as it is drawn now: its box, and from a score to a pixel and back.
  const axis = () => {
    const graph = plot();
    const full = graph && graph._fullLayout;
    if (!full || !full.xaxis || !full._size) return null;
    const { l, t, w, h } = full._size;
    const [low, high] = full.xaxis.range;
    const log = full.xaxis.type === "log";
    const value = (part) => (log ? 10 ** (low + part * (high - low)) : low + part * (high - low));
    const part = (score) => ((log ? Math.log10(Math.max(score, 1e-300)) : score) - low) / (high - low);
    return { l, t, w, h, value, part, y: (place) => t + full.yaxis.d2p(place) };
  };

  const overlay = (gone) => {
    const frame = $("plan-graph").parentElement;
    const [pen] = canvasOf(frame, "plan-over");
    const here = axis();
    if (!here || !S.units.drawn) return;
    const { units } = S;
    pen.save();
    pen.beginPath();
    pen.rect(here.l, here.t, here.w, here.h);
    pen.clip();
    const chosen = S.selection && units.groups.findIndex((group) => group.name === S.selection.group);
    if (chosen >= 0 && chosen !== null) {
      pen.fillStyle = css("--accent");
      pen.globalAlpha = 0.1;
      pen.fillRect(here.l, here.y(chosen - 0.46), here.w, here.y(chosen + 0.46) - here.y(chosen - 0.46));
      pen.globalAlpha = 1;
    }
    if (S.dragging || S.settled === "") {
      pen.beginPath();
      for (let i = 0; i < units.size; i++) {
        if (!gone[i]) continue;
        const x = here.l + here.part(units.drawn[i]) * here.w;
        if (x < here.l - 12 || x > here.l + here.w + 12) continue;
        const y = here.y(units.y[i]);
        const r = units.sizes[i] / 2 + 0.6;
        const k = r * 0.68;
        if (!units.canvas) {
          pen.moveTo(x + r, y);
          pen.arc(x, y, r, 0, 6.2832);
        }
        pen.moveTo(x - k, y - k);
        pen.lineTo(x + k, y + k);
        pen.moveTo(x - k, y + k);
        pen.lineTo(x + k, y - k);
      }
      if (!units.canvas) {
        pen.globalAlpha = 0.35;
        pen.fillStyle = css("--surface");
        pen.fill();
        pen.globalAlpha = 1;
      }
      pen.strokeStyle = css("--gone");
      pen.lineWidth = units.canvas ? 0.8 : 1.2; // thousands of rings would hide the colours
      pen.stroke();
    }
    pen.restore();
  };

  // The bubbles themselves, where they are too many to be elements of the plot.
  const under = () => {
    const frame = $("plan-graph").parentElement;
    const [pen] = canvasOf(frame, "plan-under");
    const here = axis();
    const { units } = S;
    if (!here || !units.drawn || !units.canvas) return;
    pen.save();
    pen.beginPath();
    pen.rect(here.l, here.t, here.w, here.h);
    pen.clip();
    pen.globalAlpha = 0.72;
    for (const group of units.groups) {
      pen.fillStyle = group.colour;
      pen.beginPath();
      for (let i = group.start; i < group.start + group.units; i++) {
        const x = here.l + here.part(units.drawn[i]) * here.w;
        if (x < here.l - 12 || x > here.l + here.w + 12) continue;
        const y = here.y(units.y[i]);
        pen.moveTo(x + units.sizes[i] / 2, y);
        pen.arc(x, y, units.sizes[i] / 2, 0, 6.2832);
      }
      pen.fill();
    }
    pen.restore();
  };

  // The nearest bubble to a place of the page, within reach.
  const nearest = (event) => {
    const here = axis();
    const box = $("plan-graph").parentElement.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    if (!here || x < here.l || x > here.l + here.w || y < here.t || y > here.t + here.h) return -1;
    let best = -1;
    let least = 81;
    for (let i = 0; i < S.units.size; i++) {
      const dx = here.l + here.part(S.units.drawn[i]) * here.w - x;
      if (dx > 9 || dx < -9) continue;
      const dy = here.y(S.units.y[i]) - y;
      const distance = dx * dx + dy * dy;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  };

  const unitWords = (unit) => {
    const { units } = S;
    const group = units.groups[groupOf(unit)];
    const parts = [`${group.name} · ${group.noun} ${unit - group.start}`];
    if (units.x !== null && units.x[unit] !== null) parts.push(`${units.criterion} ${units.x[unit].toPrecision(4)}`);
    if (units.instability) parts.push(`instability ${units.instability[unit].toPrecision(3)} ranks`);
    parts.push(`${number(units.parameters[unit])} parameters`);
    const hand = ["", ", by hand", ", by hand"][S.hand[unit]];
    parts.push((S.gone[unit] ? "goes" : "stays") + hand);
    return parts.join(", ") + (group.along ? ` · with ${group.along}` : "");
  };

  const tell = (tip, frame, event, unit) => {
    tip.hidden = unit === undefined || unit < 0;
    if (tip.hidden) return;
    tip.textContent = unitWords(unit);
    const box = frame.getBoundingClientRect();
    tip.style.left = `${Math.max(Math.min(event.clientX - box.left + 12, box.width - tip.offsetWidth), 0)}px`;
    tip.style.top = `${event.clientY - box.top + 16}px`;
  };

  // The line and the slider below it stand at the same place of the axis.
  const line = () => {
    const here = axis();
    const mark = $("plan-line");
    const slider = $("plan-range");
    if (!mark || !slider) return;
    const shown = here !== null && S.units.measured;
    mark.hidden = !shown || S.t === null;
    slider.disabled = !shown || S.units.readonly;
    if (!shown) return;
    slider.closest(".plan-slider").classList.add("placed");
    slider.style.marginLeft = `${here.l - 8}px`;
    slider.style.width = `${here.w + 16}px`;
    const part = S.t === null ? 0 : here.part(S.t);
    const inside = Math.min(Math.max(part, 0), 1);
    if (document.activeElement !== slider || !S.dragging) slider.value = Math.round(inside * STEPS);
    slider.setAttribute("aria-label", "Threshold");
    slider.setAttribute("aria-valuetext", S.t === null ? "no threshold" : `${S.t.toPrecision(4)}, ${S.told}`);
    mark.style.left = `${here.l + inside * here.w}px`;
    mark.style.top = `${here.t}px`;
    mark.style.height = `${here.h}px`;
    mark.classList.toggle("outside", part !== inside);
    mark.dataset.value = S.t === null ? "" : S.t.toPrecision(3);
    mark.classList.toggle("flipped", inside > 0.85);
    marks(here);
  };

  // Those whose text has room beside the others: what was measured first, then what is nearest to the threshold.
  const spaced = (found, here) => {
    const at = S.t === null ? 0 : here.part(S.t);
    const place = (mark) => here.part(mark.x);
    const rank = (mark) => (mark.kind === "measured" ? 0 : 10) + Math.abs(place(mark) - at);
    const kept = [];
    for (const mark of [...found].sort((a, b) => rank(a) - rank(b))) {
      if (kept.every((other) => Math.abs(place(other) - place(mark)) * here.w > ROOM)) kept.push(mark);
    }
    return new Set(kept);
  };

  // What was measured of plans at other thresholds, on the axis.
  const marks = (here) => {
    const row = $("plan-marks");
    row.style.marginLeft = `${here.l}px`;
    row.style.width = `${here.w}px`;
    const found = (S.draft && S.draft.marks) || [];
    const shown = spaced(found, here);
    if (row.childElementCount !== found.length) row.replaceChildren(...found.map(() => document.createElement("span")));
    found.forEach((mark, k) => {
      const part = here.part(mark.x);
      const span = row.children[k];
      span.hidden = !(part >= 0 && part <= 1);
      span.style.left = `${part * here.w}px`;
      span.className = `plan-mark ${mark.kind}${shown.has(mark) ? "" : " close"}`;
      span.textContent = mark.text;
      span.title = mark.title;
    });
  };

  const radar = (counts, gone) => {
    const { units } = S;
    const of = units.size || 1;
    const total = counts.reduce((sum, count) => sum + count, 0);
    const found = { units: 1 - total / of };
    if (units.measured) found.score = left(units.normalised, gone);
    if (units.instability) found.instability = left(units.instability, gone);
    const known = S.estimate;
    if (known) Object.assign(found, { parameters: known.parameters_left, macs: known.macs_left });
    for (const name of ["units", "score", "instability", "parameters", "macs"]) {
      const cell = $(`plan-left-${name}`);
      if (cell) cell.textContent = name in found ? percent(found[name]) : "—";
    }
    const graph = radarPlot();
    if (!graph || !graph.data || graph.data.length < 2) return;
    S.left = found;
    show(graph);
    if (!graph._plan && graph.on) {
      graph._plan = true;
      graph.on("plotly_afterplot", () => show(graph)); // a new figure comes with nothing removed
    }
  };

  // As many names of lanes as the height has room for.
  const LANE = 13;
  const lanes = (graph) => {
    const names = graph.layout.meta;
    if (!names || !names.length || !graph._fullLayout.yaxis) return;
    const every = Math.max(1, Math.ceil((names.length * LANE) / graph._fullLayout.yaxis._length));
    const shown = names.map((_, lane) => lane).filter((lane) => lane % every === 0);
    if (graph.layout.yaxis.tickvals.length === shown.length) return;
    window.Plotly.relayout(graph, { "yaxis.tickvals": shown, "yaxis.ticktext": shown.map((lane) => names[lane]) });
  };

  const show = (graph) => {
    const order = graph.layout.meta || [];
    const values = order.map((name) => (name in S.left ? S.left[name] : 1));
    const shown = graph.data[1].r || [];
    if (!values.length || values.every((value, k) => Math.abs(value - shown[k]) < 5e-4)) return;
    window.Plotly.restyle(graph, { r: [[...values, values[0]]] }, [1]);
  };

  const side = (count, width, height) => {
    for (let pixels = 26; pixels > 2; pixels--) {
      if (Math.floor(width / pixels) * Math.floor(height / pixels) >= count) return pixels;
    }
    return 2;
  };

  const circles = (gone, total) => {
    const frame = $("plan-circles");
    const [pen, width, height] = canvasOf(frame, "plan-dots");
    const { units } = S;
    const step = side(total, width, height);
    const columns = Math.max(Math.floor(width / step), 1);
    const numbered = step >= 16;
    S.boxes = { step, columns, units: [] };
    if (numbered) {
      pen.font = `${Math.round(step * 0.38)}px ${getComputedStyle(frame).fontFamily}`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
    }
    const paper = css("--surface");
    const cross = css("--ink");
    units.groups.forEach((group) => {
      pen.fillStyle = group.colour;
      pen.beginPath();
      const first = S.boxes.units.length;
      for (let i = group.start; i < group.start + group.units; i++) {
        if (!gone[i]) continue;
        const place = S.boxes.units.length;
        const x = ((place % columns) + 0.5) * step;
        const y = (Math.floor(place / columns) + 0.5) * step;
        if (step < 6) {
          pen.rect(x - step * 0.4, y - step * 0.4, step * 0.8, step * 0.8);
        } else {
          pen.moveTo(x + step * 0.44, y);
          pen.arc(x, y, step * 0.44, 0, 6.2832);
        }
        S.boxes.units.push(i);
      }
      pen.fill();
      if (!numbered) return;
      for (let place = first; place < S.boxes.units.length; place++) {
        const unit = S.boxes.units[place];
        const x = ((place % columns) + 0.5) * step;
        const y = (Math.floor(place / columns) + 0.5) * step;
        pen.fillStyle = paper;
        pen.fillText(String(unit - group.start), x, y + 0.5);
        if (S.hand[unit] === REMOVED) {
          pen.strokeStyle = cross;
          pen.lineWidth = 1.5;
          pen.beginPath();
          pen.arc(x, y, step * 0.44, 0, 6.2832);
          pen.stroke();
        }
      }
    });
    frame.setAttribute("aria-label", `${number(total)} units in the plan, a circle for each`);
    frame.classList.toggle("none", total === 0);
  };

  const bar = (counts, total) => {
    const frame = $("plan-bar");
    if (frame.childElementCount !== counts.length) {
      frame.replaceChildren(...counts.map(() => document.createElement("span")));
    }
    counts.forEach((count, g) => {
      const { name, kind, units, colour } = S.units.groups[g];
      const part = frame.children[g];
      part.style.background = colour;
      part.style.flexGrow = String(count);
      part.hidden = !count;
      part.title = count ? `${name}: ${count} of ${units} ${kind}, ${percent(count / total)} of the plan` : "";
    });
  };

  const words = (total) => {
    const { units } = S;
    return `${number(total)} of ${number(units.size)} ${units.words} in the plan`;
  };

  const table = (counts) => {
    const rows = $("plan-groups").querySelectorAll("tbody tr");
    if (rows.length !== counts.length) return;
    counts.forEach((count, g) => {
      const row = rows[g];
      const { units } = S.units.groups[g];
      if (row._count !== count) {
        row._count = count;
        row._cells.count.textContent = `${count} / ${units}`;
        row._cells.count.dataset.value = count;
        row._cells.bar.style.width = percent(count / units);
        row._cells.share.placeholder = (100 * count / units).toFixed(0);
      }
    });
  };

  const draw = () => {
    S.frame = 0;
    if (!S.units || !S.draft) return;
    const begin = performance.now();
    const gone = choose(S.dragging ? S.t : null);
    if (!S.dragging) for (let i = 0; i < gone.length; i++) gone[i] = S.exact[i];
    S.gone = gone;
    const counts = counted(gone);
    const total = counts.reduce((sum, count) => sum + count, 0);
    S.told = words(total);
    $("plan-counts").textContent = `${S.told} (${percent(total / (S.units.size || 1))})`;
    line();
    overlay(gone);
    table(counts);
    radar(counts, gone);
    circles(gone, total);
    bar(counts, total);
    publish(counts);
    performance.measure("plan-move", { start: begin, end: performance.now() });
    if (performance.getEntriesByName("plan-move").length > 400) performance.clearMeasures("plan-move");
  };

  const live = (counts) => {
    const gone = {};
    const units = {};
    S.units.groups.forEach((group, g) => {
      gone[group.name] = counts[g];
      units[group.name] = group.units;
    });
    return { gone, units, threshold: S.t, step: S.units.step, weights: S.draft.weights || 0 };
  };

  const publish = (counts) => {
    const key = `${S.units.key}|${counts.join()}|${S.t}|${S.draft.weights || 0}`;
    if (S.published === key) return;
    S.published = key;
    set("live", live(counts));
  };

  const soon = () => {
    if (!S.frame) S.frame = requestAnimationFrame(draw);
  };

  // At rest what goes is a trace of the plot, so that it is in a saved picture; while it changes the canvas has it.
  const settle = () => {
    const graph = plot();
    if (!graph || !graph.data || graph.data.length < 2 || !S.units || !S.gone || S.dragging || !S.units.drawn) return;
    if (S.units.canvas) return; // the canvas alone shows what goes
    const key = `${S.units.stamp}|${S.draft.revision}|${S.nonce}`;
    if (S.settled === key && graph.data[1]._stamp === key) return;
    const x = [];
    const y = [];
    const size = [];
    for (let i = 0; i < S.units.size; i++) {
      if (!S.gone[i]) continue;
      x.push(S.units.drawn[i]);
      y.push(S.units.y[i]);
      size.push(S.units.sizes[i] + 1);
    }
    S.settled = key;
    graph.data[1]._stamp = key;
    const mark = S.t === null ? [] : [{
      type: "line", xref: "x", yref: "paper", x0: S.t, x1: S.t, y0: 0, y1: 1, line: { color: css("--gone"), width: 1.5 },
    }];
    window.Plotly.update(graph, { x: [x], y: [y], "marker.size": [size] }, { shapes: mark }, [1]);
    overlay(S.gone);
  };

  const unsettle = () => {
    const graph = plot();
    S.settled = "";
    if (!graph || !graph.data || graph.data.length < 2 || S.units.canvas) return;
    graph.data[1]._stamp = "";
    window.Plotly.update(graph, { x: [[]], y: [[]], "marker.size": [[]] }, { shapes: [] }, [1]);
  };

  // Asking the server ----------------------------------------------------------------------------------------------

  // One change at a time, each made for the draft as the one before has left it.
  const send = (edit) => {
    const last = S.queue[S.queue.length - 1];
    if (last && "threshold" in last && "threshold" in edit) S.queue.pop();
    S.queue.push(edit);
    flush();
  };

  const flush = () => {
    if (S.waiting || !S.queue.length || S.units.readonly) return;
    S.nonce += 1;
    S.waiting = S.nonce;
    set("plan-asked", { nonce: S.nonce, step: S.units.step, key: S.units.key, revision: S.draft.revision, edit: S.queue.shift() });
  };

  const foresee = () => {
    if (S.asking || S.waiting || !S.dragging) return;
    S.asking = true;
    S.asked = S.t;
    set("plan-preview", { step: S.units.step, key: S.units.key, edit: { ...S.units.entry, threshold: S.t } });
  };

  const begin = () => {
    if (S.dragging) return;
    S.dragging = true;
    unsettle();
  };

  const move = (t) => {
    begin();
    S.t = t;
    soon();
    foresee();
  };

  const commit = (t) => {
    if (!S.units || !S.units.measured || S.units.readonly) return;
    S.dragging = true;
    S.t = t;
    if (S.frame) cancelAnimationFrame(S.frame);
    draw();
    S.exact = S.gone;
    S.dragging = false;
    $("plan-said").textContent = S.told;
    send({ ...S.units.entry, threshold: t });
  };

  const toggle = (unit) => {
    const { units } = S;
    if (units.readonly) return;
    const g = groupOf(unit);
    const group = units.groups[g];
    const goes = S.gone[unit];
    S.hand[unit] = goes ? RESTORED : REMOVED;
    S.exact = Uint8Array.from(S.gone);
    S.exact[unit] = goes ? 0 : 1;
    S.nonce += 1;
    draw();
    settle();
    const verb = goes ? "restore" : "remove";
    $("plan-said").textContent = `${group.noun} ${unit - group.start} of ${group.name}: ${goes ? "stays" : "goes"}`;
    send({ group: group.name, [verb]: [unit - group.start], view: "plan" });
  };

  // A double click does what a click does.
  const toggleOnce = (unit) => {
    const now = performance.now();
    const [when, which] = S.clicked;
    S.clicked = [now, unit];
    if (which !== unit || now - when >= 450) toggle(unit);
  };

  const groupOf = (unit) => S.units.groups.findIndex((group) => unit < group.start + group.units);

  // Listening ------------------------------------------------------------------------------------------------------

  const pointed = (event) => {
    const here = axis();
    const box = $("plan-graph").parentElement.getBoundingClientRect();
    const part = Math.min(Math.max((event.clientX - box.left - here.l) / here.w, 0), 1);
    return here.value(part);
  };

  const listen = () => {
    const graph = plot();
    if (graph && graph.on && !graph._plan) {
      graph._plan = true;
      graph.on("plotly_click", (event) => {
        const point = event.points && event.points[0];
        if (!point || point.curveNumber !== 0 || S.units.canvas) return;
        toggleOnce(point.pointNumber);
      });
      graph.on("plotly_afterplot", () => {
        lanes(graph);
        line();
        under();
        if (S.gone && S.gone.length === S.units.size) overlay(S.gone);
        if (graph.data[1] && graph.data[1]._stamp === undefined) settle();
      });
      graph.on("plotly_beforeexport", () => {
        if (!S.units.canvas) return;
        const frame = $("plan-graph").parentElement;
        const [pen, width, height] = canvasOf(frame, "plan-shot");
        for (const name of ["plan-under", "plan-over"]) pen.drawImage(frame.querySelector(`canvas.${name}`), 0, 0, width, height);
        const { l, t, w, h } = graph._fullLayout._size;
        graph.layout.images = [{
          source: pen.canvas.toDataURL(), xref: "paper", yref: "paper", x: -l / w, y: 1 + t / h, sizex: width / w, sizey: height / h,
          sizing: "stretch", layer: "above",
        }];
        pen.clearRect(0, 0, width, height);
      });
      graph.on("plotly_afterexport", () => { delete graph.layout.images; });
      graph.on("plotly_relayouting", () => {
        line();
        under();
        if (S.gone) overlay(S.gone);
      });
      if (graph._fullLayout) lanes(graph);
    }
    const stage = $("plan-stage");
    if (!stage._plan) {
      stage._plan = true;
      let from = null;
      stage.addEventListener("pointermove", (event) => {
        if (S.units.canvas && !S.dragging && event.buttons === 0) tell($("plan-unit"), stage, event, nearest(event));
      });
      stage.addEventListener("pointerleave", () => { $("plan-unit").hidden = true; });
      stage.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY]; }, true);
      stage.addEventListener("pointerup", (event) => {
        if (!S.units.canvas || S.dragging || from === null || event.target.closest(".modebar, .plan-line")) return;
        if (Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 3) return;
        const unit = nearest(event);
        if (unit >= 0) toggleOnce(unit);
      }, true);
    }
    const slider = $("plan-range");
    if (!slider || slider._plan) return;
    slider._plan = true;
    slider.addEventListener("pointerdown", begin);
    slider.addEventListener("input", () => {
      const here = axis();
      if (here) move(here.value(slider.value / STEPS));
    });
    slider.addEventListener("change", () => {
      const here = axis();
      if (here) commit(here.value(slider.value / STEPS));
    });
    slider.addEventListener("pointerup", () => {
      if (S.dragging) setTimeout(() => { if (S.dragging) { S.dragging = false; S.t = S.draft.threshold; draw(); settle(); } }, 0);
    });
    const mark = $("plan-line");
    mark.addEventListener("pointerdown", (event) => {
      if (S.units.readonly) return;
      mark.setPointerCapture(event.pointerId);
    });
    mark.addEventListener("pointermove", (event) => {
      if (mark.hasPointerCapture(event.pointerId)) move(pointed(event));
    });
    mark.addEventListener("pointerup", (event) => {
      mark.releasePointerCapture(event.pointerId);
      if (S.dragging) commit(pointed(event));
    });
    const dots = $("plan-circles");
    const hit = (event) => {
      if (!S.boxes) return undefined;
      const { step, columns, units } = S.boxes;
      const box = dots.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / step);
      return column < columns ? units[Math.floor((event.clientY - box.top) / step) * columns + column] : undefined;
    };
    dots.addEventListener("click", (event) => {
      const unit = hit(event);
      if (unit !== undefined) toggle(unit);
    });
    dots.addEventListener("pointermove", (event) => {
      tell($("plan-tip"), dots, event, hit(event));
    });
    dots.addEventListener("pointerleave", () => { $("plan-tip").hidden = true; });
    $("plan-tools").addEventListener("click", (event) => {
      const preset = event.target.closest("[data-preset]");
      if (!preset || !S.draft) return;
      const found = S.draft.presets[preset.dataset.preset];
      if (found !== null && found !== undefined) {
        begin();
        commit(found);
      }
    });
    const view = $("plan-stretch");
    view.addEventListener("click", (event) => {
      const how = event.target.closest("[data-stretch]");
      const shown = plot();
      if (!how || !shown) return;
      if (how.dataset.stretch === "all") {
        window.Plotly.relayout(shown, { "xaxis.autorange": true });
        return;
      }
      const [low, high] = shown._fullLayout.xaxis.range;
      const here = axis();
      const at = S.t === null ? 0.5 : Math.min(Math.max(here.part(S.t), 0), 1);
      const factor = how.dataset.stretch === "in" ? 0.5 : 2;
      const centre = low + at * (high - low);
      window.Plotly.relayout(shown, { "xaxis.range": [centre - (centre - low) * factor, centre + (high - centre) * factor] });
    });
    new ResizeObserver(soon).observe($("plan-circles"));
  };

  const element = (tag, properties, ...children) => {
    const found = Object.assign(document.createElement(tag), properties);
    found.append(...children);
    return found;
  };

  // The groups as a table: their colour, a button that selects them, what goes, a share of their own, a lock.
  const groups = () => {
    const frame = $("plan-groups");
    const { units, draft } = S;
    const rows = units.groups.map((group, g) => {
      const name = element("button", { type: "button", className: "plan-name", title: `Select ${group.name}`, textContent: `\u200e${group.name}` });
      name.setAttribute("aria-label", group.name);
      name.addEventListener("click", () => set("selection", { ...S.selection, group: group.name }));
      const chip = element("span", { className: "plan-chip" });
      chip.style.background = group.colour;
      const inner = element("span", { className: "plan-part" });
      const count = element("td", { className: "plan-count" });
      const own = g in draft.shares ? draft.shares[g] : null;
      const share = element("input", {
        type: "number", min: 0, max: 100, step: 1, value: own === null ? "" : String(Math.round(1000 * own) / 10), className: "plan-share",
        title: "Percent of this group that goes, whatever the threshold says; empty: by the threshold", disabled: units.readonly || !units.measured,
      });
      share.setAttribute("aria-label", `Percent of ${group.name} that goes`);
      share.addEventListener("change", () => {
        const value = share.value === "" ? null : Math.min(Math.max(Number(share.value) / 100, 0), 1);
        send({ ...units.entry, group: group.name, share: value, view: "plan" });
      });
      const locked = draft.locked.includes(g);
      const lock = element("button", { type: "button", className: "plan-lock", disabled: units.readonly, textContent: locked ? "locked" : "lock" });
      lock.title = locked ? `${group.name} is left alone by thresholds and ratios; unlock it` : `Leave ${group.name} alone: only what is done by hand counts`;
      lock.setAttribute("aria-pressed", String(locked));
      lock.setAttribute("aria-label", `Leave ${group.name} alone`);
      lock.addEventListener("click", () => send({ group: group.name, lock: !locked, view: "plan" }));
      const row = element("tr", { title: `${group.name}: ${group.units} ${group.kind}` },
        element("td", { className: "plan-who" }, chip, name),
        element("td", { className: "plan-meter" }, inner), count,
        element("td", {}, share), element("td", {}, lock));
      row.cells[1].dataset.value = group.units;
      row.cells[3].dataset.value = own === null ? "" : 100 * own;
      row.cells[4].dataset.value = locked ? "yes" : "";
      row.classList.toggle("chosen", Boolean(S.selection && S.selection.group === group.name));
      row._cells = { count, bar: inner, share };
      return row;
    });
    const body = frame.querySelector("tbody");
    body.replaceChildren(...rows);
    const chosen = body.querySelector(".chosen");
    if (chosen && frame.dataset.chosen !== S.selection.group) {
      frame.scrollTop = Math.max(chosen.offsetTop - frame.clientHeight / 2, 0);
      frame.dataset.chosen = S.selection.group;
    }
  };

  const offer = () => {
    document.querySelectorAll("#plan-tools [data-preset]").forEach((button) => {
      const found = S.draft.presets[button.dataset.preset];
      button.disabled = S.units.readonly || found === null || found === undefined;
    });
  };

  // Callbacks ------------------------------------------------------------------------------------------------------

  const received = (units, draft, selection) => {
    S.selection = selection || {};
    if (!units || !draft || draft.key !== units.key) return window.dash_clientside.no_update;
    if (S.units && S.units.key !== units.key) {
      S.queue = [];
      S.dragging = false;
    }
    const other = !S.draft || S.draft.nonce !== draft.nonce || S.draft.revision !== draft.revision;
    S.units = units;
    S.draft = draft;
    if (draft.nonce === S.waiting || !S.waiting) S.waiting = 0;
    if (S.queue.length) {
      flush();
      return window.dash_clientside.no_update;
    }
    if (other || !S.dragging) S.asking = false;
    take(units, draft);
    S.exact = flags(units.size, draft.gone);
    if (!S.dragging) S.t = draft.threshold;
    S.estimate = draft.left;
    listen();
    groups();
    offer();
    const zeros = draft.weights ? [`${draft.weights.toLocaleString("en-US")} single weight${draft.weights === 1 ? " becomes" : "s become"} zero`] : [];
    const other_one = draft.other ? [`threshold of the draft: ${draft.other}`] : [];
    $("plan-notes").textContent = [...other_one, ...zeros, ...draft.notes].join(" · ");
    draw();
    under();
    S.nonce += 1;
    settle();
    requestAnimationFrame(() => { listen(); line(); settle(); });
    return window.dash_clientside.no_update;
  };

  // The server has looked at where the threshold is while it moves.
  const foreseen = (estimate) => {
    S.asking = false;
    if (!estimate || !S.units) return window.dash_clientside.no_update;
    S.estimate = estimate;
    if (S.dragging) {
      soon();
      if (S.asked !== S.t) foresee();
    }
    return window.dash_clientside.no_update;
  };

  window.dash_clientside = Object.assign({}, window.dash_clientside, { plan: { received, foreseen, choose, state: S } });
})();
