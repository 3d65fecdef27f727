// Dash's renderer tells every component of the page about every change of its store, and one callback changes it ten
// times: to select a step was a hundred thousand comparisons, most of the time that it took. Here the components are
// told once for each frame. They are told at once while a person types or clicks, because a field must not lag behind
// its caret, and where components came or went (`paths`), because callbacks of ours look for them on the page. Where the
// renderer is built otherwise than expected nothing is changed; the page is slower then.
"use strict";
(function () {
  const TRIES = 600; // frames
  const HIDDEN = 50; // milliseconds between two looks where the page is not shown, which has no frames

  function later(run) {
    if (document.hidden) window.setTimeout(run, HIDDEN);
    else window.requestAnimationFrame(run);
  }

  // The store, and what the outermost component tells others through: {onStateChange, notifyNestedSubs}.
  function found() {
    const root = document.getElementById("react-entry-point");
    const key = root && Object.keys(root).find((name) => name.startsWith("__reactContainer"));
    for (let fiber = key && root[key]; fiber; fiber = fiber.child) {
      const value = fiber.memoizedProps && fiber.memoizedProps.value;
      if (value && value.store && value.subscription) return value;
    }
    return null;
  }

  function acts() {
    return window.event && window.event.isTrusted && window.event.type !== "message";
  }

  function calm({ store, subscription }) {
    const tell = subscription.notifyNestedSubs;
    let waits = false;
    let { paths } = store.getState();
    function now() {
      waits = false;
      paths = store.getState().paths;
      tell();
    }
    subscription.onStateChange = function () {
      if (acts() || store.getState().paths !== paths) now();
      else if (!waits) {
        waits = true;
        later(() => waits && now());
      }
    };
    document.documentElement.dataset.calm = "yes";
  }

  let tries = 0;
  (function look() {
    const context = found();
    if (context && typeof context.subscription.onStateChange === "function") calm(context);
    else if (++tries < TRIES) later(look);
  })();
})();
