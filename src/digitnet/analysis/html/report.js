"use strict";
// Sort a table by a column: numbers by value, text by alphabet; a second click reverses the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const number = row => parseFloat(row.cells[column].textContent.replaceAll(",", ""));
    const text = row => row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows];
    const numeric = column > 0 && rows.some(row => !isNaN(number(row)));
    const descending = head.ariaSort ? head.ariaSort === "ascending" : numeric;
    const compare = (a, b) => numeric ? (isNaN(number(a)) - isNaN(number(b))) * (descending ? -1 : 1) || number(a) - number(b)
                                      : text(a).localeCompare(text(b));
    rows.sort((a, b) => (descending ? -1 : 1) * compare(a, b));
    heads.forEach(each => { each.ariaSort = null; });
    head.ariaSort = descending ? "descending" : "ascending";
    table.tBodies[0].append(...rows);
  }));
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // not allowed for files in some browsers: select the text instead
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
// A printed page shows what is folded on the screen.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => { each.open = true; }));
