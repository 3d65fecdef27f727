// Tables as CSV: a button with `data-csv` writes the table of that id, grid or plain, to `data-file`-STEP.csv, with the
// titles of columns as they are shown and numbers as exact as the page has them: of a grid its values and what a row
// has in `exact`, of a cell its `data-value`. A column without a title is left out, unless `data-csv` names it.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const MARK = "\uFEFF"; // spreadsheets take it for UTF-8

  function quoted(value) {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  }

  function grid(id) {
    try {
      return window.dash_ag_grid ? window.dash_ag_grid.getApi(id) : null;
    } catch (error) {
      return null; // no grid has this id
    }
  }

  function exact(cell) {
    const field = cell.column.getColDef().field;
    const row = cell.node && cell.node.data;
    return row && row.exact && field in row.exact ? row.exact[field] : cell.value;
  }

  function words(cell) {
    if (!cell) return "";
    if (cell.dataset.value !== undefined) return cell.dataset.value;
    const field = cell.querySelector("input, select");
    return (field ? field.value : cell.textContent).replace(/[\u200e\u200f]/g, "").replace(/\s+/g, " ").trim();
  }

  function written(table) {
    const rows = [...table.rows];
    const head = table.tHead && table.tHead.rows[0];
    if (!head) return rows.map((row) => [...row.cells].map(words));
    const names = [...head.cells].map((cell) => (cell.dataset.csv === undefined ? words(cell) : cell.dataset.csv));
    const kept = names.map((name, k) => (name ? k : -1)).filter((k) => k >= 0);
    const body = rows.filter((row) => row.parentElement !== table.tHead && !row.hidden);
    return [kept.map((k) => names[k]), ...body.map((row) => kept.map((k) => words(row.cells[k])))];
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest("button[data-csv]");
    if (!button) return;
    const name = shared.fileName(button.dataset.file, "csv");
    const api = grid(button.dataset.csv);
    if (api) {
      api.exportDataAsCsv({ fileName: name, processCellCallback: exact });
      return;
    }
    const place = document.getElementById(button.dataset.csv);
    const table = place && (place.matches("table") ? place : place.querySelector("table"));
    if (!table) return;
    const text = written(table).map((row) => row.map(quoted).join(",")).join("\r\n");
    shared.download(new Blob([MARK + text + "\r\n"], { type: "text/csv" }), name);
  });
})();
