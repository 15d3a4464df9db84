// A click on a heading, or Enter, sorts the tables of a page that says so.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".sortable table")) {
    new Tablesort(table);
    for (const heading of table.querySelectorAll("th")) {
      heading.tabIndex = 0;
      heading.addEventListener("keydown", (event) => {
        if (event.key === "Enter") heading.click();
      });
    }
  }
});
