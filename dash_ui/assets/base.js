// What the other files share; its name makes it the first one that is loaded.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});

  shared.selection = null;

  shared.kept = function (name, value) {
    // What a person set up stays in this browser; where that is forbidden, it holds for the page.
    try {
      if (value === undefined) return window.localStorage.getItem("onnxprune-" + name);
      if (value === null) window.localStorage.removeItem("onnxprune-" + name);
      else window.localStorage.setItem("onnxprune-" + name, value);
    } catch (error) {
      return null;
    }
    return value === undefined ? null : value;
  };

  shared.send = function (store, data) {
    window.dash_clientside.set_props(store, { data: data });
  };

  shared.select = function (changes) {
    if (shared.selection) shared.send("selection", Object.assign({}, shared.selection, changes));
  };
})();
