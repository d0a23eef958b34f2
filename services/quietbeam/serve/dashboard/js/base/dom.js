// Small pieces of the page: tables and files to save.

/** A table: `body` rows of {text, head, style, title, node, span}. */
export function table(head, body, label) {
  const element = (tag, values) => Object.assign(document.createElement(tag), values);
  const box = element("table", { className: "table" });
  box.append(element("caption", { textContent: label, className: "spoken" }));
  const top = box.createTHead().insertRow();
  top.append(...head.map((textContent) => element("th", { textContent, scope: "col" })));
  const rows = box.createTBody();
  for (const cells of body) {
    rows.insertRow().append(
      ...cells.map(({ text = "", head: isHead, style = "", title = "", node, span = 1 }) => {
        const cell = element(isHead ? "th" : "td", { textContent: text, className: style, title, colSpan: span });
        if (isHead) cell.scope = "row";
        if (node) cell.append(text && " ", node);
        return cell;
      }),
    );
  }
  return box;
}

/** Give the browser a file to save. */
export function saveBlob(name, blob) {
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(blob),
    download: name.replaceAll(/[^\w.-]+/g, "_"),
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Save rows as CSV; no value is an empty cell. */
export function saveText(name, rows) {
  const cell = (value) => (typeof value === "number" ? String(Number(value.toPrecision(7))) : (value ?? ""));
  saveBlob(name, new Blob([rows.map((row) => row.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" }));
}
