// Round numbers along an axis, and where values lie on a chart.

/**
 * Round values in a range, about `n` of them; none where the range is empty or infinite.
 * @param {number} low
 * @param {number} high
 * @param {number} n
 */
export function roundTicks(low, high, n) {
  const step = (high - low) / Math.max(1, n);
  if (!(step > 0) || !Number.isFinite(step)) return [];
  const power = 10 ** Math.floor(Math.log10(step));
  const size = ([1, 2, 5].find((k) => k * power >= step * (1 - 1e-12)) ?? 10) * power;
  const decimals = Math.min(100, Math.max(0, -Math.floor(Math.log10(size) + 1e-9)));
  const ticks = [];
  for (let k = Math.ceil(low / size - 1e-9); k * size <= high + 1e-9 * size; k++) {
    ticks.push(Number((k * size).toFixed(decimals)));
  }
  return ticks;
}

/**
 * Values of a logarithmic axis: powers of ten, with 2 and 5 times them where the range is short.
 * @param {number} low
 * @param {number} high
 */
export function logTicks(low, high) {
  const multiples = high / low > 30 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const k of multiples) {
      const value = k * 10 ** power;
      if (value >= low && value <= high) ticks.push(value);
    }
  }
  return ticks.length > 1 ? ticks : [low, high];
}

/**
 * Where the values of a chart lie: its range, and functions between values and pixels.
 *
 * `from` is a value that the y axis includes; x values outside of the range are moved to its ends.
 * @param {Point[]} points with a finite y, at least one
 * @param {object} area in pixels
 * @param {number} area.left
 * @param {number} area.right
 * @param {number} area.top
 * @param {number} area.bottom
 * @param {{log?: boolean, from?: number | null}} [axis]
 */
export function plotScale(points, { left, right, top, bottom }, { log = false, from = null } = {}) {
  const [x0, x1, y0, y1] = ranges(points, log, from);
  const by = log ? Math.log : (/** @type {number} */ value) => value;
  const [b0, b1] = [by(y0), by(y1)];
  const least = log ? 1e-9 : -Infinity;
  return {
    ...{ left, right, top, bottom, log },
    ...{ low: y0, high: y1, first: x0, last: x1 },
    x: (/** @type {number} */ value) => left + ((value - x0) / (x1 - x0)) * (right - left),
    y: (/** @type {number} */ value) => bottom - ((by(Math.max(value, least)) - b0) / (b1 - b0)) * (bottom - top),
    value: (/** @type {number} */ px) => Math.max(x0, Math.min(x1, x0 + ((px - left) / (right - left)) * (x1 - x0))),
  };
}

/** @typedef {ReturnType<typeof plotScale>} PlotScale */

/**
 * First and last x, lowest and highest y with the error bars, none of them empty.
 * @param {Point[]} points
 * @param {boolean} log
 * @param {number | null} from
 */
function ranges(points, log, from) {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, from ?? Infinity, -Infinity];
  for (const { x, y, low, high } of points) {
    [x0, x1] = [Math.min(x0, x), Math.max(x1, x)];
    [y0, y1] = [Math.min(y0, finite(low, y)), Math.max(y1, finite(high, y))];
  }
  if (log) y0 = Math.max(y0, 1e-6);
  if (!(y1 > y0)) y1 = log ? y0 * 2 : y0 + 1;
  if (x1 === x0) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  return [x0, x1, y0, y1];
}

/**
 * @param {number | null | undefined} value
 * @param {number} otherwise
 */
function finite(value, otherwise) {
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}
