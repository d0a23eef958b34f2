// The colour bars of a card.

import { unscaled } from "../base/colour.js";
import { create } from "../base/dom.js";
import { number } from "../base/text.js";

/** @import { Colours } from "../base/colour.js" */

/**
 * The lower end, the middle and the upper end of a colour bar.
 * @param {Pick<ColourBar, "range" | "scale" | "unit">} bar
 */
export function barTexts({ range: [low, high], scale, unit }) {
  return [number(low), number(low + unscaled(0.5, scale) * (high - low)), `${number(high)} ${unit}`];
}

/**
 * The bars of a card; raw and denoised with a shared range have one bar.
 * @param {ColourBar[]} colourings of its maps
 */
export function distinctBars(colourings) {
  const first = colourings.find(({ shared }) => shared);
  return colourings.filter((bar) => !bar.shared || bar === first || (bar.kind !== "raw" && bar.kind !== "denoised"));
}

/**
 * @param {ColourBar[]} bars
 * @param {Colours} colours
 */
export function barElements(bars, colours) {
  return bars.map((bar) => {
    const element = create("div", { className: "bar" });
    const texts = barTexts(bar);
    const withMiddle = bars.length <= 2;
    const ticks = create("div", { className: "bar-ticks" });
    const shown = withMiddle ? texts : [texts[0], texts[2]];
    ticks.append(...shown.map((textContent) => create("span", { textContent })));
    element.title = `${bar.kind}: ${shown.join(", ")}, ${bar.scale} scale`;
    element.append(colours.strip(bar.name), ticks);
    return element;
  });
}
