// "Save as picture" in the head of a panel: what is seen of its view, as SVG, or as PNG with two pixels for one.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  const SCALE = 2;
  const MOST = 16000; // pixels along a side of an image

  // VIEW-STEP.kind
  shared.fileName = function (name, kind) {
    const step = shared.selection && shared.selection.step;
    return (step ? name + "-" + step : name) + "." + kind;
  };

  shared.download = function (blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    window.setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  async function pixels(drawing) {
    const scale = Math.min(SCALE, MOST / Math.max(drawing.width, drawing.height));
    const source = URL.createObjectURL(new Blob([drawing.text], { type: "image/svg+xml" }));
    const image = new Image(Math.round(drawing.width * scale), Math.round(drawing.height * scale));
    image.src = source;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(source);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("it is too large"))), "image/png");
    });
  }

  async function save(panel, kind) {
    const slot = panel.querySelector(".slot:not([hidden])");
    if (!slot) return;
    const name = slot.id.replace("slot-", "");
    const tab = document.getElementById("tab-" + name) || panel.querySelector(".title");
    const step = shared.selection && shared.selection.step;
    const title = (tab ? tab.textContent : name) + (step ? ", step " + step : "");
    try {
      const drawing = await shared.pictureOf(slot, title);
      const blob = kind === "png" ? await pixels(drawing) : new Blob([drawing.text], { type: "image/svg+xml" });
      shared.download(blob, shared.fileName(name, kind));
    } catch (error) {
      shared.toast({ kind: "error", text: "The picture could not be made: " + error.message, hint: "The other format may work." });
    }
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest(".picture .menu-body button");
    if (!button) return;
    const menu = button.closest("details");
    menu.open = false;
    menu.querySelector("summary").focus();
    if (button.dataset.picture) save(button.closest(".panel, .drawer"), button.dataset.picture);
  });
})();
