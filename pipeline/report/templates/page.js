
"use strict";

// Tables: a heading sorts by its column, then in reverse, then restores the order.
const NUMBER = /[-+]?\d+(?:\.\d+)?/g;
const NUMERIC = /^\[?[-+]?\d+(?:\.\d+)?(?=$|[\s,/\]])/; // "0.03, 13" and "[0.1, 0.2]", not digests and dates

function keyOf(cell) {
  const text = cell.textContent.trim();
  if (text === "-" || text === "") return null;
  return NUMERIC.test(text) ? text.match(NUMBER).map(Number) : text;
}

function compare(a, b) {
  if (Array.isArray(a) && Array.isArray(b)) {
    for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i] - b[i];
    return a.length - b.length;
  }
  if (Array.isArray(a) !== Array.isArray(b)) return Array.isArray(a) ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
}

for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  if (first.length < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      const order = next === undefined ? "ascending" : next;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order) head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const keys = new Map(first.map((row) => [row, keyOf(row.cells[column])]));
      const rows = [...first];
      if (order) {
        rows.sort((one, other) => {
          const [a, b] = [keys.get(one), keys.get(other)];
          if (a === null || b === null) return (a === null) - (b === null); // missing values stay last
          return sign * compare(a, b);
        });
      }
      body.append(...rows);
    });
  });
}
for (const hint of document.querySelectorAll(".script")) hint.hidden = false;

// Episodes: nothing moves before Play is pressed, and then in simulated time.
for (const figure of document.querySelectorAll(".episode")) {
  const moves = JSON.parse(figure.querySelector("script").textContent);
  const controls = figure.querySelector(".controls");
  const play = controls.querySelector(".play");
  const slider = controls.querySelector("input");
  const readout = controls.querySelector(".readout");
  const moving = figure.querySelector(".moving");
  const parts = moving.querySelectorAll(".part");
  const currents = moving.querySelectorAll(".current");
  const cursor = moving.querySelector(".cursor");
  const last = moves.told.length - 1;
  let began = null; // time of step 0; null while stopped

  function show(step) {
    parts.forEach((part, number) => part.setAttribute("points", moves.parts[number][step]));
    const due = moves.plan.filter((plan) => plan.step <= step);
    currents.forEach((line, number) => line.setAttribute("points", due.length ? due[due.length - 1].points[number] : ""));
    cursor.setAttribute("transform", `translate(${moves.left + moves.width * step} 0)`);
    moving.setAttribute("visibility", "visible");
    figure.classList.add("moves");
    slider.value = step;
    readout.textContent = `step ${step} of ${last}, ${(step * moves.seconds).toFixed(2)} s: ${moves.told[step]}`;
    slider.setAttribute("aria-valuetext", readout.textContent);
  }

  function stop() {
    began = null;
    play.textContent = "Play";
  }

  function tick(now) {
    if (began === null) return;
    const step = Math.max(0, Math.min(last, Math.floor((now - began) / 1000 / moves.seconds))); // a frame may begin before the press
    if (step !== Number(slider.value)) show(step);
    if (step >= last) stop();
    else requestAnimationFrame(tick);
  }

  play.addEventListener("click", () => {
    if (began !== null) return stop();
    const from = Number(slider.value) >= last ? 0 : Number(slider.value);
    show(from);
    began = performance.now() - from * moves.seconds * 1000;
    play.textContent = "Pause";
    requestAnimationFrame(tick);
  });
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  controls.hidden = false;
}
