// Dash's renderer tells every component of the page about every change of its store, and one callback changes it ten
// times: to select a step was a hundred thousand comparisons, most of the time that it took. Here the components are
// told once for each frame. While a person types or clicks they are told at once, because a field must not lag behind
// its caret. Where the renderer is built otherwise than expected nothing is changed; the page is slower then.
"use strict";
(function () {
  const TRIES = 600; // frames
  const HIDDEN = 50; // milliseconds between two looks where the page is not shown, which has no frames

  function later(run) {
    if (document.hidden) window.setTimeout(run, HIDDEN);
    else window.requestAnimationFrame(run);
  }

  // What the outermost component tells others through: {onStateChange, notifyNestedSubs}.
  function found() {
    const root = document.getElementById("react-entry-point");
    const key = root && Object.keys(root).find((name) => name.startsWith("__reactContainer"));
    for (let fiber = key && root[key]; fiber; fiber = fiber.child) {
      const value = fiber.memoizedProps && fiber.memoizedProps.value;
      if (value && value.store && value.subscription) return value.subscription;
    }
    return null;
  }

  function acts() {
    return window.event && window.event.isTrusted && window.event.type !== "message";
  }

  function calm(subscription) {
    const tell = subscription.notifyNestedSubs;
    let waits = false;
    subscription.onStateChange = function () {
      if (acts()) {
        tell();
      } else if (!waits) {
        waits = true;
        later(function () {
          waits = false;
          tell();
        });
      }
    };
    document.documentElement.dataset.calm = "yes";
  }

  let tries = 0;
  (function look() {
    const subscription = found();
    if (subscription && typeof subscription.onStateChange === "function") calm(subscription);
    else if (++tries < TRIES) later(look);
  })();
})();
