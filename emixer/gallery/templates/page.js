"use strict";

// Theme: follows the system until the reader chooses
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
});

// Label filter; #label=Edema in the address opens the page filtered
const buttons = [...document.querySelectorAll(".filter button")];
const comparisons = [...document.querySelectorAll(".comparison")];

function showLabel(label) {
  let shown = 0;
  for (const item of comparisons) {
    item.hidden = label !== "" && !JSON.parse(item.dataset.labels).includes(label);
    shown += !item.hidden;
  }
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.label === label));
  document.getElementById("filter-status").textContent = `${shown} of ${comparisons.length} pairs shown`;
}

for (const button of buttons) {
  button.addEventListener("click", () => {
    const label = button.dataset.label;
    history.replaceState(null, "", label ? `#label=${encodeURIComponent(label)}` : "#pairs");
    showLabel(label);
  });
}

function followAddress() {
  const label = new URLSearchParams(location.hash.slice(1)).get("label") ?? "";
  if (buttons.some((button) => button.dataset.label === label)) showLabel(label);
}
addEventListener("hashchange", followAddress);
if (location.hash.startsWith("#label=")) followAddress();

// Sample grids over time
const slider = document.getElementById("grid-slider");
if (slider) {
  const grids = [...document.querySelectorAll(".grids img")];
  slider.addEventListener("input", () => {
    grids.forEach((grid, index) => { grid.hidden = index !== Number(slider.value); });
    const text = grids[Number(slider.value)].dataset.label;
    document.getElementById("grid-label").textContent = text;
    slider.setAttribute("aria-valuetext", text);
  });
}

// Charts: the legend shows the values under the pointer
const chartPoints = JSON.parse(document.getElementById("chart-points").textContent);

const APART = 4; // points of one place: means over blocks of other lengths lie up to a block apart

function nearest(points, x) {
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
}

for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const lines = chartPoints[Number(svg.dataset.chart)];
  const values = [...svg.parentElement.querySelectorAll(".legend b")];
  const cursor = svg.querySelector(".cursor");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const first = nearest(lines.flat(), x);
    lines.forEach((points, index) => {
      const point = nearest(points, first[0]);
      values[index].textContent = Math.abs(point[0] - first[0]) <= APART ? point[3] : "-"; // begins later, or ended before
    });
    values[0].textContent += ` at ${first[2]} images`;
    cursor.setAttribute("x1", first[0]);
    cursor.setAttribute("x2", first[0]);
    cursor.removeAttribute("hidden");
  });
  svg.addEventListener("pointerleave", () => {
    for (const value of values) value.textContent = value.dataset.last;
    cursor.setAttribute("hidden", "");
  });
}
