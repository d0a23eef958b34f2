// Values to colours: look-up tables of 4096 entries that already hold the scale, so that drawing is one index a pixel.

import { context2d, create } from "./dom.js";

const SIZE = 4096;
const STEPS = 999; // of the log scale, the same as in the PNGs of the API
const SAMPLE = 8000; // pixels of a map that are enough for its range
const GOLDEN = (Math.sqrt(5) - 1) / 2;
export const GREY = 0xff4a413c; // ABGR of rgb(60, 65, 74): not measured

/**
 * Where a value at part `t` of its range lies on the colour map.
 * @param {number} t
 * @param {ScaleName} scale
 */
export function scaled(t, scale) {
  if (scale === "sqrt") return Math.sqrt(t);
  if (scale === "log") return Math.log1p(t * STEPS) / Math.log(STEPS + 1);
  return t;
}

/**
 * The part of the range that lies at `u` of the colour map: the inverse of `scaled`.
 * @param {number} u
 * @param {ScaleName} scale
 */
export function unscaled(u, scale) {
  if (scale === "sqrt") return u * u;
  if (scale === "log") return ((STEPS + 1) ** u - 1) / STEPS;
  return u;
}

/**
 * An opaque colour as a canvas stores it.
 * @param {number} red
 * @param {number} green
 * @param {number} blue
 */
export function abgr(red, green, blue) {
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

export class Colours {
  /** @param {Record<string, string>} texts 256 colours of a map as one text of hexadecimal RGB */
  constructor(texts) {
    this.names = Object.keys(texts);
    /** @type {Map<string, Uint32Array>} */
    this.maps = new Map();
    /** @type {Map<string, Uint32Array>} */
    this.tables = new Map();
    for (const [name, text] of Object.entries(texts)) this.maps.set(name, parseMap(text));
    this.maps.set("difference", differenceMap());
  }

  static async load() {
    const response = await fetch("ui/colormaps.json");
    return new Colours(await response.json());
  }

  /**
   * The look-up table of a colour map with a scale.
   * @param {string} name
   * @param {ScaleName} scale
   */
  table(name, scale) {
    const key = `${name}/${scale}`;
    let table = this.tables.get(key);
    if (!table) {
      const map = this.#map(name);
      table = Uint32Array.from({ length: SIZE }, (_, i) => map[Math.round(scaled(i / (SIZE - 1), scale) * 255)]);
      this.tables.set(key, table);
    }
    return table;
  }

  /**
   * A 256 x 1 canvas for colour bars.
   * @param {string} name
   */
  strip(name) {
    const canvas = create("canvas", { width: 256, height: 1 });
    const image = new ImageData(256, 1);
    new Uint32Array(image.data.buffer).set(this.#map(name));
    context2d(canvas).putImageData(image, 0, 0);
    return canvas;
  }

  /** @param {string} name */
  #map(name) {
    const map = this.maps.get(name);
    if (!map) throw new RangeError(`there is no colour map ${name}`);
    return map;
  }
}

/** @param {string} text */
function parseMap(text) {
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const part = (/** @type {number} */ from) => parseInt(text.slice(i * 6 + from, i * 6 + from + 2), 16);
    return abgr(part(0), part(2), part(4));
  });
}

/** Blue, dark, red: for values around zero. */
function differenceMap() {
  const anchors = [
    [86, 180, 233],
    [40, 84, 120],
    [22, 27, 35],
    [132, 62, 44],
    [240, 128, 88],
  ];
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (anchors.length - 1);
    const k = Math.min(anchors.length - 2, Math.floor(place));
    const [red, green, blue] = anchors[k].map((from, n) => Math.round(from + (anchors[k + 1][n] - from) * (place - k)));
    return abgr(red, green, blue);
  });
}

/**
 * Paint values into ABGR pixels; NaN is grey.
 * @param {Float32Array} values
 * @param {number} low
 * @param {number} high
 * @param {Uint32Array} table
 * @param {Uint32Array} pixels
 */
export function paint(values, low, high, table, pixels) {
  const factor = (SIZE - 1) / (high - low || 1);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (Number.isNaN(value)) {
      pixels[i] = GREY;
      continue;
    }
    const place = (value - low) * factor;
    pixels[i] = table[place <= 0 ? 0 : place >= SIZE - 1 ? SIZE - 1 : place | 0];
  }
}

/**
 * Values spread evenly over large maps, all values of small ones; those that are not measured are left out.
 * Steps of the golden ratio meet every column: steps of whole pixels meet few where they share a factor with the width.
 * @param {Float32Array[]} maps
 */
function sampleOf(maps) {
  const sizes = maps.map(({ length }) => (length > 2 * SAMPLE ? SAMPLE : length));
  const sample = new Float32Array(sizes.reduce((sum, size) => sum + size, 0));
  let count = 0;
  maps.forEach((values, n) => {
    const size = sizes[n];
    for (let k = 0; k < size; k++) {
      const value = values[size === values.length ? k : Math.floor(((k * GOLDEN) % 1) * values.length)];
      if (!Number.isNaN(value)) sample[count++] = value;
    }
  });
  return sample.subarray(0, count);
}

/**
 * The range of some maps: from 0 (or below), without the brightest `clip` percent; of a sample of their pixels.
 * @param {Float32Array[]} maps
 * @param {number} clip
 * @returns {ValueRange}
 */
export function rangeOf(maps, clip) {
  const sorted = sampleOf(maps).sort();
  if (!sorted.length) return [0, 1];
  const last = sorted.length - 1;
  const quantile = (/** @type {number} */ part) => sorted[Math.min(last, Math.max(0, Math.round(part * last)))];
  const low = Math.min(0, quantile(clip / 100));
  const high = quantile(1 - clip / 100);
  if (high > low) return [low, high];
  return [low, sorted[last] > low ? sorted[last] : low + 1];
}

/**
 * The smallest range around zero that holds `rangeOf` of the values.
 * @param {Float32Array} values
 * @param {number} clip
 * @returns {ValueRange}
 */
export function symmetricRange(values, clip) {
  const [low, high] = rangeOf([values], clip);
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return [-size, size];
}
