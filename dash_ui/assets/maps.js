// Feature maps in the browser: units drawn from one picture (or as lines, or as bars), sorted, marked by a click.
"use strict";
(function () {
  const FIRST = 1024; // units that are drawn at once
  const SMALL = 34; // pixels across of a map, at least
  const LARGE = 128; // and at most, where there is room
  const LEAST = 60; // pixels across of a unit, for its words
  const HIGH = 40; // of a line
  const SVG = "http://www.w3.org/2000/svg";
  const S = { shown: null, sort: "", draft: null, limit: FIRST, wanted: new Map(), waiting: false, nonce: 0, at: 0 };
  const looks = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, looks];

  const place = () => document.getElementById("maps-units");

  function element(name, kind, text) {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function open(selection) {
    for (const word of ((selection && selection.tab) || "").split(" ")) {
      const [area, name] = word.split(":");
      if (area === "inspect" && name) return name === "maps";
    }
    const tab = document.querySelector('.tab[data-area="inspect"]');
    return document.documentElement.dataset.inspect !== "folded" && (!tab || tab.dataset.view === "maps");
  }

  // -- numbers and words -----------------------------------------------------------------------------------------------

  const number = (value) => (value === null || value === undefined ? null : value === "inf" ? Infinity : value);

  function percent(value) {
    const known = number(value);
    if (known === null) return "";
    if (known === Infinity) return "new";
    if (known >= 10) return "×" + known.toFixed(0);
    return (100 * known).toFixed(known > 0 && known < 0.0995 ? 1 : 0) + "%";
  }

  function pair(fact, name) {
    const [was, now] = [fact[name + "_before"], fact[name]];
    if (was === undefined) return String(now);
    return now === undefined ? String(was) : was + " → " + now;
  }

  function told(fact, goes) {
    const shown = S.shown;
    const words = [];
    if (fact.u === null) {
      words.push(shown.noun + " " + fact.b + " of #" + shown.before + ", not in #" + shown.step + " any longer");
    } else {
      let name = shown.noun + " " + fact.u;
      if (fact.b !== null && fact.b !== fact.u) name += ", " + fact.b + " in #" + shown.before;
      if (fact.o !== undefined && fact.o !== null && fact.o !== fact.u && fact.o !== fact.b) name += ", " + fact.o + " in the original";
      words.push(name);
    }
    words.push("mean " + pair(fact, "mean"), "maximum " + pair(fact, "most"));
    if (fact.u !== null && shown.before !== null) words.push(fact.b === null ? "new" : "change " + percent(fact.change));
    if (fact.score !== null && fact.score !== undefined) words.push(shown.criterion + " " + fact.score);
    if (fact.zeroed) words.push("zeroed by a plan");
    if (fact.u !== null) words.push(goes ? "in the plan" : "not in the plan");
    return words.join("\n");
  }

  // -- order -----------------------------------------------------------------------------------------------------------

  const size = (fact) => (fact.size !== undefined ? fact.size : fact.size_before) || 0;
  const last = (value) => (value === null ? -Infinity : value);
  const ORDERS = {
    activation: (fact) => -size(fact),
    change: (fact) => (fact.u === null ? -Infinity : -last(number(fact.change))),
    score: (fact) => (fact.u === null || number(fact.score) === null ? Infinity : number(fact.score)),
  };

  function ordered(units, sort) {
    const key = ORDERS[sort];
    const places = units.map((_, k) => k);
    if (!key) return places;
    const keys = units.map(key);
    return places.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
  }

  // -- maps ------------------------------------------------------------------------------------------------------------

  function picture(index, side) {
    const shown = S.shown;
    const [high, wide] = shown.tile;
    const made = element("span", index === null ? "maps-pic maps-none" : "maps-pic maps-sheet");
    made.style.width = wide * side + "px";
    made.style.height = high * side + "px";
    if (index !== null) {
      const [x, y] = [index % shown.columns, Math.floor(index / shown.columns)];
      made.style.backgroundSize = shown.columns * wide * side + "px " + shown.rows * high * side + "px";
      made.style.backgroundPosition = -x * wide * side + "px " + -y * high * side + "px";
    }
    return made;
  }

  function line(values, kind, low, high) {
    const made = document.createElementNS(SVG, "polyline");
    made.setAttribute("class", kind);
    made.setAttribute("points", values.map((value, k) => k + "," + (HIGH * (high - value)) / (high - low)).join(" "));
    return made;
  }

  function curve(was, now) {
    const both = [...(was || []), ...(now || []), 0];
    const [low, high] = [Math.min(...both) - 0.06, Math.max(...both) + 0.06];
    const svg = document.createElementNS(SVG, "svg");
    const length = Math.max((was || now).length - 1, 1);
    svg.setAttribute("class", "maps-svg");
    svg.setAttribute("viewBox", "0 0 " + length + " " + HIGH);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(line([0, ...Array(length).fill(0)], "zero", low, high));
    if (was) svg.append(line(was, "was", low, high));
    if (now) svg.append(line(now, "now", low, high));
    return svg;
  }

  function bars(was, now) {
    const made = element("span", "maps-bars");
    const signed = S.signed;
    const bar = (value, kind) => {
      const found = element("i", kind);
      const part = (signed ? 50 : 100) * Math.min(Math.abs(value), 1);
      found.style.height = part + "%";
      found.style[value < 0 ? "top" : "bottom"] = signed ? "50%" : "0";
      made.append(found);
    };
    const zero = element("i", "zero");
    zero.style.bottom = signed ? "50%" : "0";
    made.append(zero);
    if (now) bar(now[0], "now");
    if (was) bar(was[0], "was");
    return made;
  }

  // As large as all of them fit in; where they do not, small enough to see many.
  function fitting(shown, box) {
    const [high, wide] = shown.tile;
    const across = shown.before === null ? 1 : 2;
    const least = Math.max(1, Math.ceil(SMALL / Math.max(high, wide)));
    const most = Math.max(least, Math.floor(LARGE / Math.max(high, wide)));
    for (let side = most; side > least; side--) {
      const columns = Math.floor((box.clientWidth - 4) / (Math.max(across * (wide * side + 2) + 4, LEAST) + 5));
      if (columns > 0 && Math.ceil(shown.units.length / columns) * (high * side + 24) <= box.clientHeight) return side;
    }
    return least;
  }

  function drawn(fact, side) {
    const shown = S.shown;
    const now = fact.u;
    const was = fact.b === null ? null : shown.after + fact.b;
    const made = element("span", "maps-pair");
    if (shown.form === "pictures") {
      if (shown.before !== null) made.append(picture(was, side));
      made.append(picture(now, side));
    } else {
      const [a, b] = [was, now].map((index) => (index === null ? null : shown.lines[index]));
      made.append(shown.form === "lines" ? curve(a, b) : bars(a, b));
    }
    return made;
  }

  function unit(fact, k, side) {
    const gone = fact.u === null;
    const made = element("button", "maps-unit" + (gone ? " gone" : ""));
    made.type = "button";
    made.dataset.k = k;
    made.tabIndex = -1;
    if (gone) made.setAttribute("aria-disabled", "true");
    const name = element("span", "maps-name");
    name.append(element("b", "", String(gone ? fact.b : fact.u)));
    if (!gone && fact.b !== null && fact.b !== fact.u) name.append(element("span", "maps-was", (S.shown.form === "bars" ? "←" : "← ") + fact.b));
    const aside = gone ? "gone" : fact.zeroed ? "zeroed" : S.shown.before === null ? "" : percent(fact.change);
    if (S.shown.form !== "bars") name.append(element("span", "", aside));
    made.append(drawn(fact, side), name);
    return made;
  }

  function build() {
    const [shown, box] = [S.shown, place()];
    const order = ordered(shown.units, S.sort);
    S.order = order;
    S.signed = shown.lines ? shown.lines.some((values) => values.some((value) => value < 0)) : false;
    looks.replaceSync(shown.sheet ? '.maps-sheet{background-image:url("' + shown.sheet + '")}' : "");
    S.side = shown.form === "pictures" ? fitting(shown, box) : 1;
    const parts = order.slice(0, S.limit).map((k) => unit(shown.units[k], k, S.side));
    if (order.length > S.limit) {
      const more = element("button", "plain maps-more", "Show " + Math.min(FIRST, order.length - S.limit) + " more of " + order.length);
      more.type = "button";
      parts.push(more);
    }
    if (shown.form === "pictures") {
      const [high, wide] = shown.tile;
      const across = shown.before === null ? 1 : 2;
      box.style.setProperty("--wide", Math.max(across * (wide * S.side + 2) + 4, LEAST) + "px");
      box.style.setProperty("--high", high * S.side + 19 + "px");
    }
    box.replaceChildren(...parts);
    box.dataset.form = shown.form;
    const first = box.querySelector('.maps-unit[data-k="' + S.at + '"]') || box.querySelector(".maps-unit");
    if (first) first.tabIndex = 0;
    mark();
  }

  // -- the plan --------------------------------------------------------------------------------------------------------

  function mark() {
    const box = place();
    if (!box || !S.shown) return;
    const fits = S.draft && S.draft.step === S.shown.step && S.draft.group === S.shown.group;
    const gone = new Set(fits ? S.draft.gone : []);
    for (const button of box.querySelectorAll(".maps-unit")) {
      const fact = S.shown.units[Number(button.dataset.k)];
      const waits = fact.u !== null && S.wanted.has(fact.u);
      const goes = waits ? S.wanted.get(fact.u) : gone.has(fact.u);
      if (fact.u !== null) button.setAttribute("aria-pressed", goes ? "true" : "false");
      button.classList.toggle("pending", waits);
      button.title = told(fact, goes);
      button.setAttribute("aria-label", button.title.replaceAll("\n", ", "));
    }
  }

  function say(text, hint) {
    if (window.onnxprune && window.onnxprune.toast) window.onnxprune.toast({ kind: "info", text: text, hint: hint || "" });
  }

  // What was clicked while the server was at work is sent together, once it has answered.
  function send() {
    if (S.waiting || !S.wanted.size || !S.draft) return;
    const verb = S.wanted.values().next().value;
    const units = [...S.wanted].filter((entry) => entry[1] === verb).map((entry) => entry[0]);
    S.waiting = true;
    S.sent = units;
    S.nonce += 1;
    window.dash_clientside.set_props("maps-click", {
      data: { step: S.shown.step, group: S.shown.group, goes: verb, units: units, revision: S.draft.revision, nonce: S.nonce },
    });
  }

  function toggle(button) {
    const fact = S.shown.units[Number(button.dataset.k)];
    if (fact.u === null) {
      return say(S.shown.noun + " " + fact.b + " is not in #" + S.shown.step + " any longer.", "Select #" + S.shown.before + " and go on from there to keep it.");
    }
    if (!S.draft || S.draft.step !== S.shown.step) return;
    if (S.draft.readonly) return say("This folder was opened for viewing.", "Its plans cannot be changed.");
    const goes = button.getAttribute("aria-pressed") !== "true";
    S.wanted.set(fact.u, goes);
    document.getElementById("maps-said").textContent = S.shown.noun + " " + fact.u + (goes ? " goes" : " stays");
    mark();
    send();
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest("#maps-units button");
    if (!button) return;
    if (button.classList.contains("maps-more")) {
      S.limit += FIRST;
      return build();
    }
    toggle(button);
  });

  document.addEventListener("focusin", function (event) {
    const button = event.target.closest && event.target.closest("#maps-units .maps-unit");
    if (!button) return;
    for (const other of place().querySelectorAll('.maps-unit[tabindex="0"]')) other.tabIndex = -1;
    button.tabIndex = 0;
    S.at = Number(button.dataset.k);
  });

  // One stop of the Tab key for all units; arrows walk among them.
  document.addEventListener("keydown", function (event) {
    const button = event.target.closest && event.target.closest("#maps-units .maps-unit");
    if (!button || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = [...place().querySelectorAll(".maps-unit")];
    const at = all.indexOf(button);
    const row = all.filter((other) => other.offsetTop === all[0].offsetTop).length;
    const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + row, ArrowUp: at - row, Home: 0, End: all.length - 1 };
    const next = all[steps[event.key]];
    if (!(event.key in steps)) return;
    event.preventDefault();
    if (next) {
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    }
  });

  // A panel that grew has room for larger maps.
  const sizes = new ResizeObserver(function () {
    const box = place();
    if (!box || !box.clientWidth || !S.shown || S.shown.form !== "pictures") return;
    if (fitting(S.shown, box) !== S.side) build();
  });
  let seen = null;

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.maps = {
    // What is to be shown: nothing new while the tab is closed, or as long as it is the same.
    focus: function (selection, now) {
      const none = window.dash_clientside.no_update;
      if (!selection || !selection.step || !open(selection)) return none;
      const found = {};
      for (const name of ["step", "other", "group", "criterion", "data"]) found[name] = selection[name] === undefined ? null : selection[name];
      return now && Object.keys(found).every((name) => now[name] === found[name]) ? none : found;
    },
    paint: function (shown, draft, sort) {
      const box = place();
      if (box && !shown) {
        box.replaceChildren();
        S.shown = null;
      }
      if (!box || !shown) return "";
      if (draft !== S.draft) {
        S.draft = draft;
        for (const unit of S.waiting ? S.sent : []) S.wanted.delete(unit);
        S.waiting = false;
      }
      if (shown !== S.shown || sort !== S.sort || box !== seen) {
        if (!S.shown || shown.step !== S.shown.step || shown.group !== S.shown.group) {
          S.wanted.clear();
          S.limit = FIRST;
          S.at = 0;
        }
        S.shown = shown;
        S.sort = sort;
        if (box !== seen) {
          if (seen) sizes.unobserve(seen);
          sizes.observe(box);
          seen = box;
        }
        build();
      } else {
        mark();
      }
      send();
      return "";
    },
  };
})();
