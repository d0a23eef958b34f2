// Small pieces of the page: elements by id, tables and files to save.

/**
 * The element of the page with this id. Throws where there is none of this type.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
export function byId(id, type) {
  const wanted = type ?? HTMLElement;
  const element = document.getElementById(id);
  if (!(element instanceof wanted)) throw new TypeError(`the page has no ${wanted.name} with the id ${id}`);
  return /** @type {T} */ (element);
}

/** @param {string} id */
export const inputById = (id) => byId(id, HTMLInputElement);

/** @param {string} id */
export const buttonById = (id) => byId(id, HTMLButtonElement);

/** @param {string} id */
export const selectById = (id) => byId(id, HTMLSelectElement);

/**
 * The element inside `parent` that a selector finds. Throws where there is none of this type.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => T} [type]
 * @returns {T}
 */
export function find(parent, selector, type) {
  const wanted = type ?? HTMLElement;
  const element = parent.querySelector(selector);
  if (!(element instanceof wanted)) throw new TypeError(`there is no ${wanted.name} ${selector}`);
  return /** @type {T} */ (element);
}

/**
 * A new element with these properties.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Partial<HTMLElementTagNameMap[K]>} [values]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function create(tag, values = {}) {
  return Object.assign(document.createElement(tag), values);
}

/**
 * A copy of the one element in a template.
 * @param {string} id
 */
export function fromTemplate(id) {
  const element = byId(id, HTMLTemplateElement).content.firstElementChild?.cloneNode(true);
  return /** @type {HTMLElement} */ (element);
}

/**
 * Call `onPress` with the `data-` value of the button that was pressed in a group.
 * @param {string} id
 * @param {string} key
 * @param {(value: string) => void} onPress
 */
export function listenToGroup(id, key, onPress) {
  byId(id).addEventListener("click", ({ target }) => {
    const value = target instanceof Element && target.closest("button")?.dataset[key];
    if (value) onPress(value);
  });
}

/**
 * Show the buttons of a group whose `data-` value `isPressed` accepts as pressed.
 * @param {string} id
 * @param {string} key
 * @param {(value: string | undefined) => boolean} isPressed
 */
export function pressInGroup(id, key, isPressed) {
  for (const button of byId(id).children) {
    const value = /** @type {HTMLElement} */ (button).dataset[key];
    button.setAttribute("aria-pressed", String(isPressed(value)));
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new TypeError("this browser draws no 2-D canvas");
  return context;
}

/**
 * Give a canvas its size in CSS pixels at the resolution of the screen. Returns its context, scaled to CSS pixels.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 */
export function sizedContext(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = context2d(canvas);
  context.scale(ratio, ratio);
  return context;
}

/**
 * A table; `label` is its caption for screen readers, `titleOf` gives the tooltips of the columns.
 * @param {string[]} head
 * @param {Cell[][]} body
 * @param {string} label
 * @param {(text: string) => string} titleOf
 */
export function table(head, body, label, titleOf = () => "") {
  const element = create("table", { className: "table" });
  element.append(create("caption", { textContent: label, className: "spoken" }));
  const top = element.createTHead().insertRow();
  top.append(...head.map((textContent) => create("th", { textContent, scope: "col", title: titleOf(textContent) })));
  const rows = element.createTBody();
  for (const cells of body) rows.insertRow().append(...cells.map(tableCell));
  return element;
}

/** @param {Cell} cell */
function tableCell({ text = "", head = false, style = "", title = "", node, span = 1 }) {
  const cell = create(head ? "th" : "td", { textContent: text, className: style, title, colSpan: span });
  if (head) cell.scope = "row";
  if (node) cell.append(text && " ", node);
  return cell;
}

/**
 * Give the browser a file to save.
 * @param {string} name
 * @param {Blob} blob
 */
export function saveBlob(name, blob) {
  const href = URL.createObjectURL(blob);
  create("a", { href, download: name.replaceAll(/[^\w.-]+/g, "_") }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10000);
}

/**
 * Rows as CSV: numbers to seven significant digits, no value as an empty cell.
 * @param {CsvValue[][]} rows
 */
export function csvText(rows) {
  /** @param {CsvValue} value */
  const cell = (value) => (typeof value === "number" ? String(Number(value.toPrecision(7))) : (value ?? ""));
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

/**
 * Save rows as CSV.
 * @param {string} name
 * @param {CsvValue[][]} rows
 */
export function saveText(name, rows) {
  saveBlob(name, new Blob([csvText(rows)], { type: "text/csv" }));
}
