// The buttons of jobs. Their cards are made anew while a job runs, so that the page hears of a click here.
"use strict";
(function () {
  const shared = (window.onnxprune = window.onnxprune || {});
  let count = 0;

  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest("[data-jobs]");
    if (button) shared.send("jobs-asked", { verb: button.dataset.jobs, job: Number(button.dataset.job), count: (count += 1) });
  });
})();
