// Three maps as the colours of one.

import { abgr, GREY, scaled } from "../base/colour.js";

const STEPS = 256;

/**
 * @typedef {object} ColourLayer
 * @property {string} line
 * @property {Float32Array} values (row, col)
 * @property {ValueRange} range
 * @property {number} stride
 * @property {number} cols
 */

/** Colours by the parts (0 to 255) of the three channels. */
export const PALETTES = {
  rgb: { letters: "RGB", names: ["red", "green", "blue"], mix: abgr },
  cmy: {
    letters: "CMY",
    names: ["cyan", "magenta", "yellow"],
    mix: (/** @type {number} */ c, /** @type {number} */ m, /** @type {number} */ y) => abgr(255 - c, 255 - m, 255 - y),
  },
};

/** @typedef {keyof typeof PALETTES} PaletteName */

/**
 * Paint the layers of the three channels into ABGR pixels; not measured pixels are grey.
 * @param {Uint32Array} pixels
 * @param {(ColourLayer | null)[]} layers
 * @param {PaletteName} palette
 * @param {ScaleName} scale
 */
export function paintComposite(pixels, layers, palette, scale) {
  const table = Uint8Array.from({ length: STEPS }, (_, i) => Math.round(scaled(i / (STEPS - 1), scale) * 255));
  const level = (/** @type {ColourLayer | null} */ layer, /** @type {number} */ i) => {
    if (!layer) return 0;
    const [low, high] = layer.range;
    const part = (layer.values[i] - low) / (high - low);
    return table[Math.max(0, Math.min(STEPS - 1, Math.round(part * (STEPS - 1))))];
  };
  const { mix } = PALETTES[palette];
  const [first, second, third] = layers;
  const measured = layers.find((layer) => layer !== null)?.values;
  for (let i = 0; i < pixels.length; i++) {
    const known = measured && !Number.isNaN(measured[i]);
    pixels[i] = known ? mix(level(first, i), level(second, i), level(third, i)) : GREY;
  }
}
