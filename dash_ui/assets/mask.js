// The mask: brushes over the picture and at its edges, and what is under the mouse. Places go to the server as numbers
// of rows and columns (cell r, c is the square around them); it works out what they mean (dash_ui/rows/brush.py).
(() => {
  "use strict";
  const CLICK = 4; // pixels that a hand may move during a click
  const SVG = "http://www.w3.org/2000/svg";
  const S = { drag: null, nonce: 0, zoom: 0, hover: 0, cell: "", at: null };
  const $ = (id) => document.getElementById(id);
  const set = (id, data) => window.dash_clientside.set_props(id, { data });
  const plot = () => document.querySelector("#mask-graph .js-plotly-plot");
  const chosen = (id) => {
    const input = document.querySelector(`#${id} input:checked`);
    return input && input.value;
  };

  // Where the mouse is: in pixels of the plot, and as row and column.
  const place = (event) => {
    const gd = plot();
    if (!gd || !gd._fullLayout || !gd._fullLayout.xaxis) return null;
    const { xaxis, yaxis } = gd._fullLayout;
    const box = gd.getBoundingClientRect();
    const px = event.clientX - box.left - xaxis._offset;
    const py = event.clientY - box.top - yaxis._offset;
    const across = px >= 0 && px <= xaxis._length;
    const down = py >= 0 && py <= yaxis._length;
    let zone = across && down ? "plot" : "";
    if (!zone && down && px < 0) zone = "rows";
    if (!zone && across && py < 0) zone = "columns";
    return { px, py, x: xaxis.p2d(px), y: yaxis.p2d(py), zone, xaxis, yaxis, box, key: gd.layout.uirevision };
  };

  // Brushes --------------------------------------------------------------------------------------------------------

  const shape = () => {
    const drag = S.drag;
    $("mask-layer").replaceChildren();
    if (!drag) return;
    const layer = document.createElementNS(SVG, "svg");
    $("mask-layer").append(layer);
    const frame = $("mask-frame").getBoundingClientRect();
    const left = drag.from.box.left - frame.left + drag.from.xaxis._offset;
    const top = drag.from.box.top - frame.top + drag.from.yaxis._offset;
    const add = (name, attributes) => {
      const made = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      made.setAttribute("class", `mask-brush ${drag.verb}`);
      layer.append(made);
    };
    if (drag.kind === "lasso") {
      add("polygon", { points: drag.points.map((p) => `${left + p.px},${top + p.py}`).join(" ") });
      return;
    }
    const whole = { rows: [-28, 0, drag.from.xaxis._length, 0], columns: [0, -18, 0, drag.from.yaxis._length] };
    let [x0, x1, y0, y1] = [drag.from.px, drag.to.px, drag.from.py, drag.to.py];
    if (drag.kind === "rows") [x0, x1] = [whole.rows[0], whole.rows[2]];
    if (drag.kind === "columns") [y0, y1] = [whole.columns[1], whole.columns[3]];
    add("rect", {
      x: left + Math.min(x0, x1), y: top + Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0),
    });
  };

  const emit = (geometry) => {
    S.nonce += 1;
    set("mask-brush", { ...geometry, nonce: `${Date.now()}-${S.nonce}`, verb: chosen("mask-verb"), snap: chosen("mask-snap") });
  };

  const end = (finished) => {
    const drag = S.drag;
    S.drag = null;
    shape();
    if (!drag || !finished) return;
    const { from, to } = drag;
    const still = drag.far < CLICK;
    if (drag.kind === "rows") emit({ rows: [from.y, still ? from.y : to.y] });
    else if (drag.kind === "columns") emit({ columns: [from.x, still ? from.x : to.x] });
    else if (still) emit({ click: { x: from.x, y: from.y } });
    else if (drag.kind === "lasso") emit({ lassoPoints: { x: drag.points.map((p) => p.x), y: drag.points.map((p) => p.y) } });
    else emit({ range: { x: [from.x, to.x], y: [from.y, to.y] } });
  };

  document.addEventListener("mousedown", (event) => {
    if (event.button !== 0 || !event.target.closest || !event.target.closest("#mask-frame")) return;
    if (event.target.closest(".modebar, button")) return;
    const from = place(event);
    const tool = chosen("mask-tool");
    if (!from || !from.zone || (from.zone === "plot" && tool === "zoom")) return;
    event.preventDefault();
    event.stopPropagation();
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

  document.addEventListener("mousemove", (event) => {
    const frame = event.target.closest && event.target.closest("#mask-frame");
    if (S.drag || !frame || event.buttons) {
      if (S.cell) hide();
      return;
    }
    const at = place(event);
    frame.dataset.zone = at ? at.zone : "";
    if (!at || at.zone !== "plot") {
      hide();
      return;
    }
    S.at = event;
    const column = Math.round(at.x);
    const row = Math.round(at.y);
    const cell = `${at.key} ${row} ${column}`;
    if (cell !== S.cell) {
      hide();
      S.cell = cell;
      S.hover = setTimeout(() => set("mask-at", { row, column, cell }), 40);
    } else {
      move();
    }
  });

  // Zoom -----------------------------------------------------------------------------------------------------------

  const settle = () => {
    const gd = plot();
    if (!gd || !gd._fullLayout || !gd._fullLayout.xaxis) return;
    const { xaxis, yaxis } = gd._fullLayout;
    set("mask-window", { key: gd.layout.uirevision, x: xaxis.range.slice(), y: yaxis.range.slice() });
  };

  // The pixels of the plot: what the frame leaves beside the margins (HEADER in figures/mask.py).
  const size = () => {
    const frame = $("mask-frame");
    if (!frame || frame.clientWidth < 100) return null;
    return [Math.max(40, frame.clientHeight - 40), Math.max(80, frame.clientWidth - 70)];
  };

  const watched = new ResizeObserver(() => {
    clearTimeout(S.resize);
    S.resize = setTimeout(() => {
      const now = size();
      if (now && S.size && (now[0] !== S.size[0] || now[1] !== S.size[1])) {
        S.size = now;
        set("mask-size", now);
      }
    }, 150);
  });

  document.addEventListener("dblclick", (event) => {
    if (!event.target.closest || !event.target.closest("#mask-frame .nsewdrag")) return;
    if (chosen("mask-tool") === "zoom") whole();
  }, true);

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    mask: {
      // Ranges come as xaxis.range[0], as xaxis.range or as xaxis.autorange: what the axes say now holds for all.
      zoomed: (change) => {
        const keys = Object.keys(change || {});
        const gd = plot();
        if (gd && keys.some((key) => key.endsWith(".autorange"))) {
          whole();
        } else if (keys.some((key) => /^[xy]axis\.range/.test(key))) {
          clearTimeout(S.zoom);
          S.zoom = setTimeout(settle, 60);
        }
        return window.dash_clientside.no_update;
      },
      measured: (seen) => {
        if (!seen) return window.dash_clientside.no_update;
        watched.disconnect();
        watched.observe($("mask-frame"));
        S.size = size() || [200, 800];
        return S.size;
      },
      whole: () => {
        whole();
        return window.dash_clientside.no_update;
      },
      told: (lines, cell) => {
        const tip = $("mask-tip");
        if (tip && cell && cell === S.cell) {
          tip.hidden = false;
          requestAnimationFrame(move);
        }
        return window.dash_clientside.no_update;
      },
      range: (selected) => {
        const range = selected && selected.range && selected.range.x;
        if (range && range[0] !== range[1]) {
          const gd = document.querySelector("#mask-histogram .js-plotly-plot");
          const most = gd.layout.meta.largest;
          const [low, high] = [Math.min(...range), Math.max(...range)];
          emit({ magnitude: [Math.max(low, 0), high >= most ? null : high] });
          window.Plotly.relayout(gd, { selections: [] });
        }
        return window.dash_clientside.no_update;
      },
    },
  });

  function whole() {
    const gd = plot();
    if (!gd || !gd.layout.meta) return;
    const [rows, columns] = gd.layout.meta.shape;
    window.Plotly.relayout(gd, { "xaxis.range": [-0.5, columns - 0.5], "yaxis.range": [rows - 0.5, -0.5] });
  }
})();
