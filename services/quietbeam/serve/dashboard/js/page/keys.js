// The keyboard: everything that the pointer does.

import { KINDS } from "../base/options.js";

const byId = (id) => document.getElementById(id);
const PANELS = {
  p: "profile",
  g: "region",
  c: "rgb",
  h: "history",
  d: "detectors",
  e: "evidence",
  t: "count",
  x: "export",
  m: "manage",
};
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** `speak()` is called when the crosshair was moved by key; `escape()` on Esc when nothing is open. */
export function listenToKeys({ view, options, side, drawing, list, states, speak, escape }) {
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
    "?": () => byId("keys").showModal(),
    Enter: () => drawing.mark(view.hover),
    Escape: () => (side.name ? side.close() : escape()),
  };
  for (const [key, name] of Object.entries(PANELS)) actions[key] = () => side.toggle(name);
  KINDS.forEach((kind, i) => (actions[i + 1] = () => options.toggle(kind)));

  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (target.matches?.("select, input:not([type=checkbox], [type=range])") && key !== "Escape") return;
    if (target.type === "range" && ARROWS[key]) return;
    if (key === "Enter" && /^(BUTTON|A)$/.test(target.tagName)) return;
    const arrow = ARROWS[key];
    if (arrow) {
      event.preventDefault();
      const [dr, dc] = arrow;
      if (event.shiftKey) return view.pan((dr * view.height) / 8, (dc * view.width) / 8);
      const far = event.ctrlKey ? 10 : 1;
      view.step(dr * far, dc * far);
      return speak();
    }
    if (event.ctrlKey || !actions[key]) return;
    event.preventDefault();
    actions[key]();
  });

  byId("keys-button").addEventListener("click", () => byId("keys").showModal());
  byId("keys-close").addEventListener("click", () => byId("keys").close());
}
