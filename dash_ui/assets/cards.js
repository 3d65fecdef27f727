/* The cards: made when they are seen, folded, hidden and set side by side in the browser, which remembers that. */
(function () {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg", HEIGHT = 64, BASE = 54, ROOM = 600;
  const now = { rows: [], folder: "", state: { folded: [], hidden: [], columns: false }, seen: null, raised: false };

  const key = () => `onnxprune-cards:${now.folder}`;
  const list = () => document.getElementById("cards-list");

  function load() {
    try {
      now.state = { folded: [], hidden: [], columns: false, ...JSON.parse(localStorage.getItem(key()) || "{}") };
    } catch (error) { /* private windows keep nothing: the cards begin as they are */ }
  }
  function keep() {
    try { localStorage.setItem(key(), JSON.stringify(now.state)); } catch (error) { /* as above */ }
  }

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === false || value === null || value === undefined) continue;
      if (name === "class") node.className = value; else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== ""));
    return node;
  }
  function shape(tag, attributes, title) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (title) {
      const words = document.createElementNS(SVG, "title");
      words.textContent = title;
      node.append(words);
    }
    return node;
  }

  /* Layers as boxes with some depth: as high as the layer has units (root scale), a ghost for what the original had. */
  function draw(row) {
    const boxes = row.drawing;
    if (!boxes.length) return null;
    const most = Math.max(...boxes.map((box) => box.of)), step = 260 / boxes.length;
    const wide = Math.min(26, Math.max(3, step * 0.5)), deep = Math.min(8, wide * 0.35);
    const svg = shape("svg", { viewBox: `0 0 260 ${HEIGHT + 12}`, class: "card-net", role: "img", preserveAspectRatio: "xMidYMax meet" });
    const told = `${row.title}: ` + boxes.map((box) => `${box.name} ${box.left} of ${box.of} ${box.noun}`).join(", ");
    svg.setAttribute("aria-label", told);
    boxes.forEach((box, k) => {
      const full = Math.max(5, BASE * Math.sqrt(box.of / most)), share = box.of ? box.left / box.of : 1;
      const x = k * step + (step - wide - deep) / 2, left = Math.max(1.5, full * share), thin = Math.max(2, wide * (0.4 + 0.6 * share));
      const group = shape("g", { class: box.noun === "neurons" ? "layer flat" : "layer" }, `${box.name}: ${box.left} of ${box.of} ${box.noun} left`);
      if (k) group.append(shape("path", { class: "wire", d: `M${(x - step + wide + deep).toFixed(1)} ${HEIGHT - 4}H${x.toFixed(1)}` }));
      if (share < 1) {
        group.append(shape("rect", { class: "ghost-box", x: x.toFixed(1), y: (HEIGHT - full).toFixed(1), width: wide.toFixed(1), height: full.toFixed(1), rx: 1 }));
      }
      const y = HEIGHT - left, d = Math.min(deep, left / 2);
      if (wide > 5) {
        group.append(shape("path", { class: "top", d: `M${x} ${y}l${d} ${-d}h${thin}l${-d} ${d}z` }));
        group.append(shape("path", { class: "side", d: `M${x + thin} ${y}l${d} ${-d}v${left}l${-d} ${d}z` }));
      }
      group.append(shape("rect", { class: "front", x: x.toFixed(1), y: y.toFixed(1), width: thin.toFixed(1), height: left.toFixed(1) }));
      if (step > 30) {
        const text = shape("text", { x: (x + wide / 2).toFixed(1), y: HEIGHT + 10 });
        text.textContent = share < 1 ? `${box.left}/${box.of}` : String(box.of);
        group.append(text);
      }
      svg.append(group);
    });
    return svg;
  }

  function change(found, words) {
    if (!found) return make("td", { class: "change" });
    const told = found.is === "same" ? words : `${found.is} ${words}`;
    const arrow = make("span", { "aria-hidden": "true" }, found.arrow + " ");
    return make("td", { class: `change ${found.is}`, title: told }, arrow, found.text, make("span", { class: "verdict" }, found.is === "same" ? "" : found.is));
  }

  function body(row) {
    const head = make("tr", null, make("th", null), make("th", { scope: "col" }, "value"),
      make("th", { scope: "col" }, row.parent === null ? "" : `to #${row.parent}`),
      make("th", { scope: "col", title: "against the baseline" }, row.step === row.against ? "" : `to ★ #${row.against}`));
    const lines = row.figures.map((f) => make("tr", null, make("th", { scope: "row" }, f.label), make("td", null, f.value),
      change(f.parent, "than the step before"), change(f.baseline, "than the baseline")));
    const how = [row.how, row.seconds].filter(Boolean).join(" · ");
    return make("div", { class: "card-body" }, draw(row), make("p", { class: "ratio" }, row.ratio),
      make("table", null, make("thead", null, head), make("tbody", null, ...lines)),
      make("p", { class: "quiet" }, how), row.note ? make("p", { class: "card-note" }, row.note) : "",
      row.problem ? make("p", { class: "problem", role: "alert" }, row.problem) : "",
      make("div", { class: "card-actions" },
        button("select", row.roles.includes("selected") ? "Selected" : "Continue here", row, row.roles.includes("selected")),
        button("compare", row.roles.includes("compared") ? "Stop comparing" : "Compare", row, row.roles.includes("selected")),
        button("copy", "Copy command", row), row.deletable ? button("delete", "Delete", row) : ""));
  }

  function button(what, text, row, disabled) {
    return make("button", { type: "button", class: "ghost", "data-cards": what, "data-step": row.step, disabled: disabled ? "disabled" : null }, text);
  }

  function fill(card) {
    const row = now.rows.find((r) => String(r.step) === card.dataset.step);
    if (!row || card.dataset.filled) return;
    card.dataset.filled = "yes";
    if (!card.classList.contains("folded")) card.append(body(row));
  }

  function build(row) {
    const folded = now.state.folded.includes(row.step);
    const roles = row.roles.filter((role) => role !== "aside").map((role) => make("span", { class: `badge ${role}` }, role));
    const main = row.figures[0];
    const head = make("header", null,
      make("button", { type: "button", class: "ghost fold", "data-cards": "toggle", "data-step": row.step, "aria-expanded": String(!folded), "aria-label": `${folded ? "Unfold" : "Fold"} ${row.title}`, title: folded ? "Unfold" : "Fold" }, folded ? "▸" : "▾"),
      make("strong", { title: row.title }, row.title), ...roles,
      folded && main ? make("span", { class: "brief" }, `${main.value}`) : "",
      make("button", { type: "button", class: "ghost hide", "data-cards": "hide", "data-step": row.step, "aria-label": `Hide ${row.title}`, title: "Hide this card" }, "×"));
    return make("article", { class: ["card", folded && "folded", ...row.roles.map((role) => `is-${role.replace(" ", "-")}`)].filter(Boolean).join(" "), "data-step": row.step, role: "listitem" }, head);
  }

  /* Draw all cards again; only what comes into view is filled. */
  function paint() {
    const place = list();
    if (!place) return;
    if (now.seen) now.seen.disconnect();
    now.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { fill(entry.target); now.seen.unobserve(entry.target); }
    }, { root: place, rootMargin: "400px" });
    const held = document.activeElement && document.activeElement.closest("#cards-list [data-cards]");
    const focus = held && [held.dataset.cards, held.dataset.step], top = place.scrollTop;
    const rows = now.rows.filter((row) => !now.state.hidden.includes(row.step));
    place.replaceChildren(...rows.map(build));
    place.classList.toggle("columns", now.state.columns);
    document.querySelectorAll('[data-cards="columns"]').forEach((b) => b.setAttribute("aria-pressed", String(now.state.columns)));
    place.querySelectorAll(".card").forEach((card) => now.seen.observe(card));
    place.scrollTop = top;
    const again = focus && place.querySelector(`[data-cards="${focus[0]}"][data-step="${focus[1]}"]`);
    if (again) again.focus();
    return now.rows.length - rows.length;
  }

  const hiddenWords = (count) => (count ? `${count} hidden` : "");
  function repaint() {
    keep();
    const words = document.getElementById("cards-hidden"), count = paint();
    if (words) words.textContent = hiddenWords(count);
  }

  function show(stored) {
    const before = now.rows.find((row) => row.roles.includes("selected"));
    now.rows = stored ? stored.cards : [];
    if (stored && stored.folder !== now.folder) { now.folder = stored.folder; load(); }
    const after = now.rows.find((row) => row.roles.includes("selected"));
    if (after && now.state.hidden.includes(after.step)) now.state.hidden = now.state.hidden.filter((n) => n !== after.step);
    const count = paint();
    if (after && (!before || before.step !== after.step)) {
      const card = list() && list().querySelector(`.card[data-step="${after.step}"]`);
      const seen = () => {
        if (!card.isConnected) return;
        fill(card);
        card.scrollIntoView({ block: card.offsetHeight > list().clientHeight * 0.9 ? "start" : "nearest", inline: "nearest" });
      };
      if (card) { requestAnimationFrame(seen); setTimeout(seen, 250); } /* again when those above are as high as they get */
    }
    const words = document.getElementById("cards-hidden");
    if (words) words.textContent = hiddenWords(count);
    return window.dash_clientside.no_update;
  }

  function selection() {
    const of = (role) => { const row = now.rows.find((r) => r.roles.includes(role)); return row ? row.step : null; };
    return { step: of("selected"), other: of("compared") };
  }

  const acts = {
    columns() {
      now.state.columns = !now.state.columns;
      const shared = window.onnxprune || {}, panel = list().closest(".panel");
      if (!shared.maximise || !panel) return;
      if (now.state.columns && panel.clientWidth < ROOM) { shared.maximise(panel); now.raised = true; }
      else if (!now.state.columns && now.raised) { shared.maximise(null); now.raised = false; }
    },
    fold() { now.state.folded = now.rows.map((row) => row.step); },
    unfold() { now.state.folded = []; now.state.hidden = []; },
    toggle(step) {
      const { folded } = now.state;
      now.state.folded = folded.includes(step) ? folded.filter((n) => n !== step) : [...folded, step];
    },
    hide(step) { now.state.hidden = [...now.state.hidden, step]; },
  };

  document.addEventListener("click", (event) => {
    const target = event.target.closest && event.target.closest("[data-cards]");
    if (!target || target.disabled) return;
    const what = target.dataset.cards, step = Number(target.dataset.step);
    if (acts[what]) { acts[what](step); repaint(); return; }
    const { set_props } = window.dash_clientside;
    if (what === "delete") set_props("cards-delete", { data: { step, asked: Date.now() } });
    else if (what === "copy") window.dash_clientside.tree.copy(1, now.rows.find((row) => row.step === step).command);
    else if (what === "select") set_props("cards-choose", { data: { step } });
    else if (what === "compare") set_props("cards-choose", { data: { other: selection().other === step ? null : step } });
  });

  function choose(change, chosen) {
    return change ? { ...chosen, ...change } : window.dash_clientside.no_update;
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, { cards: { show, choose } });
})();
