// Draws the page's charts, and joins them with the table of networks: a click on one shows the other.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const content = document.getElementById("charts").textContent;
const views = [];

function draw() {
  let text = content;
  const data = JSON.parse(content);
  if (dark.matches)
    for (const [light, other] of Object.entries(data.dark)) text = text.replaceAll(`"${light}"`, `"${other}"`);
  const { specs, config } = JSON.parse(text);
  views.length = 0;
  for (const [name, spec] of Object.entries(specs)) {
    const place = document.getElementById(`chart-${name}`);
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config, tooltip: { theme: dark.matches ? "dark" : "light" } };
    vegaEmbed(place, { ...spec, width: "container", autosize: { type: "fit-x", contains: "padding" } }, options).then(({ view }) => {
      views.push(view);
      view.addEventListener("click", (event, item) => item?.datum?.rank && pick(item.datum.rank, true));
    });
  }
}

function pick(rank, scroll) {
  for (const row of document.querySelectorAll("tr[data-rank]")) {
    const chosen = row.dataset.rank === String(rank);
    row.classList.toggle("chosen", chosen);
    if (!chosen) continue;
    for (const name of document.querySelectorAll(".picked")) name.textContent = row.dataset.name;
    if (scroll) row.scrollIntoView({ block: "center", behavior: "smooth" });
  }
  for (const view of views) {
    try { view.signal("picked", Number(rank)).run(); } catch { /* a chart without networks */ }
  }
}

for (const row of document.querySelectorAll("tr[data-rank]"))
  row.addEventListener("click", () => pick(row.dataset.rank, false));

document.getElementById("filter")?.addEventListener("input", ({ target }) => {
  const words = target.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  for (const row of document.querySelectorAll("tr[data-rank]")) {
    const text = `#${row.dataset.rank} ${row.textContent}`.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
});

for (const button of document.querySelectorAll("button.copy"))
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch { // a page opened as a file may have no clipboard
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });

for (const table of document.querySelectorAll("table.sortable"))
  table.querySelectorAll("th").forEach((heading, column) => {
    let rising = column > 0;
    heading.tabIndex = 0;
    const sort = () => {
      const key = (row) => row.cells[column].textContent.replace(/^#/, "");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        const difference = parseFloat(a) - parseFloat(b);
        return (rising ? 1 : -1) * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
      });
      table.tBodies[0].append(...rows);
      rising = !rising;
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });

// On a phone each row of these tables is a card, in which each cell is named by its heading.
for (const table of document.querySelectorAll("table.cards")) {
  const headings = [...table.querySelectorAll("th")].map((heading) => heading.textContent);
  for (const row of table.tBodies[0].rows)
    [...row.cells].forEach((cell, column) => (cell.dataset.label = headings[column]));
}

draw();
dark.addEventListener("change", draw);
