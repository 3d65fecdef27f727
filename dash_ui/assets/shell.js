// What the shell does in the browser: the address, tabs, drawers, messages, light and dark, the plan in words.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const FIELDS = ["step", "other", "group", "criterion", "threshold", "tab", "data"];
  const PLACES = new Set(["step", "other", "group"]); // a change of these is a place to go back to
  const TOASTS = 5;
  const LASTS = 8000; // milliseconds

  // -- light and dark ------------------------------------------------------------------------------------------------

  const wantsDark = window.matchMedia("(prefers-color-scheme: dark)");

  function theme() {
    const chosen = shared.kept("theme");
    return chosen === "light" || chosen === "dark" ? chosen : wantsDark.matches ? "dark" : "light";
  }

  function paint() {
    document.documentElement.dataset.theme = theme();
  }

  paint();
  wantsDark.addEventListener("change", function () {
    paint();
    if (!shared.kept("theme")) shared.send("theme", theme());
  });

  // -- the address ---------------------------------------------------------------------------------------------------

  function query(selection) {
    const found = new URLSearchParams();
    for (const name of FIELDS) {
      const value = selection[name];
      if (value !== null && value !== undefined) found.set(name, String(value));
    }
    return found;
  }

  function address(selection) {
    if (!selection) return;
    const wanted = query(selection);
    const shown = new URLSearchParams(window.location.search);
    if (wanted.toString() === shown.toString()) return;
    const moved = [...PLACES].some((name) => wanted.get(name) !== shown.get(name));
    const text = wanted.toString() ? "?" + wanted.toString() : window.location.pathname;
    // The first selection is where one came in, not a place to go back to.
    if (moved && shown.has("step")) window.history.pushState(null, "", text);
    else window.history.replaceState(null, "", text);
  }

  // -- tabs and drawers ----------------------------------------------------------------------------------------------

  function openTabs(text) {
    const found = {};
    for (const word of (text || "").split(" ")) {
      const [area, view] = word.split(":");
      if (view) found[area] = view;
    }
    return found;
  }

  shared.openTab = function (area, view) {
    const words = openTabs(shared.selection && shared.selection.tab);
    if (view) words[area] = view;
    else delete words[area];
    const text = Object.entries(words).map((pair) => pair.join(":")).join(" ");
    shared.select({ tab: text || null });
  };

  shared.openDrawer = function () {
    return openTabs(shared.selection && shared.selection.tab).drawer || null;
  };

  // The inspection is open where the page is high enough, unless a person opened or folded it.
  const CLOSED = "closed";
  const HIGH = 1200; // pixels

  function fold(words, buttons) {
    const wanted = words.inspect;
    const open = wanted === CLOSED ? undefined : buttons.find((button) => button.dataset.view === wanted);
    return open || (wanted !== CLOSED && window.innerHeight >= HIGH ? buttons[0] : undefined);
  }

  function foldNow() {
    const words = openTabs(new URLSearchParams(window.location.search).get("tab"));
    const open = words.inspect ? words.inspect !== CLOSED : window.innerHeight >= HIGH;
    document.documentElement.dataset.inspect = open ? "open" : "folded";
  }

  shared.unfold = function () {
    const last = document.querySelector("#panel-inspect .tab");
    if (document.documentElement.dataset.inspect === "folded" && last) shared.openTab("inspect", last.dataset.view);
  };

  function showTabs(words) {
    const seen = [];
    const lists = new Map();
    for (const button of document.querySelectorAll(".tab")) {
      const area = button.dataset.area;
      if (!lists.has(area)) lists.set(area, []);
      lists.get(area).push(button);
    }
    for (const [area, buttons] of lists) {
      const folds = area === "inspect";
      const open = folds
        ? fold(words, buttons)
        : buttons.find((button) => button.dataset.view === words[area]) || buttons[0];
      if (folds) {
        const now = open ? "open" : "folded";
        if (document.documentElement.dataset.inspect !== now) {
          document.documentElement.dataset.inspect = now;
          window.dispatchEvent(new Event("resize"));
        }
        const button = document.querySelector("#panel-inspect .fold");
        if (button) button.setAttribute("aria-expanded", open ? "true" : "false");
      }
      for (const button of buttons) {
        const is = button === open;
        button.setAttribute("aria-selected", is ? "true" : "false");
        button.tabIndex = is || (!open && button === buttons[0]) ? 0 : -1;
        const slot = document.getElementById("slot-" + button.dataset.view);
        if (slot) slot.hidden = !is;
      }
      if (open) seen.push(open.dataset.view);
    }
    for (const drawer of document.querySelectorAll(".drawer")) {
      const open = drawer.dataset.view === words.drawer;
      if (open && drawer.hidden) {
        drawer.hidden = false;
        drawer.focus({ preventScroll: true });
      } else if (!open && !drawer.hidden) {
        const inside = drawer.contains(document.activeElement);
        drawer.hidden = true;
        const opener = document.getElementById("open-" + drawer.dataset.view);
        if (inside && opener) opener.focus();
      }
      const opener = document.getElementById("open-" + drawer.dataset.view);
      if (opener) opener.setAttribute("aria-expanded", open ? "true" : "false");
      if (open) seen.push(drawer.dataset.view);
    }
    return seen;
  }

  document.addEventListener("click", function (event) {
    const tab = event.target.closest(".tab");
    if (tab) {
      const again = tab.dataset.area === "inspect" && tab.getAttribute("aria-selected") === "true";
      return shared.openTab(tab.dataset.area, again ? CLOSED : tab.dataset.view);
    }
    if (event.target.closest(".fold")) {
      return document.documentElement.dataset.inspect === "folded" ? shared.unfold() : shared.openTab("inspect", CLOSED);
    }
    const menu = event.target.closest("details.menu");
    for (const open of document.querySelectorAll("details.menu[open]")) if (open !== menu) open.open = false;
    const opener = event.target.closest(".opens-drawer");
    if (opener) {
      const view = opener.dataset.view;
      return shared.openTab("drawer", shared.openDrawer() === view ? null : view);
    }
    if (event.target.closest(".close-drawer")) return shared.openTab("drawer", null);
    if (event.target.closest("#empty-scan")) {
      const scan = document.getElementById("top-scan");
      if (scan) scan.click();
    }
    return undefined;
  });

  document.addEventListener("keydown", function (event) {
    const tab = event.target.closest && event.target.closest(".tab");
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!tab || !by) return;
    const all = [...tab.parentElement.querySelectorAll(".tab")];
    const next = all[(all.indexOf(tab) + by + all.length) % all.length];
    event.preventDefault();
    next.focus();
    next.click();
  });

  document.addEventListener("keydown", function (event) {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.preventDefault();
  }, true);

  foldNow();

  // -- messages ------------------------------------------------------------------------------------------------------

  shared.toast = function (message) {
    const place = document.getElementById("toasts");
    if (!place || !message || !message.text) return;
    const kind = ["info", "done", "error"].includes(message.kind) ? message.kind : "info";
    const said = JSON.stringify([kind, message.text, message.hint]);
    const there = [...place.children].find((one) => one.dataset.said === said);
    if (there) there.remove(); // the same again: one message, now the newest
    const toast = document.createElement("div");
    toast.className = "toast toast-" + kind;
    toast.dataset.said = said;
    const words = document.createElement("div");
    words.className = "toast-words";
    for (const [name, text] of [["toast-text", message.text], ["hint", message.hint]]) {
      if (!text) continue;
      const line = document.createElement("p");
      line.className = name;
      line.textContent = text;
      words.append(line);
    }
    const close = document.createElement("button");
    close.className = "ghost toast-close";
    close.textContent = "×";
    close.setAttribute("aria-label", "Dismiss");
    close.addEventListener("click", () => toast.remove());
    toast.append(words, close);
    place.append(toast);
    while (place.children.length > TOASTS) place.firstElementChild.remove();
    if (kind !== "error") {
      let timer = window.setTimeout(() => toast.remove(), LASTS);
      toast.addEventListener("pointerenter", () => window.clearTimeout(timer));
      toast.addEventListener("pointerleave", () => (timer = window.setTimeout(() => toast.remove(), LASTS)));
    }
  };

  // -- the plan in words ---------------------------------------------------------------------------------------------

  function number(value) {
    return Math.round(value).toLocaleString("en-US");
  }

  function share(left) {
    const change = Math.round((left - 1) * 1000) / 10;
    const text = Math.abs(change) >= 10 ? Math.abs(change).toFixed(0) : Math.abs(change).toFixed(1);
    return (change > 0 ? "+" : "−") + text + "%";
  }

  // Two lines, or two parts of one: what is to go, and what that would give.
  shared.words = function (live, estimate) {
    const units = live && live.units ? Object.values(live.units) : [];
    const of = units.length ? units.reduce((a, b) => a + b, 0) : (estimate && estimate.of) || 0;
    if (!of) return ["", ""];
    const counted = live && live.gone ? Object.values(live.gone).reduce((a, b) => a + b, 0) : null;
    const gone = counted === null ? (estimate && estimate.units) || 0 : counted;
    const single = (live && live.weights) || 0;
    const zeros = single ? number(single) + " single weight" + (single === 1 ? "" : "s") : "";
    if (!gone) return zeros ? [zeros + " to zero", "of " + number(of) + " units none"] : ["Nothing to remove yet", number(of) + " units"];
    const first = number(gone) + " of " + number(of) + " units" + (zeros ? ", " + zeros : "");
    if (!estimate || estimate.units !== gone) return [first, "estimating …"];
    const words = [];
    if (Number.isFinite(estimate.macs_left)) words.push(share(estimate.macs_left) + " MACs est.");
    if (Number.isFinite(estimate.accuracy))
      words.push((100 * estimate.accuracy).toFixed(1) + "% accuracy" + (estimate.accuracy_kind === "measured" ? "" : " est."));
    return [first, words.join(", ")];
  };

  shared.summary = function (live, estimate) {
    const names = ["summary-gone", "summary-gives"];
    return shared.words(live, estimate).map((text, place) => ({
      namespace: "dash_html_components",
      type: "Span",
      props: { className: names[place], children: text, title: text },
    }));
  };

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.shell = {
    address: address,
    toast: shared.toast,
    summary: shared.summary,
    tabs: function (selection, seen) {
      const same = window.dash_clientside.no_update;
      shared.selection = selection;
      if (!selection) return [same, same];
      const before = seen || [];
      const fresh = showTabs(openTabs(selection.tab)).filter((name) => !before.includes(name));
      const place = Object.assign({}, selection, { group: null, tab: null, threshold: null });
      const moved = JSON.stringify(place) !== shared.place;
      shared.place = JSON.stringify(place);
      return [fresh.length ? before.concat(fresh) : same, moved ? place : same];
    },
    theme: function (clicks) {
      if (clicks) {
        shared.kept("theme", theme() === "dark" ? "light" : "dark");
        paint();
      }
      return theme();
    },
    find: function (text, next) {
      return { text: text || "", next: next || 0 };
    },
  };
})();
