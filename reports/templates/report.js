// A click on a heading sorts its table; a second click turns the order; empty cells stay last.
document.querySelectorAll("th[data-column]").forEach((heading) => {
  heading.addEventListener("click", () => {
    const body = heading.closest("table").tBodies[0];
    const column = Number(heading.dataset.column);
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[column].dataset.sort;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y, undefined, { numeric: true });
      return rising ? order : -order;
    });
    heading.closest("thead").querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...rows);
  });
});
// A link to something inside closed details opens them.
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const box = target && target.closest("details");
  if (box && !box.open) { box.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", reveal);
reveal();
// Paper shows everything.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((box) => { box.open = true; }));
