"use strict";
// Sorting, the losses and levels that a reader asks for, and on paper the prose that the cards fold.
(() => {
  const valueOf = (row, column, kind) => {
    const value = row.cells[column].dataset.value ?? "";
    if (kind === "text") return value;
    return value === "" || value === "None" ? null : Number(value);
  };
  for (const table of document.querySelectorAll("table.recipes")) {
    const body = table.tBodies[0];
    for (const button of table.querySelectorAll("thead button")) {
      button.addEventListener("click", () => {
        const head = button.closest("th"), column = head.cellIndex, kind = button.dataset.sort;
        const up = head.ariaSort ? head.ariaSort === "descending" : kind === "text";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [valueOf(row, column, kind), row]);
        rows.sort(([first], [second]) => {
          if (first === null || second === null) return (first === null) - (second === null); // what has no number is last
          const order = kind === "text" ? first.localeCompare(second) : first - second;
          return up ? order : -order;
        });
        body.append(...rows.map(([, row]) => row));
      });
    }
  }
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll(".card details:not([open]), details.notes:not([open])")];
    for (const of of folded) of.open = true;
  });
  window.addEventListener("afterprint", () => { for (const of of folded) of.open = false; });
  for (const box of document.querySelectorAll(".show-more")) {
    box.addEventListener("change", () => box.closest("section").querySelector(".recipes").classList.toggle("all", box.checked));
  }
})();
