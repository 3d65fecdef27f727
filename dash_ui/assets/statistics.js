// Statistics in the browser: which step a tab shows, one panel over all others, and how numbers of tables are written.
"use strict";
(function () {
  const FIRST = "confusion";
  let fromTable = false; // whether the cell was chosen in the table of pairs

  function open(selection, view) {
    for (const word of ((selection && selection.tab) || "").split(" ")) {
      const [area, name] = word.split(":");
      if (area === "statistics" && name) return name === view;
    }
    const tab = document.querySelector('.tab[data-area="statistics"]');
    return (tab ? tab.dataset.view : FIRST) === view;
  }

  function signed(text, value) {
    if (value > 0) return "▲ +" + text;
    return value < 0 ? "▼ −" + text : "· " + text;
  }

  // -- one panel over all others (double-click, or its button) ---------------------------------------------------------

  function whole(panel) {
    const view = panel.closest(".stat");
    const was = panel.classList.contains("whole");
    for (const other of view.querySelectorAll(".stat-panel.whole")) other.classList.remove("whole");
    view.classList.toggle("has-whole", !was);
    panel.classList.toggle("whole", !was);
    for (const button of view.querySelectorAll(".stat-whole")) {
      const on = button.closest(".stat-panel").classList.contains("whole");
      button.setAttribute("aria-pressed", on ? "true" : "false");
      button.title = on ? "Show all panels again" : "Show this panel alone";
    }
    window.dispatchEvent(new Event("resize")); // plots measure their frames again
  }

  document.addEventListener("dblclick", function (event) {
    const panel = event.target.closest && event.target.closest(".stat-panel");
    if (!panel || event.target.closest("button, input, label, .js-plotly-plot, .ag-root-wrapper, .dash-dropdown")) return;
    whole(panel);
  });

  // A plot covers the page while the mouse is down, so that it alone hears of a double-click.
  function listen(event) {
    const plot = event.target.closest && event.target.closest(".stat-panel .js-plotly-plot");
    if (!plot || plot.dataset.whole || typeof plot.on !== "function") return;
    plot.dataset.whole = "yes";
    plot.on("plotly_doubleclick", () => whole(plot.closest(".stat-panel")));
  }

  document.addEventListener("pointerdown", listen, true);

  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest(".stat-whole");
    if (button) whole(button.closest(".stat-panel"));
    const link = event.target.closest && event.target.closest(".stat-tab");
    if (link && window.onnxprune && window.onnxprune.openTab) window.onnxprune.openTab("statistics", link.dataset.view);
  });

  // -- how tables write numbers ----------------------------------------------------------------------------------------

  const written = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  written.statShare = (value) => (value === null || value === undefined ? "" : (100 * value).toFixed(1) + "%");
  written.statCount = (value) => (value === null || value === undefined ? "" : value.toLocaleString("en-US"));
  written.statPoints = (value) =>
    value === null || value === undefined ? "" : signed(Math.abs(100 * value).toFixed(1), Math.abs(value) < 5e-4 ? 0 : value);
  written.statSigned = (value) => (value === null || value === undefined ? "" : signed(Math.abs(value).toLocaleString("en-US"), value));

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.statistics = {
    // What a tab is to show: nothing new while it is closed, or as long as neither steps nor tree have changed.
    focus: function (selection, revision, id, now) {
      const none = window.dash_clientside.no_update;
      if (!selection || !selection.step || !revision || !open(selection, id.split("-")[0])) return none;
      const found = { step: selection.step, other: selection.other, tree: revision.tree };
      return now && Object.keys(found).every((name) => now[name] === found[name]) ? none : found;
    },
    // The step of a point that was clicked is compared with the selected one.
    compare: function (...inputs) {
      const selection = inputs.pop();
      const clicked = window.dash_clientside.callback_context.triggered[0];
      const point = clicked && clicked.value && clicked.value.points && clicked.value.points[0];
      if (!point || point.customdata === undefined || !selection) return window.dash_clientside.no_update;
      const step = Array.isArray(point.customdata) ? point.customdata[0] : point.customdata;
      return Object.assign({}, selection, { other: step === selection.step ? null : step });
    },
    // The step of a point that was clicked is selected.
    select: function (clicked, selection) {
      const point = clicked && clicked.points && clicked.points[0];
      if (!point || !point.customdata || !selection) return window.dash_clientside.no_update;
      return Object.assign({}, selection, { step: point.customdata[0] });
    },
    other: function (value, shown, selection) {
      const none = window.dash_clientside.no_update;
      if (!selection || value === null || value === undefined || value === shown) return none;
      return Object.assign({}, selection, { other: value });
    },
    // A click on a cell of the matrix, or on a row of the pairs: the numbers of both classes.
    cell: function (clicked, rows, shown) {
      const none = window.dash_clientside.no_update;
      fromTable = window.dash_clientside.callback_context.triggered_id === "confusion-pairs";
      if (fromTable) return rows && rows.length ? [rows[0].i, rows[0].j] : none;
      const point = clicked && clicked.points && clicked.points[0];
      if (!point || !shown) return none;
      const [label, taken] = [point.y, point.x].map((name) => shown.indices[shown.labels.indexOf(String(name))]);
      return label === undefined || taken === undefined ? none : [label, taken];
    },
    // What a row of a table below tells comes into sight.
    come: function (figure, id) {
      if (fromTable) window.requestAnimationFrame(() => document.getElementById(id).scrollIntoView({ block: "nearest" }));
      fromTable = false;
    },
  };
})();
