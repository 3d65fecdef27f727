// Tells the server when a person has paused, so that it may measure what is likely to be wanted next.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const PAUSE = 4000; // milliseconds without a change, a key or a pointer
  let timer = null;
  let asked = ""; // for which the server was asked: once is enough until something is another

  function ask() {
    timer = null;
    if (document.hidden || !wanted || wanted.key === asked) return;
    asked = wanted.key;
    shared.send("ahead-paused", wanted.selection);
  }

  let wanted = null;

  function again() {
    if (timer !== null) window.clearTimeout(timer);
    timer = window.setTimeout(ask, PAUSE);
  }

  for (const name of ["pointerdown", "keydown", "wheel"]) {
    document.addEventListener(name, () => { if (timer !== null) again(); }, { passive: true, capture: true });
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) again(); });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.ahead = {
    wait: function (selection, draft, revision, running) {
      if (selection && selection.step) {
        const { step, criterion, data } = selection;
        wanted = { selection, key: JSON.stringify([step, criterion, data, draft, revision, running]) };
        again();
      }
      return window.dash_clientside.no_update;
    },
  };
})();
