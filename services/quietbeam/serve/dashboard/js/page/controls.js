// The controls above the maps: they show the options and change them.

import { buttonById, inputById, listenToGroup, pressInGroup, selectById } from "../base/dom.js";
import { isSnr } from "../base/options.js";

/** @import { Options } from "../base/options.js" */

/**
 * @param {Options} options
 * @param {string[]} colourMaps
 */
export function connectControls(options, colourMaps) {
  const [swipe, cmap, clip] = [buttonById("swipe"), selectById("cmap"), selectById("clip")];
  const unit = selectById("unit");
  const [sameRange, fillHoles, snr] = ["same-range", "fill-holes", "snr"].map(inputById);
  cmap.append(...colourMaps.map((name) => new Option(name, name)));
  listenToGroup("kinds", "kind", (kind) => options.toggle(kind));
  listenToGroup("scales", "scale", (scale) => options.set({ scale: /** @type {ScaleName} */ (scale) }));
  swipe.addEventListener("click", () => options.set({ swipe: !options.swipe }));
  cmap.addEventListener("change", () => options.set({ cmap: cmap.value }));
  unit.addEventListener("change", () => options.set({ unit: /** @type {UnitName} */ (unit.value) }));
  clip.addEventListener("change", () => options.set({ clip: Number(clip.value) }));
  sameRange.addEventListener("change", () => options.set({ sameRange: sameRange.checked }));
  fillHoles.addEventListener("change", () => options.set({ fillHoles: fillHoles.checked }));
  snr.addEventListener("change", () => options.set(isSnr(snr.valueAsNumber) ? { snr: snr.valueAsNumber } : {}));

  const show = () => {
    pressInGroup("kinds", "kind", (kind) => options.kinds.some((shown) => shown === kind));
    pressInGroup("scales", "scale", (scale) => scale === options.scale);
    swipe.setAttribute("aria-pressed", String(options.swipe));
    cmap.value = options.cmap;
    unit.value = options.unit;
    clip.value = String(options.clip);
    sameRange.checked = options.sameRange;
    fillHoles.checked = options.fillHoles;
    snr.value = String(options.snr);
  };
  options.subscribe(show);
  show();
}
