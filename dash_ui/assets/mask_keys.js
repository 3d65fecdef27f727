// The mask by keyboard: a cell that arrows move, a rectangle that Shift marks, Enter and the space bar to brush it. The
// cell is told with its value and what becomes of it, as a reader of the screen needs it.
(() => {
  "use strict";
  const PAUSE = 180; // milliseconds without a key, after which a cell is told
  const PART = 4; // of what is seen: how far a page goes
  const mask = window.onnxprune.mask;
  const K = { cell: null, from: null, on: false, key: "" };
  const $ = (id) => document.getElementById(id);

  const matrix = () => {
    const gd = mask.plot();
    return gd && gd.layout.meta ? gd.layout.meta : null;
  };

  // Rows and columns from .. to of what is on the picture.
  const seen = () => {
    const [rows, columns] = matrix().shape;
    const { xaxis, yaxis } = mask.plot()._fullLayout;
    const cut = (range, size) => [Math.max(0, Math.ceil(Math.min(...range))), Math.min(size - 1, Math.floor(Math.max(...range)))];
    return [cut(yaxis.range, rows), cut(xaxis.range, columns)];
  };

  // The cell, where there is none yet the middle of what is seen; of another weight it is another one.
  const cell = () => {
    const key = mask.plot().layout.uirevision;
    if (!K.cell || K.key !== key) {
      K.cell = seen().map(([low, high]) => Math.max(low, Math.floor((low + high) / 2)));
      [K.from, K.key] = [K.cell, key];
    }
    return K.cell;
  };

  const extent = (axis) => [Math.min(K.from[axis], K.cell[axis]), Math.max(K.from[axis], K.cell[axis])];

  // What is drawn: the rectangle, and the cell in it.
  mask.marked = () => {
    if (!K.on || !K.cell || !matrix()) return null;
    const own = { kind: "mask-cursor", rows: [K.cell[0], K.cell[0]], columns: [K.cell[1], K.cell[1]] };
    const several = K.from[0] !== K.cell[0] || K.from[1] !== K.cell[1];
    return several ? [{ kind: "mask-marked", rows: extent(0), columns: extent(1) }, own] : [own];
  };

  mask.typing = () => K.on;
  mask.left = () => {
    K.on = false;
    mask.shape();
  };
  // Another picture, after a brush or a zoom: the cell is told again, because what becomes of it may have changed.
  mask.drawn = () => {
    if (K.on) tell();
  };

  const tell = () => {
    const gd = mask.plot();
    const [row, column] = K.cell;
    const { xaxis, yaxis } = gd._fullLayout;
    const box = gd.getBoundingClientRect();
    const at = { clientX: box.left + xaxis._offset + xaxis.d2p(column), clientY: box.top + yaxis._offset + yaxis.d2p(row) };
    const [high, wide] = [0, 1].map((axis) => extent(axis)[1] - extent(axis)[0] + 1);
    const several = high * wide > 1 ? `${high} × ${wide} cells marked. ` : "";
    mask.look(row, column, at, PAUSE, (found) => {
      $("mask-live").textContent = `${several}${found.lines.slice(0, 2).join(", ")}, ${found.state}`;
    });
  };

  // The picture goes along where the cell leaves what is seen.
  const follow = () => {
    const { xaxis, yaxis } = mask.plot()._fullLayout;
    const moved = [yaxis, xaxis].map((axis, k) => {
      const [low, high] = [Math.min(...axis.range), Math.max(...axis.range)];
      const at = K.cell[k];
      const by = at - 0.5 < low ? at - 0.5 - low : at + 0.5 > high ? at + 0.5 - high : 0;
      return axis.range.map((end) => end + by);
    });
    if (moved[0][0] !== yaxis.range[0] || moved[1][0] !== xaxis.range[0]) mask.zoom(moved[1], moved[0]);
  };

  const go = (row, column, extends_) => {
    const [rows, columns] = matrix().shape;
    K.cell = [Math.max(0, Math.min(rows - 1, row)), Math.max(0, Math.min(columns - 1, column))];
    if (!extends_) K.from = K.cell;
    follow();
    mask.shape();
    tell();
  };

  const zoom = (factor) => {
    const [rows, columns] = matrix().shape;
    const { xaxis, yaxis } = mask.plot()._fullLayout;
    const [y, x] = [[yaxis, K.cell[0], rows], [xaxis, K.cell[1], columns]].map(([axis, at, size]) => {
      const length = Math.max(1, Math.min(size, Math.abs(axis.range[1] - axis.range[0]) * factor));
      const low = Math.max(-0.5, Math.min(size - 0.5 - length, at - length / 2));
      return axis.range[0] > axis.range[1] ? [low + length, low] : [low, low + length];
    });
    mask.zoom(x, y);
  };

  const brush = (event) => {
    const [rows, columns] = [extent(0), extent(1)];
    if (event.key === " " && event.shiftKey) mask.emit({ rows });
    else if (event.key === " " && event.ctrlKey) mask.emit({ columns });
    else {
      const [y, x] = [rows, columns].map(([low, high]) => [low - 0.25, high + 0.25]); // inside of the cells
      mask.emit({ range: { x, y } });
    }
  };

  const keys = (event) => {
    const [row, column] = cell();
    const [rows, columns] = matrix().shape;
    const [high, wide] = mask.chosen("mask-snap") === "weight" ? [1, 1] : matrix().kernel;
    const page = Math.max(high, Math.round((seen()[0][1] - seen()[0][0] + 1) / PART));
    const far = event.ctrlKey;
    const to = {
      ArrowUp: [row - high, column], ArrowDown: [row + high, column], ArrowLeft: [row, column - wide],
      ArrowRight: [row, column + wide], Home: [far ? 0 : row, 0], End: [far ? rows - 1 : row, columns - 1],
      PageUp: [row - page, column], PageDown: [row + page, column],
    }[event.key];
    if (to) return () => go(...to, event.shiftKey);
    if (event.key === "Enter" || event.key === " ") return () => brush(event);
    if (event.ctrlKey) return null;
    if (event.key === "+" || event.key === "=") return () => zoom(0.5);
    if (event.key === "-") return () => zoom(2);
    if (event.key === "0") return mask.whole;
    const several = K.from[0] !== K.cell[0] || K.from[1] !== K.cell[1];
    return event.key === "Escape" && several ? () => go(row, column, false) : null;
  };

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "mask-frame" || event.altKey || event.metaKey || !matrix()) return;
    const does = keys(event);
    if (!does) return;
    event.preventDefault();
    event.stopPropagation();
    if (!K.on) {
      K.on = true;
      mask.shape();
    }
    does();
  }, true);

  // Reached by Tab, it shows where it is; a mouse shows that by itself.
  document.addEventListener("focusin", (event) => {
    if (event.target.id !== "mask-frame" || !event.target.matches(":focus-visible") || !matrix()) return;
    K.on = true;
    cell();
    mask.shape();
    tell();
  });
  document.addEventListener("focusout", (event) => {
    if (event.target.id !== "mask-frame" || !K.on) return;
    mask.left();
    mask.hide();
  });
})();
