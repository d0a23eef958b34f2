// How the maps are shown; kept in this browser.

const KEY = "quietbeam.options";
const byId = (id) => document.getElementById(id);
export const KINDS = ["raw", "denoised", "uncertainty", "residual", "chi2"];
const SCALES = ["linear", "sqrt", "log"];
const isSnr = (value) => typeof value === "number" && value >= 0.1 && value <= 1000; // as the API takes it

export class Options {
  constructor(names, onChange) {
    this.onChange = onChange;
    this.kinds = ["raw", "denoised"];
    this.scale = "linear";
    this.cmap = "viridis";
    this.clip = 0.5;
    this.sameRange = true;
    this.fillHoles = false;
    this.snr = 10;
    this.swipe = false;
    this.panel = "";
    this.#restore(names);
    byId("cmap").append(...names.map((name) => new Option(name, name)));
    byId("kinds").addEventListener(
      "click",
      (event) => event.target.dataset.kind && this.toggle(event.target.dataset.kind),
    );
    byId("scales").addEventListener(
      "click",
      (event) => event.target.dataset.scale && this.set({ scale: event.target.dataset.scale }),
    );
    byId("swipe").addEventListener("click", () => this.set({ swipe: !this.swipe }));
    byId("cmap").addEventListener("change", (event) => this.set({ cmap: event.target.value }));
    byId("clip").addEventListener("change", (event) => this.set({ clip: Number(event.target.value) }));
    byId("same-range").addEventListener("change", (event) => this.set({ sameRange: event.target.checked }));
    byId("fill-holes").addEventListener("change", (event) => this.set({ fillHoles: event.target.checked }));
    byId("snr").addEventListener("change", (event) =>
      this.set(isSnr(event.target.valueAsNumber) ? { snr: event.target.valueAsNumber } : {}),
    );
    this.#show();
  }

  /** The maps of a card, in their order; in swipe mode one map takes the place of raw and denoised. */
  get shown() {
    return this.swipe ? ["swipe", ...this.kinds.filter((kind) => kind !== "raw" && kind !== "denoised")] : this.kinds;
  }

  toggle(kind) {
    const kinds = KINDS.filter((one) => (one === kind ? !this.kinds.includes(one) : this.kinds.includes(one)));
    if (kinds.length) this.set({ kinds });
  }

  nextScale() {
    this.set({ scale: SCALES[(SCALES.indexOf(this.scale) + 1) % SCALES.length] });
  }

  set(values) {
    Object.assign(this, values);
    const { kinds, scale, cmap, clip, sameRange, fillHoles, snr, swipe, panel } = this;
    try {
      localStorage.setItem(KEY, JSON.stringify({ kinds, scale, cmap, clip, sameRange, fillHoles, snr, swipe, panel }));
    } catch {
      // storage may be off; the options then last as long as the page
    }
    this.#show();
    this.onChange();
  }

  #restore(names) {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    } catch {
      return;
    }
    const kinds = KINDS.filter((kind) => kept.kinds?.includes?.(kind));
    if (kinds.length) this.kinds = kinds;
    if (SCALES.includes(kept.scale)) this.scale = kept.scale;
    if (names.includes(kept.cmap)) this.cmap = kept.cmap;
    if ([0, 0.5, 1, 2, 5].includes(kept.clip)) this.clip = kept.clip;
    if (typeof kept.sameRange === "boolean") this.sameRange = kept.sameRange;
    if (typeof kept.fillHoles === "boolean") this.fillHoles = kept.fillHoles;
    if (isSnr(kept.snr)) this.snr = kept.snr;
    if (typeof kept.swipe === "boolean") this.swipe = kept.swipe;
    if (typeof kept.panel === "string") this.panel = kept.panel;
  }

  #show() {
    for (const button of byId("kinds").children)
      button.setAttribute("aria-pressed", String(this.kinds.includes(button.dataset.kind)));
    for (const button of byId("scales").children)
      button.setAttribute("aria-pressed", String(button.dataset.scale === this.scale));
    byId("swipe").setAttribute("aria-pressed", String(this.swipe));
    byId("cmap").value = this.cmap;
    byId("clip").value = String(this.clip);
    byId("same-range").checked = this.sameRange;
    byId("fill-holes").checked = this.fillHoles;
    byId("snr").value = String(this.snr);
  }
}
