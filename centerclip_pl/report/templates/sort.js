"use strict";
// Sorts a table by the column whose heading is clicked. Without this script the page says the same, in one order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, index) => {
    const cell = row.cells[index];
    const key = cell.hasAttribute("data-sort") ? cell.getAttribute("data-sort") : null;
    if (key === null || key === "") return null;
    return heads[index].classList.contains("number") ? Number(key) : key;
  };
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [value(row, index), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // what has no value is last, either way
        if (typeof a === "number") return sign * (a - b);
        return sign * a.localeCompare(b, "en", { numeric: true });
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
const closed = () => [...document.querySelectorAll("details:not([open])")];
let opened = [];
addEventListener("beforeprint", () => {
  opened = closed();
  for (const each of opened) each.open = true; // paper cannot be clicked
});
addEventListener("afterprint", () => {
  for (const each of opened) each.open = false;
});
