// The panel at the right: one of several views of the same run, opened by the rail.

import { byId, listenToGroup, pressInGroup } from "../base/dom.js";

/** @import { Options } from "../base/options.js" */
/** @import { Drawing, Tool } from "../map/drawing.js" */

/**
 * One view; `tool` is what dragging on a map draws while the panel is open.
 * @typedef {{draw: (frame: Frame) => void, tool?: Tool}} Panel
 */

export class Side {
  /**
   * `onChange()` is called when a panel was opened or closed: the maps have another room then.
   * @param {Record<string, Panel>} panels by name
   * @param {{drawing: Drawing, options: Options, onChange: () => void}} shared
   */
  constructor(panels, { drawing, options, onChange }) {
    this.panels = panels;
    this.drawing = drawing;
    this.options = options;
    this.onChange = onChange;
    this.name = ""; // of the open panel
    listenToGroup("rail", "panel", (name) => this.toggle(name));
    byId("side-close").addEventListener("click", () => this.toggle(this.name));
    this.#show(Object.hasOwn(panels, options.panel) ? options.panel : "");
  }

  /** @param {string} name */
  toggle(name) {
    if (!Object.hasOwn(this.panels, name)) return;
    const next = name === this.name ? "" : name;
    this.options.set({ panel: next });
    this.#show(next);
    this.onChange();
  }

  /** @param {string} name */
  open(name) {
    if (this.name !== name) this.toggle(name);
  }

  close() {
    if (this.name) this.toggle(this.name);
  }

  /** @param {Frame} frame */
  draw(frame) {
    if (this.name) this.panels[this.name].draw(frame);
  }

  /** @param {string} name */
  #show(name) {
    this.name = name;
    const side = byId("side");
    side.hidden = !name;
    for (const section of side.querySelectorAll("section")) {
      section.hidden = section.dataset.panel !== name;
      if (!section.hidden) byId("side-title").textContent = section.dataset.title ?? "";
    }
    side.setAttribute("aria-label", byId("side-title").textContent ?? "");
    pressInGroup("rail", "panel", (panel) => panel === name);
    const tool = this.panels[name]?.tool ?? null;
    this.drawing.use(tool);
    document.body.classList.toggle("draws", tool !== null);
  }
}
