"use strict";
// The viewer starts when it is opened: thousands of elements are not laid out for who only reads. It is a page of its
// own in a frame without this one's origin; its scripts are allowed by the policy of this page.
(() => {
  const viewer = document.getElementById("viewer");
  if (viewer !== null) {
    viewer.addEventListener("toggle", () => {
      const frame = viewer.querySelector("iframe");
      if (viewer.open && !frame.hasAttribute("srcdoc")) {
        frame.srcdoc = JSON.parse(document.getElementById("viewer-page").textContent);
      }
    });
  }

  function key(row, column) {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  }

  // Rows that have nothing there stay last. Texts from a to z, numbers from the largest down, and the other way round.
  function sort(table, column) {
    const heading = table.tHead.rows[0].cells[column];
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const numbers = heading.classList.contains("number");
    const first = numbers ? "descending" : "ascending";
    const direction = heading.getAttribute("aria-sort") === first ? (numbers ? "ascending" : "descending") : first;
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort((a, b) => {
      const x = key(a, column), y = key(b, column);
      if (x === y) return 0;
      if (x === null || x === "") return 1;
      if (y === null || y === "") return -1;
      return sign * (numbers ? x - y : x.localeCompare(y, "en", { numeric: true }));
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
      // No button element: Chromium does not repeat a heading with one on the next printed page.
      const button = document.createElement("span");
      button.setAttribute("role", "button");
      button.tabIndex = 0;
      button.title = "Sort";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, column));
      button.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(table, column);
      });
      heading.append(button);
    });
  }
})();
