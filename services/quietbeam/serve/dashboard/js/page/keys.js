// The keyboard: everything that the pointer does.

import { byId } from "../base/dom.js";
import { KINDS } from "../base/options.js";

/** @import { Options } from "../base/options.js" */
/** @import { View } from "../base/view.js" */
/** @import { Drawing } from "../map/drawing.js" */
/** @import { HistoryPanel } from "../panels/history.js" */
/** @import { Side } from "../panels/side.js" */
/** @import { RunList } from "./runs.js" */

const PANELS = {
  ...{ p: "profile", g: "region", c: "rgb", h: "history", d: "detectors" },
  ...{ e: "evidence", t: "count", x: "export", m: "manage" },
};
/** @type {Record<string, [rows: number, cols: number]>} */
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const TYPING = "select, input:not([type=checkbox], [type=range])";

/**
 * @typedef {object} Targets
 * @property {View} view
 * @property {Options} options
 * @property {Side} side
 * @property {Drawing} drawing
 * @property {RunList} list
 * @property {HistoryPanel} states
 * @property {() => void} speak called when the crosshair was moved by key
 * @property {() => void} escape called on Esc when no panel is open
 */

/** @param {Targets} targets */
export function listenToKeys(targets) {
  const { view, speak } = targets;
  const dialog = byId("keys", HTMLDialogElement);
  const actions = actionsOf(targets, dialog);

  addEventListener("keydown", (event) => {
    const { key } = event;
    if (event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target instanceof HTMLElement && belongsTo(event.target, key)) return;
    const arrow = ARROWS[key];
    if (!arrow && (event.ctrlKey || !actions[key])) return;
    event.preventDefault();
    if (!arrow) actions[key]();
    else if (event.shiftKey) view.pan((arrow[0] * view.height) / 8, (arrow[1] * view.width) / 8);
    else {
      const size = event.ctrlKey ? 10 : 1;
      view.step(arrow[0] * size, arrow[1] * size);
      speak();
    }
  });

  byId("keys-button").addEventListener("click", () => dialog.showModal());
  byId("keys-close").addEventListener("click", () => dialog.close());
}

/**
 * Whether the element with the focus uses a key itself.
 * @param {HTMLElement} target
 * @param {string} key
 */
function belongsTo(target, key) {
  if (target.matches(TYPING)) return key !== "Escape";
  if (target.matches("input[type=range]")) return key in ARROWS;
  return key === "Enter" && target.matches("button, a");
}

/**
 * @param {Targets} targets
 * @param {HTMLDialogElement} dialog
 */
function actionsOf({ view, options, side, drawing, list, states, escape }, dialog) {
  /** @type {Record<string, () => void>} */
  const actions = {
    "+": () => view.zoom(1.5),
    "=": () => view.zoom(1.5),
    "-": () => view.zoom(1 / 1.5),
    0: () => view.reset(),
    s: () => options.nextScale(),
    w: () => options.set({ swipe: !options.swipe }),
    "[": () => view.divide(view.divider - 0.05),
    "]": () => view.divide(view.divider + 0.05),
    f: () => byId("follow").click(),
    r: () => list.open(),
    ",": () => states.step(-1),
    ".": () => states.step(1),
    "?": () => dialog.showModal(),
    Enter: () => drawing.mark(view.hover),
    Escape: () => (side.name ? side.close() : escape()),
  };
  for (const [key, name] of Object.entries(PANELS)) actions[key] = () => side.toggle(name);
  KINDS.forEach((kind, i) => (actions[i + 1] = () => options.toggle(kind)));
  return actions;
}
