"use strict";
// The page is complete without this script: it adds tooltips, arrow keys, copy buttons, and opens what is folded to print.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  tip.dir = "auto";
  tip.hidden = true;
  document.body.append(tip);
  let shown = null;

  function show(mark, x, y) {
    if (shown) shown.classList.remove("on");
    shown = mark;
    mark.classList.add("on");
    tip.textContent = mark.tip;
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight, room = document.documentElement.clientWidth;
    // Placed on the page, not on the screen: it stays with its mark when focus or the reader scrolls.
    tip.style.left = scrollX + Math.max(4, Math.min(x + 12, room - width - 4)) + "px";
    tip.style.top = scrollY + (y - height - 12 < 4 ? y + 18 : y - height - 12) + "px";
  }

  function hide() {
    if (shown) shown.classList.remove("on");
    shown = null;
    tip.hidden = true;
  }

  function enliven(chart) {
    const rows = [...chart.querySelectorAll(".row")].map((row) => [...row.children]).filter((row) => row.length);
    if (!rows.length) return;
    const places = new Map();
    rows.forEach((row, r) => row.forEach((mark, c) => {
      places.set(mark, [r, c]);
      const title = mark.querySelector("title");
      mark.tip = title.textContent;
      title.remove(); // or the browser's own tooltip would cover ours
    }));
    let row = 0, column = 0;

    function point(event) {
      const place = places.get(event.target);
      if (!place) return;
      [row, column] = place;
      show(event.target, event.clientX, event.clientY);
    }
    function step() {
      const mark = rows[row][column], box = mark.getBoundingClientRect();
      show(mark, box.left + box.width / 2, box.top + box.height / 2);
    }
    chart.addEventListener("pointermove", point);
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) step(); });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const last = rows[row].length - 1;
      const moves = {
        ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column],
        ArrowDown: [row + 1, column], Home: [row, 0], End: [row, last],
      };
      if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      row = Math.max(0, Math.min(moves[event.key][0], rows.length - 1));
      column = Math.max(0, Math.min(moves[event.key][1], rows[row].length - 1));
      step();
    });
  }

  function addCopyButton(figure) {
    const button = document.createElement("button"), code = figure.querySelector("code");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy " + figure.querySelector("figcaption").textContent);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // no clipboard here: one key press is left to the reader
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2500);
    });
    figure.prepend(button);
  }

  const opened = [];
  function unfold() {
    hide();
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      opened.push(details);
    }
  }
  function foldAgain() {
    while (opened.length) opened.pop().open = false;
  }

  document.querySelectorAll("svg.chart").forEach(enliven);
  document.querySelectorAll("figure.code").forEach(addCopyButton);
  addEventListener("beforeprint", unfold);
  addEventListener("afterprint", foldAgain);
  matchMedia("print").addEventListener("change", (event) => (event.matches ? unfold() : foldAgain()));
})();
