// Keys of the page, their list, and the tour.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  let panel = null; // the one that the pointer or the focus went to last

  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, function (event) {
      panel = (event.target.closest && event.target.closest(".panel")) || null;
    });
  }

  function press(name) {
    const button = document.getElementById(name);
    if (button && !button.disabled) button.click();
  }

  function find() {
    const input = document.getElementById("find-text");
    if (!input) return;
    input.focus();
    input.select();
  }

  function help() {
    const dialog = document.getElementById("keys");
    if (dialog && !dialog.open) dialog.showModal();
  }

  let walks = 0;
  function walk(by) {
    shared.send("shell-walk", { by: by, count: (walks += 1) });
  }

  function writing(target) {
    return target.closest && target.closest("input, textarea, select, [contenteditable=true], [role=combobox]");
  }

  function back() {
    if (shared.touring()) return shared.endTour();
    if (shared.openDrawer()) return shared.openTab("drawer", null);
    if (shared.maximised()) return shared.maximise(null);
    return undefined;
  }

  document.addEventListener("keydown", function (event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const control = event.ctrlKey || event.metaKey;
    const inField = writing(event.target);
    if (control && !event.altKey) {
      if (key === "f" && document.getElementById("desk")) find();
      else if (key === "z" && !inField) press(event.shiftKey ? "top-redo" : "top-undo");
      else if (key === "y" && !inField) press("top-redo");
      else return;
      event.preventDefault();
      return;
    }
    if (event.altKey || control || event.defaultPrevented) return;
    if (key === "Escape") {
      if (document.querySelector("dialog[open]")) return; // closes by itself
      if (event.target.id === "find-text") event.target.blur();
      else back();
      return;
    }
    if (inField || document.querySelector("dialog[open]")) return;
    const does = {
      "/": find,
      "?": help,
      "[": () => walk(-1),
      "]": () => walk(1),
      m: () => shared.maximise(shared.maximised() || panel),
    }[key];
    if (!does) return;
    event.preventDefault();
    does();
  });

  document.addEventListener("click", function (event) {
    const on = (selector) => event.target.closest && event.target.closest(selector);
    if (on("#top-help")) help();
    else if (on("#keys-close") || event.target.id === "keys") document.getElementById("keys").close();
    else if (on("#keys-tour")) {
      document.getElementById("keys").close();
      tour(0);
    } else if (on(".tour-skip") || on(".tour-done")) shared.endTour();
    else if (on(".tour-next")) act();
  });

  // -- the tour ------------------------------------------------------------------------------------------------------

  const PATIENCE = 3000; // milliseconds until what the tour would press counts as not to be had
  const WORDS = { plan: "", step: "Working. It takes a few seconds." };
  let stop = -1;
  let run = 0; // counts up when the tour ends, so that what it waits for is forgotten

  function cards() {
    return [...document.querySelectorAll(".tour-card")];
  }

  shared.touring = () => stop >= 0;

  shared.endTour = function () {
    stop = -1;
    run += 1;
    shared.kept("toured", "yes");
    document.getElementById("tour").hidden = true;
    cards().forEach((card) => (card.hidden = true));
  };

  function place() {
    const card = cards()[stop];
    const target = card && document.querySelector(card.dataset.target);
    const light = document.querySelector(".tour-light");
    if (!card || !target || !light) return;
    const box = target.getBoundingClientRect();
    const gap = 6;
    light.style.left = box.left - gap + "px";
    light.style.top = box.top - gap + "px";
    light.style.width = box.width + 2 * gap + "px";
    light.style.height = box.height + 2 * gap + "px";
    const size = card.getBoundingClientRect();
    const room = { width: window.innerWidth, height: window.innerHeight };
    const far = 16;
    let left = box.right + far;
    let top = box.top;
    if (box.height < 80) {
      left = box.left;
      top = box.bottom + far;
    } else if (left + size.width > room.width) {
      left = box.left + (box.width - size.width) / 2;
      const above = box.top - size.height - far;
      top = above > far ? above : box.bottom - size.height - far;
    }
    card.style.left = Math.max(far, Math.min(room.width - size.width - far, left)) + "px";
    card.style.top = Math.max(far, Math.min(room.height - size.height - far, top)) + "px";
  }

  function usable(selector) {
    const found = document.querySelector(selector);
    return found && !found.disabled ? found : null;
  }

  function pause(milliseconds) {
    return new Promise((resolve) => window.setTimeout(resolve, milliseconds));
  }

  async function holds(condition, limit) {
    const begun = run;
    for (let waited = 0; run === begun && waited < limit; waited += 150) {
      if (condition()) return true;
      await pause(150);
    }
    return false;
  }

  // Do what the card is about, the way a person would; go on when it is done, and where it cannot be done.
  async function act() {
    const card = cards()[stop];
    const { press: control, until } = card.dataset;
    const [begun, number] = [run, stop];
    const button = card.querySelector(".tour-next");
    const status = card.querySelector(".tour-status");
    const before = shared.selection && shared.selection.step;
    const planned = until === "plan" && usable("#top-apply");
    const failures = () => document.querySelectorAll(".toast-error").length;
    const failed = failures();
    button.disabled = true;
    if (!planned && document.querySelector(control) && (await holds(() => usable(control), PATIENCE))) {
      usable(control).click();
      status.textContent = WORDS[until];
      const done = () => (until === "plan" ? usable("#top-apply") : shared.selection.step !== before);
      await holds(() => done() || failures() > failed, Infinity);
      if (run === begun && !done()) {
        status.textContent = "That did not work; the message at the bottom right says why.";
        button.disabled = false;
        return;
      }
      if (run === begun && number === cards().length - 1) return end(card);
    }
    button.disabled = false;
    if (run === begun && stop === number) tour(number + 1);
  }

  function end(card) {
    card.querySelector(".tour-status").textContent = "There it is. Export, at the top right, downloads it.";
    card.querySelector(".tour-next").hidden = true;
    card.querySelector(".tour-skip").hidden = true;
    const done = card.querySelector(".tour-done");
    done.hidden = false;
    done.focus();
    document.querySelector(".tour-light").hidden = true; // all of the page is worth a look now
  }

  function fresh(card) {
    card.querySelector(".tour-status").textContent = "";
    card.querySelector(".tour-next").disabled = false;
    card.querySelector(".tour-next").hidden = card.querySelector(".tour-skip").hidden = false;
    card.querySelector(".tour-done").hidden = true;
    document.querySelector(".tour-light").hidden = false;
  }

  function tour(number) {
    const all = cards();
    if (number >= all.length) return shared.endTour();
    stop = number;
    if (shared.maximised()) shared.maximise(null);
    document.getElementById("tour").hidden = false;
    all.forEach((card, index) => (card.hidden = index !== number));
    fresh(all[number]);
    place();
    all[number].querySelector(".tour-next").focus();
    return undefined;
  }

  window.addEventListener("resize", place);

  // The page is made by the renderer after this file ran.
  const waiting = new MutationObserver(function () {
    const page = document.getElementById("page");
    if (!page) return;
    waiting.disconnect();
    shared.restoreSizes();
    if (page.dataset.demo === "yes" && !shared.kept("toured") && document.getElementById("tour")) {
      window.requestAnimationFrame(() => tour(0));
    }
  });
  waiting.observe(document.documentElement, { childList: true, subtree: true });
})();
