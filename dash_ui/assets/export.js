// What the upload leaves out without a word: a file that is too large, and all but the first of several.
"use strict";
(function () {
  const megabyte = 1024 * 1024;

  function tell(text, hint) {
    if (window.onnxprune && window.onnxprune.toast) window.onnxprune.toast({ kind: "error", text: text, hint: hint });
  }

  function look(files) {
    const most = Number(document.getElementById("export-limit").dataset.megabytes);
    const large = [...files].find((file) => file.size > most * megabyte);
    if (large) {
      const size = Math.ceil(large.size / megabyte).toLocaleString("en-US");
      const hint = "Copy it into the folder of the workspace, and press the button beside the folder's name to look again.";
      tell(`${large.name} has ${size} MB, and ${most} MB is the most that a browser can bring.`, hint);
    } else if (files.length > 1) {
      tell(`One file at a time: of these, ${files[0].name} is taken.`, "Bring the others one after the other.");
    }
  }

  function within(event) {
    return event.target.closest && event.target.closest("#export-upload");
  }

  document.addEventListener("change", (event) => within(event) && event.target.files && look(event.target.files), true);
  document.addEventListener("drop", (event) => within(event) && event.dataTransfer && look(event.dataTransfer.files), true);
})();
