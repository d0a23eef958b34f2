// The panel at the right: one of several views of the same run, opened by the rail.

const byId = (id) => document.getElementById(id);

export class Side {
  /** `panels` by name, each with `draw(frame)` and, where dragging on a map draws, `tool`. */
  constructor(panels, { drawing, options, onChange }) {
    this.panels = panels;
    this.drawing = drawing;
    this.options = options;
    this.onChange = onChange;
    byId("rail").addEventListener("click", (event) => this.toggle(event.target.closest("button")?.dataset.panel));
    byId("side-close").addEventListener("click", () => this.toggle(this.name));
    this.#show(Object.hasOwn(panels, options.panel) ? options.panel : "");
  }

  toggle(name) {
    if (!Object.hasOwn(this.panels, name)) return;
    const next = name === this.name ? "" : name;
    this.options.set({ panel: next });
    this.#show(next);
    this.onChange();
  }

  open(name) {
    if (this.name !== name) this.toggle(name);
  }

  close() {
    if (this.name) this.toggle(this.name);
  }

  draw(frame) {
    if (this.name) this.panels[this.name].draw(frame);
  }

  #show(name) {
    this.name = name;
    byId("side").hidden = !name;
    for (const section of byId("side").querySelectorAll("section")) {
      section.hidden = section.dataset.panel !== name;
      if (!section.hidden) byId("side-title").textContent = section.dataset.title;
    }
    byId("side").setAttribute("aria-label", byId("side-title").textContent);
    for (const button of byId("rail").children)
      button.setAttribute("aria-pressed", String(button.dataset.panel === name));
    this.drawing.use(this.panels[name]?.tool ?? null);
    document.body.classList.toggle("draws", Boolean(this.panels[name]?.tool));
  }
}
