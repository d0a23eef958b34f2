// Values to colours: look-up tables of 4096 entries that already hold the scale, so that drawing is one index a pixel.

const SIZE = 4096;
const STEPS = 999; // of the log scale, the same as in the PNGs of the API
export const GREY = 0xff4a413c; // ABGR of rgb(60, 65, 74): not measured

/** Where a value at part `t` of its range lies on the colour map. */
export function scaled(t, scale) {
  if (scale === "sqrt") return Math.sqrt(t);
  if (scale === "log") return Math.log1p(t * STEPS) / Math.log(STEPS + 1);
  return t;
}

/** The part of the range that lies at `u` of the colour map: the inverse of `scaled`. */
export function unscaled(u, scale) {
  if (scale === "sqrt") return u * u;
  if (scale === "log") return ((STEPS + 1) ** u - 1) / STEPS;
  return u;
}

export class Colours {
  constructor(texts) {
    this.names = Object.keys(texts);
    this.maps = new Map();
    this.tables = new Map();
    for (const [name, text] of Object.entries(texts)) {
      this.maps.set(
        name,
        Uint32Array.from({ length: 256 }, (_, i) => {
          const at = (from) => parseInt(text.slice(i * 6 + from, i * 6 + from + 2), 16);
          return (0xff000000 | (at(4) << 16) | (at(2) << 8) | at(0)) >>> 0;
        }),
      );
    }
    this.maps.set("difference", difference());
  }

  static async load() {
    const response = await fetch("ui/colormaps.json");
    return new Colours(await response.json());
  }

  table(name, scale) {
    const key = `${name}/${scale}`;
    if (!this.tables.has(key)) {
      const map = this.maps.get(name);
      this.tables.set(
        key,
        Uint32Array.from({ length: SIZE }, (_, i) => map[Math.round(scaled(i / (SIZE - 1), scale) * 255)]),
      );
    }
    return this.tables.get(key);
  }

  /** A 256 x 1 canvas for colour bars. */
  strip(name) {
    const canvas = document.createElement("canvas");
    canvas.width = 256;
    canvas.height = 1;
    const image = new ImageData(256, 1);
    new Uint32Array(image.data.buffer).set(this.maps.get(name));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }
}

/** Blue, dark, red: for values around zero. */
function difference() {
  const anchors = [
    [86, 180, 233],
    [40, 84, 120],
    [22, 27, 35],
    [132, 62, 44],
    [240, 128, 88],
  ];
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (anchors.length - 1);
    const k = Math.min(anchors.length - 2, Math.floor(at));
    const mix = (n) => Math.round(anchors[k][n] + (anchors[k + 1][n] - anchors[k][n]) * (at - k));
    return (0xff000000 | (mix(2) << 16) | (mix(1) << 8) | mix(0)) >>> 0;
  });
}

/** Paint values into ABGR pixels; NaN is grey. */
export function paint(values, low, high, table, pixels) {
  const factor = (SIZE - 1) / (high - low || 1);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value !== value) {
      pixels[i] = GREY;
      continue;
    }
    const at = (value - low) * factor;
    pixels[i] = table[at <= 0 ? 0 : at >= SIZE - 1 ? SIZE - 1 : at | 0];
  }
}

/** The range of some maps: from 0 (or below), without the brightest `clip` percent. Sampled: 8000 pixels are enough. */
export function rangeOf(maps, clip) {
  const sample = [];
  for (const values of maps) {
    const step = Math.max(1, Math.floor(values.length / 8000));
    for (let i = 0; i < values.length; i += step) if (values[i] === values[i]) sample.push(values[i]);
  }
  if (!sample.length) return [0, 1];
  const sorted = Float32Array.from(sample).sort();
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(part * (sorted.length - 1))))];
  const low = Math.min(0, at(clip / 100));
  const high = at(1 - clip / 100);
  return high > low ? [low, high] : [low, sorted[sorted.length - 1] > low ? sorted[sorted.length - 1] : low + 1];
}
