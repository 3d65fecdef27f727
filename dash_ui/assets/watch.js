// Asks the server once a second what changed, and says so when it does not answer.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const EVERY = 1000; // milliseconds
  const HIDDEN = 15000; // in a tab that nobody sees
  const PATIENCE = 5000; // for an answer
  const MISSES = 2; // answers in a row that do not come until the server counts as lost

  let timer = null;
  let missed = 0;
  let shown = null; // what the page was drawn from
  let draft = null;
  let asking = false;

  function lost(is) {
    const banner = document.getElementById("lost");
    if (banner && banner.hidden === is) {
      banner.hidden = !is;
      document.documentElement.dataset.lost = is ? "yes" : "no";
    }
  }

  function take(found, step) {
    const now = found.revision;
    if (shown && (now.tree !== shown.tree || now.jobs !== shown.jobs)) {
      const page = document.getElementById("page");
      if (page && page.dataset.empty === "yes" && now.tree !== shown.tree) {
        window.location.reload(); // a model has come
        return;
      }
      const before = shown;
      shown = now;
      for (const part of ["tree", "ended"]) {
        if (now[part] !== before[part]) shared.send("revision-" + part, now[part]);
      }
      shared.send("revision", now);
    }
    const same = shared.selection && shared.selection.step === step;
    if (found.draft && same && found.draft !== draft) shared.send("draft-changed", (draft = found.draft));
  }

  async function ask() {
    window.clearTimeout(timer);
    if (asking) return;
    asking = true;
    const step = shared.selection && shared.selection.step;
    const waiting = new AbortController();
    const limit = window.setTimeout(() => waiting.abort(), PATIENCE);
    try {
      const answer = await fetch("_now" + (step ? "?step=" + step : ""), { signal: waiting.signal });
      if (!answer.ok) throw new Error(answer.statusText);
      const found = await answer.json();
      missed = 0;
      lost(false);
      take(found, step);
    } catch (error) {
      missed += 1;
      if (missed >= MISSES) lost(true);
    } finally {
      window.clearTimeout(limit);
      asking = false;
      timer = window.setTimeout(ask, document.hidden ? HIDDEN : EVERY);
    }
  }

  document.addEventListener("visibilitychange", function () {
    if (!document.hidden) ask();
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.watch = {
    begin: function (revisions, entry) {
      shown = revisions;
      draft = entry;
      if (timer === null && !asking) timer = window.setTimeout(ask, EVERY);
    },
  };
})();
