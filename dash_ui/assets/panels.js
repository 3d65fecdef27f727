// Panels: their borders are dragged, and one of them may fill the page. Both stay in this browser.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const SMALLEST = { vertical: 180, horizontal: 90 }; // pixels
  const STEP = 24; // pixels for a press of an arrow key
  const VARIABLES = { history: "--w-history", statistics: "--w-statistics", inspect: "--h-inspect" };

  // -- sizes ---------------------------------------------------------------------------------------------------------

  function sizes() {
    try {
      return JSON.parse(shared.kept("sizes") || "{}") || {};
    } catch (error) {
      return {};
    }
  }

  function keep(name, value) {
    const all = sizes();
    if (value === null) delete all[name];
    else all[name] = value;
    shared.kept("sizes", JSON.stringify(all));
  }

  function panels(splitter) {
    return [splitter.previousElementSibling, splitter.nextElementSibling];
  }

  function along(splitter) {
    return splitter.classList.contains("vertical") ? "width" : "height";
  }

  // A border of the page sets a length in pixels, one within the model the share of the two beside it.
  function apply(splitter, value) {
    const variable = VARIABLES[splitter.dataset.name];
    if (variable) {
      if (value === null) document.documentElement.style.removeProperty(variable);
      else document.documentElement.style.setProperty(variable, value + "px");
      return;
    }
    const [before, after] = panels(splitter);
    const both = value === null ? [null, null] : [value, 1 - value];
    const sum = value === null ? 0 : grow(before) + grow(after);
    [before, after].forEach((panel, place) => {
      panel.style.flexGrow = value === null ? "" : String(both[place] * sum);
    });
  }

  function grow(panel) {
    return parseFloat(getComputedStyle(panel).flexGrow) || 1;
  }

  function current(splitter) {
    const side = along(splitter);
    const name = splitter.dataset.name;
    if (name in VARIABLES) return document.getElementById("panel-" + name).getBoundingClientRect()[side];
    const [before, after] = panels(splitter).map((panel) => panel.getBoundingClientRect()[side]);
    return before / (before + after);
  }

  function moved(splitter, from, by) {
    const side = along(splitter);
    const least = SMALLEST[splitter.classList.contains("vertical") ? "vertical" : "horizontal"];
    if (splitter.dataset.name in VARIABLES) {
      const toLeft = splitter.dataset.name === "history";
      const page = document.getElementById("desk").getBoundingClientRect()[side];
      return Math.round(Math.max(least, Math.min(page * 0.6, from + (toLeft ? by : -by))));
    }
    const whole = panels(splitter).reduce((sum, panel) => sum + panel.getBoundingClientRect()[side], 0);
    const edge = Math.min(0.45, least / whole);
    return Math.max(edge, Math.min(1 - edge, from + by / whole));
  }

  document.addEventListener("pointerdown", function (event) {
    const splitter = event.target.closest && event.target.closest(".splitter");
    if (!splitter || event.button !== 0) return;
    event.preventDefault();
    splitter.setPointerCapture(event.pointerId);
    const vertical = splitter.classList.contains("vertical");
    const start = vertical ? event.clientX : event.clientY;
    const from = current(splitter);
    let value = null;
    function move(now) {
      value = moved(splitter, from, (vertical ? now.clientX : now.clientY) - start);
      apply(splitter, value);
    }
    function end() {
      splitter.removeEventListener("pointermove", move);
      if (value !== null) keep(splitter.dataset.name, value);
    }
    splitter.addEventListener("pointermove", move);
    splitter.addEventListener("pointerup", end, { once: true });
    splitter.addEventListener("pointercancel", end, { once: true });
  });

  document.addEventListener("keydown", function (event) {
    const splitter = event.target.closest && event.target.closest(".splitter");
    const by = { ArrowLeft: -STEP, ArrowUp: -STEP, ArrowRight: STEP, ArrowDown: STEP }[event.key];
    if (!splitter || !by) return;
    event.preventDefault();
    const value = moved(splitter, current(splitter), by);
    apply(splitter, value);
    keep(splitter.dataset.name, value);
  });

  const all = sizes();
  for (const [name, variable] of Object.entries(VARIABLES)) {
    if (Number.isFinite(all[name])) document.documentElement.style.setProperty(variable, all[name] + "px");
  }
  shared.restoreSizes = function () {
    const known = sizes();
    for (const splitter of document.querySelectorAll(".area-model .splitter")) {
      if (Number.isFinite(known[splitter.dataset.name])) apply(splitter, known[splitter.dataset.name]);
    }
  };

  // -- one panel as large as the page --------------------------------------------------------------------------------

  shared.maximised = function () {
    return document.querySelector(".panel.maximised");
  };

  shared.maximise = function (panel) {
    const before = shared.maximised();
    if (before) before.classList.remove("maximised");
    const fresh = panel && panel !== before ? panel : null;
    if (fresh && fresh.id === "panel-inspect") shared.unfold();
    if (fresh) fresh.classList.add("maximised");
    document.documentElement.classList.toggle("has-maximised", fresh !== null);
    for (const button of document.querySelectorAll(".maximise")) {
      const is = fresh !== null && button.dataset.panel === fresh.dataset.panel;
      button.title = is ? "Restore (Esc)" : "Maximise (m)";
      button.setAttribute("aria-pressed", is ? "true" : "false");
    }
    window.dispatchEvent(new Event("resize"));
  };

  document.addEventListener("click", function (event) {
    const button = event.target.closest(".maximise");
    if (button) shared.maximise(document.getElementById("panel-" + button.dataset.panel));
  });

  const BUSY = "button, input, select, textarea, a, label, .ag-root-wrapper, .js-plotly-plot, .dash-dropdown, .keeps-dblclick";

  document.addEventListener("dblclick", function (event) {
    const splitter = event.target.closest(".splitter");
    if (splitter) {
      apply(splitter, null);
      keep(splitter.dataset.name, null);
      return;
    }
    const panel = event.target.closest(".panel");
    if (!panel || event.target.closest(BUSY)) return;
    if (event.target.closest(".panel-head") || !event.target.closest("[tabindex]:not(.panel)")) shared.maximise(panel);
  });

  // A plot swallows double clicks; it says when one was on its background. One whose own double click has a meaning
  // (`doubleClick` in its config) keeps it.
  function listen(plot) {
    if (plot.dataset.listened || typeof plot.on !== "function") return;
    plot.dataset.listened = "yes";
    plot.on("plotly_doubleclick", function () {
      const own = plot._context && plot._context.doubleClick;
      const point = plot._hoverdata && plot._hoverdata.length;
      const panel = plot.closest(".panel");
      if (!own && !point && panel && !plot.closest(".keeps-dblclick")) shared.maximise(panel);
    });
  }

  document.addEventListener("pointerdown", function (event) {
    const plot = event.target.closest && event.target.closest(".js-plotly-plot");
    if (plot) listen(plot);
  }, true);
})();
